"""Random views of a training image, with its patch boxes carried through the same geometry.

B  images      N  patches      S  pixels of the frame      s  pixels of the crop
Boxes are x1, y1, x2, y2, half-open.
"""

from typing import Literal, TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor

Boxes: TypeAlias = Float[Tensor, "B N 4"]

DRAWS = 4
"""Random numbers an image and epoch: which patch, whether flipped, where the crop begins (x, y)."""


def augment(
    kind: Literal["none", "flip", "standard"],
    images: Float[Tensor, "B 3 S S"],
    boxes: Boxes,
    draws: Float[Tensor, "B R"],
) -> tuple[Float[Tensor, "B 3 s s"], Float[Tensor, "B 1 4"]]:
    """Return each image as `kind` shows it, and one of its boxes there, uniformly among the visible ones.

    `standard` crops 7/8 of the frame at random, then flips. The specification's (§3) takes 448 of a short side of 512;
    ours starts from the squashed square frame, since that is what is decoded once and what boxes live in.
    """
    if kind == "standard":
        images, boxes = crop(images, boxes, draws[:, 2:4])
    if kind != "none":
        images, boxes = flip(images, boxes, draws[:, 1] < 0.5)
    return images, choose(boxes, draws[:, 0], images.shape[-1])


def crop(
    images: Float[Tensor, "B 3 S S"], boxes: Boxes, draws: Float[Tensor, "B 2"],
) -> tuple[Float[Tensor, "B 3 s s"], Boxes]:
    """Return 7/8 of each image and its boxes there; a box less than half visible becomes empty."""
    full = images.shape[-1]
    side = full * 7 // 8
    corners = (draws * (full - side + 1)).long()                             # B 2  x, y
    views = [image[:, y : y + side, x : x + side] for image, (x, y) in zip(images, corners.tolist(), strict=True)]
    moved = boxes - corners.repeat(1, 2)[:, None]                            # B N 4
    seen = moved.clamp(0, side)                                              # B N 4
    visible = _area(seen) >= 0.5 * _area(moved)                              # B N
    return torch.stack(views), torch.where(visible[..., None], seen, 0.0)


def flip(images: Float[Tensor, "B 3 S S"], boxes: Boxes, which: Tensor) -> tuple[Float[Tensor, "B 3 S S"], Boxes]:
    """Return images and boxes, mirrored left to right where `which` (B, bool) says so."""
    full = images.shape[-1]
    mirrored = torch.stack([full - boxes[..., 2], boxes[..., 1], full - boxes[..., 0], boxes[..., 3]], dim=-1)
    chosen = which.to(images.device)[:, None, None, None]
    return torch.where(chosen, images.flip(-1), images), torch.where(which[:, None, None], mirrored, boxes)


def choose(boxes: Boxes, draws: Float[Tensor, " B"], side: int) -> Float[Tensor, "B 1 4"]:
    """Return one of each image's boxes that are not empty, uniformly; the whole crop where there is none."""
    visible = _area(boxes) > 0                                               # B N
    wanted = (draws * visible.sum(dim=1)).long()                             # B    the k-th visible box
    index = (visible.cumsum(dim=1) > wanted[:, None]).int().argmax(dim=1)    # B    where the count passes k
    picked = boxes.gather(1, index[:, None, None].expand(-1, 1, 4))          # B 1 4
    whole = boxes.new_tensor([0, 0, side, side])
    return torch.where(visible.any(dim=1)[:, None, None], picked, whole)


def _area(boxes: Boxes) -> Float[Tensor, "B N"]:
    return (boxes[..., 2] - boxes[..., 0]) * (boxes[..., 3] - boxes[..., 1])
