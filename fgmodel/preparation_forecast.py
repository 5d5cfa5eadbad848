"""What preparing a configuration would still have to compute, and how long that takes on this machine."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from fgmodel.cache import Frames, global_path, local_path, maps_path
from fgmodel.config import TrialConfig
from fgmodel.data.boxes_file import read_patches
from fgmodel.data.datasets import open_dataset
from fgmodel.extraction import EXTRACTORS, boxes_path
from fgmodel.prepare import extraction_trunk, find_patches, stream_trunks
from fgmodel.trial_data import patch_features, read_record, record_path
from fgmodel.trunks.frozen_trunk import FrozenTrunk, batch_size

TIMED_IMAGES = 4


@dataclass(frozen=True)
class Pending:
    """A step of the preparation that the cache lacks, and its forecast in seconds."""

    what: str
    seconds: float


def pending(config: TrialConfig, cache: Path) -> tuple[Pending, ...]:
    """Return the steps `prepare` would take for the train split, none of them taken.

    Raises InputError: for images or patch files that cannot be used.
    """
    dataset = open_dataset(config.data, cache)
    frames = Frames(dataset, "train", config.data.frame_size, cache)
    steps: list[Pending] = []
    if not frames.path("frames", ".npy").exists():
        rows = dataset.rows("train")[:TIMED_IMAGES].tolist()
        seconds = _timed(lambda: [dataset.image(row) for row in rows]) / len(rows)
        steps.append(Pending(f"{len(frames)} images", seconds * len(frames) / torch.get_num_threads()))
    if read_record(record_path(cache, config, dataset.fingerprint, "train")):   # without building a trunk
        return tuple(steps)
    patches = _patches(config, frames, steps)
    if config.model.freeze_backbones:
        whole, local = stream_trunks(config)
        data, each = config.data, config.data.patches_per_image
        if not global_path(frames, whole, data.image_size).exists():
            seconds = len(frames) * _image_seconds(whole, data.image_size)
            steps.append(Pending(f"features of {len(frames)} images", seconds))
        kept = patch_features(config.model)
        where = maps_path if kept == "maps" else local_path
        if kept and (patches is None or not where(frames, patches, local, data.patch_size).exists()):
            seconds = len(frames) * each * _image_seconds(local, data.patch_size)
            what = "maps" if kept == "maps" else "features"
            steps.append(Pending(f"{what} of {len(frames) * each} patches", seconds))
    return tuple(steps)


def _patches(config: TrialConfig, frames: Frames, steps: list[Pending]) -> str | None:
    """Return the hash of the boxes; None, and a step, where an extractor has yet to find them."""
    if config.data.patches not in EXTRACTORS:
        return find_patches(config, frames).hash
    trunk = extraction_trunk(config)
    path = boxes_path(config.data.patches, frames, trunk, config.data.patches_per_image, config.data.patch_scale)
    if path.exists():
        return read_patches(path, frames.dataset.names_of("train")).hash
    steps.append(Pending(f"boxes by {config.data.patches}", boxes_seconds(config.data.patches, frames, trunk)))
    return None


def boxes_seconds(method: str, frames: Frames, trunk: FrozenTrunk) -> float:
    """Return a forecast of how long finding a split's boxes takes: of train, with what is fitted on it."""
    extractor = EXTRACTORS[method]
    if not extractor.size:
        return 0.0
    passes = extractor.passes(len(frames)) if frames.split == "train" else 1.0
    return passes * len(frames) * _image_seconds(extractor.trunk(trunk), extractor.size)


def _image_seconds(trunk: FrozenTrunk, size: int) -> float:
    images = torch.rand(batch_size(size, trunk.device), 3, size, size)
    trunk.maps(images)  # the first call also loads the weights
    return _timed(lambda: trunk.maps(images)) / len(images)


def _timed(work: Callable[[], object]) -> float:
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun
