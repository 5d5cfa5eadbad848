"""Charts of the search itself: what it found for its cost, and how trials fared from rung to rung."""

from collections.abc import Mapping
from itertools import accumulate, pairwise

from fgmodel.palette import BLUE, GREEN, GREY, VERMILION
from search.record.history import Trial
from search.show.charts.chart import OTHERS, Axis, Chart, Layer, Mark, Pen, Trace, fitted, lines, thinned
from search.show.charts.seen import MOST, Seen

MARKS: tuple[Mark, ...] = ("diamond", "triangle", "square", "circle", "cross", "x", "star", "pentagon")
COLOURS = (VERMILION, GREEN, BLUE, GREY)   # as the marks, of the rungs from the last one back: it is the most striking


def history_chart(seen: Seen) -> list[Chart]:
    """Return every rung that a trial finished against the epochs spent until then, and the best at the highest one."""
    search, history = seen.space.search, seen.history
    order = sorted((at, t.number, epoch) for t in history.candidates for epoch, at in t.reported.items())
    spent = {(number, epoch): k for k, (_, number, epoch) in enumerate(order, start=1)}
    done = {r: [t for t in history.candidates if t.rung >= r and r in t.reported] for r in search.rungs}
    y, beyond = seen.objective(seen.value(t, r) for r in search.rungs for t in done[r])
    highest = max((r for r in search.rungs if done[r]), default=search.rungs[0])
    best = _bests(seen, highest, {spent[t.number, highest]: t for t in done[highest] if not t.reason}, len(order))
    layers: list[Layer] = []
    for place, (rung, finished) in enumerate(done.items()):
        back, trials = len(done) - 1 - place, thinned(finished, MOST)
        pen = Pen(COLOURS[min(back, len(COLOURS) - 1)], MARKS[back % len(MARKS)], size=6 + place, opacity=0.8)
        xs, ys = [spent[t.number, rung] for t in trials], [y.within(seen.value(t, rung)) for t in trials]
        told = tuple(seen.said(t, rung) for t in trials)
        layers.append(Trace(f"after {_epochs(rung)}", pen, tuple(xs), tuple(ys), told))
    layers.append(Trace(f"best after {_epochs(highest)}", Pen(VERMILION, dash="solid", width=2), *best))
    said = (
        f"{len(order):,} epochs of {len(history.candidates):,} trials. A mark is a trial at a rung, its "
        f"shape the rung; the line is the best so far after {_epochs(highest)}"
        f"{f', {best[1][-1]:.3f} in the end' if best[1] else ''}.{beyond}"
    )
    x = fitted("epochs trained so far, all trials together", [0, len(order)], whole=True)
    return [Chart("history", "Value found against cost", said, x, y, tuple(layers))]


def rungs_chart(seen: Seen) -> list[Chart]:
    """Return the trials' values from rung to rung, the best and the thesis' values told apart; nothing of one rung."""
    rungs, trials = seen.space.search.rungs, [t for t in seen.history.candidates if t.rung]
    if len(rungs) < 2:
        return []
    y, beyond = seen.objective(seen.value(t, r) for t in trials for r in rungs if r <= t.rung)

    def climb(trial: Trial) -> tuple[list[float], list[float], str]:
        mine = [r for r in rungs if r <= trial.rung and r in trial.reports]
        return [float(r) for r in mine], [y.within(seen.value(trial, r)) for r in mine], seen.said(trial, trial.rung)

    told = [trial.number for trial, _, _ in seen.told]
    others = thinned([t for t in trials if t.number not in told], MOST)
    layers = [lines("other trials", OTHERS, map(climb, others))]
    layers += [lines(name, pen, [climb(trial)]) for trial, name, pen in reversed(seen.told)]
    room = (rungs[-1] / rungs[0]) ** 0.04
    ticks = tuple((float(r), str(r)) for r in rungs)
    x = Axis("rung (epochs trained)", rungs[0] / room, rungs[-1] * room, log=True, ticks=ticks)
    counts = ", ".join(f"{sum(t.rung >= r for t in trials):,} finished rung {r}" for r in rungs)
    said = f"Each line is a trial, as far as it came: {counts}.{beyond}"
    return [Chart("rungs", "Values from rung to rung", said, x, y, tuple(layers))]


def _bests(
    seen: Seen, rung: int, done: Mapping[int, Trial], end: int,
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return the best value so far at a rung as stairs, from its first trial to the end; `done` by epochs spent."""
    known = {x: v for x, t in sorted(done.items()) if (v := seen.value(t, rung)) == v}   # NaN: not measured
    bests = list(accumulate(known.values(), max if seen.space.search.maximize else min))
    steps = list(zip([*known, end], [*bests, *bests[-1:]], strict=False))
    stairs = steps[:1] + [p for (_, v), (x, w) in pairwise(steps) for p in ((x, v), (x, w))]
    return tuple(float(x) for x, _ in stairs), tuple(v for _, v in stairs)


def _epochs(count: int) -> str:
    return f"{count} epoch{'s' if count > 1 else ''}"
