"""What a folder of images is, against what was published: layout, counts, balance, unusable files, leakage."""

from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from PIL import Image
from rich.console import Group
from rich.text import Text

from fgmodel.config import DataConfig
from fgmodel.data.datasets import Dataset, open_dataset
from fgmodel.progress import Progress, silent
from search.errors import InputError

Layout = Literal["cub", "dogs", "folders"]
SHOWN = 5  # of each kind of finding; --json holds them all

_CUB_LISTS = ("images.txt", "image_class_labels.txt", "train_test_split.txt", "classes.txt")
_DOGS_LISTS = ("train_list.mat", "test_list.mat")
_GREY = ("1", "L", "LA", "La", "I", "I;16", "I;16B")   # Pillow's modes without colour


@dataclass(frozen=True)
class Published:
    """A data set's numbers as its authors give them."""

    title: str
    classes: int
    train: int
    test: int


PUBLISHED = {
    "cub": Published("CUB-200-2011", 200, 5_994, 5_794),
    "dogs": Published("Stanford Dogs", 120, 12_000, 8_580),
}


@dataclass(frozen=True)
class DataReport:
    """What was found below `root`; `problem` is empty where a search could start on it."""

    root: Path
    layout: Layout
    parts: dict[str, bool]                   # of the layout, and whether each is there
    problem: str
    dataset: Dataset | None = None           # None: it could not be opened
    greyscale: int = 0
    duplicates: tuple[tuple[str, ...], ...] = ()   # images of the same bytes
    leaked: tuple[tuple[str, ...], ...] = ()       # those of them that are in train and in test

    @property
    def verdict(self) -> str:
        """How it compares with what was published."""
        there, published = self.dataset, PUBLISHED.get(self.layout)
        if there is None or published is None:
            return "class folders" if there is not None else ""
        mine = (len(there.classes), int(there.train.sum()), int((~there.train).sum()))
        theirs = (published.classes, published.train, published.test)
        if mine == theirs:
            return f"{published.title}, whole"
        less = all(a <= b for a, b in zip(mine, theirs, strict=True))
        images = f"{mine[1] + mine[2]:,} of {theirs[1] + theirs[2]:,} images"
        what = "a subset of" if less else "in the layout of, but not as published:"
        return f"{what} {published.title}: {mine[0]} of {theirs[0]} classes, {images}"

    def document(self) -> dict[str, Any]:
        """Return the report for a script."""
        found: dict[str, Any] = {
            "root": str(self.root), "layout": self.layout, "parts": self.parts, "usable": not self.problem,
            "problem": self.problem or None,
        }
        if self.dataset is None:
            return found
        published = PUBLISHED.get(self.layout)
        small, large = self._extremes(self.dataset)
        return found | {
            "verdict": self.verdict,
            "classes": len(self.dataset.classes),
            "train": int(self.dataset.train.sum()),
            "test": int((~self.dataset.train).sum()),
            "published": published and {"classes": published.classes, "train": published.train, "test": published.test},
            "smallest_class": {"name": small[0], "images": small[1]},
            "largest_class": {"name": large[0], "images": large[1]},
            "unusable": list(self.dataset.skipped),
            "greyscale": self.greyscale,
            "duplicates": [list(group) for group in self.duplicates],
            "train_and_test": [list(group) for group in self.leaked],
            "notes": list(self.dataset.notes),
            "fingerprint": self.dataset.fingerprint,
        }

    def view(self) -> Group:
        """Return the report for a person."""
        parts = "  ".join(f"{name} {'✓' if there else 'missing'}" for name, there in self.parts.items())
        lines = [f"{self.root}: {self.verdict or f'layout {self.layout}'}", *([f"  {parts}"] if parts else [])]
        if self.dataset is not None:
            lines += self._said(self.dataset)
        return Group(*(Text(line) for line in lines))

    def _said(self, there: Dataset) -> list[str]:
        small, large = self._extremes(there)
        train, test = int(there.train.sum()), int((~there.train).sum())
        published = PUBLISHED.get(self.layout)
        official = f" (published: {published.train:,} and {published.test:,})" if published else ""
        return [
            f"  images      {train:,} train, {test:,} test{official}",
            f"  classes     {len(there.classes)}, from {small[1]} images ({small[0]}) to {large[1]} ({large[0]})",
            f"  greyscale   {self.greyscale:,}; they are read as RGB",
            *_some("unusable", there.skipped),
            *_some("identical", [" = ".join(group) for group in self.duplicates if group not in self.leaked]),
            *_some("leaked", [f"{' = '.join(group)}, in train and in test" for group in self.leaked]),
            *(f"  note        {note}" for note in there.notes),
        ]

    @staticmethod
    def _extremes(there: Dataset) -> tuple[tuple[str, int], tuple[str, int]]:
        """Return the names and counts of the class with fewest images and of that with most."""
        counts = np.bincount(there.labels, minlength=len(there.classes))
        few, many = int(counts.argmin()), int(counts.argmax())
        return (there.classes[few], int(counts[few])), (there.classes[many], int(counts[many]))


