"""Does the local stream look at ever finer parts? The thesis' claim, put to the test (specification §6 "Claim test").

Measured of each image: Spearman's ρ of the half-max area of Grad-CAM with t, and area_T − area_1; the class is the true
one, fixed over t. The claim is supported only if both decline, and both beyond what streams that learned nothing show
on the same maps of the same trunk.

n  images      T  time steps      D  channels of the trunk's map      h, w  its cells
"""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int
from torch import Tensor, nn

from fgmodel.analysis.fineness import half_max_areas, map_entropies
from fgmodel.analysis.gradcam import step_maps
from fgmodel.analysis.intervals import Interval, beyond_null, mean_interval, null_interval, rank_correlation_interval
from fgmodel.analysis.nulls import NULLS
from fgmodel.progress import Progress, silent

DRAWS = 40
"""Of each null: a trained stream below every one of 40 is what an interval of 95 % asks for."""


class Trends(NamedTuple):
    """How the half-max area goes over time, an image; NaN where a step's map is all zero."""

    rho: np.ndarray       # (n,)  Spearman's with t; 0 for an area that stays the same, which is no decline
    change: np.ndarray    # (n,)  area_T − area_1, in shares of the patch


class Areas(NamedTuple):
    """Half-max areas, and entropies, of a trained stream's maps and of streams that learned nothing."""

    trained: np.ndarray                     # (n,T)
    correct: np.ndarray                     # (n,T) bool: is step t alone right?
    nulls: dict[str, np.ndarray]            # name of the null -> (draws,n,T)
    entropy: np.ndarray                     # (n,T) of the trained stream's maps
    null_entropies: dict[str, np.ndarray]   # name of the null -> (draws,n,T)


@dataclass(frozen=True)
class Measure:
    """One measure of decline, against the nulls."""

    trained: Interval
    p: float                        # Wilcoxon's signed-rank test, one-sided: is it below 0?
    nulls: dict[str, Interval]      # within what a null's mean falls
    beyond: dict[str, Interval]     # trained less null

    @property
    def declines(self) -> bool:
        """Whether it is below 0 and below every null, each by its 95 % interval."""
        return all(interval.high < 0 for interval in (self.trained, *self.beyond.values()))


@dataclass(frozen=True)
class ClaimAnswer:
    """Whether the claim is supported, and all that was measured for it."""

    rho: Measure
    change: Measure
    area_and_correct: Interval      # Spearman's of half-max area with a step's being right; TH claims nothing of it
    images: int                     # measured
    excluded: int                   # left out: a step's map was all zero

    @property
    def supported(self) -> bool:
        """Whether both measures decline beyond both nulls."""
        return self.rho.declines and self.change.declines

    def __str__(self) -> str:
        nulls = "; ".join(f"{name} ρ {self.rho.nulls[name]}, Δ {self.change.nulls[name]}" for name in self.rho.nulls)
        return (
            f"{'supported' if self.supported else 'not supported'}: ρ(t, area) {self.rho.trained}, p {self.rho.p:.2g}; "
            f"area_T − area_1 {self.change.trained}, p {self.change.p:.2g}; nulls: {nulls}; "
            f"area with a step's being right: ρ {self.area_and_correct}; {self.images} images, {self.excluded} excluded"
        )


def measure_areas(
    stream: nn.Module,
    cells: Float[Tensor, "n D h w"],
    labels: Int[Tensor, " n"],
    draws: int = DRAWS,
    progress: Progress = silent,
) -> Areas:
    """Return the areas of `stream`, in eval mode, and of `draws` of each null, from the trunk's maps of n patches."""
    seen = step_maps(stream, cells, labels)
    correct = seen.step_logits.argmax(dim=2) == labels[:, None]                       # n T
    areas, entropies = _measures(seen.maps)
    nulls: dict[str, list[tuple[np.ndarray, np.ndarray]]] = {name: [] for name in NULLS}
    for done, (name, seed) in enumerate(product(NULLS, range(draws)), start=1):
        nulls[name].append(_measures(step_maps(NULLS[name](stream, seed), cells, labels).maps))
        progress("maps of streams that learned nothing", done, draws * len(NULLS))
    return Areas(
        areas,
        correct.cpu().numpy(),
        {name: np.stack([area for area, _ in held]) for name, held in nulls.items()},
        entropies,
        {name: np.stack([entropy for _, entropy in held]) for name, held in nulls.items()},
    )


def answer(areas: Areas, seed: int = 0) -> ClaimAnswer:
    """Return what the areas say of the claim; `seed` draws the resamples."""
    trained = trends(areas.trained)
    nulls = {name: _null_trends(of_draws) for name, of_draws in areas.nulls.items()}
    known = ~np.isnan(trained.rho)
    return ClaimAnswer(
        rho=_measure(trained.rho[known], {name: null.rho[:, known] for name, null in nulls.items()}, seed),
        change=_measure(trained.change[known], {name: null.change[:, known] for name, null in nulls.items()}, seed),
        area_and_correct=rank_correlation_interval(areas.trained[known], areas.correct[known].astype(float), seed),
        images=int(known.sum()),
        excluded=int((~known).sum()),
    )


def trends(areas: np.ndarray) -> Trends:
    """Return how the area (n T) of each image's maps goes over time; T is at least 2."""
    from scipy.stats import rankdata  # noqa: PLC0415  half a second, for who tests the claim only

    ranks = rankdata(areas, axis=1)                                                   # n T  NaN makes its row NaN
    ranks = ranks - ranks.mean(axis=1, keepdims=True)
    time = np.arange(areas.shape[1]) - (areas.shape[1] - 1) / 2                       # T
    size = np.sqrt((ranks**2).sum(axis=1) * (time**2).sum())                          # n
    change = np.where(np.isnan(areas).any(axis=1), np.nan, areas[:, -1] - areas[:, 0])
    return Trends(ranks @ time / np.where(size == 0, 1.0, size), change)


def _measures(maps: Float[Tensor, "n T h w"]) -> tuple[np.ndarray, np.ndarray]:
    """Return half-max areas and entropies, n T each."""
    area, entropy = (of(maps).cpu().numpy().astype(np.float64) for of in (half_max_areas, map_entropies))
    return area, entropy


def _null_trends(areas: np.ndarray) -> Trends:
    """Return the trends (draws n) of a null's areas (draws n T)."""
    return Trends(*(np.stack(column) for column in zip(*(trends(draw) for draw in areas), strict=True)))


def _measure(values: np.ndarray, nulls: Mapping[str, np.ndarray], seed: int) -> Measure:
    return Measure(
        trained=mean_interval(values, seed),
        p=_p_below_zero(values),
        nulls={name: null_interval(null, seed) for name, null in nulls.items()},
        beyond={name: beyond_null(values, null, seed) for name, null in nulls.items()},
    )


def _p_below_zero(values: np.ndarray) -> float:
    from scipy.stats import wilcoxon  # noqa: PLC0415  half a second, for who tests the claim only

    if not values.any():
        return 1.0   # Wilcoxon's test leaves zeros out; here nothing is left
    return float(wilcoxon(values, alternative="less").pvalue)
