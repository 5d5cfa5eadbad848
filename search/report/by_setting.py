"""Charts of what is tuned: combinations, importance, what each setting does to standing, where the sampler looked."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go

from search.record.history import History, Trial
from search.report.page import BLUE, GREEN, GREY, HEIGHT, SMALL, SYMBOLS, VERMILION, Chart, figure, plain
from search.report.plots import MOST, hover, joined, thinned
from search.show.importance import Effect, Importance
from search.show.screen import SHORT
from search.show.verdict import number
from search.space.parameter import Parameter
from search.space.space import Space

ASKED = (VERMILION, BLUE, GREEN)
OUTSIDE = 0.06      # of an axis: how far a value out of its range is drawn beyond the end


def parallel_chart(space: Space, history: History, standing: dict[int, float]) -> Chart:
    """Return every trial as a line over its settings and its standing, in three groups."""
    groups = (
        ("lower half", 0.0, 0.5, {"color": GREY, "dash": "dot", "width": 1}, 0.7),
        ("upper half", 0.5, 0.9, {"color": BLUE, "dash": "dash", "width": 1}, 0.85),
        ("best tenth", 0.9, 2.0, {"color": VERMILION, "dash": "solid", "width": 2}, 1.0),
    )
    drawn, places = figure("", "", HEIGHT + 40), list(range(len(space.tune) + 1))
    for name, low, high, line, opacity in groups:
        trials = [history.trials[k] for k, s in standing.items() if low <= s < high]
        lines = [
            (places, [*(_place(p, t.settings) for p in space.tune), standing[t.number]], hover(space, t))
            for t in thinned(trials, MOST // 3)
        ]
        xs, ys, texts = joined(lines)
        drawn.add_scatter(
            x=xs, y=ys, text=texts, hoverinfo="text", name=f"{name} ({len(trials):,} trials)", mode="lines+markers",
            line=line, marker={"size": 4, "color": line["color"]}, opacity=opacity,
        )
    _draw_scales(drawn, space.tune)
    said = (
        f"A line is a trial, an axis a setting ({', '.join(_sign(p) for p in space.tune)}) from low to high; the last "
        "axis is its standing, the share of trials it is ahead of. Where the solid lines bundle, good trials agree; a "
        "line with a gap does not have that setting."
    )
    return Chart("Settings of all trials, side by side", said, drawn, wide=110 * len(places))


def importance_chart(found: Importance) -> Chart:
    """Return the share of the variance of standing that each setting explains."""
    effects = found.effects[::-1]                                   # plotly draws from below
    drawn = figure("share of the variance of standing (%)", "", 90 + 42 * len(effects), barmode="group", bargap=0.3)
    kinds = (("with others", [e.total for e in effects], GREY, "/"), ("alone", [e.alone for e in effects], BLUE, ""))
    for name, shares, colour, shape in kinds:
        drawn.add_bar(
            y=[label(e.parameter.name) for e in effects], x=[100 * share for share in shares], name=name,
            orientation="h", hoverinfo="x+name",
            marker={"color": colour, "pattern": {"shape": shape, "fgcolor": colour, "bgcolor": "rgba(0,0,0,0)"}},
        )
    drawn.update_layout(legend_traceorder="reversed")
    told = [f"{e.parameter.name} {100 * e.alone:.0f} % alone, {100 * e.total:.0f} % with others" for e in found.effects]
    return Chart("Importance of each setting", f"{'; '.join(told)}.", drawn)


def effect_chart(space: Space, history: History, standing: dict[int, float], effect: Effect) -> Chart:
    """Return what one setting does to standing: the forest's curve over the trials themselves."""
    parameter, mean = effect.parameter, effect.mean
    trials = thinned([history.trials[k] for k in standing if parameter.name in history.trials[k].settings], MOST)
    drawn = figure(label(parameter.name), "standing (% beaten)", SMALL, showlegend=False)
    _scale(drawn, "xaxis", parameter)
    drawn.update_yaxes(range=[-4, 104])
    drawn.add_scatter(
        x=[_shown(parameter, t) for t in trials], y=[100 * standing[t.number] for t in trials], mode="markers",
        text=[hover(space, t) for t in trials], hoverinfo="text", marker={"color": GREY, "size": 4, "opacity": 0.8},
    )
    values = [plain(number(v)) for v in effect.values] if parameter.choices else effect.values
    for edge, fill in ((effect.low, None), (effect.high, "tonexty")):
        drawn.add_scatter(
            x=values, y=100 * edge, mode="lines", line={"width": 0}, fill=fill, fillcolor="rgba(42,134,200,0.3)",
            hoverinfo="skip",
        )
    drawn.add_scatter(x=values, y=100 * mean, mode="lines+markers", line={"color": BLUE, "width": 3}, hoverinfo="x+y")
    low, high = int(mean.argmin()), int(mean.argmax())
    said = (
        f"Best near {number(effect.values[high])} (standing {100 * mean[high]:.0f} %), worst near "
        f"{number(effect.values[low])} ({100 * mean[low]:.0f} %), the other settings averaged out."
    )
    return Chart(label(parameter.name), said, drawn)


