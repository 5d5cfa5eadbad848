"""The two streams: a whole image to logits z_g, a patch to logits z_l (Eq. 3.1-3.7).

B  images or patches      S, P  pixels of a side      D  channels of a trunk      C  classes
T  time steps             H     width of the LSTM's states      h, w  cells of a map
Above its trunk a stream is the same whether the features were just computed or read from the cache.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from fgmodel.attention import Kind, attended, temporal_attention

ADDON_WIDTH = 1024
"""Channels of the released code's add-on (512 -> 1024 -> 1024)."""


class GlobalStream(nn.Module):
    """Image -> trunk -> [add-on] -> global average pool -> head."""

    def __init__(
        self, trunk: nn.Module | None, width: int, classes: int, *, addon: bool = False, dropout: float = 0,
    ) -> None:
        super().__init__()
        self.trunk = trunk  # None: it is given pooled features
        self.addon = _addon(width) if addon else nn.Identity()
        self.dropout = nn.Dropout(dropout)
        self.head = narrow_head(ADDON_WIDTH if addon else width, classes)

    def features(self, image: Float[Tensor, "B 3 S S"]) -> Float[Tensor, "B D"]:
        """Return the trunk's pooled feature of each image."""
        assert self.trunk is not None
        cells: Tensor = self.addon(self.trunk(image))   # B D h w
        return cells.mean(dim=(2, 3), dtype=torch.float32)  # B D  after the add-on: ReLU does not commute with it

    def forward(self, pooled: Float[Tensor, "B D"]) -> Float[Tensor, "B C"]:
        """Return z_g."""
        logits: Tensor = self.head(self.dropout(pooled))
        return logits


class LocalOutput(NamedTuple):
    """What the local stream computes for each patch; an axis of length 0 says that it has no such thing."""

    logits: Float[Tensor, "B C"]
    alpha: Float[Tensor, "B T"]         # T = 0 without an LSTM
    states: Float[Tensor, "B T H"]
    looks: Float[Tensor, "B T h w"]     # where each step looked, summing to 1; h = w = 0 without spatial attention


class NoStream(nn.Module):
    """The local stream of Table 6.1a: there is none. It is given no patches and says nothing of them."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.classes = classes

    def features(self, patch: Float[Tensor, "0 3 P P"]) -> Float[Tensor, "0 0"]:
        """Return features of no patches."""
        return patch.new_empty(0, 0)

    def forward(self, pooled: Float[Tensor, "0 D"]) -> LocalOutput:
        """Return logits of no patches."""
        return _without_time(pooled.new_empty(0, self.classes))


class TrunkStream(nn.Module):
    """The local stream of Table 6.1b: patch -> trunk -> global average pool -> head."""

    def __init__(self, trunk: nn.Module | None, width: int, classes: int, *, dropout: float = 0) -> None:
        super().__init__()
        self.trunk = trunk  # None: it is given pooled features
        self.dropout = nn.Dropout(dropout)
        self.head = narrow_head(width, classes)

    def features(self, patch: Float[Tensor, "B 3 P P"]) -> Float[Tensor, "B D"]:
        """Return the trunk's pooled feature of each patch (Eq. 3.3)."""
        return _pooled(self.trunk, patch)

    def forward(self, pooled: Float[Tensor, "B D"]) -> LocalOutput:
        """Return z_l."""
        return _without_time(self.head(self.dropout(pooled)))


