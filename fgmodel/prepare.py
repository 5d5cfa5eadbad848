"""From a configuration to the arrays a run trains on; whatever takes long is done once and kept."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from fgmodel.cache import Frames, global_features, local_features, local_maps
from fgmodel.config import TrialConfig
from fgmodel.data.boxes_file import Patches, read_patches
from fgmodel.data.datasets import Dataset, Fold, Split, cut_validation, open_dataset, split_hash
from fgmodel.data.released import read_released
from fgmodel.errors import InputError
from fgmodel.extraction import EXTRACTORS, extract
from fgmodel.progress import Progress, silent
from fgmodel.trial_data import TrialData, patch_features, read_record, record_path, write_record
from fgmodel.trunks.frozen_trunk import FrozenTrunk


def prepare(
    config: TrialConfig, cache: Path, split: Split = "train", progress: Progress = silent, device: str = "cpu",
) -> TrialData:
    """Return the data of one split as `config` wants it, computing what `cache` does not hold yet.

    Several processes may call it at once; one of them computes, and a killed one's work is taken up. The test split has
    no folds to speak of: one, with nothing in it. Raises InputError: for data or patches that cannot be used.
    """
    dataset = open_dataset(config.data, cache, progress)
    record = record_path(cache, config, dataset.fingerprint, split)
    data = read_record(record)
    if data is None:
        data = _computed(config, dataset, Frames(dataset, split, config.data.frame_size, cache, progress), device)
        write_record(record, data)
    return data


def _computed(config: TrialConfig, dataset: Dataset, frames: Frames, device: str) -> TrialData:
    patches = find_patches(config, frames, device)
    whole = local = maps = None
    if config.model.freeze_backbones:
        of_images, of_patches = stream_trunks(config, device)
        whole = global_features(frames, of_images, config.data.image_size)
        match patch_features(config.model):
            case "pooled":
                local = local_features(frames, patches, of_patches, config.data.patch_size)
            case "maps":
                maps = local_maps(frames, patches, of_patches, config.data.patch_size)
    names = dataset.names_of(frames.split)
    folds = cut_validation(dataset, config.data) if frames.split == "train" else (_nothing(),)
    return TrialData(
        classes=dataset.classes, names=names, labels=dataset.labels[dataset.rows(frames.split)], folds=folds,
        boxes=patches.boxes, frames=None if config.model.freeze_backbones else frames.array,
        global_features=whole, local_features=local, local_maps=maps,
        fingerprint=dataset.fingerprint, split=split_hash(names, folds), patches=patches.hash,
    )


def find_patches(config: TrialConfig, frames: Frames, device: str = "cpu") -> Patches:
    """Return the boxes `data.patches` asks for, N an image, in the frame: an extractor's, or a file's.

    Raises InputError: where it is neither, or the file does not belong to these images or holds fewer boxes.
    """
    data = config.data
    if data.patches in EXTRACTORS:
        train = replace(frames, split="train")
        trunk = extraction_trunk(config, device)
        return extract(data.patches, frames, train, trunk, data.patches_per_image, data.patch_scale)
    path = _patch_file(data.patches, frames.split)
    dataset, names = frames.dataset, frames.dataset.names_of(frames.split)
    if path.suffix == ".npz":
        patches = read_patches(path, names)
    else:
        patches = read_released(path, dataset.labels[dataset.rows(frames.split)], dataset.classes)
    return patches.first(data.patches_per_image, str(path)).rescaled(data.frame_size)


def stream_trunks(config: TrialConfig, device: str = "cpu") -> tuple[FrozenTrunk, FrozenTrunk]:
    """Return the trunks of both streams; only the local one may lose its last pool (§1 row 3) or its last stride."""
    model = config.model
    local = FrozenTrunk(
        model.local_backbone, model.weights,
        drop_last_pool=model.drop_last_pool, unstrided=model.local_stride16, device=device,
    )
    return FrozenTrunk(model.global_backbone, model.weights, device=device), local


def extraction_trunk(config: TrialConfig, device: str = "cpu") -> FrozenTrunk:
    """Return the trunk that finds boxes: the local stream's unless `data.patch_backbone` names another."""
    return FrozenTrunk(config.data.patch_backbone or config.model.local_backbone, config.model.weights, device=device)


def _patch_file(given: str, split: Split) -> Path:
    """Return the file that holds the split's boxes: in the folder given, or the one given, or its sibling."""
    path = Path(given).expanduser()
    if path.is_dir():
        candidates = [path / f"{split}_patches.npy", path / f"{split}.npz"]
    elif path.exists():
        candidates = [path.with_name(path.name.replace("train", split).replace("test", split))]
    else:
        methods = ", ".join(EXTRACTORS)
        raise InputError(f"data.patches: '{given}' is neither a file, nor a folder, nor one of {methods}")
    for candidate in candidates:
        if candidate.exists():
            return candidate
    raise InputError(f"data.patches: no boxes for the {split} split: {' or '.join(map(str, candidates))} is missing")


def _nothing() -> Fold:
    return Fold(train=np.arange(0), validation=np.arange(0))
