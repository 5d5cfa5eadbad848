"""What is computed once and shared by every trial: decoded frames, and maps and pooled features of frozen trunks.

Everything is kept a split at a time: a search computes nothing of the test split. A part of a split, which one task of
many works on, keeps no arrays of its own: it reads the split's where they are there, and works in memory otherwise.

Legend: n images of the split, N patches an image, S pixels of the frame, D a trunk's width, h w cells of its map.
"""

import hashlib
import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from fgmodel import atomic
from fgmodel.data.boxes_file import Patches, cut
from fgmodel.data.datasets import Dataset, Split
from fgmodel.progress import Progress, silent
from fgmodel.trunks.frozen_trunk import FrozenTrunk, each_batch, pixels, resized

STEP = 64   # images between two syncs to disk: what a kill can cost


@dataclass(frozen=True)
class Frames:
    """A split's images as squares of `size` px, decoded when first asked for: who finds features needs none."""

    dataset: Dataset
    split: Split
    size: int
    cache: Path
    progress: Progress = silent
    part: tuple[int, int] | None = None   # rows a..b of the split alone

    @cached_property
    def rows(self) -> np.ndarray:
        """The images' places in the data set."""
        rows = self.dataset.rows(self.split)
        return rows if self.part is None else rows[slice(*self.part)]

    @property
    def names(self) -> tuple[str, ...]:
        """The images' names."""
        return tuple(self.dataset.names[i] for i in self.rows)

    @cached_property
    def array(self) -> np.ndarray:
        """The frames, n S S 3 uint8; a split's are memory-mapped."""
        what = "finches drawn" if self.dataset.name == "finches" else "images decoded"
        return _kept(self, "frames", [], (self.size, self.size, 3), np.uint8, self._decoded, what)

    def _decoded(self, a: int, b: int) -> Iterator[np.ndarray]:
        """Decode rows a..b, squashed with antialiasing. Raises InputError: for an image that has become unusable."""

        def decode(row: int) -> np.ndarray:
            return np.asarray(self.dataset.image(row).resize((self.size, self.size), Image.Resampling.BILINEAR))

        with ThreadPoolExecutor(torch.get_num_threads()) as pool:   # Pillow decodes without the interpreter's lock
            yield from (frame[None] for frame in pool.map(decode, self.rows[a:b].tolist()))

    def decode(self) -> None:
        """Decode now, on all threads: before batches that have one thread each ask for frames."""
        _ = self.array

    def __len__(self) -> int:
        return int(self.rows.size)

    def path(self, kind: str, suffix: str, *parts: Any) -> Path:  # noqa: ANN401  anything JSON writes
        """Return where something made of these frames is kept; `parts` are all else that decides it."""
        part = [] if self.part is None else [{"part": self.part}]
        decides = json.dumps([self.dataset.fingerprint, self.split, self.size, *parts, *part])
        key = hashlib.sha256(decides.encode()).hexdigest()[:20]
        return self.cache / kind / f"{self.dataset.name}-{self.split}-{key}{suffix}"


def trunk_maps(frames: Frames, trunk: FrozenTrunk, size: int) -> np.ndarray:
    """Return the trunk's map of each whole image at `size` px: n D h w, float16.

    All of CUB-200-2011's train images are then 1.5 GB on EfficientNet-Lite0 at 320 px, less than half of its frames.
    """

    def maps(part: slice) -> np.ndarray:
        return trunk.maps(resized(pixels(frames.array[part], trunk.device), size)).cpu().half().numpy()

    def compute(a: int, b: int) -> Iterator[np.ndarray]:
        frames.decode()
        yield from each_batch(maps, range(a, b), size, trunk.device)

    one = trunk.maps(torch.zeros(1, 3, size, size, device=trunk.device)).shape[1:]           # D h w
    return _kept(frames, "maps", [size, trunk.identity()], tuple(one), np.float16, compute, "maps of whole images")


