"""The local stream beside a classifier of your own: it looks at patches, and its logits are added to yours.

The thesis' local stream asks nothing of the global one but logits (specification §1, "Plug-in interface"), so any torch
module from images to logits can stand there. `losses.two_stream_loss` trains both, or the local stream alone.

B  images      N  patches of each      S  pixels of an image      P  of a patch      C  classes
"""

from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor, nn

from fgmodel.data.boxes_file import cut, to_pixels
from fgmodel.errors import InputError
from fgmodel.extraction.boxes import peak_boxes
from fgmodel.extraction.peaks import PEAKS, activity
from fgmodel.extraction.task import enlarged, squared
from fgmodel.model import Outputs, fused
from fgmodel.streams import LocalStream
from fgmodel.trunks.backbones import backbone, freeze
from fgmodel.trunks.frozen_trunk import FrozenTrunk, resized


class PluggedIn(nn.Module):
    """Your classifier and a new local stream on a frozen trunk; both take RGB in 0..1 and normalise by themselves."""

    def __init__(
        self,
        classifier: nn.Module,
        classes: int,
        trunk: str = "efficientnet_lite0",
        *,
        hidden_size: int = 512,
        time_steps: int = 6,
        patches: int = 4,
        patch_size: int = 128,
        weight: float = 1.0,
    ) -> None:
        super().__init__()
        sizes = {"classes": classes, "hidden_size": hidden_size, "time_steps": time_steps, "patches": patches}
        for name, value in {**sizes, "patch_size": patch_size}.items():
            if value < 1:
                raise InputError(f"PluggedIn: {name}={value}: at least 1 is needed")
        self.classifier, self.classes = classifier, classes
        self.patches, self.patch_size, self.weight = patches, patch_size, weight
        eye = freeze(backbone(trunk, "imagenet"))
        self.local_stream = LocalStream(
            eye, eye.width, classes, hidden_size=hidden_size, time_steps=time_steps, attention="per_step",
        )
        self._finder = FrozenTrunk(trunk, "imagenet", stride16=True)   # no module of ours: it holds nothing to learn

    def forward(self, images: Tensor, boxes: Tensor | None = None) -> Outputs:    # B 3 S S, B N 4
        """Return both streams' logits, attention and states; `boxes`, in pixels of the images, are found unless given.

        Raises InputError: where images, boxes or the classifier's logits have another shape, with what would be right.
        """
        self._require(images, boxes)
        boxes = self.boxes(images) if boxes is None else boxes
        crops = cut(images, boxes.to(images), self.patch_size)                            # B N 3 P P
        of_patches = self.local_stream(self.local_stream.features(crops.flatten(0, 1)))   # BN C, BN T, BN T H, …
        local = (torch.unflatten(each, 0, boxes.shape[:2]) for each in of_patches)
        return Outputs(self._global_logits(images), *local)

    def fused(self, outputs: Outputs) -> Float[Tensor, "B C"]:
        """Return the logits of both together: z_g + w z_l, averaged over the patches (TH 3.1.5)."""
        return fused(outputs.global_logits, outputs.local_logits.mean(dim=1), self.weight)

    def _require(self, images: Tensor, boxes: Tensor | None) -> None:
        shape = tuple(images.shape)
        if images.ndim != 4 or shape[1] != 3 or shape[2] != shape[3]:
            raise InputError(f"images: {shape} is not (B, 3, S, S), a batch of square RGB images")
        if boxes is not None and (boxes.ndim != 3 or boxes.shape[0] != shape[0] or boxes.shape[2] != 4):
            raise InputError(f"boxes: {tuple(boxes.shape)} is not ({shape[0]}, N, 4), x1 y1 x2 y2 of each patch")

    def _global_logits(self, images: Tensor) -> Float[Tensor, "B C"]:
        logits: Tensor = self.classifier(images)
        if tuple(logits.shape) != (len(images), self.classes):
            raise InputError(
                f"the classifier gives {tuple(logits.shape)} for {len(images)} images, the local stream has "
                f"{self.classes} classes: PluggedIn(…, classes={logits.shape[-1]}), or another classifier"
            )
        return logits

    def boxes(self, images: Float[Tensor, "B 3 S S"]) -> Float[Tensor, "B N 4"]:
        """Return boxes by `peaks`, which learns nothing; on real birds `ddt` finds better ones (docs/patches.md)."""
        trunk = replace(self._finder, device=str(images.device))
        found, _ = peak_boxes(activity(trunk.maps(resized(images.detach(), PEAKS.size))).cpu(), self.patches)
        pixels = to_pixels(enlarged(squared(found.numpy()), PEAKS.scale), images.shape[-1])
        return torch.from_numpy(pixels).to(images)
