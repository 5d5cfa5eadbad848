"""How good boxes are, where the truth is known: on the bird, on its parts, over the part that tells drawn birds apart.

Truth is never given to a model or an extractor (thesis §3 "Data"); `parts` alone, the upper bound, looks at it.

Legend: n images, N boxes of an image, Q parts that were annotated. Boxes are x1 y1 x2 y2, fractions of the image.
"""

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float
from PIL import Image

from fgmodel.data.boxes_file import Patches
from fgmodel.data.datasets import Dataset, Split
from fgmodel.data.listings import read_lines
from fgmodel.errors import InputError

COVERED = 0.5   # of the telling part's area
_FARTHEST = 1e6  # pixels


@dataclass(frozen=True)
class Truth:
    """What is known of a split's images; None where it is not."""

    birds: np.ndarray | None = None        # (n,4): the bird's box
    points: np.ndarray | None = None       # (n,Q,2): each part's place; nan where it is not visible
    parts: tuple[str, ...] = ()            # the Q parts' names
    telling: np.ndarray | None = None      # (n,4): the box of the part that tells drawn birds apart

    def __bool__(self) -> bool:
        return any(known is not None for known in (self.birds, self.points, self.telling))


@dataclass(frozen=True)
class Quality:
    """Means over boxes or images; None where the truth is not known."""

    area: float                                # of a box, as a share of the frame
    inside: float | None = None                # share of a box's area that lies inside the bird's box
    boxes_hitting: float | None = None         # share of boxes that hold a visible part's point
    images_hitting: float | None = None        # share of images of which a box does
    parts_a_box: float | None = None           # how many visible parts a box holds
    parts_hit: float | None = None             # how many of its visible parts an image's boxes hold
    parts_visible: float | None = None         # of how many
    by_part: dict[str, float] | None = None    # share of the images that show the part of which a box holds it
    covered: float | None = None               # share of images of which a box holds half the telling part

    def document(self) -> dict[str, Any]:
        """Return what is known, for a script."""
        return {name: value for name, value in asdict(self).items() if value is not None}


def measure(patches: Patches, truth: Truth) -> Quality:
    """Return how good the boxes of the split that `truth` is of are."""
    boxes = patches.boxes / patches.frame                                        # n N 4
    found = Quality(area=float(_area(boxes).mean()))
    if truth.birds is not None:
        found = replace(found, inside=float(share_inside(boxes, truth.birds).mean()))
    if truth.points is not None:
        found = _with_parts(found, holds(boxes, truth.points), ~np.isnan(truth.points).any(axis=-1), truth.parts)
    if truth.telling is not None:
        found = replace(found, covered=float((share_held(boxes, truth.telling).max(axis=1) >= COVERED).mean()))
    return found


def moved_at_random(patches: Patches, seed: int = 0) -> Patches:
    """Return boxes of the same sizes anywhere in the frame: what the boxes' sizes alone achieve."""
    sides = patches.boxes[..., 2:] - patches.boxes[..., :2]                      # n N 2
    room = patches.frame - sides + 1                                             # n N 2
    corner = np.floor(np.random.default_rng(seed).uniform(size=sides.shape) * room).astype(np.int16)
    return replace(patches, boxes=np.concatenate([corner, corner + sides], axis=-1))


def share_inside(boxes: Float[np.ndarray, "n N 4"], birds: Float[np.ndarray, "n 4"]) -> Float[np.ndarray, "n N"]:
    """Return the share of each box's area that lies inside the bird's."""
    return np.asarray(_common(boxes, birds) / _area(boxes))


def share_held(boxes: Float[np.ndarray, "n N 4"], parts: Float[np.ndarray, "n 4"]) -> Float[np.ndarray, "n N"]:
    """Return the share of the part's area that each box holds."""
    return np.asarray(_common(boxes, parts) / _area(parts)[:, None])


def holds(boxes: Float[np.ndarray, "n N 4"], points: Float[np.ndarray, "n Q 2"]) -> Bool[np.ndarray, "n N Q"]:
    """Tell which points lie in which boxes; one that is not visible lies in none."""
    spread = points[:, None]                                                     # n 1 Q 2
    low, high = boxes[:, :, None, :2], boxes[:, :, None, 2:]                     # n N 1 2
    return np.asarray(((spread >= low) & (spread < high)).all(axis=-1))


