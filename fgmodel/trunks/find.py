"""A library's classifier by name, cut off before its head: torchvision's, timm's, and one that needs no download.

Names are looked up in torchvision first, then in timm; `timm/NAME` asks timm for a name both have. `efficientnet_lite0`
comes from a Python package, so that something pretrained is always at hand offline. The libraries are imported when a
trunk is built: together they take two seconds, and a process that trains on features never needs them.
"""

from dataclasses import dataclass
from difflib import get_close_matches
from typing import Literal

from torch import nn

from fgmodel.errors import InputError

Weights = Literal["imagenet", "random"]
PROBE = 96  # pixels; stride 16 gives 6 cells, stride 32 gives 3, and Inception, which does not pad, still has one


@dataclass(frozen=True)
class Trunk:
    """Normalised images in, map out, and the mean and deviation its weights were trained with (per channel, 0..1)."""

    module: nn.Module
    mean: tuple[float, ...]
    std: tuple[float, ...]


def find_trunk(name: str, weights: Weights, *, stride16: bool) -> Trunk:
    """Return the trunk called `name`, up to its last map or to its last stride-16 map.

    Raises InputError: for an unknown name, a trunk without such a map, and weights that cannot be had.
    """
    from fgmodel.trunks import timm_trunks, torchvision_trunks  # noqa: PLC0415  two seconds, for who builds a trunk only

    if name == "efficientnet_lite0":
        return timm_trunks.lite0(weights, stride16=stride16)
    if name in torchvision_trunks.names():
        return torchvision_trunks.build(name, weights, stride16=stride16)
    bare = name.removeprefix("timm/")
    if timm_trunks.has(bare):
        return timm_trunks.build(bare, weights, stride16=stride16)
    known = ["efficientnet_lite0", *torchvision_trunks.names(), *timm_trunks.names()]
    near = ", ".join(f"'{n}'" for n in get_close_matches(bare, known, n=3))
    raise InputError(f"'{name}' is no trunk of torchvision or timm" + (f"; near it are {near}" if near else ""))


def no_weights(name: str, error: Exception) -> InputError:
    """Return the error that the weights of `name` cannot be had, in one line."""
    reason = " ".join(str(error).split()).split(". ")[0]   # the hub's advice runs over several sentences
    return InputError(
        f"the ImageNet weights of '{name}' are neither in the cache nor downloadable: {reason}; "
        "'efficientnet_lite0' needs no download",
    )


def no_stride16(name: str) -> InputError:
    """Return the error that `name` has no map of stride 16."""
    return InputError(f"'{name}' has no map of stride 16, which data.patches: peaks reads; use ddt or another trunk")
