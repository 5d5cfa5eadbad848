"""What a chart is, before anyone draws it: axes, and layers from the back to the front, in plain numbers.

`search.tracking.figures` draws one with matplotlib, `search.report.plots` with plotly. A colour means the same on every
chart and is seen on white and on black; marks and dashes tell the same thing once more.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from fgmodel.palette import BLUE, GREEN, GREY, PINK, VERMILION
from search.record.history import Trial

Mark = Literal["circle", "square", "triangle", "diamond", "cross", "x", "star", "pentagon"]
Dash = Literal["solid", "dash", "dot", "dashdot"]
Points = tuple[float, ...]                # NaN: a gap
Ticks = tuple[tuple[float, str], ...]     # where, and what is written there
HEIGHT, SMALL = 400, 250                  # pixels


@dataclass(frozen=True)
class Pen:
    """How marks and lines look, in pixels; without a mark or a dash there are none."""

    colour: str
    mark: Mark | None = None
    dash: Dash | None = None
    width: float = 1.0
    size: float = 7.0
    opacity: float = 1.0


LEAD = Pen(VERMILION, "diamond", "solid", 3, 9)       # the trial that a chart is about: the best
THESIS = Pen(BLUE, "square", "dash", 2.5, 8)          # the thesis' values
NEXT = (Pen(GREEN, "circle", "dot", 2), Pen(PINK, "triangle", "dashdot", 2), Pen(GREY, "circle", "solid", 2))
OTHERS = Pen(GREY, "circle", "solid", 1, 4, 0.6)


@dataclass(frozen=True)
class Axis:
    """What an axis is called and where it ends; without ticks, they are at round numbers, or at whole ones."""

    title: str
    low: float
    high: float
    log: bool = False
    whole: bool = False
    ticks: Ticks = ()
    shown: bool = True

    def within(self, value: float) -> float:
        """Return a value, or the end that it lies beyond."""
        return min(max(value, self.low), self.high) if math.isfinite(value) else value


@dataclass(frozen=True)
class Trace:
    """Marks, or a line through them; without a name, not in the legend; `said` is what each point tells who asks."""

    name: str
    pen: Pen
    xs: Points
    ys: Points
    said: tuple[str, ...] = ()


@dataclass(frozen=True)
class Bars:
    """Bars from 0, upright or sideways."""

    name: str
    colour: str
    at: Points
    lengths: Points
    thick: float = 0.7
    hatched: bool = False
    sideways: bool = False


@dataclass(frozen=True)
class Band:
    """What lies between two curves."""

    colour: str
    xs: Points
    low: Points
    high: Points


@dataclass(frozen=True)
class Heat:
    """A value for each y (rows) and x (columns), whole numbers, as a colour from 0 on: even is not a choice."""

    name: str
    xs: Points
    ys: Points
    values: tuple[Points, ...]


@dataclass(frozen=True)
class Upright:
    """One axis of parallel coordinates, from y 0 to 1."""

    x: float
    ticks: Ticks


Layer = Trace | Bars | Band | Heat | Upright


@dataclass(frozen=True)
class Chart:
    """A chart with its title and what it shows in words: for who cannot see it, and beside it for everyone."""

    name: str
    title: str
    said: str
    x: Axis
    y: Axis
    layers: tuple[Layer, ...]
    height: int = HEIGHT
    wide: int = 0           # pixels that its axes need side by side


def fitted(title: str, values: Iterable[float], *, whole: bool = False) -> Axis:
    """Return an axis just wide enough for its values."""
    known = [v for v in values if math.isfinite(v)] or [0.0, 1.0]
    low, high = min(known), max(known)
    room = 0.05 * (high - low) or 0.05 * abs(high) or 0.5
    return Axis(title, low - room, high + room, whole=whole)


def lines(name: str, pen: Pen, each: Iterable[tuple[Iterable[float], Iterable[float], str]]) -> Trace:
    """Return many lines (xs, ys, what they say) as one with gaps: drawn quickly, where a thousand are not."""
    parts = [[(float(x), y, said) for x, y in zip(xs, ys, strict=True)] for xs, ys, said in each]
    points = [point for part in parts for point in (*part, (math.nan, math.nan, ""))]
    xs, ys, said = zip(*points, strict=True) if points else ((), (), ())
    return Trace(name, pen, xs, ys, said)


def thinned(trials: list[Trial], most: int) -> list[Trial]:
    """Return at most so many trials, evenly from first to last."""
    return trials if len(trials) <= most else [trials[k] for k in np.linspace(0, len(trials) - 1, most).astype(int)]
