"""What charts are made from: a search as its journal tells it, and what several of them need."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from search.decide import race
from search.decide.asha import REFERENCE
from search.record.history import History, Trial
from search.show.charts.chart import LEAD, THESIS, Axis, Pen, fitted
from search.show.importance import Importance, importance
from search.show.names import SPOKEN, configuration
from search.show.standing import standings
from search.space.space import Space

MOST = 1_000     # marks or lines of a kind: a browser stays quick
FAR = 3.0        # quartile ranges beyond which a bad value is drawn at the edge


@dataclass(frozen=True)
class Seen:
    """A search, and where its trials stand: computed when first asked for, then kept."""

    space: Space
    history: History

    @cached_property
    def standing(self) -> dict[int, float]:
        """The share of the others each trial is ahead of, 0..1, by number."""
        return standings(self.space, self.history)

    @cached_property
    def importance(self) -> Importance | None:
        """What decides standing; a forest takes a second or two."""
        return importance(self.space, self.history)

    @cached_property
    def told(self) -> list[tuple[Trial, str, Pen]]:
        """The trials told from all others, with their names and looks: the best, and the thesis' values."""
        best, thesis = race.best(self.space.search, self.history), self.history.trials.get(REFERENCE)
        thesis = None if self.space.rows or thesis is None or not thesis.rung else thesis
        both = ((best, "best", LEAD), (None if thesis is best else thesis, "the thesis' values", THESIS))
        return [(t, f"{name}, #{t.number} ({self.value(t, t.rung):.3f})", pen) for t, name, pen in both if t]

    def value(self, trial: Trial, rung: int) -> float:
        """Return a trial's objective at a rung."""
        return trial.at(rung, self.space.search.objective)

    def said(self, trial: Trial, rung: int = 0) -> str:
        """Return what a mark says of its trial, and of its value at a rung."""
        value = f", {self.value(trial, rung):.4f} after {rung}" if rung else ""
        return f"#{trial.number}{value}: {configuration(self.space, trial.settings)}"

    def objective(self, values: Iterable[float]) -> tuple[Axis, str]:
        """Return the axis of the objective: far too bad ones do not press the rest together; and how many those are."""
        known = np.array([v for v in values if math.isfinite(v)] or [0.0, 1.0])
        low, high = np.quantile(known, (0.25, 0.75))
        far = FAR * (high - low)
        near = known[known >= low - far] if self.space.search.maximize else known[known <= high + far]
        beyond = f" {len(known) - len(near):,} at the edge lie beyond it." if len(near) < len(known) else ""
        return fitted(SPOKEN[self.space.search.objective], near.tolist()), beyond
