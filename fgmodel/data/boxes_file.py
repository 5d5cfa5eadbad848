"""Patch boxes: what they are, their own file format, and cutting them out of images on the device.

Legend: B images, K patches taken of each, n images of a split, N patches of an image, S pixels of the frame.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from fgmodel import atomic
from fgmodel.arrays import read_npz
from fgmodel.errors import InputError


@dataclass(frozen=True)
class Patches:
    """The patches of a split's images, best first: half-open pixel boxes in the square frame."""

    boxes: np.ndarray    # (n,N,4) int16: x1 y1 x2 y2
    scores: np.ndarray   # (n,N)   float32: what the extractor ranked them by; 0 where it did not say
    frame: int           # S
    method: str          # the extractor's name, or "released"

    @cached_property
    def hash(self) -> str:
        """Name the boxes by their content."""
        content = hashlib.sha256(f"{self.frame} {self.boxes.shape}".encode())
        content.update(np.ascontiguousarray(self.boxes, "<i2").tobytes())
        return f"sha256:{content.hexdigest()}"

    def first(self, count: int, where: str, asked: str = "data.patches_per_image:") -> "Patches":
        """Return the `count` best of each image. Raises InputError: where there are fewer; `asked` names who asks."""
        held = self.boxes.shape[1]
        if count > held:
            raise InputError(f"{asked} {count}, but {where} holds {held} boxes an image")
        return Patches(self.boxes[:, :count], self.scores[:, :count], self.frame, self.method)

    def rescaled(self, frame: int) -> "Patches":
        """Return the boxes in a frame of another size; each keeps at least a pixel."""
        if frame == self.frame:
            return self
        return Patches(to_pixels(self.boxes / self.frame, frame), self.scores, frame, self.method)


def to_pixels(fractions: np.ndarray, frame: int) -> np.ndarray:
    """Return boxes given as fractions of the image (... 4) as int16 pixels, clipped to the frame and never empty."""
    scaled = np.rint(np.asarray(fractions, np.float64) * frame)
    low = np.clip(scaled[..., :2], 0, frame - 1)
    high = np.clip(scaled[..., 2:], low + 1, frame)
    return np.concatenate([low, high], axis=-1).astype(np.int16)


def cut(
    images: Float[Tensor, "B 3 S S"], boxes: Float[Tensor, "B K 4"], size: int,
) -> Float[Tensor, "B K 3 {size} {size}"]:
    """Return each box of each image resampled to `size` px: bilinear where it grows, averaged where it shrinks.

    The released code resizes with aligned corners, which squeezes a crop by half a pixel a side; we do not.
    """
    from torchvision.ops import roi_align  # noqa: PLC0415  a second, for who cuts pixels only

    count = images.shape[0]  # not len(images), which an export to ONNX takes for a constant
    owner = torch.arange(count, device=boxes.device, dtype=boxes.dtype).repeat_interleave(boxes.shape[1])
    rois = torch.cat([owner[:, None], boxes.flatten(0, 1)], dim=1)      # B·K 5
    crops: Tensor = roi_align(images, rois, (size, size), aligned=True)         # B·K 3 P P
    return crops.reshape(*boxes.shape[:2], *crops.shape[1:])            # B K 3 P P


# --- the file format --------------------------------------------------------------------------------------------------

_KINDS = {"names": "U", "frame": "i", "boxes": "i", "scores": "f", "method": "U"}


def write_patches(path: Path, patches: Patches, names: Sequence[str], config_hash: str) -> None:
    """Keep a split's patches in one npz file, whole or not at all; `config_hash` names what they were made with."""
    atomic.write(path, lambda file: np.savez_compressed(
        file, names=np.array(names), frame=np.int64(patches.frame), boxes=patches.boxes, scores=patches.scores,
        method=np.array(patches.method), config=np.array(config_hash),
    ))


def read_patches(path: Path, names: Sequence[str]) -> Patches:
    """Return the patches in an npz file of ours.

    Raises InputError: where it is none, is damaged, or belongs to other images than `names`.
    """
    held, patches = read_any_patches(path)
    _require_names(path, held, names)
    return patches


def read_any_patches(path: Path) -> tuple[list[str], Patches]:
    """Return the names and patches of whatever images a file of ours holds. Raises InputError: where it is none."""
    try:
        held = read_npz(path)
    except (OSError, ValueError) as error:
        raise InputError(f"{path} is no patch file of ours: {error}") from None
    if absent := [name for name in _KINDS if name not in held]:
        raise InputError(f"{path} is no patch file of ours: it has no '{absent[0]}'")
    names, boxes, scores = held["names"], held["boxes"], held["scores"]
    fits = names.ndim == 1 and scores.shape == boxes.shape[:2] and held["frame"].shape == held["method"].shape == ()
    if not fits or any(held[name].dtype.kind not in kind for name, kind in _KINDS.items()) or boxes.dtype != np.int16:
        raise InputError(f"{path} is no patch file of ours: its arrays do not fit together")
    frame = int(held["frame"])
    require_boxes(path, boxes, frame, len(names))
    return names.tolist(), Patches(boxes, scores, frame, str(held["method"]))


def require_boxes(path: Path, boxes: np.ndarray, frame: int, images: int) -> None:
    """Raise InputError unless `boxes` are (images, N, 4) half-open boxes inside the frame, none of them empty."""
    if boxes.ndim != 3 or boxes.shape[2] != 4 or boxes.shape[1] == 0:
        raise InputError(f"{path}: boxes should be (images, N, 4), not {boxes.shape}")
    if len(boxes) != images:
        raise InputError(f"{path} holds boxes of {len(boxes)} images; the data set's split has {images}")
    if not 0 < frame <= np.iinfo(np.int16).max:
        raise InputError(f"{path}: boxes live in a frame of 1 to {np.iinfo(np.int16).max} pixels, not {frame}")
    wrong = (boxes[..., :2] < 0) | (boxes[..., 2:] > frame) | (boxes[..., :2] >= boxes[..., 2:])
    if wrong.any():
        row, patch = (int(i) for i in np.argwhere(wrong.any(axis=-1))[0])
        x1, y1, x2, y2 = boxes[row, patch].tolist()
        raise InputError(
            f"{path}: row {row}, box {patch}: x {x1:g}..{x2:g}, y {y1:g}..{y2:g} is empty or outside the "
            f"{frame}x{frame} frame",
        )


def _require_names(path: Path, held: list[str], wanted: Sequence[str]) -> None:
    if held == list(wanted):
        return
    odd = next((name for name in held if name not in set(wanted)), None)
    reason = f"it holds {odd}" if odd else "their order or number differs"
    raise InputError(f"{path} belongs to other images than the data set's split: {reason}")
