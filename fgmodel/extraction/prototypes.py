"""ProtoPNet (Chen et al. 2019): a classifier that says which of its prototypes an image holds, and how alike they are.

Legend: B images, D channels of the trunk, L channels of the latent map, h w its cells, P prototypes, C classes.
"""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

PER_CLASS = 10    # prototypes (thesis §4)
LATENT = 128      # L (§4)
EPSILON = 1e-4    # keeps the similarity of a cell that is the prototype itself finite: log(1e4) (§4)


class Nearness(NamedTuple):
    """What the network says of images."""

    logits: Float[Tensor, "B C"]
    nearest: Float[Tensor, "B P"]   # each prototype's squared distance to the cell most like it


class PrototypeNet(nn.Module):
    """A trunk, two 1x1 convolutions, ten prototypes a class and a linear layer over their similarities (§4).

    `trunk` is the identity where it is frozen: the network is then given its kept maps for images.
    """

    own: Tensor

    def __init__(self, trunk: nn.Module, width: int, classes: int) -> None:
        super().__init__()
        self.trunk = trunk
        self.addon = nn.Sequential(nn.Conv2d(width, LATENT, 1), nn.ReLU(), nn.Conv2d(LATENT, LATENT, 1), nn.Sigmoid())
        for layer in self.addon:
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
                nn.init.zeros_(layer.bias)  # type: ignore[arg-type]  # a convolution has one unless told otherwise
        self.prototypes = nn.Parameter(torch.rand(PER_CLASS * classes, LATENT))   # P L
        own = torch.eye(classes).repeat_interleave(PER_CLASS, dim=1)                         # C P  1: of that class
        self.register_buffer("own", own, persistent=False)
        self.head = nn.Linear(PER_CLASS * classes, classes, bias=False)
        with torch.no_grad():
            self.head.weight.copy_(1.5 * own - 0.5)                                          # +1 own, -0.5 others

    def forward(self, images: Float[Tensor, "B c H W"]) -> Nearness:
        """Return the logits and distances of images, or of their maps."""
        nearest = self.distances(self.latent(images)).amin(dim=(2, 3))                       # B P
        return Nearness(self.head(similarity(nearest)), nearest)

    def latent(self, images: Float[Tensor, "B c H W"]) -> Float[Tensor, "B L h w"]:
        """Return the map that prototypes are cells of."""
        latent: Tensor = self.addon(self.trunk(images))
        return latent

    def distances(self, latent: Float[Tensor, "B L h w"]) -> Float[Tensor, "B P h w"]:
        """Return the squared distance of every cell to every prototype: |x|² - 2x·p + |p|²."""
        products = torch.einsum("blhw,pl->bphw", latent, self.prototypes)                    # B P h w
        squares = self.prototypes.square().sum(dim=1)[:, None, None]                         # P 1 1
        return (latent.square().sum(dim=1, keepdim=True) - 2 * products + squares).clamp_min(0)


def similarity(distances: Tensor) -> Tensor:
    """Return log((d+1)/(d+ε)): high where the distance is near zero, never negative."""
    return torch.log((distances + 1) / (distances + EPSILON))
