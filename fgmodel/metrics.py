"""What a run measures on images it did not train on: both streams, every time step, and the attention between them.

n  images      B  images in a batch      N  patches of each      C  classes      T  time steps
All of one pass: a batch becomes a few numbers an image, and the summary is taken over all images at the end, so that
the folds of a cross-validation pool into one accuracy in which each image counts once.
"""

from dataclasses import dataclass
from math import log
from typing import IO, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from fgmodel.model import Outputs, TwoStream, fused


class Observed(NamedTuple):
    """What one batch, or all batches together, left behind: one row an image, means over its patches."""

    global_logits: Float[Tensor, "n C"]
    local_logits: Float[Tensor, "n C"]
    step_predictions: Int[Tensor, "n T"]  # each time step through the local head, alone
    alpha: Float[Tensor, "n T"]
    entropy: Float[Tensor, " n"]          # of α, over ln T: 1 is uniform
    state_cosine: Float[Tensor, "n T"]    # of h_t to h_T: near 1, a step says what the last one says


@dataclass(frozen=True)
class Evaluation:
    """How well the three predictions do, and what they are for each of `n` images, in order."""

    accuracy: float                       # fused
    accuracy_global: float
    accuracy_local: float
    nll: float                            # of the fused softmax, in nats
    n: int
    predictions: np.ndarray               # (n,) int64 class, fused
    predictions_global: np.ndarray
    predictions_local: np.ndarray
    labels: np.ndarray

    def measures(self, split: str) -> dict[str, float]:
        """Return the accuracies and the nll under their names."""
        names = ("accuracy", "accuracy_global", "accuracy_local", "nll")
        return {f"{split}/{name}": getattr(self, name) for name in names}

    def write(self, file: IO[bytes]) -> None:
        """Write the predictions of each image as npz, for paired tests."""
        predictions = {"fused": self.predictions, "whole": self.predictions_global, "local": self.predictions_local}
        np.savez(file, allow_pickle=False, labels=self.labels, **predictions)


def observe(outputs: Outputs, model: TwoStream) -> Observed:
    """Return what is kept of a batch."""
    alpha, states = outputs.alpha, outputs.states                            # B N T, B N T H
    steps = model.local_stream.head(states.mean(dim=1))                      # B T C  the mean of logits: it is linear
    cosine = F.cosine_similarity(states, states[:, :, -1:], dim=-1)          # B N T
    return Observed(
        outputs.global_logits,
        outputs.local_logits.mean(dim=1),
        steps.argmax(dim=-1),
        alpha.mean(dim=1),
        relative_entropy(alpha).mean(dim=1),
        cosine.mean(dim=1),
    )


def together(parts: list[Observed]) -> Observed:
    """Return the rows of all parts, in order, on the CPU."""
    return Observed(*(torch.cat(column).cpu() for column in zip(*parts, strict=True)))


def evaluate(seen: Observed, labels: Int[Tensor, " n"], weight: float) -> Evaluation:
    """Return accuracy and predictions; `weight` is the fusion's w."""
    logits = fused(seen.global_logits, seen.local_logits, weight)            # n C
    predictions = [z.argmax(dim=1) for z in (logits, seen.global_logits, seen.local_logits)]
    accuracy, accuracy_global, accuracy_local = ((p == labels).float().mean().item() for p in predictions)
    nll = F.cross_entropy(logits, labels).item()
    whole, one, other = (p.numpy() for p in predictions)
    return Evaluation(accuracy, accuracy_global, accuracy_local, nll, len(labels), whole, one, other, labels.numpy())


def measures(seen: Observed, labels: Int[Tensor, " n"], weight: float) -> dict[str, float]:
    """Return every metric of an epoch's validation under its name."""
    result = evaluate(seen, labels, weight)
    return {
        "val/accuracy": result.accuracy,
        "val/accuracy_global": result.accuracy_global,
        "val/accuracy_local": result.accuracy_local,
        "val/nll": result.nll,
        "attention/entropy": seen.entropy.mean().item(),
        **_by_step("val/accuracy_step", (seen.step_predictions == labels[:, None]).float()),
        **_by_step("attention/alpha", seen.alpha),
        **_by_step("attention/state_cosine", seen.state_cosine),
    }


def relative_entropy(alpha: Float[Tensor, "*B T"]) -> Float[Tensor, "*B"]:
    """Return the entropy of each row of weights over its largest possible value ln T; 0 where T = 1."""
    entropy: Tensor = torch.special.entr(alpha).sum(dim=-1)                  # -α ln α, and 0 at α = 0
    return entropy / log(max(2, alpha.shape[-1]))


def _by_step(name: str, values: Float[Tensor, "n T"]) -> dict[str, float]:
    return {f"{name}/{t:02d}": value for t, value in enumerate(values.mean(dim=0).tolist(), start=1)}