def _with_parts(found: Quality, held: np.ndarray, visible: np.ndarray, names: tuple[str, ...]) -> Quality:
    """Return the quality with what `held` (n N Q) says of the parts that are `visible` (n Q)."""
    by_image: np.ndarray = np.any(held, axis=1)                                  # n Q
    shown = visible.sum(axis=0)                                                  # Q
    return replace(
        found, boxes_hitting=float(np.any(held, axis=2).mean()),
        images_hitting=float(np.any(by_image, axis=1).mean()), parts_a_box=float(held.sum(axis=2).mean()),
        parts_hit=float(by_image.sum(axis=1).mean()), parts_visible=float(visible.sum(axis=1).mean()),
        by_part={names[q]: float(by_image[:, q].sum() / shown[q]) for q in np.flatnonzero(shown)},
    )


def _area(boxes: np.ndarray) -> np.ndarray:
    return np.asarray((boxes[..., 2:] - boxes[..., :2]).prod(axis=-1))


def _common(boxes: np.ndarray, true: np.ndarray) -> np.ndarray:
    """Return the area (n N) that boxes (n N 4) share with one true box an image (n 4)."""
    low, high = np.maximum(boxes[..., :2], true[:, None, :2]), np.minimum(boxes[..., 2:], true[:, None, 2:])
    return np.asarray(np.clip(high - low, 0, None).prod(axis=-1))


# --- the truth --------------------------------------------------------------------------------------------------------

def known_truth(dataset: Dataset, split: Split, root: Path | None) -> Truth:
    """Return what is known of a split: drawn birds' parts; CUB's boxes and part points, where `root` has those files.

    Raises InputError: where such a file is malformed or lacks an image of the split.
    """
    if dataset.part_boxes is not None:
        return Truth(telling=dataset.part_boxes[dataset.rows(split)].astype(float))
    if root is None or not (root / "images.txt").exists():
        return Truth()
    numbers = {name: number for number, name in _rows(root / "images.txt", 2)}
    names = dataset.names_of(split)
    if absent := [name for name in names if name not in numbers]:
        raise InputError(f"{root / 'images.txt'}: lacks {absent[0]}")
    ids = [numbers[name] for name in names]
    sizes = np.array([_size(root / "images" / name) for name in names], float)   # n 2
    points, parts = _points(root, ids, sizes)
    return Truth(birds=_birds(root / "bounding_boxes.txt", ids, sizes), points=points, parts=parts)


def _birds(path: Path, ids: list[str], sizes: np.ndarray) -> np.ndarray | None:
    if not path.exists():
        return None
    held = {number: values for number, *values in _rows(path, 5)}
    boxes = _floats(path, [_of(path, held, number) for number in ids])           # n 4  x y width height, pixels
    corners = np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], axis=1)
    return np.asarray(np.clip(corners / np.tile(sizes, 2), 0, 1))


def _points(root: Path, ids: list[str], sizes: np.ndarray) -> tuple[np.ndarray | None, tuple[str, ...]]:
    path, named = root / "parts" / "part_locs.txt", root / "parts" / "parts.txt"
    if not (path.exists() and named.exists()):
        return None, ()
    names = {number: name for number, name in _rows(named, 2)}  # noqa: C416  pairs, but typed as lists
    held = {(number, part): values for number, part, *values in _rows(path, 5)}
    values = _floats(path, [_of(path, held, (number, part)) for number in ids for part in names])   # n·Q 3  x y visible
    values = values.reshape(len(ids), len(names), 3)
    points = values[..., :2] / sizes[:, None]                                    # n Q 2
    return np.where(values[..., 2:] > 0, points, np.nan), tuple(names.values())


def _rows(path: Path, columns: int) -> list[list[str]]:
    """Return a file's lines, cut at spaces into at most so many columns."""
    rows = [line.split(maxsplit=columns - 1) for line in read_lines(path)]
    for number, row in enumerate(rows, 1):
        if row and len(row) != columns:
            raise InputError(f"{path}:{number}: '{' '.join(row)}' should have {columns} columns")
    return [row for row in rows if row]


def _of(path: Path, held: dict[Any, list[str]], key: str | tuple[str, str]) -> list[str]:
    if key not in held:
        raise InputError(f"{path}: lacks image {key if isinstance(key, str) else f'{key[0]}, part {key[1]}'}")
    return held[key]


def _floats(path: Path, rows: list[list[str]]) -> np.ndarray:
    try:
        values = np.array(rows, np.float64)
    except ValueError as error:
        raise InputError(f"{path}: holds something that is no number: {error}") from None
    if not (np.abs(values) < _FARTHEST).all():
        raise InputError(f"{path}: holds {values[~(np.abs(values) < _FARTHEST)][0]:g}, which is no place in an image")
    return values


def _size(path: Path) -> tuple[int, int]:
    with Image.open(path) as image:
        return image.size
