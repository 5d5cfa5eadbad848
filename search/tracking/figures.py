"""A search's figures as MLflow's page of it shows them: small pictures, drawn as it goes.

`search.report.plots` has the charts to look into. Colours and marks tell the same thing twice.
"""

from collections.abc import Iterator, Sequence
from itertools import accumulate
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter

from fgmodel.palette import BLUE, GREEN, GREY, VERMILION
from search.decide import race
from search.decide.asha import REFERENCE, Ladder
from search.record.history import History, Trial
from search.show.screen import SHORT, ranked
from search.show.verdict import SPOKEN
from search.space.parameter import Parameter
from search.space.space import Space

MARKS = (("o", GREY), ("s", GREEN), ("^", VERMILION), ("D", BLUE))   # of the rungs; the last rung's is the last
LINES = 300          # trials that are drawn as lines of their own
BEST = 5
OUTSIDE = 0.08       # beyond an axis' end: where the reference is drawn that lies outside the ranges
WIDTH = 7.2          # inches of 100 pixels: what MLflow's page has room for


def figures(space: Space, history: History) -> Iterator[tuple[str, Figure]]:
    """Yield the figures of `search.tracking.pages.FIGURES` by name, those there is something to draw of."""
    if not any(t.rung for t in history.candidates):
        return
    yield "history", history_figure(space, history)
    if len(space.search.rungs) > 1:
        yield "rungs", rungs_figure(space, history)
    if space.tune:
        yield "parallel", parallel_figure(space, history)
        if history.finished and (importance := importance_figure(space, history)):  # a forest takes a second or two
            yield "importance", importance


def history_figure(space: Space, history: History) -> Figure:
    """Return every rung that a trial finished against the epochs spent until then, and the best at the last rung."""
    search, moments = space.search, _moments(history)
    figure, axes = _new()
    for place, (rung, (mark, colour)) in enumerate(zip(search.rungs, _marks(len(search.rungs)), strict=True)):
        done = [t for t in history.candidates if t.rung >= rung and rung in t.reports]
        spent = [moments[t.number, rung] for t in done]
        values = [t.at(rung, search.objective) for t in done]
        axes.plot(spent, values, mark, color=colour, markersize=4 + place, alpha=0.75, label=f"after {_epochs(rung)}")
        if rung == search.epochs and done:
            order = np.argsort(spent)
            best = list(accumulate([values[i] for i in order], max if search.maximize else min))
            axes.step(np.sort(spent), best, where="post", color=BLUE, linewidth=1, label="best at the last rung")
    axes.set(xlabel="epochs spent by all trials", ylabel=SPOKEN[search.objective])
    axes.legend(frameon=False, fontsize="small")
    return figure


def rungs_figure(space: Space, history: History) -> Figure:
    """Return the trials' values from rung to rung; the best and the thesis' values stand out."""
    search, best = space.search, race.best(space.search, history)
    figure, axes = _new()
    placed = Ladder(search).rank(history, search.rungs[0])
    for trial in (*placed[:LINES], *(t for t in placed[LINES:] if t is best or t.number == REFERENCE)):
        rungs = [r for r in search.rungs if r in trial.reports and r <= trial.rung]
        axes.plot(rungs, [trial.at(r, search.objective) for r in rungs], **_line_of(trial, best))
    axes.set_xscale("log")
    axes.set_xticks(search.rungs, [str(r) for r in search.rungs])
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set(xlabel="rung (epochs)", ylabel=SPOKEN[search.objective])
    axes.legend(frameon=False, fontsize="small")
    return figure


