"""The patch boxes the thesis' authors released: rows without names, so that only checks stand between us and a shift.

`train_patches.npy` and `test_patches.npy` are float64 (n,10,5): y1 y2 x1 x2, half-open and whole numbers, in a frame of
448x448 the image was squashed to, and the image's label; rows in ImageFolder's order (thesis.md §4, §8.5).
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from fgmodel.arrays import read_npy
from fgmodel.data.boxes_file import Patches, require_boxes
from fgmodel.errors import InputError

FRAME = 448


def read_released(path: Path, labels: np.ndarray, classes: Sequence[str]) -> Patches:
    """Return the boxes of a released array for the split whose images have these labels, in order.

    Raises InputError: where the array is not of these images as far as its labels can tell; a swap within a class they
    cannot.
    """
    released = _load(path)
    if released.ndim != 3 or released.shape[2] != 5 or not released.shape[1] or released.dtype != np.float64:
        given = f"{released.dtype} {released.shape}"
        raise InputError(f"{path}: a released patch file is float64 (images, boxes, 5), not {given}")
    if not (np.isfinite(released).all() and (released == np.rint(released)).all()):
        raise InputError(f"{path}: coordinates and labels should be whole numbers")
    _require_labels(path, released[..., 4], labels, classes)
    y1, y2, x1, x2 = np.moveaxis(released[..., :4], -1, 0)
    boxes = np.stack([x1, y1, x2, y2], axis=-1)                       # n N 4
    require_boxes(path, boxes, FRAME, len(labels))
    return Patches(boxes.astype(np.int16), np.zeros(boxes.shape[:2], np.float32), FRAME, "released")


def _load(path: Path) -> np.ndarray:
    try:
        return read_npy(path)
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read: {error}") from None


def _require_labels(path: Path, given: np.ndarray, labels: np.ndarray, classes: Sequence[str]) -> None:
    """Raise InputError unless all boxes of row i carry labels[i]; counts come first, they name a difference best."""
    if len(given) != len(labels):
        raise InputError(f"{path} holds {len(given)} images, the data set's split {len(labels)}: it is of other data")
    if (given != given[:, :1]).any():
        row = int(np.argwhere((given != given[:, :1]).any(axis=1))[0, 0])
        raise InputError(f"{path}: row {row} carries several labels")
    rows = given[:, 0]   # whole numbers, of any size until their counts agree
    for label, name in enumerate(classes):
        count, due = int((rows == label).sum()), int((labels == label).sum())
        if count != due:
            raise InputError(f"{path} holds {count} images of '{name}', the data set {due}: it is of other data")
    if (rows != labels).any():
        row = int(np.flatnonzero(rows != labels)[0])
        held, wanted = classes[int(rows[row])], classes[labels[row]]
        raise InputError(
            f"{path}: row {row} is of class '{held}', the data set's image of '{wanted}': "
            "the rows are not in the order of sorted paths",
        )
