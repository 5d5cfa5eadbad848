"""Method `parts`: the true box of the part that tells drawn birds apart, the upper bound of what patches can give."""

import numpy as np

from fgmodel.errors import InputError
from fgmodel.extraction.task import Extractor, Found, Task, enlarged, squared


def find(task: Task) -> Found:
    """Return the true part first, then `count - 1` copies of it, moved and resized by up to a fifth.

    Copies, and not other parts, keep every patch informative; they differ so that N patches are not one N times.
    Raises InputError: for a data set that knows no parts.
    """
    dataset = task.frames.dataset
    if dataset.part_boxes is None:
        raise InputError(f"data.patches: parts needs true boxes, which '{dataset.name}' has not; take ddt")
    true = squared(dataset.part_boxes[dataset.rows(task.frames.split)])               # n 4
    chance = np.random.default_rng(0).uniform(-0.2, 0.2, (len(true), task.count, 3))  # n N 3  x, y, size
    if task.frames.part:
        true, chance = true[slice(*task.frames.part)], chance[slice(*task.frames.part)]
    chance[:, 0] = 0
    side = (true[:, 2] - true[:, 0])[:, None]                                         # n 1
    shift = chance[..., :2] * side[..., None]                                         # n N 2
    moved = true[:, None] + np.concatenate([shift, shift], axis=-1)                   # n N 4
    boxes = enlarged(moved, 1 + chance[..., 2:])
    return Found(boxes, np.ones(boxes.shape[:2], np.float32))


PARTS = Extractor(find, scale=1.2)   # a little around the part: its edge against the bird is part of its form
