"""Finds boxes on Ray: what is fitted is fitted once, then tasks take a chunk of the images each.

A finished chunk is a file in the cache, named by all that decides it: whatever is killed, the next call begins where
the last ended. As for a search, the home must be a folder that every node sees.

On one machine this gains nothing over threads, which `fgmodel.extraction.extract` uses by itself (docs/patches.md): it
is for clusters, and for going on after a kill.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import ray
import torch

from cluster.connect import Connection
from fgmodel import atomic
from fgmodel.cache import Frames
from fgmodel.config import TrialConfig
from fgmodel.data.boxes_file import Patches, read_patches, write_patches
from fgmodel.data.datasets import Dataset, Split, open_dataset
from fgmodel.extraction import EXTRACTORS, boxes_path, extract
from fgmodel.prepare import extraction_trunk
from search.errors import InputError

CHUNK = 64      # images: a multiple of every batch, so that boxes do not depend on how the images were shared out
RETRIES = 3     # of a chunk whose process died


@dataclass(frozen=True)
class Chunk:
    """Rows a..b of a split, and all that decides their boxes."""

    config: TrialConfig
    cache: Path
    split: Split
    rows: tuple[int, int]
    device: str

    def frames(self) -> Frames:
        """Return the chunk's images."""
        dataset = _dataset(self.config, self.cache)
        return Frames(dataset, self.split, self.config.data.frame_size, self.cache, part=self.rows)

    def path(self) -> Path:
        """Return the file the chunk's boxes are kept in."""
        data = self.config.data
        trunk = extraction_trunk(self.config, self.device)
        return boxes_path(data.patches, self.frames(), trunk, data.patches_per_image, data.patch_scale)

    def find(self) -> Patches:
        """Return the boxes, found now where the cache lacks them."""
        data, frames = self.config.data, self.frames()
        train = replace(frames, split="train", part=None)
        trunk = extraction_trunk(self.config, self.device)
        return extract(data.patches, frames, train, trunk, data.patches_per_image, data.patch_scale)


def find_on_ray(config: TrialConfig, frames: Frames, connection: Connection, device: str) -> Patches:
    """Return the boxes of a split, as `extract` would, and keep them where it and every search look for them."""
    data, trunk = config.data, extraction_trunk(config, device)
    path = boxes_path(data.patches, frames, trunk, data.patches_per_image, data.patch_scale)
    if not path.exists():
        ends = range(0, len(frames), CHUNK)
        chunks = [Chunk(config, frames.cache, frames.split, (a, min(a + CHUNK, len(frames))), device) for a in ends]
        missing = [chunk for chunk in chunks if not chunk.path().exists()]
        if missing:
            extractor = EXTRACTORS[data.patches]
            extractor.fit(replace(frames, split="train"), extractor.trunk(trunk))
        _run(missing, frames, connection)
        _join(path, frames, chunks)
    return read_patches(path, frames.names)


def _run(missing: list[Chunk], frames: Frames, connection: Connection) -> None:
    total, done = len(frames), len(frames) - sum(b - a for a, b in (chunk.rows for chunk in missing))
    what = f"boxes of {frames.split}"
    frames.progress(what, done, total)
    if missing:
        connection.wait()
    for chunk in _finished(missing):
        done += chunk.rows[1] - chunk.rows[0]
        frames.progress(what, done, total)


def _finished(missing: list[Chunk]) -> Iterator[Chunk]:
    """Yield each chunk once its file is there. Raises InputError: what a task could not do."""
    running: dict[Any, Chunk] = {_task(chunk).remote(chunk): chunk for chunk in missing}
    while running:
        done, _ = ray.wait(list(running))
        for task in done:
            try:
                ray.get(task)
            except ray.exceptions.RayTaskError as error:
                if isinstance(error.cause, InputError):
                    raise InputError(str(error.cause)) from None
                raise
            except ray.exceptions.RayError as error:
                said = " ".join(str(error).split())
                raise InputError(f"a worker died {RETRIES + 1} times at the same images: {said}") from None
            yield running.pop(task)


def _task(chunk: Chunk) -> Any:  # noqa: ANN401  Ray's remote functions have no type
    resources = {"num_cpus": 1} if chunk.device == "cpu" else {"num_cpus": 1, "num_gpus": 1}
    return ray.remote(_find).options(max_retries=RETRIES, **resources)


def _find(chunk: Chunk) -> None:
    torch.set_num_threads(1)   # a task is given one core
    chunk.find()


def _join(path: Path, frames: Frames, chunks: list[Chunk]) -> None:
    """Keep the chunks' boxes as the split's, and let theirs go."""
    found = [chunk.find() for chunk in chunks]
    boxes, scores = (np.concatenate([getattr(each, name) for each in found]) for name in ("boxes", "scores"))
    with atomic.building(path, "boxes", frames.progress) as must_build:
        if must_build:
            write_patches(path, replace(found[0], boxes=boxes, scores=scores), frames.names, path.stem)
    for chunk in chunks:
        chunk.path().unlink(missing_ok=True)


def workers(device: str) -> int:
    """Return how many tasks this machine runs at once."""
    return torch.cuda.device_count() if device == "cuda" else os.cpu_count() or 1


@lru_cache(maxsize=1)   # a worker process takes many chunks of the same data
def _dataset(config: TrialConfig, cache: Path) -> Dataset:
    return open_dataset(config.data, cache)
