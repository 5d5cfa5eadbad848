"""The race of the best few over seeds: which of them is best once luck is averaged out.

The best of many trials was also lucky, and on a few hundred images the first few differ by less than a seed does. So
each finalist is trained again over fresh seeds, each seed with a validation cut of its own that all finalists share,
and the best mean wins. The runs that made them finalists do not count: they were chosen for their values.
"""

import math
from collections import Counter
from dataclasses import dataclass

import numpy as np

from search.decide.asha import Ladder
from search.record.history import History, Trial
from search.space.space import Plan, Space


@dataclass(frozen=True)
class Confirmed:
    """A finalist and what its repeats said, one entry a seed; NaN where one failed."""

    trial: Trial
    values: tuple[float, ...]   # of the objective
    nll: float                  # mean

    @property
    def mean(self) -> float:
        """Return the mean over the seeds."""
        return float(np.mean(self.values))

    @property
    def sd(self) -> float:
        """Return the standard deviation over the seeds."""
        return float(np.std(self.values, ddof=1)) if len(self.values) > 1 else math.nan

    def said(self) -> str:
        """Return mean ± standard deviation over the seeds."""
        return f"{self.mean:.3f} ± {self.sd:.3f} over {len(self.values)} fresh seeds"


def finalists(search: Plan, history: History) -> list[Trial]:
    """Return the best few of the last rung."""
    done = [t for t in Ladder(search).rank(history, search.epochs) if not t.reason]
    return done[: search.finalists]


def due(search: Plan, history: History) -> tuple[Trial, int] | None:
    """Return the next repeat: the finalist that has fewest, and which of its seeds it is, from 1."""
    begun = Counter(t.repeats for t in history.trials.values())
    behind = [t for t in finalists(search, history) if begun[t.number] < search.seeds]
    trial = min(behind, key=lambda t: begun[t.number], default=None)
    return None if trial is None else (trial, begun[trial.number] + 1)


def repeat_settings(space: Space, trial: Trial, number: int) -> dict[str, object]:
    """Return a finalist's settings with its `number`-th fresh seed and validation cut."""
    config = space.config(trial.settings)
    fresh = {"seed": config.seed + number, "data.validation_seed": config.data.validation_seed + number}
    return {**trial.settings, **fresh}


def confirmed(search: Plan, history: History) -> list[Confirmed]:
    """Return the finalists whose repeats are all over, the best mean first; ties go to the lower val/nll."""
    found = [_confirmed(search, history, trial) for trial in finalists(search, history)]
    over = [c for c in found if c and len(c.values) >= search.seeds]
    sign = -1 if search.maximize else 1
    return sorted(over, key=lambda c: (math.isnan(c.mean), sign * c.mean, c.nll, c.trial.number))


def best(search: Plan, history: History) -> Trial | None:
    """Return the race's winner once it is over, else the leader of the highest rung."""
    race = confirmed(search, history)
    if race and len(race) == len(finalists(search, history)) and not math.isnan(race[0].mean):
        return race[0].trial
    return Ladder(search).leader(history)


def _confirmed(search: Plan, history: History, trial: Trial) -> Confirmed | None:
    repeats = [t for t in history.trials.values() if t.repeats == trial.number]
    over = [t for t in repeats if t.reason or t.rung >= search.epochs]
    if not over:
        return None
    values = tuple(math.nan if t.reason else t.at(search.epochs, search.objective) for t in over)
    return Confirmed(trial, values, float(np.mean([t.at(search.epochs, "val/nll") for t in over])))
