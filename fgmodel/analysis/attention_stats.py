"""What is recorded of the attention over time and of the states behind it (specification §6.1-6.5).

What every epoch reports of it is in `metrics`; this is what is asked of a trained model once.

Means hide what images differ in, and α hides that late states are nearly the same one: so quantiles, and the states.

n  images      T  time steps      H  width of the states      C  classes
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from fgmodel.metrics import relative_entropy


class AlphaSummary(NamedTuple):
    """How α^t is spread over images."""

    mean: Float[Tensor, " T"]
    sd: Float[Tensor, " T"]         # of the images, not of their mean; 0 for a single image
    low: Float[Tensor, " T"]        # 10 % quantile
    median: Float[Tensor, " T"]
    high: Float[Tensor, " T"]       # 90 % quantile


class Entropies(NamedTuple):
    """Over ln T. Apart: each image has its own favourite step. Both low: all have the same one."""

    mean_of_entropies: float
    entropy_of_mean: float


def alpha_summary(alpha: Float[Tensor, "n T"]) -> AlphaSummary:
    """Return mean, deviation and quantiles of each step's weight."""
    low, median, high = alpha.quantile(torch.tensor([0.1, 0.5, 0.9], device=alpha.device), dim=0)
    return AlphaSummary(alpha.mean(dim=0), alpha.std(dim=0, correction=0), low, median, high)


def argmax_histogram(alpha: Float[Tensor, "n T"]) -> Float[Tensor, " T"]:
    """Return the share of images whose largest weight is step t's; the first of equal ones counts."""
    return F.one_hot(alpha.argmax(dim=1), alpha.shape[1]).float().mean(dim=0)


def alpha_by_correct(
    alpha: Float[Tensor, "n T"], correct: Bool[Tensor, " n"],
) -> tuple[Float[Tensor, " T"], Float[Tensor, " T"]]:
    """Return the mean weights over images that were classified right, and wrong; NaN where there are none."""
    return alpha[correct].mean(dim=0), alpha[~correct].mean(dim=0)


def alpha_by_class(
    alpha: Float[Tensor, "n T"], labels: Int[Tensor, " n"], classes: int,
) -> Float[Tensor, "{classes} T"]:
    """Return each class's mean weights; NaN for a class without images."""
    members = F.one_hot(labels, classes).to(alpha.dtype)                    # n C
    means: Tensor = members.T @ alpha / members.sum(dim=0)[:, None]         # C T  0/0 = NaN
    return means


def entropies(alpha: Float[Tensor, "n T"]) -> Entropies:
    """Return the mean of the images' entropies and the entropy of their mean."""
    return Entropies(relative_entropy(alpha).mean().item(), relative_entropy(alpha.mean(dim=0)).item())


def state_norms(states: Float[Tensor, "n T H"]) -> Float[Tensor, " T"]:
    """Return the mean ‖h_t‖."""
    norms: Tensor = torch.linalg.vector_norm(states, dim=2).mean(dim=0)
    return norms


def step_cosines(states: Float[Tensor, "n T H"]) -> Float[Tensor, " T-1"]:
    """Return the mean cos(h_t, h_{t-1}) for t = 2..T: near 1, the state has settled and α no longer matters."""
    cosines: Tensor = F.cosine_similarity(states[:, 1:], states[:, :-1], dim=2).mean(dim=0)
    return cosines


def oracle_accuracy(correct: Bool[Tensor, "n T"]) -> float:
    """Return the share of images that some step classifies right: what choosing the step for each could reach."""
    return correct.any(dim=1).float().mean().item()
