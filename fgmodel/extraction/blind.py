"""Methods `grid`, `center` and `random`: boxes that look at no image, what every other method has to beat (thesis §4).

Legend: n images, N boxes of an image.
"""

import hashlib
import math

import numpy as np

from fgmodel.extraction.task import Extractor, Found, Task

CENTER_SIDES = 0.4, 0.9   # the smallest and the largest square: 16 % to 81 % of the frame
RANDOM_SIDES = 0.2, 0.6   # of the frame: a mean of 0.4 a side, as the released boxes have (§4: 172 and 186 of 448 px)
SEED = 0


def grid(task: Task) -> Found:
    """Return the cells of the smallest grid that has N of them, nearest to the centre first."""
    rows = math.isqrt(task.count)
    columns = math.ceil(task.count / rows)
    y, x = (axis.flatten() for axis in np.mgrid[:rows, :columns])
    corners = np.stack([x / columns, y / rows, (x + 1) / columns, (y + 1) / rows], axis=1)     # cells 4
    away = np.hypot((x + 0.5) / columns - 0.5, (y + 0.5) / rows - 0.5).round(6)                # cells
    order = np.argsort(away, kind="stable")[: task.count]
    return _for_all(task, corners[order], 1 - away[order])


def center(task: Task) -> Found:
    """Return squares about the centre, the smallest first."""
    sides = np.linspace(*CENTER_SIDES, task.count)                                             # N
    corners = np.stack([0.5 - sides / 2, 0.5 - sides / 2, 0.5 + sides / 2, 0.5 + sides / 2], axis=1)
    return _for_all(task, corners, 1 - sides)


def random(task: Task) -> Found:
    """Return boxes of chance sizes at chance places, all within the frame; an image's name alone decides them."""
    chance = np.stack([_chance(name).uniform(size=(task.count, 4)) for name in task.frames.names])   # n N 4
    low, high = RANDOM_SIDES
    sides = low + (high - low) * chance[..., :2]                                               # n N 2
    corner = (1 - sides) * chance[..., 2:]                                                     # n N 2
    boxes = np.concatenate([corner, corner + sides], axis=-1)
    return Found(boxes, np.zeros(boxes.shape[:2], np.float32))


def _for_all(task: Task, corners: np.ndarray, scores: np.ndarray) -> Found:
    n = len(task.frames)
    return Found(np.tile(corners, (n, 1, 1)), np.tile(scores.astype(np.float32), (n, 1)))


def _chance(name: str) -> np.random.Generator:
    return np.random.default_rng([SEED, *hashlib.sha256(name.encode()).digest()[:8]])


GRID = Extractor(grid, scale=1.0)
CENTER = Extractor(center, scale=1.0)
RANDOM = Extractor(random, scale=1.0)