def check_data(root: Path, layout: Layout | None, cache: Path, progress: Progress = silent) -> DataReport:
    """Return what is below `root`, every image decoded once; `layout` None: whichever it looks like.

    Raises InputError: where `root` is no folder.
    """
    root = root.expanduser()
    if not root.is_dir():
        raise InputError(f"{root}: is no folder")
    known = layout or recognised(root)
    parts = _parts(root, known)
    config = DataConfig(dataset=known, root=str(root), bad_images="skip")
    try:
        dataset = open_dataset(config, cache, progress)
    except InputError as error:
        return DataReport(root, known, parts, f"{error}{_hint(root)}")
    same = _same(dataset)
    leaked = tuple(group for group in same if len({bool(dataset.train[i]) for i in group}) == 2)
    bad = len(dataset.skipped)
    more = f" (and {bad - 1} more)" if bad > 1 else ""
    return DataReport(
        root, known, parts,
        problem=f"{root}: {dataset.skipped[0]}{more}; data.bad_images: skip leaves such files out" if bad else "",
        dataset=dataset,
        greyscale=_greyscale(dataset, {"cub": root / "images", "dogs": _breeds(root) or root, "folders": root}[known]),
        duplicates=tuple(_names(dataset, group) for group in same),
        leaked=tuple(_names(dataset, group) for group in leaked),
    )


def recognised(root: Path) -> Layout:
    """Return the layout a folder looks like, complete or not."""
    if any((root / name).exists() for name in _CUB_LISTS):
        return "cub"
    if any((place / name).exists() for place in (root, root / "lists") for name in _DOGS_LISTS):
        return "dogs"
    breeds = _breeds(root)
    if breeds and any(entry.is_dir() and entry.name.startswith("n0") for entry in breeds.iterdir()):
        return "dogs"   # n02085620-Chihuahua: WordNet's numbers, the lists not unpacked yet
    return "folders"


def _parts(root: Path, layout: Layout) -> dict[str, bool]:
    if layout == "cub":
        return {f"{n}/" if n == "images" else n: (root / n).exists() for n in ("images", *_CUB_LISTS)}
    if layout == "dogs":
        lists = {n: any((place / n).exists() for place in (root, root / "lists")) for n in _DOGS_LISTS}
        return {"Images/": _breeds(root) is not None} | lists
    return {}


def _breeds(root: Path) -> Path | None:
    return next((root / name for name in ("Images", "images") if (root / name).is_dir()), None)


def _hint(root: Path) -> str:
    """Return where a data set lies instead: one folder further down, or still packed."""
    below = sorted(entry for entry in root.iterdir() if entry.is_dir())
    if inner := [entry for entry in below if recognised(entry) != "folders"]:
        return f"; did you mean {inner[0]}?"
    if packed := sorted(entry.name for entry in root.iterdir() if entry.suffix in (".tar", ".tgz", ".gz", ".zip")):
        return f"; {packed[0]} is still packed"
    return ""


def _same(dataset: Dataset) -> list[list[int]]:
    by_digest: dict[str, list[int]] = defaultdict(list)
    for i, digest in enumerate(dataset.digests):
        by_digest[digest].append(i)
    return [group for group in by_digest.values() if len(group) > 1]


def _names(dataset: Dataset, group: list[int]) -> tuple[str, ...]:
    return tuple(dataset.names[i] for i in group)


def _greyscale(dataset: Dataset, folder: Path) -> int:
    """Return how many files hold no colour by their headers; grey pixels in a colour file are not looked for."""
    grey = 0
    for name in dataset.names:
        with Image.open(folder / name) as image:
            grey += image.mode in _GREY
    return grey


def _some(what: str, found: tuple[str, ...] | list[str]) -> list[str]:
    lines = [f"  {what:<11} {len(found):,}", *(f"    {each}" for each in found[:SHOWN])] if found else []
    return lines + ([f"    and {len(found) - SHOWN:,} more: --json lists them"] if len(found) > SHOWN else [])
