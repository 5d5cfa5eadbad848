"""Tables of a report: finalists, settings, rungs, failures, time and cost."""

import math
from collections import Counter
from collections.abc import Sequence
from datetime import timedelta
from itertools import pairwise

import numpy as np

from fgmodel.analysis.intervals import rank_correlation_interval
from fgmodel.config import DEFAULTS
from search.decide.forecast import spoken
from search.record.history import History, Trial
from search.record.journal import Fact, Launched, Lost, OpenedTest
from search.report.page import Grid
from search.show.importance import Importance, importance_at
from search.show.names import SPOKEN, configuration, label, number
from search.show.standing import ranked
from search.show.verdict import Verdict, between, chances
from search.space.space import Space

ROWS, BEST = 25, 10       # of tables that could go on
FEWEST, MOST = 5, 2_000   # trials of a rank correlation
MEASURES = ("val/accuracy", "val/accuracy_global", "val/accuracy_local", "val/nll", "test/accuracy")


def finalists_table(space: Space, verdict: Verdict) -> Grid:
    """Return the race: each finalist's mean over seeds, with intervals, and how it compares with the winner."""
    rows = []
    for raced in verdict.race:
        interval = "–" if math.isnan(raced.mean.low) else between(raced.mean)
        behind = "–" if raced.behind is None else f"{raced.behind.mean:.3f} ({between(raced.behind)})"
        values = ", ".join("failed" if math.isnan(v) else f"{v:.3f}" for v in raced.finalist.values)
        odds = "winner" if raced.behind is None else chances(raced.odds)
        rows.append([f"#{raced.finalist.trial.number}", f"{raced.mean.mean:.3f}", interval, values, behind, odds])
    head = ["trial", "mean", "95 % interval", "each seed", "behind the winner (95 %)", "odds that the winner is better"]
    note = (
        "Trained again over fresh seeds, each with a validation cut that the finalists share; intervals are Student's, "
        "differences seed by seed. The runs of the search itself do not count here: they were chosen for their values."
    )
    return Grid(f"The race of the finalists: {SPOKEN[space.search.objective]}", head, rows, note)


def settings_table(space: Space, trial: Trial) -> Grid:
    """Return the best configuration: each tuned setting beside the thesis' value and the range it was looked for in."""
    rows = []
    for p in space.tune:
        given = trial.settings.get(p.name)
        if p.choices:
            where = ", ".join(map(number, p.choices))
        else:
            where = f"{number(p.low)} to {number(p.high)}{', logarithmic' if p.log else ''}"
        value = number(given) if p.name in trial.settings else "not used"
        rows.append([label(p.name), value, number(DEFAULTS[p.name]), where])
    if space.rows:
        rows = [[name, number(value), number(DEFAULTS[name]), "–"] for name, value in trial.settings.items()]
    return Grid(f"Configuration of trial #{trial.number}", ["setting", "best", "thesis", "looked for in"], rows)


def best_table(space: Space, history: History) -> Grid:
    """Return the trials that came furthest, the best first."""
    shown = ranked(space, history)[:BEST]
    measures = [m for m in MEASURES if any(m in t.reports.get(t.rung, {}) for t in shown)]
    rows = []
    for t in shown:
        values = [f"{t.at(t.rung, measure):.3f}" for measure in measures]
        rows.append([f"#{t.number}", str(t.rung), *values, t.by, configuration(space, t.settings)])
    return Grid("The trials that came furthest", ["trial", "epochs", *measures, "asked by", "settings"], rows)


def rungs_table(space: Space, history: History) -> Grid:
    """Return each rung's trials and values, and how well its order foretells the next's and the last's."""
    objective, rungs = space.search.objective, space.search.rungs
    rows = []
    for place, rung in enumerate(rungs):
        there = [t for t in history.candidates if t.rung >= rung]
        values = np.array([t.at(rung, objective) for t in there])
        known = values[~np.isnan(values)]
        best = (known.max() if space.search.maximize else known.min()) if len(known) else math.nan
        middle = float(np.median(known)) if len(known) else math.nan
        onward = _correlation(there, rung, rungs[place + 1], objective) if place + 1 < len(rungs) else "–"
        to_last = _correlation(there, rung, rungs[-1], objective) if place + 2 < len(rungs) else "–"
        rows.append([str(rung), f"{len(there):,}", number(float(best)), number(middle), onward, to_last])
    head = ["rung (epochs)", "trials", "best", "median", "rank correlation with the next rung", "… with the last"]
    note = (
        "Spearman's ρ over the trials that finished both, with its 95 % interval by resampling trials: near 1, the "
        "early order is the later one and stopping early loses little. Only promoted trials count: those were alike "
        "already, so ρ over all of them would be higher."
    )
    return Grid("Rungs", head, rows, note)


