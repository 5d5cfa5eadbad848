"""What every extractor is given and gives, and what several of them do to boxes."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from fgmodel.cache import Frames
from fgmodel.frozen import FrozenTrunk


@dataclass(frozen=True)
class Task:
    """Find `count` boxes for each image of `frames`; whatever is fitted is fitted on `train` alone (thesis §8.1)."""

    frames: Frames
    train: Frames
    count: int
    trunk: FrozenTrunk


@dataclass(frozen=True)
class Found:
    """The n images' boxes before they are enlarged, best first, and what they were ranked by."""

    boxes: np.ndarray    # (n,N,4) float: x1 y1 x2 y2 as fractions of the image
    scores: np.ndarray   # (n,N)   float32


@dataclass(frozen=True)
class Extractor:
    """A way to find boxes, and how much they are enlarged about their centres unless `data.patch_scale` says."""

    find: Callable[[Task], Found]
    scale: float
    size: int = 0             # px at which the trunk sees an image; 0 where it sees none
    stride16: bool = False    # which of the trunk's maps it reads


def joined(parts: list[tuple[torch.Tensor, torch.Tensor]]) -> Found:
    """Return the boxes and scores of all batches together."""
    boxes, scores = zip(*parts, strict=True)
    return Found(torch.cat(boxes).numpy(), torch.cat(scores).numpy())


def squared(boxes: np.ndarray) -> np.ndarray:
    """Return boxes of the same centres, square on their longer sides: a square crop then keeps the shapes in it."""
    centre, half = (boxes[..., :2] + boxes[..., 2:]) / 2, (boxes[..., 2:] - boxes[..., :2]).max(-1, keepdims=True) / 2
    return np.concatenate([centre - half, centre + half], axis=-1)


def enlarged(boxes: np.ndarray, scale: float | np.ndarray) -> np.ndarray:
    """Return boxes of the same centres with sides `scale` times as long."""
    centre, half = (boxes[..., :2] + boxes[..., 2:]) / 2, scale * (boxes[..., 2:] - boxes[..., :2]) / 2
    return np.concatenate([centre - half, centre + half], axis=-1)
