"""What a search was asked, what it answers, and how sure that is: in sentences.

The race of finalists decides by the mean over seeds that they share, each with its own validation cut; so two of them
are compared seed by seed, and what is left to chance is told as the odds that the winner is truly the better one.
"""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fgmodel.analysis.intervals import Interval
from search.decide import race
from search.decide.asha import REFERENCE
from search.decide.race import Confirmed
from search.record.history import History, Trial
from search.show.names import SPOKEN, configuration
from search.space.space import Space

SURE, LIKELY = 0.95, 0.8   # odds from which the words change


@dataclass(frozen=True)
class Raced:
    """A finalist's mean with its 95 % interval, and how it compares with the winner, seed by seed."""

    finalist: Confirmed
    mean: Interval
    behind: Interval | None     # the winner less this one, better is positive; None for the winner
    odds: float                 # that the winner is truly better than this one; 1 for the winner


@dataclass(frozen=True)
class Verdict:
    """The best trial so far, with its value and how sure that is."""

    asked: str
    trial: Trial
    objective: str              # in words
    value: float
    epochs: int
    interval: Interval | None   # 95 %, over seeds; None without a race
    race: tuple[Raced, ...]     # the best mean first; empty until the race is over
    answer: str
    sure: str


def verdict(space: Space, history: History) -> Verdict | None:
    """Return what the search answers so far; None before a trial has finished a rung."""
    trial = race.best(space.search, history)
    if trial is None:
        return None
    raced = _race(space, history, trial)
    objective, value = SPOKEN[space.search.objective], trial.at(trial.rung, space.search.objective)
    interval = raced[0].mean if raced else None
    answer = _answer(space, history, trial, objective, value, raced)
    sure = _sure_of_race(raced) if raced else _sure_of_one(space, history, trial)
    return Verdict(asked(space), trial, objective, value, trial.rung, interval, raced, answer, sure)


def asked(space: Space) -> str:
    """Return the question of a space file: the first sentence of the comment that opens it."""
    text = " ".join(space.question.split())
    first = re.match(r".+?[?.!](?= |$)", text)
    return first.group() if first else text or f"Which settings give the best {SPOKEN[space.search.objective]}?"


def chances(odds: float) -> str:
    """Return odds as a person writes them: never all or nothing."""
    return "–" if math.isnan(odds) else "over 99 %" if odds > 0.99 else "under 1 %" if odds < 0.01 else f"{odds:.0%}"


def between(interval: Interval, digits: int = 3) -> str:
    """Return the ends of an interval: '0.812 to 0.873'."""
    return f"{interval.low:.{digits}f} to {interval.high:.{digits}f}"


def seeds_interval(values: Sequence[float]) -> Interval:
    """Return the mean of a few values with its 95 % interval by Student's t; NaN ends where one value cannot tell."""
    from scipy import stats  # noqa: PLC0415  half a second, for who has a race only

    mean, n = float(np.mean(values)), len(values)
    if n < 2:
        return Interval(mean, math.nan, math.nan)
    reach = float(stats.t.ppf(0.975, n - 1)) * float(np.std(values, ddof=1)) / math.sqrt(n)
    return Interval(mean, mean - reach, mean + reach)


def odds_above_zero(differences: Sequence[float]) -> float:
    """Return the odds that the true mean of paired differences is above 0: Student's t, nothing assumed beforehand."""
    from scipy import stats  # noqa: PLC0415  as above

    mean, n = float(np.mean(differences)), len(differences)
    error = float(np.std(differences, ddof=1)) / math.sqrt(n) if n > 1 else math.nan
    if math.isnan(error) or math.isnan(mean):
        return math.nan
    if error == 0:
        return 0.5 if mean == 0 else float(mean > 0)
    return float(stats.t.cdf(mean / error, n - 1))


def _race(space: Space, history: History, best: Trial) -> tuple[Raced, ...]:
    over = race.confirmed(space.search, history)
    if not over or over[0].trial is not best:
        return ()
    sign = 1 if space.search.maximize else -1
    winner, raced = over[0], []
    for finalist in over:
        differences = [sign * (a - b) for a, b in zip(winner.values, finalist.values, strict=False)]
        first = finalist is winner
        behind = None if first else seeds_interval(differences)
        odds = 1.0 if first else odds_above_zero(differences)
        raced.append(Raced(finalist, seeds_interval(finalist.values), behind, odds))
    return tuple(raced)


def _answer(
    space: Space, history: History, trial: Trial, objective: str, value: float, race: tuple[Raced, ...],
) -> str:
    what = configuration(space, trial.settings)
    reached = f"{objective} {value:.3f} after {trial.rung} epoch{'s' if trial.rung > 1 else ''}"
    if race:
        reached = f"{objective} {race[0].mean.mean:.3f} on average over {len(race[0].finalist.values)} fresh seeds"
    begins = "Trial" if history.finished and history.finished.how == "complete" else "So far trial"
    return f"{begins} #{trial.number} ({what}) is best: {reached}{_beside_reference(space, history, trial)}."


def _beside_reference(space: Space, history: History, trial: Trial) -> str:
    reference = history.trials.get(REFERENCE)
    if space.rows or reference is None or reference is trial or reference.rung != trial.rung:
        return ""
    value, theirs = (t.at(t.rung, space.search.objective) for t in (trial, reference))
    return f"; in the search itself it reached {value:.3f}, the thesis' values (#0) {theirs:.3f} at equal epochs"


def _sure_of_race(race: tuple[Raced, ...]) -> str:
    first = race[0]
    seeds = f"{len(first.finalist.values)} seeds"
    mean = f"Its mean over {seeds} is {first.mean.mean:.3f}"
    mean += "." if math.isnan(first.mean.low) else f" (95 % interval {between(first.mean)})."
    if len(race) < 2:
        return f"{mean} It raced alone: nothing says how it compares with the next best."
    second = race[1]
    if second.behind is None or math.isnan(second.odds):
        return f"{mean} The next best, #{second.finalist.trial.number}, cannot be compared with it: too few seeds."
    odds, other = second.odds, f"#{second.finalist.trial.number}, the next best,"
    by = f"{second.behind.mean:.3f} (95 % interval {between(second.behind)}, paired over {seeds})"
    lead = f"It leads {other} by {by}"
    if odds >= SURE:
        return f"{mean} {lead}: the odds that it is truly better are {chances(odds)}."
    words = "it is likely the better one" if odds >= LIKELY else "the two cannot be told apart by this race"
    return f"{mean} {lead}: {words}; the odds that it is truly better are {chances(odds)}. More seeds would decide."


def _sure_of_one(space: Space, history: History, trial: Trial) -> str:
    rivals = sum(t.rung >= trial.rung and not t.reason for t in history.candidates)
    said = (
        f"This is one run with one seed on one validation cut, and the best of {rivals} that came as far: it was also "
        "lucky, so expect somewhat less from another seed."
    )
    if space.search.finalists:
        return f"{said} The race of {space.search.finalists} finalists over {space.search.seeds} seeds is not over yet."
    return f"{said} A race over fresh seeds tells how much: launch it again with --set search.finalists=4."
