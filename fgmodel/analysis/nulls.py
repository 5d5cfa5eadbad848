"""Local streams that learned nothing, on the same trunk: what maps look like without training (specification §6).

The structure alone already moves the maps: with an untrained LSTM h_t drifts to a fixed point, and with it the weights
of the channels. What training is said to have done must go beyond that.
"""

from collections.abc import Iterator
from copy import deepcopy
from typing import Protocol, TypeVar, cast

import torch
from torch import nn

S = TypeVar("S", bound=nn.Module)


class Null(Protocol):
    """Turns a trained stream into one that learned nothing; the given one is left alone."""

    def __call__(self, stream: S, seed: int) -> S:
        """Return the null that `seed` draws."""


def untrained(stream: S, seed: int) -> S:
    """Return the stream with fresh weights above its trunk, as §1 draws them."""
    fresh = _copy(stream)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for name, module in fresh.named_modules():
            if not _of_trunk(name) and hasattr(module, "reset_parameters"):
                cast("nn.Linear", module).reset_parameters()
        head = cast("nn.Linear", fresh.head)
        nn.init.normal_(head.weight, std=0.01)
        nn.init.zeros_(head.bias)
    return fresh


def shuffled(stream: S, seed: int) -> S:
    """Return the stream with the entries of each weight tensor above its trunk in another order."""
    mixed = _copy(stream)
    chance = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in _above_trunk(mixed):
            order = torch.randperm(parameter.numel(), generator=chance).to(parameter.device)
            parameter.copy_(parameter.flatten()[order].view_as(parameter))
    return mixed


NULLS: dict[str, Null] = {"untrained": untrained, "shuffled": shuffled}


def _copy(stream: S) -> S:
    trunk = getattr(stream, "trunk", None)
    return deepcopy(stream, {id(trunk): trunk})   # the trunk, which may be large, stays the same one


def _above_trunk(stream: nn.Module) -> Iterator[nn.Parameter]:
    return (parameter for name, parameter in stream.named_parameters() if not _of_trunk(name))


def _of_trunk(name: str) -> bool:
    return f"{name}.".startswith("trunk.")
