"""Stanford Dogs in the layout it is published in: Images/CLASS/NAME.jpg and two MATLAB lists (thesis §3, "Data").

train_list.mat and test_list.mat, beside Images/ or in lists/, each hold for n images
  file_list  n x 1 cell of CLASS/NAME.jpg      annotation_list  the same without .jpg      labels  n x 1, from 1
"""

from pathlib import Path, PurePosixPath

import numpy as np

from fgmodel.data.listings import Listing, require_same_files
from fgmodel.data.matlab import read_matlab
from fgmodel.errors import InputError

_KEYS = ("file_list", "annotation_list", "labels")
_LARGEST_LABEL = 100_000


def list_dogs(root: Path) -> Listing:
    """Return the images of a folder in Stanford Dogs' layout, as its two lists name them.

    Raises InputError: where a list or an image is missing, or a list is not one of Stanford Dogs.
    """
    folder, train_list, test_list = _parts(root)
    train, test = _read_list(train_list), _read_list(test_list)
    if both := sorted(train.keys() & test.keys()):
        raise InputError(f"{root}: {both[0]} is in train_list.mat and in test_list.mat ({len(both)} such)")
    labels = train | test
    classes = _classes(root, labels)
    require_same_files(root, folder, labels, "train_list.mat and test_list.mat")
    names = sorted(labels, key=lambda name: PurePosixPath(name).parts)
    order = {name: label for label, name in enumerate(classes)}
    return Listing(
        root / folder, classes, tuple(names),
        np.array([order[_class(name)] for name in names], np.int64), np.array([name in train for name in names]),
    )


def _parts(root: Path) -> tuple[str, Path, Path]:
    """Return the folder of the images and the two lists."""
    folder = next((name for name in ("Images", "images") if (root / name).is_dir()), None)
    place = root / "lists" if (root / "lists" / "train_list.mat").exists() else root
    lists = [place / name for name in ("train_list.mat", "test_list.mat")]
    missing = ([] if folder else ["Images/"]) + [path.name for path in lists if not path.exists()]
    if folder is None or missing:
        raise InputError(f"data.root: '{root}' is no Stanford Dogs folder: {' and '.join(missing)} missing")
    return folder, lists[0], lists[1]


def _read_list(path: Path) -> dict[str, int]:
    """Return the label, from 1, of each image of a list."""
    content = read_matlab(path, _KEYS)
    for key in _KEYS:
        if key not in content:
            raise InputError(f"{path}: has no '{key}', so it is no list of Stanford Dogs")
    names, stems = (_texts(path, key, content[key]) for key in _KEYS[:2])
    labels = _labels(content["labels"])
    if not labels:
        raise InputError(f"{path}: 'labels' should be whole numbers from 1")
    if not len(names) == len(stems) == len(labels):
        raise InputError(f"{path}: {len(names)} files, {len(stems)} annotations and {len(labels)} labels do not match")
    listed: dict[str, int] = {}
    for name, stem, label in zip(names, stems, labels, strict=True):
        _require_name(path, name, stem)
        if name in listed:
            raise InputError(f"{path}: lists {name} twice")
        listed[name] = label
    return listed


def _texts(path: Path, key: str, values: list[str] | list[float] | None) -> list[str]:
    texts = [value for value in values or () if isinstance(value, str)]
    if not texts or len(texts) != len(values or ()):
        raise InputError(f"{path}: '{key}' should be a cell array of texts")
    return texts


def _labels(values: list[str] | list[float] | None) -> list[int]:
    """Return labels as whole numbers; none at all where one of them is not one."""
    if values and all(isinstance(v, float) and 1 <= v <= _LARGEST_LABEL and v == int(v) for v in values):
        return [int(value) for value in values]
    return []


def _require_name(path: Path, name: str, stem: str) -> None:
    parts = PurePosixPath(name).parts
    if len(parts) != 2 or ".." in parts or parts[0] == "/" or "/".join(parts) != name or not name.isprintable():
        raise InputError(f"{path}: 'file_list' has {_short(name)}, which should be CLASS/NAME.jpg")
    if stem != name.removesuffix(".jpg"):
        raise InputError(f"{path}: 'annotation_list' has {_short(stem)} where 'file_list' has {_short(name)}")


def _classes(root: Path, labels: dict[str, int]) -> tuple[str, ...]:
    """Return the class folders in order; every label must stand for one of them, and every one have one label."""
    number: dict[str, int] = {}
    for name, label in labels.items():
        if number.setdefault(_class(name), label) != label:
            raise InputError(f"{root}: {name} has label {label}, others of its folder {number[_class(name)]}")
    folders: dict[int, str] = {}
    for folder, label in number.items():
        if folders.setdefault(label, folder) != folder:
            raise InputError(f"{root}: label {label} stands for {folders[label]} and for {folder}")
    return tuple(sorted(number))


def _class(name: str) -> str:
    return name.partition("/")[0]


def _short(text: str) -> str:
    return repr(text if len(text) <= 80 else f"{text[:80]}…")