def parallel_figure(space: Space, history: History) -> Figure:
    """Return each trial as a line over its settings and its place among all, the best few told from the rest."""
    trials = ranked(space, history)
    places, best, rest = {t.number: k for k, t in enumerate(trials)}, trials[:BEST], trials[BEST:]
    columns = [*space.tune]
    figure, axes = _new()
    for order, trial in enumerate((*rest[:: max(1, len(rest) // LINES)], *reversed(best))):
        place = places[trial.number]
        first, chosen = place == 0, place < BEST
        heights = [*(_height(p, trial) for p in columns), 1 - place / max(1, len(trials) - 1)]
        axes.plot(
            range(len(heights)), heights, marker="o" if first else "s" if chosen else None, markersize=4,
            color=BLUE if first else VERMILION if chosen else GREY, linewidth=2 if first else 1.2 if chosen else 0.6,
            linestyle="-" if first or not chosen else "--", alpha=1 if chosen else 0.4, zorder=2 + order,
            label=f"first, #{trial.number}" if first else f"next {len(best) - 1}" if place == 1 else None,
        )
    for place, parameter in enumerate(columns):
        _draw_scale(axes, place, parameter)
    axes.set_xticks(range(len(columns) + 1), [*(SHORT.get(p.name, p.name) for p in columns), "place"])
    _draw_ends(axes, len(columns), "best", "last")
    axes.tick_params(length=0)
    axes.set(ylim=(-0.12, 1.12), yticks=[])
    axes.spines[:].set_visible(False)
    axes.legend(frameon=False, fontsize="small", loc="lower center", bbox_to_anchor=(0.5, 1), ncols=2)
    return figure


def importance_figure(space: Space, history: History) -> Figure | None:
    """Return which settings decide the trials' places; None where too few trials can tell."""
    from search.show.importance import importance  # noqa: PLC0415  scikit-learn takes a second to import

    found = importance(space, history)
    if found is None:
        return None
    effects = found.effects[::-1]
    figure, axes = _new(height=0.9 + 0.36 * len(effects))
    names = [SHORT.get(e.parameter.name, e.parameter.name) for e in effects]
    axes.barh(names, [100 * e.total for e in effects], color="white", edgecolor=GREY, hatch="///", label="with others")
    axes.barh(names, [100 * e.alone for e in effects], color=BLUE, height=0.5, label="alone")
    axes.set_xlabel(f"share of the variance of places among {found.trials} trials (%); R² {found.explained:.2f}")
    axes.set_xlim(0, 100)
    axes.legend(frameon=False, fontsize="small", loc="lower right")
    return figure


def _new(height: float = 3.5) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(WIDTH, height), dpi=100, layout="constrained")
    FigureCanvasAgg(figure)   # not pyplot: it keeps every figure
    axes = figure.subplots()
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _marks(count: int) -> Sequence[tuple[str, str]]:
    return [MARKS[min(len(MARKS) - 1, max(0, len(MARKS) - count + place))] for place in range(count)]


def _moments(history: History) -> dict[tuple[int, int], int]:
    """Return by trial and epoch how many epochs all trials had been given by then."""
    times = sorted((at, t.number, epoch) for t in history.trials.values() for epoch, at in t.reported.items())
    return {(trial, epoch): count for count, (_, trial, epoch) in enumerate(times, start=1)}


def _line_of(trial: Trial, best: Trial | None) -> dict[str, Any]:
    if trial is best:
        return {"color": BLUE, "marker": "o", "linewidth": 2, "zorder": 4, "label": f"best, #{trial.number}"}
    if trial.number == REFERENCE:
        dashed = {"color": VERMILION, "marker": "s", "linestyle": "--", "linewidth": 1.5}
        return {**dashed, "zorder": 3, "label": "the thesis' values, #0"}
    return {"color": GREY, "marker": ".", "linewidth": 0.6, "alpha": 0.5}


def _height(parameter: Parameter, trial: Trial) -> float:
    """Return where a trial's setting lies on its axis, 0..1; NaN where it has none."""
    value = trial.settings.get(parameter.name)
    if value is None:
        return float("nan")
    if parameter.choices:
        last = max(1, len(parameter.choices) - 1)
        return parameter.choices.index(value) / last if value in parameter.choices else -OUTSIDE
    given = np.array([parameter.low, parameter.high, value], float)
    low, high, here = np.log(given.clip(1e-300)) if parameter.log else given
    return float(np.clip((here - low) / (high - low), -OUTSIDE, 1 + OUTSIDE)) if high > low else 0.5


def _draw_scale(axes: Axes, place: int, parameter: Parameter) -> None:
    ends = (parameter.choices[-1], parameter.choices[0]) if parameter.choices else (parameter.high, parameter.low)
    _draw_ends(axes, place, *(f"{e:.3g}" if isinstance(e, float) else str(e) for e in ends))


def _draw_ends(axes: Axes, place: int, top: str, bottom: str) -> None:
    axes.axvline(place, ymin=0.12 / 1.24, ymax=1.12 / 1.24, color="black", linewidth=0.8)
    axes.text(place, 1.02, top, ha="center", va="bottom", fontsize="small")
    axes.text(place, -0.02, bottom, ha="center", va="top", fontsize="small")


def _epochs(count: int) -> str:
    return f"{count} epoch{'s' if count > 1 else ''}"
