"""Which images a folder says it has: CUB-200-2011's four text files, or folders named after classes."""

import os
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fgmodel.data.images import is_image_name
from fgmodel.data.splits import cut_test
from fgmodel.errors import InputError

LARGEST = 8 << 20   # bytes of a list


@dataclass(frozen=True)
class Listing:
    """The n images of a data set, in ImageFolder's order; nothing has been read yet."""

    folder: Path                 # that names are relative to
    classes: tuple[str, ...]
    names: tuple[str, ...]
    labels: np.ndarray           # (n,) int64, 0-based
    train: np.ndarray            # (n,) bool


def require_same_files(root: Path, folder: str, listed: Collection[str], lists: str) -> None:
    """Raise InputError naming the first image that `lists` name and ROOT/FOLDER lacks, or the other way round."""
    present, named = set(_images_below(root / folder)), set(listed)
    if absent := sorted(named - present):
        raise InputError(f"{root}: {lists} lists {absent[0]}, which is not in {folder}/ ({len(absent)} such)")
    if extra := sorted(present - named):
        raise InputError(f"{root}: {folder}/{extra[0]} is not listed in {lists} ({len(extra)} such)")


def list_cub(root: Path) -> Listing:
    """Return the images of a folder in CUB-200-2011's layout, as its text files list them.

    Raises InputError: where a file is missing or malformed, or the lists and the folder images/ disagree.
    """
    needed = ("images.txt", "image_class_labels.txt", "train_test_split.txt", "classes.txt", "images")
    missing = [name for name in needed if not (root / name).exists()]
    if missing:
        raise InputError(f"data.root: '{root}' is no CUB-200-2011 folder: {' and '.join(missing)} missing")
    paths, labels = _table(root / "images.txt"), _table(root / "image_class_labels.txt")
    train, classes = _table(root / "train_test_split.txt"), _table(root / "classes.txt")
    _require_same_ids(root, paths, labels, "image_class_labels.txt")
    _require_same_ids(root, paths, train, "train_test_split.txt")
    _require_values(root / "image_class_labels.txt", labels, classes, "no class of classes.txt")
    _require_values(root / "train_test_split.txt", train, ("0", "1"), "neither 1 (train) nor 0 (test)")
    _require_listed_once(root, paths)
    require_same_files(root, "images", paths.values(), "images.txt")
    ids = sorted(paths, key=lambda i: Path(paths[i]).parts)
    order = {class_id: label for label, class_id in enumerate(classes)}
    return Listing(
        root / "images", tuple(classes.values()), tuple(paths[i] for i in ids),
        np.array([order[labels[i]] for i in ids], np.int64), np.array([train[i] == "1" for i in ids]),
    )


def list_folders(root: Path, seed: int) -> Listing:
    """Return the images of ROOT/train/CLASS and ROOT/test/CLASS (or val, where there is no test), or of ROOT/CLASS.

    The last has no split: a stratified fifth is cut for test, by `seed`. Raises InputError: where there are no classes,
    or the splits' differ, or one is empty.
    """
    if not (root / "train").is_dir():
        classes, names, labels = _class_folders(root)
        return Listing(root, classes, names, labels, cut_test(labels, classes, seed))
    held_out = next((name for name in ("test", "val") if (root / name).is_dir()), None)
    if held_out is None:
        raise InputError(f"data.root: '{root}' holds train/ but neither test/ nor val/")
    classes, names, labels = _class_folders(root / "train")
    test_classes, test_names, test_labels = _class_folders(root / held_out)
    if classes != test_classes:
        odd = min(set(classes) ^ set(test_classes))
        raise InputError(f"data.root: '{root}': class '{odd}' is not in both train/ and {held_out}/")
    together = tuple(f"train/{n}" for n in names) + tuple(f"{held_out}/{n}" for n in test_names)
    train = np.arange(len(together)) < len(names)
    return Listing(root, classes, together, np.concatenate([labels, test_labels]), train)


# --- CUB-200-2011 -----------------------------------------------------------------------------------------------------

def read_lines(path: Path) -> list[str]:
    """Return the lines of a list of images. Raises InputError: where it cannot be read, or is far too large for one."""
    try:
        if path.stat().st_size > LARGEST:
            raise InputError(f"{path}: is larger than {LARGEST >> 20} MB, more than a list of images takes")
        return path.read_text(encoding="utf-8", errors="surrogateescape").split("\n")
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from None


def _table(path: Path) -> dict[str, str]:
    """Return a file of lines `id value`, in the file's order."""
    rows: dict[str, str] = {}
    for number, line in enumerate(read_lines(path), 1):
        if not line.strip():
            continue
        key, _, value = line.strip().partition(" ")
        if not value or key in rows:
            raise InputError(f"{path}:{number}: '{line}' should be an id not used before, a space and a value")
        rows[key] = value
    if not rows:
        raise InputError(f"{path} is empty")
    return rows


def _require_same_ids(root: Path, paths: dict[str, str], other: dict[str, str], name: str) -> None:
    odd = sorted(paths.keys() ^ other.keys())
    if odd:
        where, lacking = ("images.txt", name) if odd[0] in paths else (name, "images.txt")
        raise InputError(f"{root}: image {odd[0]} is in {where} but not in {lacking} ({len(odd)} such)")


def _require_values(path: Path, rows: dict[str, str], allowed: Iterable[str], otherwise: str) -> None:
    known = set(allowed)
    for key, value in rows.items():
        if value not in known:
            raise InputError(f"{path}: image {key} has '{value}', which is {otherwise}")


def _require_listed_once(root: Path, paths: dict[str, str]) -> None:
    first: dict[str, str] = {}
    for key, path in paths.items():
        if path in first:
            raise InputError(f"{root}: images.txt lists {path} twice, as image {first[path]} and as image {key}")
        first[path] = key


# --- class folders ----------------------------------------------------------------------------------------------------

def _class_folders(folder: Path) -> tuple[tuple[str, ...], tuple[str, ...], np.ndarray]:
    """Return the classes of `folder`, its images' names and their labels."""
    classes = tuple(sorted(entry.name for entry in os.scandir(folder) if entry.is_dir()))
    if not classes:
        raise InputError(f"data.root: '{folder}' holds no folders named after classes")
    names: list[str] = []
    labels: list[int] = []
    for label, name in enumerate(classes):
        found = [f"{name}/{image}" for image in _images_below(folder / name)]
        if not found:
            raise InputError(f"data.root: class '{name}' is empty: no image in {folder / name}")
        names += found
        labels += [label] * len(found)
    return classes, tuple(names), np.array(labels, np.int64)


def _images_below(folder: Path) -> list[str]:
    """Return the images below `folder` in the order ImageFolder walks them."""
    return [
        str((Path(place) / file).relative_to(folder))
        for place, _, files in sorted(os.walk(folder, followlinks=True))
        for file in sorted(files)
        if is_image_name(Path(file))
    ]
