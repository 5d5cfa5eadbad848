"""The local stream beside a classifier of your own: it looks at patches, and its logits are added to yours.

The thesis' local stream asks nothing of the global one but logits (specification §1, "Plug-in interface"), so any torch
module from images to logits can stand there. `losses.two_stream_loss` trains both, or the local stream alone.

B  images      N  patches of each      S  pixels of an image      P  of a patch      C  classes
"""

from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor, nn

from fgmodel.backbones import backbone, freeze
from fgmodel.extraction.boxes import peak_boxes
from fgmodel.extraction.peaks import PEAKS, activity
from fgmodel.extraction.task import enlarged, squared
from fgmodel.frozen import FrozenTrunk, resized
from fgmodel.model import Outputs, fused
from fgmodel.patches import cut, to_pixels
from fgmodel.streams import LocalStream


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
        self.classifier = classifier
        self.patches, self.patch_size, self.weight = patches, patch_size, weight
        eye = freeze(backbone(trunk, "imagenet"))
        self.local_stream = LocalStream(
            eye, eye.width, classes, hidden_size=hidden_size, time_steps=time_steps, attention="per_step",
        )
        self._finder = FrozenTrunk(trunk, "imagenet", stride16=True)   # no module of ours: it holds nothing to learn

    def forward(self, images: Float[Tensor, "B 3 S S"], boxes: Float[Tensor, "B N 4"] | None = None) -> Outputs:
        """Return both streams' logits, attention and states; `boxes` (pixels of the images) are found unless given."""
        boxes = self.boxes(images) if boxes is None else boxes
        crops = cut(images, boxes.to(images), self.patch_size)                            # B N 3 P P
        of_patches = self.local_stream(self.local_stream.features(crops.flatten(0, 1)))   # BN C, BN T, BN T H, …
        local = (torch.unflatten(each, 0, boxes.shape[:2]) for each in of_patches)
        return Outputs(self.classifier(images), *local)

    def fused(self, outputs: Outputs) -> Float[Tensor, "B C"]:
        """Return the logits of both together: z_g + w z_l, averaged over the patches (TH 3.1.5)."""
        return fused(outputs.global_logits, outputs.local_logits.mean(dim=1), self.weight)

    def boxes(self, images: Float[Tensor, "B 3 S S"]) -> Float[Tensor, "B N 4"]:
        """Return boxes by `peaks`, which learns nothing; on real birds `ddt` finds better ones (docs/patches.md)."""
        trunk = replace(self._finder, device=str(images.device))
        found, _ = peak_boxes(activity(trunk.maps(resized(images.detach(), PEAKS.size))).cpu(), self.patches)
        pixels = to_pixels(enlarged(squared(found.numpy()), PEAKS.scale), images.shape[-1])
        return torch.from_numpy(pixels).to(images)
