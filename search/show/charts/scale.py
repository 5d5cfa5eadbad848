"""A setting's axis: its range, and further where a trial lies outside of it, as the thesis' values may."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Self

from search.record.history import Trial
from search.show.charts.chart import Axis, Ticks
from search.show.names import label, number
from search.space.parameter import Parameter

NOUGHT = 3.0   # 0 and below stand on a logarithmic axis below all that is above 0, by this factor
ROOM = 0.06    # beyond either end


@dataclass(frozen=True)
class Scale:
    """The ends of a setting's axis in its own units; choices stand at 0, 1, … in their order."""

    parameter: Parameter
    low: float
    high: float
    ticks: Ticks                   # none: at round numbers
    choices: tuple[Any, ...] = ()

    @classmethod
    def of(cls, p: Parameter, trials: Iterable[Trial]) -> Self:
        """Return the axis on which all trials have a place."""
        values = [t.settings[p.name] for t in trials if p.name in t.settings]
        if p.choices:
            choices = (*p.choices, *dict.fromkeys(v for v in values if v not in p.choices))
            ticks = tuple((float(k), number(choice)) for k, choice in enumerate(choices))
            return cls(p, 0.0, max(1.0, len(choices) - 1.0), ticks, choices)
        numbers = [float(v) for v in (p.low, p.high, *values) if v is not None]
        if not p.log:
            return cls(p, min(numbers), max(numbers), ())
        above = [v for v in numbers if v > 0]
        low, high = min(above), max(above)
        nought = ((low / NOUGHT, "0"),) if len(above) < len(numbers) else ()
        return cls(p, nought[0][0] if nought else low, high, (*nought, *_log_ticks(low, high)))

    def at(self, value: object) -> float:
        """Return where a value stands; NaN for none."""
        if self.choices:
            return float(self.choices.index(value))
        return max(float(value), self.low) if isinstance(value, int | float) else math.nan

    def of_trial(self, trial: Trial) -> float:
        """Return where a trial's value stands; NaN where the setting is not among its own."""
        return self.at(trial.settings[self.parameter.name]) if self.parameter.name in trial.settings else math.nan

    def share(self, at: float) -> float:
        """Return a place as a share of the axis, 0..1."""
        low, high, here = (math.log(v) if self.parameter.log else v for v in (self.low, self.high, at))
        return (here - low) / (high - low)

    def axis(self) -> Axis:
        """Return the axis of a chart."""
        log, room = self.parameter.log, ROOM * (self.high - self.low)
        low, high = self.low - room, self.high + room
        if log:
            room = (self.high / self.low) ** ROOM
            low, high = self.low / room, self.high * room
        return Axis(label(self.parameter.name), low, high, log, self.parameter.whole, self.ticks)

    def upright(self) -> Ticks:
        """Return what stands at an axis of parallel coordinates, by share: its ends, its range's, and some between."""
        p, middle = self.parameter, (self.low + self.high) / 2
        between = [at for at, _ in self.ticks] or [p.low, p.high, round(middle) if p.whole else middle]
        told = {self.low: number(self.low), self.high: number(self.high), **dict(self.ticks)}
        inner = {at: told.get(at, number(at)) for at in between if 0.08 < self.share(at) < 0.92}
        ends = {at: told[at] for at in (self.low, self.high)}
        return tuple((self.share(at), text) for at, text in {**inner, **ends}.items())


def _log_ticks(low: float, high: float) -> Ticks:
    """Return round numbers: powers of ten where there are enough, else some between them."""
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for digits in ((1,), (1, 3), (1, 2, 5), tuple(range(1, 10))):
        found = [v for k in decades for d in digits if low <= (v := float(f"{d}e{k}")) <= high]
        if len(found) >= 3:
            break
    found = found[:: 1 + len(found) // 7] or [low, high]
    return tuple((v, f"{v:.3g}") for v in found)
