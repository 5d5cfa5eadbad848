"""Method `ddt`: Deep Descriptor Transforming (Wei et al. 2017), where the images' descriptors vary most.

The first principal component of a trunk's spatial descriptors over the train images separates the objects they share
from what is behind them. Boxes are the peaks of its projection. Without any training it covers real birds better than
the released boxes do (thesis.md §9: 86 % of the area inside the bird, 78 % after enlarging, as theirs).

Legend: B images, n train images, D channels, h w cells of the last map.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from fgmodel.cache import STEP, Frames, trunk_maps
from fgmodel.extraction.boxes import heat_boxes
from fgmodel.extraction.fits import kept_fit
from fgmodel.extraction.task import Extractor, Fit, Found, Task, in_batches, tensor
from fgmodel.progress import Progress, silent
from fgmodel.trunks.frozen_trunk import FrozenTrunk

SIZE = 320   # px (thesis.md §9)


@dataclass(frozen=True)
class Component:
    """The mean descriptor of the train images and the direction of their largest variance, towards the object."""

    mean: Float[Tensor, " D"]
    direction: Float[Tensor, " D"]

    def project(self, maps: Float[Tensor, "B D h w"]) -> Float[Tensor, "B h w"]:
        """Return how far each cell lies in that direction."""
        return torch.einsum("bdhw,d->bhw", maps - self.mean[:, None, None], self.direction)


def find(task: Task) -> Found:
    """Return boxes around the peaks of each image's projection."""
    component = Component(**task.fit)
    maps = trunk_maps(task.frames, task.trunk, SIZE)
    return in_batches(task, lambda part: heat_boxes(component.project(tensor(maps[part])), task.count))


def fitted(train: Frames, trunk: FrozenTrunk) -> Fit:
    """Return the fields of the train images' component."""

    def fit() -> dict[str, Tensor]:
        return vars(principal_component(trunk_maps(train, trunk, SIZE), train.progress))

    path = train.path("patches", ".ddt.npz", SIZE, trunk.identity())
    return kept_fit(path, "principal component", train.progress, fit)


def principal_component(maps: np.ndarray, progress: Progress = silent) -> Component:
    """Return the first principal component of all cells of all maps (n D h w); images' centres lie above borders."""
    mean_map = torch.stack([chunk.double().sum(dim=0) for chunk in _chunks(maps)]).sum(dim=0) / len(maps)  # D h w
    mean = mean_map.mean(dim=(1, 2)).float()                                                 # D
    covariance = torch.zeros(len(mean), len(mean), dtype=torch.float64)                      # D D  but for a factor
    for done, chunk in enumerate(_chunks(maps)):
        progress("principal component", min((done + 1) * STEP, len(maps)), len(maps))
        deviation = (chunk - mean[:, None, None]).transpose(0, 1).flatten(1)                 # D B·h·w
        covariance += deviation @ deviation.T
    direction = torch.linalg.eigh(covariance).eigenvectors[:, -1].float()                    # D  the largest is last
    component = Component(mean, direction)
    towards = _centre_above_border(component.project(mean_map.float()[None])[0])
    return component if towards >= 0 else Component(mean, -direction)


def _centre_above_border(typical: Float[Tensor, "h w"]) -> float:
    inner = torch.zeros_like(typical, dtype=torch.bool)
    inner[1:-1, 1:-1] = True
    return (typical[inner].mean() - typical[~inner].mean()).item()


def _chunks(maps: np.ndarray) -> Iterator[Float[Tensor, "B D h w"]]:
    for a in range(0, len(maps), STEP):
        yield tensor(maps[a : a + STEP])


DDT = Extractor(find, scale=1.5, size=SIZE, fit=fitted)   # thesis.md §9
