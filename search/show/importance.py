"""Which settings decide a search: importance and one-dimensional effect of each, read from stopped trials too.

A trial's *standing* is the share of the other trials it is ahead of, in ASHA's order: by the rung it reached, then by
the objective there. So trials are compared after equal epochs only, and one that was stopped early says as much as one
that was not; a diverged one stands last. A random forest learns standing from settings, and its variance over the
space is divided among them (functional ANOVA: Hutter, Hoos and Leyton-Brown 2014, with the indices of Sobol).

n  trials      d  tuned settings      m  configurations drawn from the space      g  values of a curve      K  trees
"""

import math
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING, Any

import numpy as np

from search.record.history import History, Trial
from search.show.standing import standings
from search.space.parameter import Parameter
from search.space.space import Space

if TYPE_CHECKING:
    from sklearn.ensemble import RandomForestRegressor

FEWEST = 12        # trials below which a forest says nothing
TREES = 96
LARGEST = 2_000    # trials a tree is shown
DRAWN, GRID = 512, 24


@dataclass(frozen=True)
class Effect:
    """What one setting does to standing, the others averaged over the space."""

    parameter: Parameter
    alone: float           # share of the variance, 0..1
    total: float           # ... with all it does together with others
    values: list[Any]      # g
    mean: np.ndarray       # g
    low: np.ndarray        # g  a quarter of the trees lies below
    high: np.ndarray       # g  ... above


@dataclass(frozen=True)
class Importance:
    """The effects, the most important first, and how far they can be believed."""

    effects: list[Effect]
    trials: int
    explained: float       # R² on trials that a tree has not seen (out of bag); at most 1, below 0: nothing


@dataclass(frozen=True)
class _Forest:
    """A fitted forest and configurations drawn from the space it was fitted over."""

    trees: "RandomForestRegressor"
    drawn: np.ndarray      # m d
    middle: np.ndarray     # d  stands where a setting is not tuned: its absence must not tell its condition's value

    def predict(self, coded: np.ndarray) -> np.ndarray:
        return np.asarray(self.trees.predict(_filled(coded, self.middle)))


def importance(space: Space, history: History) -> Importance | None:
    """Return what decides standing; None where nothing is tuned or too few trials have one."""
    standing = standings(space, history)
    trials = [history.trials[number] for number in standing]
    forest = _fitted(space, trials, np.array(list(standing.values())))
    if forest is None:
        return None
    spread = float(forest.predict(forest.drawn).var())
    effects = [_effect(forest, column, p, spread) for column, p in enumerate(space.tune)]
    effects.sort(key=lambda e: -e.total)
    return Importance(effects, len(trials), float(forest.trees.oob_score_))


def importance_at(space: Space, history: History, rung: int) -> dict[str, float] | None:
    """Return each setting's share alone in the variance of the objective after `rung` epochs; None: too few trials."""
    objective = space.search.objective
    trials = [t for t in history.candidates if t.rung >= rung and math.isfinite(t.at(rung, objective))]
    forest = _fitted(space, trials, np.array([t.at(rung, objective) for t in trials]))
    if forest is None:
        return None
    spread = float(forest.predict(forest.drawn).var())
    shares = {}
    for column, p in enumerate(space.tune):
        curve = _curves(forest, column, p, _grid(p)).mean(axis=0)
        shares[p.name] = _share(forest, column, curve, spread)
    return shares


def _fitted(space: Space, trials: list[Trial], target: np.ndarray) -> _Forest | None:
    if not space.tune or len(trials) < FEWEST:
        return None
    from sklearn.ensemble import RandomForestRegressor  # noqa: PLC0415  a second, for who asks what decides

    trees = RandomForestRegressor(
        TREES, min_samples_leaf=2, max_features=max(1, math.ceil(len(space.tune) / 2)), oob_score=True, random_state=0,
        max_samples=min(len(trials), LARGEST),
    )
    random = Random(0)  # noqa: S311 not a secret
    drawn = _coded(space, [space.draw(random) for _ in range(DRAWN)])
    middle = np.nanmedian(drawn, axis=0)
    trees.fit(_filled(_coded(space, [t.settings for t in trials]), middle), target)
    return _Forest(trees, drawn, middle)


