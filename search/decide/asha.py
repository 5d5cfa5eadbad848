"""ASHA with promotion (Li et al. 2020, Algorithm 2): which trial deserves more epochs, read off the history.

`get_job` of the paper: the best of a rung goes on to the next as soon as its place is sure enough; otherwise a new
configuration starts at the first rung. Two additions, both for the user who reads the result: the reference (trial 0)
always runs to the last rung, so a search is compared with the thesis' values at equal epochs; and once no trial can
arrive at a rung any more, its places are rounded up, so that some trial always reaches the last one.
"""

import math
from dataclasses import dataclass
from itertools import pairwise

from search.record.history import History, Trial
from search.space.space import Plan

REFERENCE = 0


@dataclass(frozen=True)
class Promotion:
    """Take `trial` from `rung` to `to` epochs."""

    trial: int
    rung: int
    to: int


@dataclass(frozen=True)
class Ladder:
    """The rungs of a search and the rule that climbs them."""

    search: Plan

    def rank(self, history: History, rung: int) -> list[Trial]:
        """Return the trials that finished `rung`, best first; a tie goes to the lower val/nll, then to the elder."""
        return sorted((t for t in history.candidates if t.rung >= rung), key=lambda t: self.key(t, rung))

    def key(self, trial: Trial, rung: int) -> tuple[float, float, int]:
        """Return what trials are sorted by at `rung`: smaller is better."""
        value = trial.at(rung, self.search.objective)
        return (-value if self.search.maximize else value), trial.at(rung, "val/nll"), trial.number

    def next(self, history: History) -> Promotion | None:
        """Return the promotion that is due, the highest rung first; None when a new trial should start."""
        due = None
        settled = len(history.candidates) >= self.search.trials  # no further trial can arrive at the rung
        for rung, to in pairwise(self.search.rungs):
            settled = settled and not any(job.to <= rung for job in history.live.values())
            if climber := self._climber(history, rung, settled=settled):
                due, settled = Promotion(climber.number, rung, to), False
        return due

    def stops(self, history: History, trial: Trial) -> bool:
        """Say whether the stopping kind gives up on `trial` at the rung it just finished, against those before it."""
        if self.search.promote or trial.number == REFERENCE or trial.rung >= self.search.epochs:
            return False
        ranked = [t.number for t in self.rank(history, trial.rung)]
        return ranked.index(trial.number) >= math.ceil(len(ranked) / self.search.reduction)

    def leader(self, history: History) -> Trial | None:
        """Return the best trial of the highest rung that any has finished without failing later."""
        for rung in reversed(self.search.rungs):
            for trial in self.rank(history, rung):
                if not trial.reason:
                    return trial
        return None

    def _climber(self, history: History, rung: int, *, settled: bool) -> Trial | None:
        ranked = self.rank(history, rung)
        share = len(ranked) / self.search.reduction
        places = math.ceil(share) if settled else math.floor(share)
        winners = ranked[:places] if self.search.promote else ranked
        climbers = [t for t in winners if _may_climb(t, rung)]
        reference = history.trials.get(REFERENCE)
        if not climbers and reference and _may_climb(reference, rung):
            return reference
        return climbers[0] if climbers else None


def _may_climb(trial: Trial, rung: int) -> bool:
    return trial.rung == rung == trial.promoted and not trial.stopped and not trial.reason
