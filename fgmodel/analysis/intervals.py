"""95 % intervals of means by resampling images: bootstrap, seeded.

n  images      R  resamples
"""

from typing import NamedTuple, TypeAlias

import numpy as np

RESAMPLES = 4000   # the ends of an interval then scatter by a fiftieth of its width


class Interval(NamedTuple):
    """A mean with its 95 % interval; arrays where the mean is one of arrays, as of a curve."""

    mean: "Number"
    low: "Number"
    high: "Number"

    def __str__(self) -> str:
        return f"{self.mean:+.3f} ({self.low:+.3f} to {self.high:+.3f})"


Number: TypeAlias = float | np.ndarray


def mean_interval(values: np.ndarray, seed: int = 0) -> Interval:
    """Return the mean over the first axis, images, with its interval; NaN are left out."""
    known = ~np.isnan(values)
    counts = _counts(len(values), seed)                                       # R n
    weights = np.tensordot(counts, known.astype(float), axes=1)               # R ...
    sums = np.tensordot(counts, np.where(known, values, 0.0), axes=1)         # R ...
    return _interval(np.nanmean(values, axis=0), sums / np.where(weights > 0, weights, np.nan))


def null_interval(null: np.ndarray, seed: int = 0) -> Interval:
    """Return the mean of a null's draws (draws n ...) and within what a single draw's mean over images falls."""
    return _interval(np.nanmean(null, axis=(0, 1)), _draw_means(null, *_resample(null, seed)))


def beyond_null(values: np.ndarray, null: np.ndarray, seed: int = 0) -> Interval:
    """Return the mean of `values` (n ...) less that of the null (draws n ...) on the same images.

    Each resample takes images anew and one draw of the null, so that the interval holds how far nulls lie apart, not
    only how far images do.
    """
    images, draws = _resample(null, seed)
    differences = np.nanmean(values[images], axis=1) - _draw_means(null, images, draws)
    return _interval(np.nanmean(values, axis=0) - np.nanmean(null, axis=(0, 1)), differences)


def rank_correlation_interval(one: np.ndarray, other: np.ndarray, seed: int = 0) -> Interval:
    """Return Spearman's correlation of two measures of the same (n T) image-steps; images are resampled whole.

    NaN where either measure is constant.
    """
    from scipy.stats import rankdata  # noqa: PLC0415  half a second, for who tests the claim only

    ranks = [rankdata(values, axis=None).reshape(values.shape) for values in (one, other)]
    images = np.random.default_rng(seed).integers(len(one), size=(RESAMPLES, len(one)))
    whole = _correlation(*(r.reshape(1, -1) for r in ranks))[0]
    if np.isnan(whole):
        return Interval(np.nan, np.nan, np.nan)
    return _interval(whole, _correlation(*(r[images].reshape(RESAMPLES, -1) for r in ranks)))


def _interval(mean: Number, resampled: np.ndarray) -> Interval:
    low, high = np.nanquantile(resampled, (0.025, 0.975), axis=0)
    return Interval(mean, low, high)


def _counts(n: int, seed: int) -> np.ndarray:
    """Return how often each image is in each resample: R n."""
    return np.random.default_rng(seed).multinomial(n, [1 / n] * n, size=RESAMPLES).astype(float)


def _resample(null: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return each resample's images (R n) and its draw (R,)."""
    chance = np.random.default_rng(seed)
    draws, n = null.shape[:2]
    return chance.integers(n, size=(RESAMPLES, n)), chance.integers(draws, size=RESAMPLES)


def _draw_means(null: np.ndarray, images: np.ndarray, draws: np.ndarray) -> np.ndarray:
    return np.asarray(np.nanmean(null[draws[:, None], images], axis=1))


def _correlation(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Return Pearson's correlation of each row; NaN for a constant one."""
    a, b = (v - v.mean(axis=1, keepdims=True) for v in (one, other))
    size = np.sqrt((a * a).sum(axis=1) * (b * b).sum(axis=1))
    return np.asarray((a * b).sum(axis=1) / np.where(size > 0, size, np.nan))
