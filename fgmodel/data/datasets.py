"""A data set: its images in a fixed order, their classes, the official split, and a fingerprint of all that.

Order is that of torchvision's ImageFolder (class folder, then file name); released patch boxes refer to it.
"""

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image

from fgmodel.config import DataConfig
from fgmodel.data import finches
from fgmodel.data.digests import examine
from fgmodel.data.dogs import list_dogs
from fgmodel.data.images import NotAnImage, read_rgb
from fgmodel.data.listings import Listing, list_cub, list_folders
from fgmodel.data.splits import Fold, divide, split_hash
from fgmodel.errors import InputError
from fgmodel.progress import Progress, silent

__all__ = ["NOTES", "Dataset", "Fold", "Split", "cut_validation", "open_dataset", "split_hash"]

Split = Literal["train", "test"]

NOTES: dict[str, tuple[str, ...]] = {                     # thesis §8.2
    "cub": ("22 to 23 test images of CUB-200-2011 are in ImageNet too: a trunk pretrained there has seen them",),
    "dogs": ("Stanford Dogs was cut from ImageNet: a trunk pretrained there may have seen the test images",),
    "folders": (),
    "finches": (),
}
"""What a reader of a test accuracy must know, by `data.dataset`."""

_HOLDS = {
    "cub": "images.txt and images/",
    "dogs": "Images/ and train_list.mat",
    "folders": "train/ and test/, or one folder a class",
}


@dataclass(frozen=True)
class Dataset:
    """What is known of n images without decoding them."""

    name: str                        # the folder's, or "finches"
    classes: tuple[str, ...]
    names: tuple[str, ...]           # of the images: path within the root, or the drawn finch's
    labels: np.ndarray               # (n,) int64, 0-based
    train: np.ndarray                # (n,) bool: the official split
    digests: tuple[str, ...]         # sha256 of each file; of a finch's recipe
    part_boxes: np.ndarray | None    # (n,4) float32 x1 y1 x2 y2 as fractions of the image; finches only
    skipped: tuple[str, ...]         # unusable files left out, with the reason
    read: Callable[[int], Image.Image]
    notes: tuple[str, ...] = ()      # what a reader of its test accuracy must know

    @cached_property
    def fingerprint(self) -> str:
        """Name the data by its content: names, labels, split and the images' digests."""
        content = [self.names, self.labels.tolist(), self.train.tolist(), self.digests]
        return f"sha256:{hashlib.sha256(json.dumps(content).encode()).hexdigest()}"

    def image(self, i: int) -> Image.Image:
        """Return image `i` decoded, in RGB. Raises InputError: where its file is no longer usable."""
        try:
            return self.read(i)
        except NotAnImage as problem:
            raise InputError(f"{self.names[i]} {problem}; it changed since it was examined") from None

    def rows(self, split: Split) -> np.ndarray:
        """Return the indices of a split's images, in order."""
        return np.flatnonzero(self.train == (split == "train"))

    def names_of(self, split: Split) -> tuple[str, ...]:
        """Return the names of a split's images, in order."""
        return tuple(self.names[i] for i in self.rows(split))


def open_dataset(data: DataConfig, cache: Path, progress: Progress = silent) -> Dataset:
    """Return the data set that `data` names.

    Files are read once and remembered in `cache`. Raises InputError: for a folder that is not what it should be, and
    for images that cannot be used, unless `data.bad_images` is skip: those are then left out.
    """
    if data.dataset == "finches":
        return _draw_finches(data)
    root = _root(data)
    return _examined(root, _list(root, data), data, cache, progress)


def cut_validation(dataset: Dataset, data: DataConfig) -> tuple[Fold, ...]:
    """Return how the train split is divided for validation: one stratified cut, or `data.folds` folds."""
    return divide(dataset.labels[dataset.train], dataset.classes, data)


def _list(root: Path, data: DataConfig) -> Listing:
    match data.dataset:
        case "cub":
            return list_cub(root)
        case "dogs":
            return list_dogs(root)
        case _:
            return list_folders(root, data.seed)


def _root(data: DataConfig) -> Path:
    holds = _HOLDS[data.dataset]
    if not data.root:
        raise InputError(f"data.root is not set; give the folder that holds {holds}")
    root = Path(data.root).expanduser()
    if not root.is_dir():
        raise InputError(f"data.root: '{data.root}' is no folder; give the one that holds {holds}")
    return root


def _examined(root: Path, listing: Listing, data: DataConfig, cache: Path, progress: Progress) -> Dataset:
    known = examine(listing.folder, listing.names, cache, progress)
    bad = [f"{name} {entry.problem}" for name, entry in zip(listing.names, known, strict=True) if entry.problem]
    if bad and data.bad_images == "refuse":
        more = f" (and {len(bad) - 1} more)" if len(bad) > 1 else ""
        raise InputError(f"{listing.folder}/{bad[0]}{more}; data.bad_images: skip leaves such files out")
    good = [i for i, entry in enumerate(known) if not entry.problem]
    names = tuple(listing.names[i] for i in good)
    labels, train = listing.labels[good], listing.train[good]
    _require_classes(root, listing.classes, labels, train)
    return Dataset(
        name=root.resolve().name, classes=listing.classes, names=names, labels=labels, train=train,
        digests=tuple(known[i].sha256 for i in good), part_boxes=None, skipped=tuple(bad),
        read=lambda i: read_rgb(listing.folder / names[i]), notes=NOTES[data.dataset],
    )


def _require_classes(root: Path, classes: Sequence[str], labels: np.ndarray, train: np.ndarray) -> None:
    if len(classes) < 2:
        raise InputError(f"{root} holds one class, '{classes[0]}'; at least two are needed to tell apart")
    for split, rows in (("train", train), ("test", ~train)):
        counts = np.bincount(labels[rows], minlength=len(classes))
        if not counts.all():
            raise InputError(f"{root}: class '{classes[int(counts.argmin())]}' has no usable {split} image")


def _draw_finches(data: DataConfig) -> Dataset:
    """Return the drawn birds; a quarter of them are for test (thesis §9), shared out so that the total is exact."""
    each, species = data.finches_per_species, len(finches.SPECIES)
    which = [(s, i) for s in range(species) for i in range(each)]
    tests = [(s + 1) * each // 4 - s * each // 4 for s in range(species)]
    names = tuple(f"{finches.SPECIES[s].name}/{i:05d}" for s, i in which)
    drawn = [f"{finches.RECIPE}/{data.seed}/{name}" for name in names]
    return Dataset(
        name="finches", classes=tuple(s.name for s in finches.SPECIES), names=names,
        labels=np.array([s for s, _ in which]), train=np.array([i < each - tests[s] for s, i in which]),
        digests=tuple(hashlib.sha256(recipe.encode()).hexdigest() for recipe in drawn),
        part_boxes=np.array([finches.part_box(data.seed, s, i) for s, i in which], np.float32), skipped=(),
        read=lambda i: finches.draw(data.seed, *which[i]),
    )
