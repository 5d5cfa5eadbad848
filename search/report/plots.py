"""Charts of the search itself: what it cost and found, and how trials fared from rung to rung.

Marks differ in shape as well as in colour, and each chart says in words what it shows.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from search.decide.asha import REFERENCE, Ladder
from search.record.history import History, Trial
from search.report.page import BLUE, GREEN, GREY, SYMBOLS, VERMILION, Chart, figure, plain
from search.show.verdict import SPOKEN, configuration
from search.space.space import Space

MOST = 1_000        # marks or lines of a kind: a browser stays quick
COLOURS = (GREY, BLUE, GREEN, VERMILION)


def history_chart(space: Space, history: History) -> Chart:
    """Return every rung that a trial finished against the epochs trained so far, and the best so far as a line."""
    objective, rungs = space.search.objective, space.search.rungs
    reports = sorted((at, t.number, epoch) for t in history.candidates for epoch, at in t.reported.items())
    spent = {(number, epoch): k for k, (_, number, epoch) in enumerate(reports, start=1)}
    drawn = figure("epochs trained so far, all trials together", plain(SPOKEN[objective]))
    for place, rung in enumerate(rungs):
        done = thinned([t for t in history.candidates if t.rung >= rung and rung in t.reports], MOST)
        drawn.add_scatter(
            x=[spent[t.number, rung] for t in done], y=[t.at(rung, objective) for t in done], mode="markers",
            name=f"after {rung} epoch{'s' if rung > 1 else ''}", text=[hover(space, t) for t in done],
            hoverinfo="text+y", marker=_mark(place, len(rungs)),
        )
    steps = _bests(space, history, list(spent))
    drawn.add_scatter(
        x=[x for x, _ in steps], y=[y for _, y in steps], mode="lines", name="best so far",
        line={"shape": "hv", "color": VERMILION, "width": 2}, hoverinfo="x+y",
    )
    end = f": {steps[-1][1]:.3f} in the end" if steps else ""
    said = (
        f"{len(reports):,} epochs of {len(history.candidates):,} trials. A mark is a trial at a rung, its shape the "
        f"rung; the line is the best value so far at any rung{end}."
    )
    return Chart("Value found against cost", said, drawn)


def rungs_chart(space: Space, history: History) -> Chart:
    """Return the trials' values from rung to rung, the best and the reference told apart."""
    objective, rungs = space.search.objective, space.search.rungs
    drawn = figure("rung (epochs trained)", plain(SPOKEN[objective]))
    places, best = list(range(len(rungs))), Ladder(space.search).leader(history)
    reference = None if space.rows else history.trials.get(REFERENCE)
    others = thinned([t for t in history.candidates if t.rung and t is not best and t is not reference], MOST)
    xs, ys, texts = joined([(places, _at_rungs(t, rungs, objective), hover(space, t)) for t in others])
    drawn.add_scatter(
        x=xs, y=ys, text=texts, hoverinfo="text+y", mode="lines+markers", name="other trials", opacity=0.7,
        line={"color": GREY, "width": 1}, marker={"color": GREY, "size": 4},
    )
    told = [(reference, "the thesis' values, #0", BLUE, "dash", "square")] if reference is not best else []
    told += [(best, f"best, #{best.number}", VERMILION, "solid", "diamond")] if best else []
    for trial, name, colour, dash, symbol in told:
        if trial is not None and trial.rung:
            drawn.add_scatter(
                x=places, y=_at_rungs(trial, rungs, objective), name=name, mode="lines+markers", hoverinfo="text+y",
                text=[hover(space, trial)] * len(places), line={"color": colour, "width": 3, "dash": dash},
                marker={"symbol": symbol, "size": 10},
            )
    drawn.update_xaxes(tickvals=places, ticktext=[str(r) for r in rungs])
    counts = ", ".join(f"{sum(t.rung >= r for t in history.candidates):,} finished rung {r}" for r in rungs)
    return Chart("From rung to rung", f"Each line is a trial, as far as it came: {counts}.", drawn)


def hover(space: Space, trial: Trial) -> str:
    """Return what a mark says of its trial."""
    return plain(f"#{trial.number}: {configuration(space, trial.settings)}")


def thinned(trials: list[Trial], most: int) -> list[Trial]:
    """Return at most so many trials, evenly from first to last."""
    return trials if len(trials) <= most else [trials[k] for k in np.linspace(0, len(trials) - 1, most).astype(int)]


def joined(lines: Sequence[tuple[Sequence[float], Sequence[float | None], str]]) -> tuple[list[Any], ...]:
    """Return many lines, each with its text, as one with gaps: a browser draws that quickly, a thousand traces not."""
    xs: list[Any] = []
    ys: list[Any] = []
    texts: list[Any] = []
    for x, y, text in lines:
        xs += [*x, None]
        ys += [*y, None]
        texts += [text] * len(x) + [""]
    return xs, ys, texts


def _mark(place: int, of: int) -> dict[str, Any]:
    """Return a rung's mark: the last rung's is the most striking."""
    return {"symbol": SYMBOLS[place % len(SYMBOLS)], "color": COLOURS[-min(of - place, len(COLOURS))], "size": 8}


def _bests(space: Space, history: History, order: Sequence[tuple[int, int]]) -> list[tuple[int, float]]:
    """Return (epochs spent, value) each time a rung was finished with a better value, and once more at the end."""
    sign, best = 1 if space.search.maximize else -1, -math.inf
    steps: list[tuple[int, float]] = []
    for spent, (number, epoch) in enumerate(order, start=1):
        trial = history.trials[number]
        value = trial.at(epoch, space.search.objective)
        if epoch not in space.search.rungs or trial.rung < epoch or trial.reason or math.isnan(value):
            continue
        if sign * value > best:
            best = sign * value
            steps.append((spent, value))
    return [*steps, (len(order), steps[-1][1])] if steps else []


def _at_rungs(trial: Trial, rungs: Sequence[int], objective: str) -> list[float | None]:
    return [trial.at(r, objective) if r <= trial.rung and r in trial.reports else None for r in rungs]
