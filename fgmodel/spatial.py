"""Spatial self-attention in the local stream (TH chapter 7): at each time step the LSTM asks where to look.

B  patches      D  channels of the trunk's map, split into c_k for keys and c_v for values      h, w  cells of the map
T  time steps   H  width of the LSTM's states      C  classes      G  heads (queries a step), 1 in the thesis
L  = h·w        S  = 64 channels of the basis      K  = c_k + S, channels of a query      V  = c_v + S, of an answer

The map replaces the global average pool, and the answer to each query replaces the LSTM's repeated input. TH gives no
sizes; they are specification §1's for D = 512, §9's for other trunks. The two MLPs are as wide as the states.
"""

from math import pi, sqrt
from typing import Literal, TypeAlias

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from fgmodel.attention import Kind, attended, temporal_attention
from fgmodel.streams import LocalOutput, narrow_head

FREQUENCIES = 8
"""Of the basis along each axis, u, v = 1..8: S = 64 channels."""

Place: TypeAlias = Literal["between_steps", "between_layers"]


class SpatialStream(nn.Module):
    """Patch -> trunk's map -> T times: query, look, answer, two-layer LSTM -> attention over time -> head."""

    def __init__(
        self,
        trunk: nn.Module | None,
        width: int,
        classes: int,
        *,
        hidden_size: int,
        time_steps: int,
        attention: Kind,
        place: Place,
        sum_steps: int | None = None,
        heads: int = 1,
        dropout: float = 0,
    ) -> None:
        super().__init__()
        self.trunk = trunk  # None: it is given maps
        self.time_steps = time_steps
        self.dropout = nn.Dropout2d(dropout)  # whole channels, as of pooled features
        self.lstm = LookingLSTM(width, hidden_size, place, heads)
        self.attention = temporal_attention(attention, time_steps, hidden_size, sum_steps)
        self.head = narrow_head(hidden_size, classes)

    def features(self, patch: Float[Tensor, "B 3 P P"]) -> Float[Tensor, "B D h w"]:
        """Return the trunk's map of each patch, in full precision also under autocast."""
        assert self.trunk is not None
        cells: Tensor = self.trunk(patch)
        return cells.float()

    def forward(self, cells: Float[Tensor, "B D h w"], shift: Float[Tensor, "B D"] | None = None) -> LocalOutput:
        """Return z_l with the attention over time, the states behind it, and where each step looked.

        `shift` is as if added to every cell. Grad-CAM differentiates by it: a vector, where the map has hundreds.
        """
        states, looks = self.lstm(self.dropout(cells), self.time_steps, shift)  # B T H, B T h w
        alpha: Tensor = self.attention(states)                          # B T    Eq. 3.6
        return LocalOutput(self.head(attended(alpha, states)), alpha, states, looks)


class LookingLSTM(nn.Module):
    """Two LSTM layers, one of which is fed what the map answers to a query.

    `between_steps`: the top layer's last state asks, the answer is the bottom layer's input (our reading of TH).
    `between_layers`: the bottom layer's new state asks, the answer is the top layer's input; the bottom layer itself
    sees the pooled map at every step, as without spatial attention (TH does not say).
    """

    def __init__(self, width: int, hidden_size: int, place: Place, heads: int = 1) -> None:
        super().__init__()
        self.place = place
        self.sight = SpatialAttention(width, hidden_size, heads)
        self.bottom = nn.LSTMCell(hidden_size if place == "between_steps" else width, hidden_size)
        self.top = nn.LSTMCell(hidden_size, hidden_size)

    def forward(
        self, cells: Float[Tensor, "B D h w"], time_steps: int, shift: Float[Tensor, "B D"] | None = None,
    ) -> tuple[Float[Tensor, "B T H"], Float[Tensor, "B T h w"]]:
        """Return the top layer's states and where each step looked (the mean over heads, summing to 1)."""
        keys, values = self.sight.keys_and_values(cells)                # B K L, B V L   once a patch
        pooled = cells.mean(dim=(2, 3))                                 # B D
        if shift is not None:
            pooled = pooled + shift
        zero = cells.new_zeros(len(cells), self.top.hidden_size)        # B H            h_0 = c_0 = 0
        bottom, top = (zero, zero), (zero, zero)
        states, looks = [], []
        for _ in range(time_steps):
            if self.place == "between_steps":
                answer, look = self.sight(top[0], keys, values, shift)  # B H, B L   first, a learned constant asks
                bottom = self.bottom(answer, bottom)
                top = self.top(bottom[0], top)
            else:
                bottom = self.bottom(pooled, bottom)
                answer, look = self.sight(bottom[0], keys, values, shift)
                top = self.top(answer, top)
            states.append(top[0])
            looks.append(look)
        return torch.stack(states, dim=1), torch.unflatten(torch.stack(looks, dim=1), 2, cells.shape[2:])


