"""What a run measures on images it did not train on: both streams, every time step, and the attention between them.

n  images      B  images in a batch      N  patches of each      C  classes      T  time steps
R  readings of the local stream an image: 1, the mean over its patches, or one a draw of a patch; 0 without that stream
All of one pass: a batch becomes a few numbers an image, and the summary is taken over all images at the end, so that
the folds of a cross-validation pool into one accuracy in which each image counts once.
"""

from dataclasses import dataclass
from math import log
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from fgmodel.model import Fusion, Outputs, TwoStream, fused


class Observed(NamedTuple):
    """What one batch, or all batches together, left behind: one row an image; T = 0 without time steps."""

    global_logits: Float[Tensor, "n C"]
    local_logits: Float[Tensor, "n R C"]
    step_predictions: Int[Tensor, "n R T"]  # each time step through the local head, alone
    alpha: Float[Tensor, "n T"]           # this and what follows: means over the patches
    entropy: Float[Tensor, " n"]          # of α, over ln T: 1 is uniform
    state_cosine: Float[Tensor, "n T"]    # of h_t to h_T: near 1, a step says what the last one says


@dataclass(frozen=True)
class Evaluation:
    """How well the three predictions do, and what they are for each of `n` images, in order."""

    accuracy: float                       # fused; with several draws of patches, their mean, as everything local
    accuracy_global: float
    accuracy_local: float | None          # None without a local stream, here and below
    nll: float                            # of the fused prediction, in nats
    n: int
    predictions: np.ndarray               # (n,) int64 class, fused; with several draws of patches, of the first
    predictions_global: np.ndarray
    predictions_local: np.ndarray | None
    labels: np.ndarray
    accuracy_draw_sd: float | None = None  # standard deviation of `accuracy` over several draws

    def measures(self, split: str) -> dict[str, float]:
        """Return the accuracies and the nll under their names; there is none of what the model does not have."""
        names = ("accuracy", "accuracy_global", "accuracy_local", "accuracy_draw_sd", "nll")
        found = {f"{split}/{name}": getattr(self, name) for name in names}
        return {name: value for name, value in found.items() if value is not None}


def observe(outputs: Outputs, model: TwoStream, *, draws: bool = False) -> Observed:
    """Return what is kept of a batch; with `draws`, each patch of an image is a reading of its own."""
    alpha, states = outputs.alpha, outputs.states                            # B N T, B N T H
    cosine = F.cosine_similarity(states, states[:, :, -1:], dim=-1)          # B N T
    share = alpha / alpha.sum(dim=-1, keepdim=True).round()                  # B N T  rows sum to 1, under `sum` to k
    return Observed(
        outputs.global_logits,
        readings(outputs.local_logits, draws=draws),
        step_logits(model, readings(states, draws=draws)).argmax(dim=-1),    # B R T
        alpha.mean(dim=1),
        relative_entropy(share).mean(dim=1),
        cosine.mean(dim=1),
    )


def readings(of_patches: Float[Tensor, "B N *any"], *, draws: bool) -> Float[Tensor, "B R *any"]:
    """Return what is read of each image: the mean over its patches, or each of them."""
    return of_patches if draws or not of_patches.shape[1] else of_patches.mean(dim=1, keepdim=True)


def step_logits(model: TwoStream, states: Float[Tensor, "B R T H"]) -> Float[Tensor, "B R T C"]:
    """Return what each time step would say alone; of mean states, the mean of logits: the head is linear."""
    if not states.shape[2]:
        return states.new_empty(*states.shape[:3], 1)                        # T = 0
    logits: Tensor = model.local_head(states)
    return logits


def together(parts: list[Observed]) -> Observed:
    """Return the rows of all parts, in order, on the CPU."""
    return Observed(*(torch.cat(column).cpu() for column in zip(*parts, strict=True)))


def evaluate(seen: Observed, labels: Int[Tensor, " n"], weight: float, kind: Fusion = "logits") -> Evaluation:
    """Return accuracy and predictions; `weight` is the fusion's w."""
    has_local = seen.local_logits.shape[1] > 0
    logits = seen.global_logits[:, None]                                     # n 1 C
    if has_local:
        logits = fused(logits.expand_as(seen.local_logits), seen.local_logits, weight, kind)  # n R C
    right = (logits.argmax(dim=-1) == labels[:, None]).float()               # n R
    whole, one = logits[:, 0].argmax(dim=1), seen.global_logits.argmax(dim=1)
    other = seen.local_logits.argmax(dim=-1)                                 # n R
    return Evaluation(
        accuracy=right.mean().item(),
        accuracy_global=(one == labels).float().mean().item(),
        accuracy_local=(other == labels[:, None]).float().mean().item() if has_local else None,
        nll=F.cross_entropy(logits.flatten(0, 1), labels.repeat_interleave(logits.shape[1])).item(),
        n=len(labels),
        predictions=whole.numpy(),
        predictions_global=one.numpy(),
        predictions_local=other[:, 0].numpy() if has_local else None,
        labels=labels.numpy(),
        accuracy_draw_sd=right.mean(dim=0).std().item() if right.shape[1] > 1 else None,
    )


def measures(
    seen: Observed, labels: Int[Tensor, " n"], weight: float, kind: Fusion = "logits",
) -> dict[str, float]:
    """Return every metric of an epoch's validation under its name; there is none of what the model does not have."""
    result = evaluate(seen, labels, weight, kind)
    measured = {
        "val/accuracy": result.accuracy,
        "val/accuracy_global": result.accuracy_global,
        "val/accuracy_local": result.accuracy_local,
        "val/accuracy_draw_sd": result.accuracy_draw_sd,
        "val/nll": result.nll,
        "attention/entropy": seen.entropy.mean().item() if seen.alpha.shape[1] > 1 else None,  # T = 1: no spread
        **_by_step("val/accuracy_step", (seen.step_predictions == labels[:, None, None]).float().mean(dim=1)),
        **_by_step("attention/alpha", seen.alpha),
        **_by_step("attention/state_cosine", seen.state_cosine),
    }
    return {name: value for name, value in measured.items() if value is not None}


def relative_entropy(alpha: Float[Tensor, "*B T"]) -> Float[Tensor, "*B"]:
    """Return the entropy of each row of weights over its largest possible value ln T; 0 where T = 1."""
    entropy: Tensor = torch.special.entr(alpha).sum(dim=-1)                  # -α ln α, and 0 at α = 0
    return entropy / log(max(2, alpha.shape[-1]))


def _by_step(name: str, values: Float[Tensor, "n T"]) -> dict[str, float]:
    return {f"{name}/{t:02d}": value for t, value in enumerate(values.mean(dim=0).tolist(), start=1)}
