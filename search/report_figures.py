"""Charts of the search itself: what it cost and found, how trials fared from rung to rung, where the sampler looked.

Marks differ in shape as well as in colour, and each chart says in words what it shows.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go

from fgmodel.explain import BLUE, GREEN, GREY, VERMILION
from search.asha import REFERENCE, Ladder
from search.history import History, Trial
from search.importance import Effect, Importance
from search.parameter import Parameter
from search.report_page import HEIGHT, SMALL, SYMBOLS, Chart, figure, plain
from search.screen import SHORT
from search.space import Space
from search.verdict import SPOKEN, configuration, number

MOST = 1_000        # marks of a small chart, lines of a large one: a browser stays quick
COLOURS = (GREY, BLUE, GREEN, VERMILION)


def label(name: str) -> str:
    """Return a setting's sign and name for an axis."""
    return plain(f"{SHORT[name]} ({name})" if name in SHORT else name)


def history_chart(space: Space, history: History) -> Chart:
    """Return every rung that a trial finished against the epochs trained so far, with the leader's value as a line."""
    objective = space.search.objective
    reports = sorted(
        (at, trial.number, epoch) for trial in history.candidates for epoch, at in trial.reported.items()
    )
    spent = {(number, epoch): k for k, (_, number, epoch) in enumerate(reports, start=1)}
    drawn = figure("epochs trained so far, all trials together", plain(SPOKEN[objective]))
    for place, rung in enumerate(space.search.rungs):
        done = [t for t in history.candidates if t.rung >= rung and rung in t.reports]
        drawn.add_scatter(
            x=[spent[t.number, rung] for t in done], y=[t.at(rung, objective) for t in done], mode="markers",
            name=f"after {rung} epoch{'s' if rung > 1 else ''}", text=[hover(space, t) for t in done],
            hoverinfo="text+y", marker=mark(place, len(space.search.rungs), size=8),
        )
    steps = _leaders(space, history, [(number, epoch) for _, number, epoch in reports], spent)
    drawn.add_scatter(
        x=[x for x, _ in steps], y=[y for _, y in steps], mode="lines", name="leader so far",
        line={"shape": "hv", "color": VERMILION, "width": 2}, hoverinfo="x+y",
    )
    end = f" The leader's value ends at {steps[-1][1]:.3f}." if steps else ""
    said = (
        f"{len(reports):,} epochs of {len(history.candidates):,} trials. A mark is a trial at a rung, its shape the rung; "
        f"the line is the value of the trial that led, by highest rung first, at each moment.{end}"
    )
    return Chart("Value found against cost", said, drawn)


def rungs_chart(space: Space, history: History) -> Chart:
    """Return the trials' values from rung to rung, the best and the reference told apart."""
    objective, rungs = space.search.objective, space.search.rungs
    drawn = figure("rung (epochs trained)", plain(SPOKEN[objective]))
    places, best = list(range(len(rungs))), Ladder(space.search).leader(history)
    others = _thinned([t for t in history.candidates if t.rung and t is not best and t.number != REFERENCE], MOST)
    xs, ys, texts = _joined([(places, _at_rungs(t, rungs, objective), [hover(space, t)] * len(rungs)) for t in others])
    drawn.add_scatter(
        x=xs, y=ys, text=texts, hoverinfo="text+y", mode="lines+markers", name="other trials", opacity=0.6,
        line={"color": GREY, "width": 1}, marker={"color": GREY, "size": 4},
    )
    told = ((history.trials.get(REFERENCE), "the thesis' values, #0", BLUE, "dash", "square"),
            (best, f"best, #{best.number}" if best else "", VERMILION, "solid", "diamond"))
    for trial, name, colour, dash, symbol in told:
        if trial is None or not trial.rung or (trial is best and symbol == "square") or (space.rows and trial is not best):
            continue
        drawn.add_scatter(
            x=places, y=_at_rungs(trial, rungs, objective), name=name, mode="lines+markers", text=[hover(space, trial)] * 9,
            hoverinfo="text+y", line={"color": colour, "width": 3, "dash": dash}, marker={"symbol": symbol, "size": 10},
        )
    drawn.update_xaxes(tickvals=places, ticktext=[str(r) for r in rungs])
    counts = ", ".join(f"{sum(t.rung >= r for t in history.candidates):,} finished rung {r}" for r in rungs)
    return Chart("From rung to rung", f"Each line is a trial, as far as it came: {counts}.", drawn)