def sampler_chart(space: Space, history: History, parameter: Parameter) -> Chart:
    """Return one setting's values in the order they were asked for, by who asked."""
    trials = [t for t in history.candidates if parameter.name in t.settings]
    drawn = figure("trial", label(parameter.name), SMALL, showlegend=True)
    _scale(drawn, "yaxis", parameter)
    for place, by in enumerate(dict.fromkeys(t.by for t in trials)):
        asked = thinned([t for t in trials if t.by == by], MOST)
        drawn.add_scatter(
            x=[t.number for t in asked], y=[_shown(parameter, t) for t in asked], mode="markers", name=plain(by),
            text=[hover(space, t) for t in asked], hoverinfo="text",
            marker={"symbol": SYMBOLS[place % len(SYMBOLS)], "color": ASKED[place % len(ASKED)], "size": 6},
        )
    said = f"Values by trial. {_concentration(parameter, trials[len(trials) // 2:])}"
    return Chart(label(parameter.name), said, drawn)


def label(name: str) -> str:
    """Return a setting's sign and name for an axis."""
    return plain(f"{SHORT[name]} ({name})" if name in SHORT else name)


def _sign(parameter: Parameter) -> str:
    return plain(SHORT.get(parameter.name, parameter.name.rpartition(".")[2]))


def _scale(drawn: go.Figure, axis: str, parameter: Parameter) -> None:
    if parameter.choices:
        order = [plain(number(choice)) for choice in parameter.choices]
        drawn.update_layout({axis: {"type": "category", "categoryarray": order}})
    elif parameter.log:
        drawn.update_layout({axis: {"type": "log", "dtick": 1}})


def _shown(parameter: Parameter, trial: Trial) -> Any:  # noqa: ANN401 any setting
    value = trial.settings[parameter.name]
    return plain(number(value)) if parameter.choices else value


def _place(parameter: Parameter, settings: dict[str, Any]) -> float | None:
    """Return where a trial's value lies on its axis, 0..1; None where it has none or none that is tuned."""
    value = settings.get(parameter.name)
    if parameter.choices:
        there = parameter.name in settings and value in parameter.choices
        return parameter.choices.index(value) / max(1, len(parameter.choices) - 1) if there else None
    if value is None:
        return None
    low, high, at = parameter.low, parameter.high, value
    if parameter.log:
        low, high, at = math.log(low), math.log(high), math.log(max(value, 1e-300))
    return float(min(1 + OUTSIDE, max(-OUTSIDE, (at - low) / (high - low))))


def _draw_scales(drawn: go.Figure, tune: Sequence[Parameter]) -> None:
    """Draw an upright axis a setting, and the last one of standing, with their ends and middles."""
    small = {"showarrow": False, "font": {"size": 11}}
    for place in range(len(tune) + 1):
        drawn.add_shape(type="line", x0=place, x1=place, y0=0, y1=1, line={"color": GREY, "width": 1}, layer="below")
    for place, parameter in enumerate(tune):
        for at, text in _ticks(parameter):
            drawn.add_annotation(x=place, y=at, text=plain(text), xanchor="right", xshift=-4, **small)
    for at in (0.0, 0.5, 1.0):
        drawn.add_annotation(x=len(tune), y=at, text=f"{100 * at:.0f} %", xanchor="left", xshift=6, **small)
    drawn.update_xaxes(
        tickvals=list(range(len(tune) + 1)), ticktext=[*(_sign(p) for p in tune), "standing"], showgrid=False,
        zeroline=False, range=[-0.45, len(tune) + 0.45], title=None,
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
    values, half = [t.settings[parameter.name] for t in trials], "in the second half of the search"
    if not values:
        return ""
    if parameter.choices:
        most = max(parameter.choices, key=values.count)
        return f"Asked for most {half}: {number(most)}, {values.count(most)} of {len(values)} times."
    low, high = np.quantile(np.array(values, float), (0.25, 0.75))
    return f"The middle half of the values asked for {half}: {low:.3g} to {high:.3g}."
