"""Charts of what is tuned: combinations, importance, what each setting does to standing, where the sampler looked."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from fgmodel.palette import GREEN, GREY
from search.record.history import Trial
from search.show.charts.chart import (
    NEXT,
    SMALL,
    THESIS,
    Axis,
    Band,
    Bars,
    Chart,
    Layer,
    Pen,
    Trace,
    Upright,
    fitted,
    lines,
    thinned,
)
from search.show.charts.scale import Scale
from search.show.charts.seen import MOST, Seen
from search.show.importance import Effect
from search.show.names import label, number, sign
from search.space.parameter import Parameter

GROUPS = (   # of trials, by standing: below what, and how they are drawn
    ("lower half", 0.5, Pen(GREY, dash="dot", opacity=0.6)),
    ("upper half", 0.9, Pen(GREY, dash="solid", opacity=0.7)),
    ("best tenth", 2.0, Pen(GREEN, "circle", "solid", 1.5, 4)),
)
STANDING = ((0.0, "0 %"), (0.5, "50 %"), (1.0, "100 %"))
ASKED = (THESIS, *NEXT)   # by whom: the thesis' values first
SPREAD = 115     # pixels between two upright axes


def parallel_chart(seen: Seen) -> list[Chart]:
    """Return every trial as a line over its settings and its standing; nothing where nothing is tuned."""
    if not seen.space.tune:
        return []
    trials = [seen.history.trials[number] for number in seen.standing]
    scales, last = [Scale.of(p, trials) for p in seen.space.tune], len(seen.space.tune)

    def line(trial: Trial) -> tuple[range, list[float], str]:
        shares = [scale.share(scale.of_trial(trial)) for scale in scales]
        return range(last + 1), [*shares, seen.standing[trial.number]], seen.said(trial, trial.rung)

    layers: list[Layer] = [Upright(k, ticks) for k, ticks in enumerate((*(s.upright() for s in scales), STANDING))]
    below = -1.0
    for name, top, pen in GROUPS:
        group = [t for t in trials if below <= seen.standing[t.number] < top]
        layers.append(lines(f"{name} ({len(group):,} trials)", pen, map(line, thinned(group, MOST // 3))))
        below = top
    layers += [lines(name, pen, [line(trial)]) for trial, name, pen in reversed(seen.told)]
    said = (
        f"A line is a trial, an axis a setting ({', '.join(sign(p.name) for p in seen.space.tune)}) from low to high; "
        "the last axis is its standing, the share of trials it is ahead of. Where the lines of the best bundle, good "
        "trials agree; a line with a gap does not have that setting."
    )
    names = [*(sign(p.name).replace(".", ".\n") for p in seen.space.tune), "standing"]
    x = Axis("", -0.4, last + 0.4, ticks=tuple((float(k), name) for k, name in enumerate(names)))
    y = Axis("", -0.08, 1.08, shown=False)
    title, wide = "Settings of all trials, side by side", SPREAD * (last + 1)
    return [Chart("parallel", title, said, x, y, tuple(layers), 460, wide)]


def importance_chart(seen: Seen) -> list[Chart]:
    """Return the share of the variance of standing that each setting explains; nothing where too few trials tell."""
    if (found := seen.importance) is None:
        return []
    effects = found.effects[::-1]                                   # from below
    at, names = tuple(map(float, range(len(effects)))), [label(e.parameter.name) for e in effects]
    total, alone = tuple(100 * e.total for e in effects), tuple(100 * e.alone for e in effects)
    layers = (
        Bars("with others", GREY, at, total, 0.8, hatched=True, sideways=True),
        Bars("alone", GREEN, at, alone, 0.45, sideways=True),
    )
    told = [f"{e.parameter.name} {100 * e.alone:.0f} % alone, {100 * e.total:.0f} % with others" for e in found.effects]
    x = Axis("share of the variance of standing (%)", 0, 1.05 * max(1.0, *total, *alone))
    y = Axis("", -0.6, len(effects) - 0.4, ticks=tuple(zip(at, names, strict=True)))
    said = f"{'; '.join(told)}. From {found.trials:,} trials, R² {found.explained:.2f}."
    return [Chart("importance", "Importance of each setting", said, x, y, layers, 110 + 36 * len(effects))]


def effect_charts(seen: Seen) -> list[Chart]:
    """Return what each setting does to standing, the most important first: the forest's curve over the trials."""
    return [_effect_chart(seen, effect) for effect in seen.importance.effects] if seen.importance else []


def sampler_charts(seen: Seen) -> list[Chart]:
    """Return each setting's values in the order they were asked for, by who asked."""
    return [_sampler_chart(seen, parameter) for parameter in seen.space.tune]


def _effect_chart(seen: Seen, effect: Effect) -> Chart:
    name, mean = effect.parameter.name, 100 * effect.mean
    having = [t for k in seen.standing if name in (t := seen.history.trials[k]).settings]
    scale, trials = Scale.of(effect.parameter, having), thinned(having, MOST)
    xs = tuple(scale.at(value) for value in effect.values)
    dots = Pen(GREY, "circle", size=4, opacity=0.8)
    layers = (
        _marks(seen, "", dots, [(scale.of_trial(t), 100 * seen.standing[t.number], t) for t in trials]),
        Band(GREEN, xs, tuple(100 * effect.low), tuple(100 * effect.high)),
        Trace("", Pen(GREEN, "circle", "solid", 3, 5), xs, tuple(mean)),
    )
    low, high = int(mean.argmin()), int(mean.argmax())
    said = (
        f"Best near {number(effect.values[high])} (standing {mean[high]:.0f} %), worst near "
        f"{number(effect.values[low])} ({mean[low]:.0f} %), the other settings averaged out."
    )
    y = Axis("standing (% beaten)", -4, 104)
    return Chart(f"effect-{name}", label(name), said, scale.axis(), y, layers, SMALL)


def _sampler_chart(seen: Seen, parameter: Parameter) -> Chart:
    trials = [t for t in seen.history.candidates if parameter.name in t.settings]
    scale, layers = Scale.of(parameter, trials), []
    for place, by in enumerate(dict.fromkeys(t.by for t in seen.history.candidates)):   # as on every other chart
        pen = replace(ASKED[place % len(ASKED)], dash=None, size=6)
        if asked := thinned([t for t in trials if t.by == by], MOST):
            layers.append(_marks(seen, by, pen, [(t.number, scale.of_trial(t), t) for t in asked]))
    x = fitted("trial", [t.number for t in trials], whole=True)
    said = f"Values by trial. {_concentration(parameter, trials[len(trials) // 2:])}"
    name = parameter.name
    return Chart(f"sampler-{name}", label(name), said, x, scale.axis(), tuple(layers), SMALL)


def _marks(seen: Seen, name: str, pen: Pen, each: Sequence[tuple[float, float, Trial]]) -> Trace:
    xs, ys = tuple(float(x) for x, _, _ in each), tuple(float(y) for _, y, _ in each)
    return Trace(name, pen, xs, ys, tuple(seen.said(trial, trial.rung) for _, _, trial in each))


def _concentration(parameter: Parameter, trials: Sequence[Trial]) -> str:
    values, half = [t.settings[parameter.name] for t in trials], "in the second half of the search"
    if not values:
        return ""
    if parameter.choices:
        most = max(parameter.choices, key=values.count)
        return f"Asked for most {half}: {number(most)}, {values.count(most)} of {len(values)} times."
    low, high = np.quantile(np.array(values, float), (0.25, 0.75))
    return f"The middle half of the values asked for {half}: {low:.3g} to {high:.3g}."
