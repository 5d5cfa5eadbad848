"""Temporal attention: how much each time step of the local stream counts (Eq. 3.5-3.6).

B  patches in the batch      T  time steps      H  width of the LSTM's states
"""

from math import sqrt
from typing import Literal, TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor, nn

Kind: TypeAlias = Literal["per_step", "shared", "last", "mean", "sum"]


def temporal_attention(kind: Kind, time_steps: int, width: int, sum_steps: int | None = None) -> nn.Module:
    """Return the module that turns states (B T H) into weights α (B T), each row ≥ 0 and summing to 1 over time.

    Under `sum` the first `sum_steps` states (all unless given) have weight 1 each, as in Table 6.2.
    """
    match kind:
        case "per_step":
            return PerStepAttention(time_steps, width)
        case "shared":
            return SharedAttention(width)
        case "last":
            return FixedAttention([0.0] * (time_steps - 1) + [1.0])
        case "mean":
            return FixedAttention([1 / time_steps] * time_steps)
        case "sum":
            k = time_steps if sum_steps is None else sum_steps
            return FixedAttention([1.0] * k + [0.0] * (time_steps - k))


def attended(alpha: Float[Tensor, "B T"], states: Float[Tensor, "B T H"]) -> Float[Tensor, "B H"]:
    """Return A = Σ_t α^t H^t (Eq. 3.5)."""
    return (alpha[..., None] * states).sum(dim=1)


class PerStepAttention(nn.Module):
    """One trainable vector W^t a time step, as the thesis writes Eq. 3.6; no bias."""

    def __init__(self, time_steps: int, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(time_steps, width))  # T H
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the vectors anew."""
        bound = 1 / sqrt(self.weight.shape[1])          # §1: U(±1/√H)
        nn.init.uniform_(self.weight, -bound, bound)

    def forward(self, states: Float[Tensor, "B T H"]) -> Float[Tensor, "B T"]:
        """Return α."""
        scores = (self.weight * states).sum(dim=-1)     # B T  s^t = W^t · H^t
        return scores.softmax(dim=1)                    # B T  over time, never over the batch


class SharedAttention(nn.Module):
    """One linear score for all time steps, as in the released code."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.score = nn.Linear(width, 1)  # the bias cancels in the softmax; it is there since the released code has it

    def forward(self, states: Float[Tensor, "B T H"]) -> Float[Tensor, "B T"]:
        """Return α."""
        scores: Tensor = self.score(states)             # B T 1
        return scores.squeeze(-1).softmax(dim=1)        # B T


class FixedAttention(nn.Module):
    """Weights that are not learned: the last state alone, the mean of all, or the sum of the first."""

    alpha: Tensor

    def __init__(self, alpha: list[float]) -> None:
        super().__init__()
        self.register_buffer("alpha", torch.tensor(alpha), persistent=False)  # T

    def forward(self, states: Float[Tensor, "B T H"]) -> Float[Tensor, "B T"]:
        """Return α, the same for every patch."""
        return self.alpha.expand(states.shape[0], -1)   # B T
