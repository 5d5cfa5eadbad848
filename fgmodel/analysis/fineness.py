"""How fine a map is: how much of the patch it takes up, and how it moves from one time step to the next.

A map is any M ≥ 0: Grad-CAM of a step, or the spatial attention a_t. An all-zero map has no fineness: every measure of
it is NaN, and `gradcam.all_zero` counts it (specification §6.7, §6.8).

n  images      T  time steps      h, w  cells of a map
"""

from math import log
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from fgmodel.analysis.gradcam import upsampled

PIXELS = 224
"""Of a side, that half-max area counts: the specification's, whatever the patch's own size."""
_IMAGES_AT_ONCE = 32   # ten steps of 224² floats of each: 64 MB


class Fineness(NamedTuple):
    """Measures of each map, 0..1; the smaller the finer, but for `iou_with_first`."""

    entropy: Float[Tensor, "n T"]          # −Σ p ln p / ln(hw) over cells, p = M/ΣM: 1 for an even map
    half_max_area: Float[Tensor, "n T"]    # share of pixels at half the maximum or above
    area90: Float[Tensor, "n T"]           # share of the fewest pixels that hold 90 % of the map's sum
    iou_with_first: Float[Tensor, "n T"]   # of the pixels above half the maximum, with those at t = 1


class Drift(NamedTuple):
    """How far the spatial attention moved."""

    divergence: Float[Tensor, "n T-1"]     # Jensen-Shannon of a_t to a_{t-1}, in bits: 0 the same, 1 nothing in common
    shift: Float[Tensor, "n T-1"]          # of the centroid since t-1, in widths of the map
    from_first: Float[Tensor, "n T-1"]     # Jensen-Shannon to a_1, which asks the same of every image (h_0 = 0)


def fineness(maps: Float[Tensor, "n T h w"]) -> Fineness:
    """Return every measure of every map."""
    parts = [_fineness(part) for part in torch.split(maps, _IMAGES_AT_ONCE)]
    return Fineness(*(torch.cat(column) for column in zip(*parts, strict=True)))


def half_max_areas(maps: Float[Tensor, "n T h w"]) -> Float[Tensor, "n T"]:
    """Return the share of 224² pixels at half the maximum or above."""
    areas = [_share(_half_max(upsampled(part, PIXELS))) for part in torch.split(maps, _IMAGES_AT_ONCE)]
    return _known(torch.cat(areas), maps)


def map_entropies(maps: Float[Tensor, "n T h w"]) -> Float[Tensor, "n T"]:
    """Return the entropy of each map over its cells, 1 for an even one."""
    return _known(_entropy(maps), maps)


def correlation_with_last(maps: Float[Tensor, "n T h w"]) -> Float[Tensor, "n T"]:
    """Return Pearson's correlation of each step's map with the last step's; NaN for a map that is constant."""
    centred = maps.flatten(2) - maps.mean(dim=(2, 3))[..., None]                      # n T hw
    scaled = centred / torch.linalg.vector_norm(centred, dim=2, keepdim=True)                              # 0/0 = NaN
    correlation: Tensor = (scaled * scaled[:, -1:]).sum(dim=2)
    return correlation


def drift(attention: Float[Tensor, "n T h w"]) -> Drift:
    """Return how the spatial attention moved from step to step; each a_t sums to 1."""
    p = attention.flatten(2)                                                          # n T hw
    centroids = _centroids(attention)                                                 # n T 2
    return Drift(
        jensen_shannon(p[:, 1:], p[:, :-1]),
        torch.linalg.vector_norm(centroids[:, 1:] - centroids[:, :-1], dim=2),
        jensen_shannon(p[:, 1:], p[:, :1]),
    )


def jensen_shannon(p: Float[Tensor, "*n k"], q: Float[Tensor, "*m k"]) -> Float[Tensor, "*n"]:
    """Return the Jensen-Shannon divergence of distributions in bits, 0..1."""
    entropy_of_mean = torch.special.entr((p + q) / 2).sum(dim=-1)
    mean_of_entropies = (torch.special.entr(p).sum(dim=-1) + torch.special.entr(q).sum(dim=-1)) / 2
    bits: Tensor = (entropy_of_mean - mean_of_entropies) / log(2)
    return bits.clamp(0, 1)   # rounding leaves the same distribution a hair below 0


def _fineness(maps: Float[Tensor, "n T h w"]) -> Fineness:
    pixels = upsampled(maps, PIXELS)                                                  # n T P P
    above = _half_max(pixels)
    measures = (_entropy(maps), _share(above), _area90(pixels), _iou(above, above[:, :1]))
    entropy, half, ninety, iou = (_known(measure, maps) for measure in measures)
    return Fineness(entropy, half, ninety, torch.where(iou[:, :1].isnan(), torch.nan, iou))


def _known(measure: Float[Tensor, "n T"], maps: Float[Tensor, "n T h w"]) -> Float[Tensor, "n T"]:
    return torch.where(maps.amax(dim=(2, 3)) > 0, measure, torch.nan)


def _entropy(maps: Float[Tensor, "n T h w"]) -> Float[Tensor, "n T"]:
    p = maps / maps.sum(dim=(2, 3), keepdim=True)
    entropy: Tensor = torch.special.entr(p).sum(dim=(2, 3)) / log(maps[0, 0].numel())
    return entropy


def _half_max(pixels: Float[Tensor, "n T P P"]) -> Bool[Tensor, "n T P P"]:
    return pixels >= pixels.amax(dim=(2, 3), keepdim=True) / 2


def _share(mask: Bool[Tensor, "n T P P"]) -> Float[Tensor, "n T"]:
    return mask.float().mean(dim=(2, 3))


def _area90(pixels: Float[Tensor, "n T P P"]) -> Float[Tensor, "n T"]:
    held = pixels.flatten(2).double().sort(dim=2, descending=True).values.cumsum(dim=2)   # n T P²
    short = held < 0.9 * held[..., -1:] * (1 - 1e-12)     # pixels that do not hold it yet; the next one does
    return ((short.sum(dim=2) + 1) / short.shape[2]).float()


def _iou(one: Bool[Tensor, "n T P P"], other: Bool[Tensor, "n 1 P P"]) -> Float[Tensor, "n T"]:
    return (one & other).sum(dim=(2, 3)) / (one | other).sum(dim=(2, 3))


def _centroids(attention: Float[Tensor, "n T h w"]) -> Float[Tensor, "n T 2"]:
    h, w = attention.shape[2:]
    down, along = (torch.arange(size, device=attention.device) + 0.5 for size in (h, w))
    y = (attention.sum(dim=3) * down).sum(dim=2) / h                                  # n T
    x = (attention.sum(dim=2) * along).sum(dim=2) / w
    return torch.stack([x, y], dim=2)