class LocalStream(nn.Module):
    """Patch -> trunk -> global average pool -> two-layer LSTM over T identical inputs -> attention -> head."""

    def __init__(
        self,
        trunk: nn.Module | None,
        width: int,
        classes: int,
        *,
        hidden_size: int,
        time_steps: int,
        attention: Kind,
        sum_steps: int | None = None,
        dropout: float = 0,
    ) -> None:
        super().__init__()
        self.trunk = trunk  # None: it is given pooled features
        self.time_steps = time_steps
        self.dropout = nn.Dropout(dropout)
        self.lstm = RepeatedInputLSTM(width, hidden_size, num_layers=2, batch_first=True)
        self.attention = temporal_attention(attention, time_steps, hidden_size, sum_steps)
        self.head = narrow_head(hidden_size, classes)

    def features(self, patch: Float[Tensor, "B 3 P P"]) -> Float[Tensor, "B D"]:
        """Return the trunk's pooled feature of each patch (Eq. 3.3)."""
        return _pooled(self.trunk, patch)

    def forward(self, pooled: Float[Tensor, "B D"]) -> LocalOutput:
        """Return z_l with the attention and the states behind it."""
        x = self.dropout(pooled)                                       # B D    the same features at every step
        states = self.lstm.unroll(x, self.time_steps)                  # B T H  Eq. 3.4
        alpha: Tensor = self.attention(states)                         # B T    Eq. 3.6
        logits = self.head(attended(alpha, states))                    # B C    Eq. 3.5, 3.7
        return LocalOutput(logits, alpha, states, states.new_empty(*alpha.shape, 0, 0))


class RepeatedInputLSTM(nn.LSTM):
    """An `nn.LSTM` (same parameters, same state dict) for an input that is the same at every time step."""

    def unroll(self, x: Float[Tensor, "B D"], time_steps: int) -> Float[Tensor, "B T H"]:
        """Return the top layer's states for x shown `time_steps` times, as `forward` would within rounding.

        x's projection is computed once instead of T times, and oneDNN's LSTM is slow to train besides: a step of 32
        patches, D=1280, H=256, T=6 takes 16 ms on one thread against 42 ms.
        """
        states: list[Tensor] = []
        for weight_ih, weight_hh, bias_ih, bias_hh in self.all_weights:
            below = torch.stack(states) if states else x                # T B H  in the first layer B D
            gates = F.linear(below, weight_ih, bias_ih + bias_hh)       # T B 4H in the first layer B 4H: computed once
            states = _recurrence(gates.expand(time_steps, -1, -1), weight_hh)
        return torch.stack(states, dim=1)                               # B T H


def _recurrence(gates: Float[Tensor, "T B G"], weight_hh: Float[Tensor, "G H"]) -> list[Tensor]:
    """Return one layer's states h_1..h_T, each (B, H), from h_0 = c_0 = 0; G = 4H."""
    states: list[Tensor] = []
    cell: Tensor | None = None
    for step in gates.unbind(0):                                        # B 4H
        moved = torch.addmm(step, states[-1], weight_hh.T) if states else step  # B 4H  h_0 = 0 adds nothing
        i, f, g, o = moved.chunk(4, dim=1)                              # B H  in nn.LSTM's order
        new = i.sigmoid() * g.tanh()                                    # B H
        cell = new if cell is None else torch.addcmul(new, f.sigmoid(), cell)
        states.append(o.sigmoid() * cell.tanh())
    return states


def narrow_head(width: int, classes: int) -> nn.Linear:
    """Return a classifier that starts as N(0, 0.01) without bias."""
    head = nn.Linear(width, classes)
    nn.init.normal_(head.weight, std=0.01)              # §1
    nn.init.zeros_(head.bias)
    return head


def _without_time(logits: Float[Tensor, "B C"]) -> LocalOutput:
    """Return the output of a local stream that has no time steps."""
    patches = len(logits)
    return LocalOutput(
        logits, logits.new_empty(patches, 0), logits.new_empty(patches, 0, 0), logits.new_empty(patches, 0, 0, 0),
    )


def _pooled(trunk: nn.Module | None, patch: Float[Tensor, "B 3 P P"]) -> Float[Tensor, "B D"]:
    assert trunk is not None
    cells: Tensor = trunk(patch)                        # B D h w
    return cells.mean(dim=(2, 3), dtype=torch.float32)  # B D  in full precision also under autocast


def _addon(width: int) -> nn.Sequential:
    first, second = nn.Conv2d(width, ADDON_WIDTH, 1), nn.Conv2d(ADDON_WIDTH, ADDON_WIDTH, 1)
    for conv in (first, second):
        nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")  # §1
        assert conv.bias is not None
        nn.init.zeros_(conv.bias)
    return nn.Sequential(first, nn.ReLU(), second, nn.ReLU())  # not in place: hooks read what precedes it (§8.9)
