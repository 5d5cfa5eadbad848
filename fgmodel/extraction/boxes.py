"""From a map to boxes: its highest peaks, one after the other, and around each the part of the map that is its own.

Legend: B maps, h w their cells, G cells a side of the grid peaks are sought in, Q = G·G cells, N peaks of a map,
M = B·N, R pixels a side a map is enlarged to.
"""

from functools import cache

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

GRID = 14          # G (thesis §4)
RADIUS = 2         # cells around a peak in which there is no second (§4)
SIGMA = 1.5        # cells: how far a peak's own part of the map reaches (§4)
PERCENTILE = 0.95  # a box holds what lies above it (§4), so it covers at least a twentieth of the image
ENLARGED = 112     # R; 448 as in §4 moves a box by two pixels of 448 at most and takes sixteen times as long


def peak_boxes(maps: Float[Tensor, "B G G"], count: int) -> tuple[Float[Tensor, "B N 4"], Float[Tensor, "B N"]]:
    """Return the boxes of a map's `count` highest peaks (x1 y1 x2 y2, fractions of the image), and their heights.

    Maps are not negative. One without any height gives the whole image.
    """
    where, heights = greedy_peaks(maps, count)                                       # B N, B N
    own = maps[:, None] * _gaussians()[where]                                       # B N G G
    return above_percentile(own.flatten(0, 1)).reshape(*where.shape, 4), heights


def heat_boxes(heat: Float[Tensor, "B h w"], count: int) -> tuple[Float[Tensor, "B N 4"], Float[Tensor, "B N"]]:
    """Return the boxes of the `count` highest peaks of maps of any size whose cells above zero are of the object."""
    grid = F.interpolate(heat.clamp_min(0)[:, None], (GRID, GRID), mode="bilinear")[:, 0]   # B G G
    return peak_boxes(grid, count)


def greedy_peaks(maps: Float[Tensor, "B G G"], count: int) -> tuple[Int[Tensor, "B N"], Float[Tensor, "B N"]]:
    """Return the cells of a map's peaks and their heights, highest first, none within RADIUS cells of an earlier one.

    Where that leaves too few, the radius falls to 1, then to 0; where no cell is above zero, earlier peaks come again.
    """
    values = maps.flatten(1)                                                         # B Q
    relative = values / (2 * values.amax(dim=1, keepdim=True)).clamp_min(torch.finfo(values.dtype).tiny)  # B Q  to ½
    near = torch.zeros(RADIUS + 1, *values.shape, dtype=torch.bool)                  # r B Q  within r of a peak
    chosen = torch.zeros(count, len(maps), dtype=torch.int64)                        # N B
    found, rows = torch.zeros(len(maps), dtype=torch.int64), torch.arange(len(maps))
    neighbours = _neighbours()
    for k in range(count):
        rank = (~near).sum(dim=0) + relative                                         # B Q   3+: free at every radius
        rank = torch.where((values > 0) & ~near[0], rank, -1.0)
        best = rank.argmax(dim=1)                                                    # B
        fresh = rank[rows, best] > 0
        again = chosen[(k - found).clamp(0, max(k - 1, 0)), rows]
        chosen[k] = torch.where(fresh, best, again)
        found += fresh
        near |= neighbours[:, chosen[k]]
    where = chosen.T                                                                 # B N
    return where, values.gather(1, where)


def above_percentile(maps: Float[Tensor, "M h w"]) -> Float[Tensor, "M 4"]:
    """Return the tight box (fractions) over all pixels above the map's 95th percentile; the whole, where none is."""
    fine = F.interpolate(maps[:, None], (ENLARGED, ENLARGED), mode="bicubic")[:, 0]  # M R R
    flat = fine.flatten(1)                                                           # M R²
    bar = flat.kthvalue(round(PERCENTILE * flat.shape[1]), dim=1).values             # M
    bar = torch.maximum(bar, 1e-3 * flat.amax(dim=1))    # a map zero nearly everywhere: not the ringing around its peak
    above = fine > bar[:, None, None]                                                # M R R
    x1, x2 = _range(above.any(dim=1))
    y1, y2 = _range(above.any(dim=2))
    return torch.stack([x1, y1, x2, y2], dim=1) / ENLARGED


def _range(held: Bool[Tensor, "M R"]) -> tuple[Int[Tensor, " M"], Int[Tensor, " M"]]:
    """Return the first held position and the one after the last; everything, where none is held."""
    numbers = held.to(torch.uint8)
    return numbers.argmax(dim=1), held.shape[1] - numbers.flip(1).argmax(dim=1)


@cache
def _neighbours() -> Bool[Tensor, "r Q Q"]:
    """Tell for each radius and cell which cells are within that radius of it, in the larger of both directions."""
    row, column = torch.meshgrid(torch.arange(GRID), torch.arange(GRID), indexing="ij")
    place = torch.stack([row.flatten(), column.flatten()], dim=1)                    # Q 2
    distance = (place[:, None] - place[None]).abs().amax(dim=2)                      # Q Q
    return torch.stack([distance <= radius for radius in range(RADIUS + 1)])


@cache
def _gaussians() -> Float[Tensor, "Q G G"]:
    """Return a Gaussian bump around each cell."""
    across = torch.arange(GRID)
    bump = torch.exp(-((across[:, None] - across[None]) ** 2) / (2 * SIGMA**2))      # G G  one direction
    return torch.einsum("yi,xj->yxij", bump, bump).reshape(GRID * GRID, GRID, GRID)
