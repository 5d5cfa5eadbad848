"""What every extractor is given and gives, and what several of them do to boxes."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np
import torch

from fgmodel.cache import STEP, Frames
from fgmodel.trunks.frozen_trunk import FrozenTrunk

Batch: TypeAlias = tuple[torch.Tensor, torch.Tensor]
"""Boxes (B N 4, fractions) and scores (B N) of some of the images."""

Fit: TypeAlias = Mapping[str, torch.Tensor]
"""What a method learned of the train images and of no others (thesis §8.1); empty where it learns nothing."""


@dataclass(frozen=True)
class Task:
    """Find `count` boxes for each image of `frames`, by what was fitted on the train images."""

    frames: Frames
    fit: Fit
    count: int
    trunk: FrozenTrunk


@dataclass(frozen=True)
class Found:
    """The n images' boxes before they are enlarged, best first, and what they were ranked by."""

    boxes: np.ndarray    # (n,N,4) float: x1 y1 x2 y2 as fractions of the image
    scores: np.ndarray   # (n,N)   float32


def unfitted(_train: Frames, _trunk: FrozenTrunk) -> Fit:
    """Return nothing: the method fits nothing."""
    return {}


def one_pass(_images: int) -> float:
    """Return what finding boxes costs where a fit costs next to nothing."""
    return 1.0


@dataclass(frozen=True)
class Extractor:
    """A way to find boxes, and how much they are enlarged about their centres unless `data.patch_scale` says."""

    find: Callable[[Task], Found]
    scale: float
    size: int = 0             # px at which the trunk sees an image; 0 where it sees none
    stride16: bool = False    # which of the trunk's maps it reads
    fit: Callable[[Frames, FrozenTrunk], Fit] = unfitted   # on the train images, with the trunk as `trunk` cuts it
    passes: Callable[[int], float] = one_pass   # what a train split of so many images costs, the fit included, in
    #                                             passes of the trunk over them

    def trunk(self, trunk: FrozenTrunk) -> FrozenTrunk:
        """Return the trunk, cut where the method reads it."""
        return replace(trunk, stride16=self.stride16)


def in_batches(task: Task, boxes: Callable[[slice], Batch], size: int = STEP) -> Found:
    """Return the boxes and scores that `boxes` finds for rows of the task's images, `size` rows a call."""
    parts: list[Batch] = []
    for a in range(0, len(task.frames), size):
        parts.append(boxes(slice(a, a + size)))
        task.frames.progress("boxes", min(a + size, len(task.frames)), len(task.frames))
    return joined(parts)


def tensor(maps: np.ndarray) -> torch.Tensor:
    """Return kept maps, which are in half precision, to compute with."""
    return torch.from_numpy(np.array(maps, np.float32))


def joined(parts: list[Batch]) -> Found:
    """Return the boxes and scores of all batches together."""
    boxes, scores = zip(*parts, strict=True)
    return Found(torch.cat(boxes).cpu().numpy(), torch.cat(scores).cpu().numpy())


def squared(boxes: np.ndarray) -> np.ndarray:
    """Return boxes of the same centres, square on their longer sides: a square crop then keeps the shapes in it."""
    centre, half = (boxes[..., :2] + boxes[..., 2:]) / 2, (boxes[..., 2:] - boxes[..., :2]).max(-1, keepdims=True) / 2
    return np.concatenate([centre - half, centre + half], axis=-1)


def enlarged(boxes: np.ndarray, scale: float | np.ndarray) -> np.ndarray:
    """Return boxes of the same centres with sides `scale` times as long."""
    centre, half = (boxes[..., :2] + boxes[..., 2:]) / 2, scale * (boxes[..., 2:] - boxes[..., :2]) / 2
    return np.concatenate([centre - half, centre + half], axis=-1)
