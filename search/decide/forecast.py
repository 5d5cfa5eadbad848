"""How much work a search is and how long it will take."""

import math
from itertools import pairwise

from search.record.history import History
from search.space.space import Plan


def expected_epochs(search: Plan) -> int:
    """Return the epochs ASHA will train when every rung keeps its share, the reference's full run included."""
    total, there = search.trials * search.rungs[0], search.trials
    for rung, to in pairwise(search.rungs):
        there = math.ceil(there / search.reduction)
        total += there * (to - rung)
    return total + min(there, search.finalists) * search.seeds * search.epochs


def seconds_left(search: Plan, history: History) -> float | None:
    """Return the seconds a search still needs at the pace of its epochs so far; None before the first."""
    epochs = sum(trial.epoch for trial in history.trials.values())
    seconds = sum(trial.seconds for trial in history.trials.values())
    if not epochs:
        return None
    return _epochs_left(search, history) * seconds / epochs / search.workers


def _epochs_left(search: Plan, history: History) -> float:
    """Return the epochs to come: of running jobs, trials not started, places free at each rung, and repeats."""
    trials = {t.number: t for t in history.candidates}
    running = sum(max(0, job.to - history.trials[job.trial].epoch) for job in history.live.values())
    each = (sum(t.epoch for t in trials.values()) + running) / max(1, len(trials))
    climbing = 0
    for rung, to in pairwise(search.rungs):
        there = sum(t.promoted >= rung for t in trials.values())
        gone = sum(t.promoted > rung for t in trials.values())
        climbing += max(0, math.ceil(there / search.reduction) - gone) * (to - rung)
    again = sum(t.repeats is not None for t in history.trials.values())
    repeats = max(0, search.finalists * search.seeds - again) * search.epochs
    return running + climbing + repeats + (search.trials - len(trials)) * each


def spoken(seconds: float) -> str:
    """Return a duration as people say it: '40 s', '2 min 5 s', '3 h 10 min'."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