class SpatialAttention(nn.Module):
    """A state asks, the map answers: MLP_q, softmax over the cells (Eq. 7.1), MLP_a."""

    def __init__(self, width: int, hidden_size: int, heads: int = 1) -> None:
        super().__init__()
        self.heads = heads
        self.key_width = width // 4                                     # c_k: 128 of 512; c_v is the rest
        k, v = self.key_width + FREQUENCIES**2, width - self.key_width + FREQUENCIES**2
        self.scale = 1 / sqrt(k)                                        # Eq. 7.1 scales, TH's prose does not
        self.query = nn.Sequential(                                     # with biases: a state of 0 asks first
            nn.Linear(hidden_size, hidden_size), nn.ReLU(),
            nn.Linear(hidden_size, hidden_size), nn.ReLU(),
            nn.Linear(hidden_size, heads * k),
        )
        self.answer = nn.Sequential(
            nn.Linear(heads * v, hidden_size), nn.ReLU(), nn.Linear(hidden_size, hidden_size),
        )

    def keys_and_values(self, cells: Float[Tensor, "B D h w"]) -> tuple[Float[Tensor, "B K L"], Float[Tensor, "B V L"]]:
        """Return K' and V': the map's channels in two parts, each with the basis beneath it.

        TH says the basis is added; its dimensions say concatenated.
        """
        images, _, h, w = cells.shape
        basis = cosine_basis(h, w, cells.device).expand(images, -1, -1, -1)                      # B S h w
        keys, values = cells[:, : self.key_width], cells[:, self.key_width :]
        return torch.cat([keys, basis], dim=1).flatten(2), torch.cat([values, basis], dim=1).flatten(2)

    def forward(
        self,
        state: Float[Tensor, "B H"],
        keys: Float[Tensor, "B K L"],
        values: Float[Tensor, "B V L"],
        shift: Float[Tensor, "B D"] | None = None,
    ) -> tuple[Float[Tensor, "B H"], Float[Tensor, "B L"]]:
        """Return what the LSTM is fed, and how much each cell had a part in it.

        A shift of all cells moves the answer by its values' part, since the looks sum to 1, and moves no look.
        """
        queries = torch.unflatten(self.query(state), 1, (self.heads, -1))                        # B G K
        looks = (self.scale * queries @ keys).softmax(dim=-1)                                    # B G L  over space
        answers = looks @ values.transpose(1, 2)                                                 # B G V
        if shift is not None:
            answers = answers + F.pad(shift[:, self.key_width :], (0, FREQUENCIES**2))[:, None]  # the basis stays
        fed: Tensor = self.answer(answers.flatten(1))                                            # B H
        return fed, looks.mean(dim=1)


def cosine_basis(h: int, w: int, device: torch.device | None = None) -> Float[Tensor, "S {h} {w}"]:
    """Return cos(πu(i+½)/h)·cos(πv(j+½)/w) for u, v = 1..8, v running fastest.

    It is a function of the map's size, nothing that is learned, so no checkpoint holds it.
    """
    u = torch.arange(1, FREQUENCIES + 1, device=device, dtype=torch.float32)
    along_h, along_w = (torch.cos(pi * u[:, None] * (torch.arange(n, device=device) + 0.5) / n) for n in (h, w))
    return torch.einsum("ui,vj->uvij", along_h, along_w).flatten(0, 1)
