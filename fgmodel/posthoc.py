"""A trained local stream read in other ways: other sums of its states, single steps, and what each contributes to z_l.

Table 6.2, Fig. 6.1 and specification §6.4. Nothing is trained here.

n  images      N  patches of each      C  classes      T  time steps      H  width of the LSTM's states
R  readings of an image: 1, the mean over its patches, or one a draw of a patch
The head is linear, so the mean over patches of states gives the mean of logits: T states an image are enough, not N·T.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, TypeAlias

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from fgmodel.metrics import readings
from fgmodel.model import Fusion, Outputs, fused

How: TypeAlias = Literal["sum", "mean", "alone"]
"""Of the states up to t: their sum (Table 6.2), their mean (its control), or t's alone (Fig. 6.1)."""


class Held(NamedTuple):
    """What is kept of a batch, or of all together, on the CPU; one row an image."""

    global_logits: Float[Tensor, "n C"]
    states: Float[Tensor, "n R T H"]
    weighted: Float[Tensor, "n R T H"]    # α^t H^t: summed over t, what the head was given
    alpha: Float[Tensor, "n R T"]


@dataclass(frozen=True)
class ModelStates:
    """A trained model's local head, and what its LSTM held of some images."""

    head: nn.Linear
    labels: Int[Tensor, " n"]
    held: Held


@dataclass(frozen=True)
class ByStep:
    """Predictions when only so many steps count, t = 1..T."""

    labels: np.ndarray              # (n,)
    predictions_local: np.ndarray   # (n,R,T) int64 class
    predictions_fused: np.ndarray   # (n,R,T)

    @property
    def local(self) -> np.ndarray:
        """The local stream's accuracy by t: (T,)."""
        return _accuracies(self.predictions_local, self.labels)

    @property
    def fused(self) -> np.ndarray:
        """The fused accuracy by t: (T,)."""
        return _accuracies(self.predictions_fused, self.labels)


class Contributions(NamedTuple):
    """What each time step adds to z_l of the true class, and to its lead over the best other class.

    With the bias the steps' parts sum to the logit and to the margin: z_l = b + Σ_t α^t W H^t.
    """

    logit: Float[Tensor, "n R T"]
    margin: Float[Tensor, "n R T"]
    logit_bias: Float[Tensor, "n R"]
    margin_bias: Float[Tensor, "n R"]
    runner_up: Int[Tensor, "n R"]


def by_step(how: How, models: Sequence[ModelStates], weight: float, kind: Fusion = "logits") -> ByStep:
    """Return the predictions of all models' images by t, those of several folds one after another."""
    parts = [_by_step(how, model, weight, kind) for model in models]
    return ByStep(*(np.concatenate([getattr(part, name) for part in parts]) for name in vars(parts[0])))


def read(how: How, head: nn.Linear, states: Float[Tensor, "n R T H"]) -> Float[Tensor, "n R T C"]:
    """Return the head's logits for t = 1..T."""
    logits = states @ head.weight.T                                             # n R T C
    if how != "alone":
        logits = logits.cumsum(dim=2)                                           # of Σ_1..t H: the head is linear
    if how == "mean":
        logits = logits / torch.arange(1, 1 + states.shape[2])[:, None]
    return logits + head.bias


def contributions(model: ModelStates) -> Contributions:
    """Return each step's part of the true class's logit and of its margin over the runner-up."""
    head, labels = model.head, model.labels
    parts = model.held.weighted @ head.weight.T                                 # n R T C
    logits = parts.sum(dim=2) + head.bias                                       # n R C   z_l
    true = labels[:, None, None].expand(*logits.shape[:2], 1)                   # n R 1
    other = logits.scatter(2, true, -torch.inf).argmax(dim=2, keepdim=True)     # n R 1
    of_true, of_other = (_of_class(parts, which) for which in (true, other))    # n R T
    return Contributions(
        of_true, of_true - of_other,
        head.bias[true[..., 0]], head.bias[true[..., 0]] - head.bias[other[..., 0]], other[..., 0],
    )


def hold(outputs: Outputs, *, draws: bool) -> Held:
    """Return what is kept of a batch."""
    weighted = outputs.alpha[..., None] * outputs.states                        # n N T H
    read = (readings(values, draws=draws).cpu() for values in (outputs.states, weighted, outputs.alpha))
    return Held(outputs.global_logits.cpu(), *read)


def _by_step(how: How, model: ModelStates, weight: float, kind: Fusion) -> ByStep:
    local = read(how, model.head, model.held.states)                            # n R T C
    both = fused(model.held.global_logits[:, None, None].expand_as(local), local, weight, kind)
    return ByStep(model.labels.numpy(), local.argmax(dim=-1).numpy(), both.argmax(dim=-1).numpy())


def _of_class(parts: Float[Tensor, "n R T C"], which: Int[Tensor, "n R 1"]) -> Float[Tensor, "n R T"]:
    return parts.gather(3, which[:, :, None].expand(-1, -1, parts.shape[2], 1)).squeeze(3)


def _accuracies(predictions: np.ndarray, labels: np.ndarray) -> np.ndarray:
    return np.asarray((predictions == labels[:, None, None]).mean(axis=(0, 1)))