def _filled(coded: np.ndarray, middle: np.ndarray) -> np.ndarray:
    """Return the coded settings with the middle of a setting's range where it is not tuned."""
    return np.where(np.isnan(coded), middle, coded)


def _coded(space: Space, settings: list[dict[str, Any]]) -> np.ndarray:
    """Return settings as numbers, n d: logarithms where the range has one, places of choices, NaN where not tuned."""
    return np.array([[_code(p, s[p.name]) if p.name in s else math.nan for p in space.tune] for s in settings], float)


def _code(parameter: Parameter, value: Any) -> float:  # noqa: ANN401 any setting
    if parameter.choices:
        return parameter.choices.index(value) if value in parameter.choices else -1.0
    return math.log(max(value, 1e-300)) if parameter.log else float(value)


def _effect(forest: _Forest, column: int, parameter: Parameter, spread: float) -> Effect:
    values = _grid(parameter)
    curves = _curves(forest, column, parameter, values)                               # K g
    mean, (low, high) = curves.mean(axis=0), np.quantile(curves, (0.25, 0.75), axis=0)
    alone = _share(forest, column, mean, spread)
    return Effect(parameter, alone, _total(forest, column, spread), values, mean, low, high)


def _curves(forest: _Forest, column: int, parameter: Parameter, values: list[Any]) -> np.ndarray:
    """Return what each tree expects at each value, over the configurations that have the setting: K g."""
    having = forest.drawn[~np.isnan(forest.drawn[:, column])]                         # m' d
    if not len(having):
        having = forest.drawn
    asked = np.repeat(having[None], len(values), axis=0)                              # g m' d
    asked[:, :, column] = np.array([_code(parameter, v) for v in values])[:, None]
    rows = _filled(asked.reshape(-1, asked.shape[2]), forest.middle).astype(np.float32)
    said = [tree.predict(rows).reshape(len(values), -1).mean(axis=1) for tree in forest.trees.estimators_]
    return np.stack(said)


def _share(forest: _Forest, column: int, curve: np.ndarray, spread: float) -> float:
    """Return the variance of a curve as a share of the whole, where the setting is there at all."""
    if spread <= 0:
        return 0.0
    weights = np.ones(len(curve))
    weights[[0, -1]] = 0.5 if len(curve) == GRID else 1.0                             # trapezoids between the ends
    varied = float(np.cov(curve, aweights=weights, ddof=0)) if len(curve) > 1 else 0.0
    return min(1.0, varied * float((~np.isnan(forest.drawn[:, column])).mean()) / spread)


def _total(forest: _Forest, column: int, spread: float) -> float:
    """Return the total index (Jansen 1999): half the mean square of what changes when the setting alone does."""
    changed, having = forest.drawn.copy(), np.flatnonzero(~np.isnan(forest.drawn[:, column]))
    changed[having, column] = np.random.default_rng(column).permutation(changed[having, column])
    change = forest.predict(changed) - forest.predict(forest.drawn)                   # m
    return min(1.0, float((change * change).mean()) / 2 / spread) if spread > 0 else 0.0


def _grid(parameter: Parameter) -> list[Any]:
    """Return the values of a curve, as evenly spread as the setting is drawn."""
    if parameter.choices:
        return list(parameter.choices)
    if parameter.whole and parameter.high - parameter.low < GRID:
        return list(range(int(parameter.low), int(parameter.high) + 1, int(parameter.step or 1)))
    ends = (math.log(parameter.low), math.log(parameter.high)) if parameter.log else (parameter.low, parameter.high)
    spread = np.linspace(*ends, GRID)
    return [float(v) for v in (np.exp(spread) if parameter.log else spread)]
