"""A trained model that is shown images and says what they are: boxes are found, trunks run, streams fused.

n  images      B  of a batch      N  patches of each      S  pixels of the frame      s, P  of the streams' inputs
C  classes     T  time steps      D  channels of a trunk      h, w  cells of its map
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from fgmodel.cache import Frames
from fgmodel.config import TrialConfig
from fgmodel.data.boxes_file import cut
from fgmodel.data.datasets import Dataset
from fgmodel.extraction.finder import Finder
from fgmodel.model import Outputs, TwoStream, fused, fusion_weight
from fgmodel.progress import Progress, silent
from fgmodel.streams import NoStream
from fgmodel.trunks.frozen_trunk import FrozenTrunk, each_batch, pixels, resized


class Sighting(NamedTuple):
    """What the model held of n images, on the CPU; N = 0 without a local stream."""

    boxes: Float[Tensor, "n N 4"]           # of the patches it read, x1 y1 x2 y2 in pixels of the frame
    crops: Float[Tensor, "n N 3 P P"]       # the patches, RGB in 0..1
    cells: Float[Tensor, "n N D h w"]       # the trunk's maps of them
    outputs: Outputs


class Logits(NamedTuple):
    """Of both streams together, and of each alone."""

    fused: Float[Tensor, "n C"]
    global_stream: Float[Tensor, "n C"]
    local_stream: Float[Tensor, "n C"] | None   # the mean over patches; None without that stream


@dataclass(frozen=True)
class Answers:
    """The probability of each class, by both streams and by each alone; one row an image."""

    fused: Float[Tensor, "n C"]
    global_stream: Float[Tensor, "n C"]
    local_stream: Float[Tensor, "n C"] | None   # None without that stream
    boxes: np.ndarray                           # (n,N,4) int16, in pixels of the frame


@dataclass(frozen=True)
class Classifier:
    """A trained model with all that it needs between a picture and an answer."""

    config: TrialConfig
    classes: tuple[str, ...]
    model: TwoStream
    trunks: tuple[FrozenTrunk, FrozenTrunk] | None   # of both streams, where frozen: else the model has them
    finder: Finder | None                            # None without a local stream
    device: str = "cpu"

    def answer(self, images: Sequence[Image.Image], names: Sequence[str], progress: Progress = silent) -> Answers:
        """Return what the model says of RGB images.

        It reads the patches it was evaluated on, in full precision; where those were drawn by chance, all of them.
        """
        seen = self.see(self.frames(images, names, progress))
        both, z_g, z_l = self.logits(seen.outputs)
        local = None if z_l is None else z_l.softmax(dim=1)
        return Answers(both.softmax(dim=1), z_g.softmax(dim=1), local, seen.boxes.numpy().astype(np.int16))

    def frames(self, images: Sequence[Image.Image], names: Sequence[str], progress: Progress = silent) -> Frames:
        """Return images as the frames the model reads, in memory."""
        n = len(images)
        dataset = Dataset(
            name="images", classes=(), names=tuple(names), labels=np.zeros(n, np.int64), train=np.zeros(n, bool),
            digests=(), part_boxes=None, skipped=(), read=lambda i: images[i],
        )
        nowhere = Path(os.devnull)   # no cache lies there: what is not kept, `part` makes in memory
        return Frames(dataset, "test", self.config.data.frame_size, nowhere, progress, part=(0, n))

    def see(self, frames: Frames, *, cells: bool = False) -> Sighting:
        """Return all the model held of the frames; crops and maps only where `cells` asks for them: they are large."""
        boxes = torch.from_numpy(self._boxes(frames)).float()                                     # n N 4
        size = max(self.config.data.image_size, self.config.data.patch_size)
        frames.decode()

        @torch.inference_mode()
        def seen(rows: slice) -> Sighting:
            held = self.seen(pixels(frames.array[rows], self.device), boxes[rows].to(self.device))
            kept = held if cells else held._replace(crops=held.crops[:, :0], cells=held.cells[:, :0])
            outputs = Outputs(*(value.cpu() for value in held.outputs))
            return Sighting(held.boxes.cpu(), kept.crops.cpu(), kept.cells.cpu(), outputs)

        parts = list(each_batch(seen, range(len(frames)), size, self.device, images_a_row=max(1, boxes.shape[1])))
        outputs = Outputs(*(torch.cat(column) for column in zip(*(part.outputs for part in parts), strict=True)))
        boxes, crops, maps = (torch.cat(column) for column in zip(*(part[:3] for part in parts), strict=True))
        return Sighting(boxes, crops, maps, outputs)

    def seen(self, images: Float[Tensor, "B 3 S S"], boxes: Float[Tensor, "B N 4"]) -> Sighting:
        """Return what the model holds of frames (RGB in 0..1) and boxes: one batch, on its device."""
        data = self.config.data
        crops = cut(images, boxes, data.patch_size)                                               # B N 3 P P
        whole = self._whole(resized(images, data.image_size))                                     # B D
        cells = self._cells(crops)                                                                # B N D h w
        looks = self.config.model.spatial_attention != "none"
        outputs = self.model(whole, cells if looks else cells.mean(dim=(3, 4)))
        return Sighting(boxes, crops, cells, outputs)

    def logits(self, outputs: Outputs) -> Logits:
        """Return the logits of both streams together and of each."""
        z_g = outputs.global_logits
        if not outputs.local_logits.shape[1]:
            return Logits(z_g, z_g, None)
        z_l = outputs.local_logits.mean(dim=1)
        return Logits(fused(z_g, z_l, fusion_weight(self.config), self.config.model.fusion), z_g, z_l)

    def _boxes(self, frames: Frames) -> np.ndarray:
        if self.finder is None:
            return np.empty((len(frames), 0, 4), np.int16)
        best = 1 if self.config.data.evaluation_patches == "top1" else None
        return self.finder.boxes(frames)[:, :best]

    def _whole(self, images: Float[Tensor, "B 3 s s"]) -> Float[Tensor, "B D"]:
        return self.trunks[0].pooled(images) if self.trunks else self.model.global_stream.features(images)

    def _cells(self, crops: Float[Tensor, "B N 3 P P"]) -> Float[Tensor, "B N D h w"]:
        if not crops.shape[1]:
            return crops.new_empty(crops.shape[0], 0, 0, 0, 0)  # len: see `cut`
        flat = crops.flatten(0, 1)
        if self.trunks:
            cells = self.trunks[1].maps(flat)
        else:
            assert not isinstance(self.model.local_stream, NoStream)   # it reads no patches
            assert self.model.local_stream.trunk is not None
            cells = self.model.local_stream.trunk(flat)
        return torch.unflatten(cells.float(), 0, crops.shape[:2])