def shares_table(space: Space, history: History, found: Importance) -> Grid:
    """Return each setting's importance for standing, and for the objective at each rung of enough trials."""
    at = {rung: told for rung in space.search.rungs if (told := importance_at(space, history, rung))}
    counts = {rung: sum(t.rung >= rung for t in history.candidates) for rung in at}
    head = ["setting", "standing, alone", "… with others", *(f"rung {r}, alone ({counts[r]:,} trials)" for r in at)]
    rows = []
    for e in found.effects:
        shares = [f"{of_rung[e.parameter.name]:.0%}" for of_rung in at.values()]
        rows.append([e.parameter.name, f"{e.alone:.0%}", f"{e.total:.0%}", *shares])
    note = "By rung: of the variance of the value after so many epochs; beyond the first rung, of promoted trials only."
    return Grid("Shares of the variance", head, rows, note if at else "")


def failures_table(space: Space, history: History, facts: Sequence[Fact]) -> Grid | None:
    """Return the failed trials with their reasons, and the workers that vanished; None where all went well."""
    failed = [t for t in history.trials.values() if t.reason]
    lost = Counter(f.trial for f in facts if isinstance(f, Lost))
    if not failed and not lost:
        return None
    words = {"divergence": "diverged", "error": "an error", "lost": "its workers vanished"}
    rows = [
        [f"#{t.number}", words[t.reason or "error"], str(t.epoch), t.failure or "", configuration(space, t.settings)]
        for t in failed
    ]
    survived = [history.trials[k] for k in lost if not history.trials[k].reason]
    for t in survived:
        times = "once" if lost[t.number] == 1 else f"{lost[t.number]} times"
        why = f"lost its worker {times} and was given to another"
        rows.append([f"#{t.number}", "went on", str(t.epoch), why, configuration(space, t.settings)])
    more = len(rows) - ROWS
    note = f"And {more:,} more; all are in the journal." if more > 0 else ""
    return Grid("Failed trials and why", ["trial", "what", "epochs done", "why", "settings"], rows[:ROWS], note)


def cost_table(space: Space, history: History, facts: Sequence[Fact]) -> Grid:
    """Return what the search took, and what it saved against training every trial to the end."""
    trials, last = list(history.trials.values()), space.search.epochs
    epochs, seconds = sum(len(t.reports) for t in trials), sum(t.seconds for t in trials)
    states: dict[str, float] = {}
    for t in trials:
        state = "repeats of finalists" if t.repeats is not None else f"{history.state(t, last)} trials"
        states[state] = states.get(state, 0.0) + t.seconds
    full = last * len(history.candidates)
    searched = sum(len(t.reports) for t in history.candidates)
    resources = space.search.resources
    rows = [
        ["time on the clock", spoken(elapsed(facts))],
        ["training, all workers together", spoken(seconds)],
        ["workers", f"{space.search.workers}, each with {number(resources.cpu)} CPU and {number(resources.gpu)} GPU"],
        ["epochs trained", f"{epochs:,}, {number(seconds / epochs if epochs else math.nan)} s each"],
        ["epochs saved by stopping early", f"{full - searched:,} of {full:,} ({(full - searched) / max(1, full):.0%})"],
        *([f"training spent on {state}", f"{spoken(s)} ({s / seconds:.0%})"] for state, s in states.items() if seconds),
        ["launches", f"{sum(isinstance(f, Launched) for f in facts)}"],
    ]
    return Grid("Time and cost", ["what", "how much"], rows)


def elapsed(facts: Sequence[Fact]) -> float:
    """Return the seconds in which the search ran: from each launch to its last fact; a retrain's are none of its."""
    its = (fact for fact in facts if not isinstance(fact, OpenedTest))
    spans = (b.at - a.at for a, b in pairwise(its) if not isinstance(b, Launched))
    return sum(spans, timedelta()).total_seconds()


def _correlation(trials: Sequence[Trial], rung: int, other: int, objective: str) -> str:
    both = np.array([[t.at(rung, objective), t.at(other, objective)] for t in trials if t.rung >= other])
    if len(both) < FEWEST:
        return f"– ({len(both)} trials: too few)"
    both = both[np.linspace(0, len(both) - 1, min(len(both), MOST)).astype(int)]
    found = rank_correlation_interval(both[:, :1], both[:, 1:])
    if np.isnan(found.mean):
        return f"– ({len(both)} trials, all alike)"
    return f"{found.mean:.2f} ({between(found, 2)}; {len(both)} trials)"