def parallel_chart(space: Space, history: History, standing: dict[int, float]) -> Chart:
    """Return every trial as a line over its settings and its standing, in three groups."""
    groups = (("lower half", 0.0, GREY, "dot", 1, 0.45), ("upper half", 0.5, BLUE, "dash", 1, 0.7),
              ("best tenth", 0.9, VERMILION, "solid", 2, 1.0))
    columns = [*space.tune]
    drawn = figure("", "", HEIGHT + 40)
    for (name, low, colour, dash, width, opacity), above in zip(groups, (0.5, 0.9, 2.0), strict=True):
        trials = [history.trials[k] for k, s in standing.items() if low <= s < above]
        shown = _thinned(trials, MOST // 3)
        lines = []
        for trial in shown:
            here = [_place(p, trial.settings.get(p.name)) for p in columns] + [standing[trial.number]]
            lines.append((range(len(here)), here, [hover(space, trial)] * len(here)))
        xs, ys, texts = _joined(lines)
        drawn.add_scatter(
            x=xs, y=ys, text=texts, hoverinfo="text", name=f"{name} ({len(trials):,} trials)", mode="lines+markers",
            line={"color": colour, "width": width, "dash": dash}, marker={"size": 4, "color": colour}, opacity=opacity,
        )
    _draw_scales(drawn, columns)
    names = ", ".join(plain(SHORT.get(p.name, p.name)) for p in columns)
    said = (
        f"A line is a trial, an axis a setting ({names}) from low to high; the last axis is its standing, the share of "
        "trials it is ahead of. Where the solid lines bundle, good trials agree; a line with a gap does not have that setting."
    )
    return Chart("Settings of all trials, side by side", said, drawn, wide=110 * (len(columns) + 1))


def sampler_chart(space: Space, history: History, parameter: Parameter) -> Chart:
    """Return one setting's values in the order they were asked for, by who asked."""
    trials = [t for t in history.candidates if parameter.name in t.settings]
    drawn = figure("trial", label(parameter.name), SMALL, showlegend=True)
    _scale(drawn, "yaxis", parameter)
    for place, by in enumerate(dict.fromkeys(t.by for t in trials)):
        asked = _thinned([t for t in trials if t.by == by], MOST)
        drawn.add_scatter(
            x=[t.number for t in asked], y=[_shown(parameter, t) for t in asked], mode="markers", name=plain(by),
            text=[hover(space, t) for t in asked], hoverinfo="text",
            marker={"symbol": SYMBOLS[place % len(SYMBOLS)], "color": (VERMILION, BLUE, GREEN)[place % 3], "size": 6},
        )
    late = trials[len(trials) // 2:]
    return Chart(label(parameter.name), f"Values by trial. {_concentration(parameter, late)}", drawn)


def effect_chart(space: Space, history: History, standing: dict[int, float], effect: Effect) -> Chart:
    """Return what one setting does to standing: the forest's curve over the trials themselves."""
    parameter = effect.parameter
    trials = [history.trials[k] for k in standing if parameter.name in history.trials[k].settings]
    shown = _thinned(trials, MOST)
    drawn = figure(label(parameter.name), "standing (% beaten)", SMALL, showlegend=False)
    _scale(drawn, "xaxis", parameter)
    drawn.update_yaxes(range=[-4, 104])
    drawn.add_scatter(
        x=[_shown(parameter, t) for t in shown], y=[100 * standing[t.number] for t in shown], mode="markers",
        text=[hover(space, t) for t in shown], hoverinfo="text", marker={"color": GREY, "size": 4, "opacity": 0.6},
    )
    values = [plain(number(v)) for v in effect.values] if parameter.choices else effect.values
    for edge, fill in ((effect.low, None), (effect.high, "tonexty")):
        drawn.add_scatter(
            x=values, y=100 * edge, mode="lines", line={"width": 0}, fill=fill, fillcolor="rgba(0,114,178,0.25)",
            hoverinfo="skip",
        )
    drawn.add_scatter(x=values, y=100 * effect.mean, mode="lines+markers", line={"color": BLUE, "width": 3}, hoverinfo="x+y")
    low, high = int(effect.mean.argmin()), int(effect.mean.argmax())
    said = (
        f"Best near {number(effect.values[high])} (standing {100 * effect.mean[high]:.0f} %), worst near "
        f"{number(effect.values[low])} ({100 * effect.mean[low]:.0f} %), the other settings averaged out."
    )
    return Chart(label(parameter.name), said, drawn)


def importance_chart(found: Importance) -> Chart:
    """Return the share of the variance of standing that each setting explains."""
    names = [label(e.parameter.name) for e in reversed(found.effects)]
    drawn = figure("share of the variance of standing (%)", "", 90 + 42 * len(names), barmode="group", bargap=0.3)
    kinds = (("with others", [e.total for e in reversed(found.effects)], "/", GREY),
             ("alone", [e.alone for e in reversed(found.effects)], "", BLUE))
    for name, shares, pattern, colour in kinds:
        drawn.add_bar(
            y=names, x=[100 * s for s in shares], name=name, orientation="h", hoverinfo="x+name",
            marker={"color": colour, "pattern": {"shape": pattern, "fgcolor": colour, "bgcolor": "rgba(0,0,0,0)"}},
        )
    drawn.update_layout(legend_traceorder="reversed")
    told = "; ".join(f"{e.parameter.name} {100 * e.alone:.0f} % alone, {100 * e.total:.0f} % with others" for e in found.effects)
    return Chart("Importance of each setting", f"{told}.", drawn)


def hover(space: Space, trial: Trial) -> str:
    """Return what a mark says of its trial."""
    return plain(f"#{trial.number}: {configuration(space, trial.settings)}")


def mark(place: int, of: int, size: int) -> dict[str, Any]:
    """Return a rung's mark: the last rung's is the most striking."""
    return {"symbol": SYMBOLS[place % len(SYMBOLS)], "color": COLOURS[-min(of - place, len(COLOURS))], "size": size}


def _leaders(
    space: Space, history: History, order: Sequence[tuple[int, int]], spent: dict[tuple[int, int], int],
) -> list[tuple[int, float]]:
    """Return (epochs spent, value) each time another trial or rung led, and once more at the end."""
    ladder, best, steps = Ladder(space.search), None, []
    for number_, epoch in order:
        trial = history.trials[number_]
        if epoch not in space.search.rungs or trial.rung < epoch or trial.reason:
            continue
        key = (-epoch, ladder.key(trial, epoch))
        if best is None or key < best:
            best = key
            steps.append((spent[number_, epoch], trial.at(epoch, space.search.objective)))
    return [*steps, (len(order), steps[-1][1])] if steps else []


def _at_rungs(trial: Trial, rungs: Sequence[int], objective: str) -> list[float | None]:
    return [trial.at(r, objective) if r <= trial.rung and r in trial.reports else None for r in rungs]


def _joined(lines: Sequence[tuple[Sequence[float], Sequence[float | None], Sequence[str]]]) -> tuple[list[Any], ...]:
    """Return many lines as one with gaps: a browser draws one trace of a thousand lines, not a thousand traces."""
    xs: list[Any] = []
    ys: list[Any] = []
    texts: list[Any] = []
    for x, y, text in lines:
        xs += [*x, None]
        ys += [*y, None]
        texts += [*text, ""]
    return xs, ys, texts


def _thinned(trials: list[Trial], most: int) -> list[Trial]:
    """Return at most so many trials, evenly from first to last."""
    return trials if len(trials) <= most else [trials[k] for k in np.linspace(0, len(trials) - 1, most).astype(int)]


def _scale(drawn: go.Figure, axis: str, parameter: Parameter) -> None:
    if parameter.choices:
        drawn.update_layout({axis: {"type": "category", "categoryarray": [plain(number(c)) for c in parameter.choices]}})
    elif parameter.log:
        drawn.update_layout({axis: {"type": "log", "dtick": 1}})


def _shown(parameter: Parameter, trial: Trial) -> Any:  # noqa: ANN401 any setting
    value = trial.settings[parameter.name]
    return plain(number(value)) if parameter.choices else value


def _place(parameter: Parameter, value: Any) -> float | None:  # noqa: ANN401 any setting
    """Return where a value lies on its axis, 0..1; the reference may lie outside."""
    if value is None and None not in parameter.choices:
        return None
    if parameter.choices:
        return parameter.choices.index(value) / max(1, len(parameter.choices) - 1) if value in parameter.choices else None
    low, high, at = parameter.low, parameter.high, value
    if parameter.log:
        low, high, at = math.log(low), math.log(high), math.log(max(value, 1e-300))
    return min(1.06, max(-0.06, (at - low) / (high - low)))


def _draw_scales(drawn: go.Figure, columns: Sequence[Parameter]) -> None:
    """Draw an upright axis a setting, and the last one of standing, with their ends and middles."""
    for place in range(len(columns) + 1):
        drawn.add_shape(type="line", x0=place, x1=place, y0=0, y1=1, line={"color": GREY, "width": 1}, layer="below")
    for place, parameter in enumerate(columns):
        for at, text in _ticks(parameter):
            drawn.add_annotation(x=place, y=at, text=plain(text), showarrow=False, xanchor="right", xshift=-4, font={"size": 11})
    for at in (0.0, 0.5, 1.0):
        drawn.add_annotation(x=len(columns), y=at, text=f"{100 * at:.0f} %", showarrow=False, xanchor="left", xshift=6, font={"size": 11})
    names = [plain(SHORT.get(p.name, p.name.partition(".")[2] or p.name)) for p in columns]
    drawn.update_xaxes(
        tickvals=list(range(len(columns) + 1)), ticktext=[*names, "standing"], showgrid=False, zeroline=False,
        range=[-0.45, len(columns) + 0.45], side="bottom", title=None,
    )
    drawn.update_yaxes(visible=False, range=[-0.1, 1.1])


def _ticks(parameter: Parameter) -> list[tuple[float, str]]:
    if parameter.choices:
        last = max(1, len(parameter.choices) - 1)
        return [(k / last, number(choice)) for k, choice in enumerate(parameter.choices)]
    low, high = parameter.low, parameter.high
    middle = math.sqrt(low * high) if parameter.log else (low + high) / 2
    return [(0.0, number(low)), (0.5, number(float(middle))), (1.0, number(high))]


def _concentration(parameter: Parameter, trials: Sequence[Trial]) -> str:
    values = [t.settings[parameter.name] for t in trials]
    if not values:
        return ""
    if parameter.choices:
        most = max(parameter.choices, key=values.count)
        return f"In the second half of the search {number(most)} was asked for most, {values.count(most)} of {len(values)} times."
    low, high = np.quantile(np.array(values, float), (0.25, 0.75))
    return f"The middle half of the values asked for in the second half of the search: {low:.3g} to {high:.3g}."

