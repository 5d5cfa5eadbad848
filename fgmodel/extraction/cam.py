"""Method `cam`: class activation maps (Zhou et al. 2016) of a linear head on the frozen trunk's pooled features.

The head is a logistic regression on the train images' features and their labels, no others (thesis §8.1); what it
predicts for an image, right or wrong, is the class whose evidence is boxed. §4's "erase and repeat" is the greedy rule
of `boxes`: what a cell adds to a class's logit does not depend on other cells, so erasing leaves the rest of the map as
it was, and suppressing the peak in the map does the same.

Legend: B images, n train images, D channels, h w cells of the last map, C classes.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from fgmodel.cache import STEP, Frames, trunk_maps
from fgmodel.extraction.boxes import heat_boxes
from fgmodel.extraction.fits import kept_fit
from fgmodel.extraction.task import Extractor, Fit, Found, Task, in_batches, tensor
from fgmodel.trunks.frozen_trunk import FrozenTrunk

SIZE = 320      # px, as for ddt: both read the same maps
DECAY = 1e-2    # of the squared weights: strong enough that the regression has a minimum where classes are separable
STEPS = 200     # of L-BFGS, at most; 20 classes of 30 images take 60


@dataclass(frozen=True)
class Head:
    """Logits of standardised features: weight·(x - mean)/sd + bias, the standardising folded into the weight."""

    mean: Float[Tensor, " D"]
    weight: Float[Tensor, "C D"]
    bias: Float[Tensor, " C"]

    def logits(self, pooled: Float[Tensor, "B D"]) -> Float[Tensor, "B C"]:
        """Return each class's logit."""
        return (pooled - self.mean) @ self.weight.T + self.bias

    def activation(self, maps: Float[Tensor, "B D h w"]) -> Float[Tensor, "B h w"]:
        """Return what each cell adds to the logit of the class predicted: its mean over cells is the logit but for b.

        Measured from the mean feature, so that zero is what says nothing for or against the class.
        """
        predicted = self.logits(maps.mean(dim=(2, 3))).argmax(dim=1)                         # B
        return torch.einsum("bdhw,bd->bhw", maps - self.mean[:, None, None], self.weight[predicted])


def find(task: Task) -> Found:
    """Return boxes around the peaks of each image's activation."""
    head = Head(**task.fit)
    maps = trunk_maps(task.frames, task.trunk, SIZE)
    return in_batches(task, lambda part: heat_boxes(head.activation(tensor(maps[part])), task.count))


def fitted(train: Frames, trunk: FrozenTrunk) -> Fit:
    """Return the fields of the train images' head."""

    def fit() -> dict[str, Tensor]:
        maps = trunk_maps(train, trunk, SIZE)
        pooled = [tensor(maps[a : a + STEP]).mean(dim=(2, 3)) for a in range(0, len(maps), STEP)]
        return vars(regression(torch.cat(pooled), torch.from_numpy(train.dataset.labels[train.rows])))

    path = train.path("patches", ".cam.npz", SIZE, DECAY, trunk.identity())
    return kept_fit(path, "class activation head", train.progress, fit)


def regression(pooled: Float[Tensor, "n D"], labels: Int[Tensor, " n"]) -> Head:
    """Return the logistic regression of labels on standardised features, the same for the same features."""
    mean, sd = pooled.mean(dim=0), pooled.std(dim=0).clamp_min(1e-6)                         # D, D
    x = ((pooled - mean) / sd).double()                                                      # n D
    classes = int(labels.max()) + 1
    weight = torch.zeros(classes, x.shape[1], dtype=torch.float64, requires_grad=True)       # C D
    bias = torch.zeros(classes, dtype=torch.float64, requires_grad=True)                     # C
    search = torch.optim.LBFGS([weight, bias], max_iter=STEPS, line_search_fn="strong_wolfe")

    def loss() -> float:
        search.zero_grad()
        value = F.cross_entropy(x @ weight.T + bias, labels) + DECAY / 2 * weight.square().sum()
        value.backward()  # type: ignore[no-untyped-call]
        return value.item()

    search.step(loss)  # type: ignore[no-untyped-call]
    return Head(mean, (weight.detach() / sd).float(), bias.detach().float())


CAM = Extractor(find, scale=1.0, size=SIZE, fit=fitted)