def global_features(frames: Frames, trunk: FrozenTrunk, size: int) -> np.ndarray:
    """Return the trunk's pooled map of each whole image at `size` px: n D, float32."""

    def pooled(part: slice) -> np.ndarray:
        return trunk.pooled(resized(pixels(frames.array[part], trunk.device), size)).cpu().numpy()

    def compute(a: int, b: int) -> Iterator[np.ndarray]:
        frames.decode()
        yield from each_batch(pooled, range(a, b), size, trunk.device)

    path = global_path(frames, trunk, size)
    return _features(path, (len(frames), trunk.model.width), compute, "features of whole images", frames.progress)


def local_features(frames: Frames, patches: Patches, trunk: FrozenTrunk, size: int) -> np.ndarray:
    """Return the trunk's pooled map of every patch, cut from the frame at `size` px: n N D, float32."""
    of_patches = _OfPatches(frames, patches, size, trunk)
    path = local_path(frames, patches.hash, trunk, size)
    shape = (len(frames), of_patches.each, trunk.model.width)
    return _features(path, shape, of_patches.compute(trunk.pooled), "features of patches", frames.progress)


def local_maps(frames: Frames, patches: Patches, trunk: FrozenTrunk, size: int) -> np.ndarray:
    """Return the trunk's map of every patch, cut from the frame at `size` px: n N D h w, float16."""
    of_patches = _OfPatches(frames, patches, size, trunk)
    cells = trunk.maps(torch.zeros(1, 3, size, size, device=trunk.device)).shape[1:]              # D h w
    path = maps_path(frames, patches.hash, trunk, size)
    shape = (len(frames), of_patches.each, *cells)
    compute, progress = of_patches.compute(trunk.maps), frames.progress
    return atomic.array(path, shape, np.float16, compute, step=STEP, what="maps of patches", progress=progress)


@dataclass(frozen=True)
class _OfPatches:
    frames: Frames
    patches: Patches
    size: int
    trunk: FrozenTrunk

    @property
    def each(self) -> int:
        return int(self.patches.boxes.shape[1])

    def compute(self, see: Callable[[Tensor], Tensor]) -> atomic.Compute:
        """Return what gives rows of `see` over each image's patches."""

        def seen(part: slice) -> np.ndarray:
            boxes = torch.from_numpy(self.patches.boxes[part]).to(self.trunk.device).float()      # B N 4
            crops = cut(pixels(self.frames.array[part], self.trunk.device), boxes, self.size)     # B N 3 s s
            return torch.unflatten(see(crops.flatten(0, 1)), 0, boxes.shape[:2]).cpu().numpy()    # B N D, or B N D h w

        def compute(a: int, b: int) -> Iterator[np.ndarray]:
            self.frames.decode()
            yield from each_batch(seen, range(a, b), self.size, self.trunk.device, images_a_row=self.each)

        return compute


def global_path(frames: Frames, trunk: FrozenTrunk, size: int) -> Path:
    """Return where `global_features` keeps them."""
    return frames.path("features", ".npy", "global", size, trunk.identity())


def local_path(frames: Frames, patches: str, trunk: FrozenTrunk, size: int) -> Path:
    """Return where `local_features` keeps them; `patches` is the boxes' hash."""
    return frames.path("features", ".npy", "local", size, trunk.identity(), patches)


def maps_path(frames: Frames, patches: str, trunk: FrozenTrunk, size: int) -> Path:
    """Return where `local_maps` keeps them."""
    return frames.path("features", ".npy", "maps", size, trunk.identity(), patches)


def _kept(
    frames: Frames, kind: str, decides: list[Any], one: tuple[int, ...], dtype: type, compute: atomic.Compute,
    what: str,
) -> np.ndarray:
    """Return an array with a row `one` an image, kept; a part's is cut from its split's, or else not kept."""
    whole = replace(frames, part=None)
    path = whole.path(kind, ".npy", *decides)
    if frames.part and not path.exists():
        return np.concatenate([piece.astype(dtype, copy=False) for piece in compute(0, len(frames))])
    shape = (len(whole), *one)
    array = atomic.array(path, shape, dtype, compute, step=STEP, what=what, progress=frames.progress)
    return array[slice(*frames.part)] if frames.part else array


def _features(path: Path, shape: tuple[int, ...], compute: atomic.Compute, what: str, progress: Progress) -> np.ndarray:
    return atomic.array(path, shape, np.float32, compute, step=STEP, what=what, progress=progress)
