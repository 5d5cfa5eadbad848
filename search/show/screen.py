"""What a person sees while a search runs: progress of the preparation, then a live table of the trials."""

import math
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, Self

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, Group, RenderResult
from rich.live import Live
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from search.decide import race
from search.decide.asha import REFERENCE
from search.decide.forecast import seconds_left, spoken
from search.record.history import History, Trial
from search.show.charts.time_steps import ALPHA, by_step
from search.show.names import number, sign
from search.show.standing import ranked
from search.space.space import Space

REFRESH_SECONDS = 0.25
STILL_SECONDS = 2.0
LINE_SECONDS = 15.0  # between lines where there is no terminal
ROWS = 12
SPARKS = 9  # bars of a trial's epochs
BARS = "▁▂▃▄▅▆▇█"


@contextmanager
def preparing(console: Console) -> Iterator[Progress]:
    """Show the preparation's progress; it stays on the screen once complete."""
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=28),
        TextColumn("{task.completed:,.0f} of {task.total:,.0f}"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, refresh_per_second=4) as progress:
        yield progress


class Steps:
    """Passes fgmodel's progress calls on to a rich progress display, which draws once at its end without a terminal."""

    def __init__(self, progress: Progress, amount: Callable[[int], str] = "{:,}".format) -> None:
        self._progress = progress
        self._amount = amount
        self._tasks: dict[str, TaskID] = {}
        self._told = time.monotonic()

    def __call__(self, what: str, done: int, total: int) -> None:
        """Show that `done` of `total` are finished; where there is no terminal, in a line now and then."""
        if what not in self._tasks:
            self._tasks[what] = self._progress.add_task(what, total=total)
        self._progress.update(self._tasks[what], completed=done, total=total)
        console, now = self._progress.console, time.monotonic()
        if not console.is_terminal and done < total and now - self._told > LINE_SECONDS:
            self._told = now
            left = self._progress.tasks[self._tasks[what]].time_remaining
            forecast = "" if left is None else f", about {spoken(left)} left"
            console.print(f"{what}: {self._amount(done)} of {self._amount(total)}{forecast}", soft_wrap=True)


class Screen:
    """The live table of a running search; plain lines where the output is no terminal."""

    def __init__(self, console: Console, space: Space, history: History) -> None:
        self._console, self._space, self._history = console, space, history
        self._live: Live | None = None
        self._next = self._drawn = 0.0
        self._shown = (-1, console.size)

    def __enter__(self) -> Self:
        if (self._console.is_terminal and not self._console.is_dumb_terminal) or self._console.is_jupyter:
            self._live = Live(self.view(), console=self._console, auto_refresh=False, transient=True)
            self._live.start()
        return self

    def __exit__(self, *error: object) -> None:
        if self._live:
            self._live.stop()

    def tick(self) -> None:
        """Refresh, if it is time."""
        now = time.monotonic()
        if now < self._next:
            return
        self._next = now + (REFRESH_SECONDS if self._live else LINE_SECONDS)
        if self._live:
            self._redraw(self._live, now)
        else:
            self._console.print(progress_line(self._space, self._history), soft_wrap=True)

    def _redraw(self, live: Live, now: float) -> None:
        """Draw the table anew where it says something else; the time left counts every other second."""
        shown = (self._history.facts, self._console.size)
        if shown == self._shown and now < self._drawn + STILL_SECONDS:
            return
        if shown[1] != self._shown[1]:
            self._console.clear()  # lines that the terminal broke anew are not where they were drawn
        self._shown, self._drawn = shown, now
        live.update(self.view(), refresh=True)

    def view(self) -> Group:
        """Return the table and the line beneath it."""
        rows = min(ROWS, max(3, self._console.height - 8))
        return Group(trial_table(self._space, self._history, rows), Text(progress_line(self._space, self._history)))


def trial_table(space: Space, history: History, rows: int = ROWS) -> "TrialTable":
    """Return the best trials, highest rung first: as many columns as the place it is shown in has room for."""
    shown = ranked(space, history)[:rows]
    objective = space.search.objective
    seen = [v for t in shown for v in _by_epoch(t, objective) if not math.isnan(v)]
    low, high = min(seen, default=0.0), max(seen, default=1.0)
    columns = [
        Column("trial", [f"{'*' if t.number == REFERENCE else ''}#{t.number}" for t in shown]),
        Column("rung", [str(t.rung) for t in shown]),
        Column(objective, [f"{t.at(t.rung, objective):.3f}" for t in shown]),
        Column("by epoch", [sparkline(_by_epoch(t, objective), low, high) for t in shown], left=True),
        Column("α over t", [alpha_bars(t) for t in shown], left=True),
        Column("entropy", [_entropy(t) for t in shown]),
    ]
    for parameter in space.tune:
        cells = [number(t.settings.get(parameter.name)) for t in shown]
        columns.append(Column(sign(parameter.name), cells))
    if space.rows:
        seeds = Column("seed", [str(t.settings["seed"]) for t in shown])
        columns[1:1] = [Column("row", [t.by for t in shown], left=True), seeds]
    return TrialTable(columns)


@dataclass(frozen=True)
class Column:
    """A column of the table, cell by cell."""

    title: str
    cells: list[str]
    left: bool = False

    @property
    def width(self) -> int:
        """How many characters it takes."""
        return max(cell_len(text) for text in (self.title, *self.cells))


@dataclass(frozen=True)
class TrialTable:
    """Columns from the most to the least telling; the last ones are left out where they do not fit."""

    columns: list[Column]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Yield the table that fits."""
        ends = list(accumulate(2 + column.width for column in self.columns))
        fitting = sum(end <= options.max_width for end in ends)
        if fitting < len(ends):
            fitting = sum(end + 3 <= options.max_width for end in ends)   # room to say that there is more
        shown = self.columns[:max(1, fitting)]
        table = Table(box=None, pad_edge=True, header_style="bold")
        for column in shown:
            table.add_column(column.title, justify="left" if column.left else "right", no_wrap=True)
        if len(shown) < len(self.columns):
            table.add_column("…", no_wrap=True)
        for row in zip(*(column.cells for column in shown), strict=True):
            table.add_row(*row)
        yield table


def ending(space: Space, history: History, steps: list[str]) -> Group:
    """Return what a person reads when a launch ends: the best trials, the result, what to do next."""
    metric, best = space.search.objective, race.best(space.search, history)
    how = history.finished.how if history.finished else "interrupted"
    endings = {"complete": "complete", "budget": "the budget is spent; everything reported is kept"}
    said = endings.get(how, "stopped; everything reported is kept")
    if best is None:
        failures = [f"  #{t.number}: {t.failure}" for t in history.trials.values() if t.failure]
        return Group(*(Text(line) for line in [f"{said}: no trial has finished a rung", *failures, *steps[:1]]))
    result = f"best #{best.number}, {metric} {best.at(best.rung, metric):.3f} after {best.rung} epochs"
    first = f"{said}: {result}{_reference_said(history, metric)}"
    raced = [f"  #{c.trial.number:<6} {c.said()}" for c in race.confirmed(space.search, history)]
    lines = [first, *(["finalists, trained again:"] if raced else []), *raced, *(f"  {step}" for step in steps)]
    return Group(trial_table(space, history), Text(), *(Text(line) for line in lines))


def _reference_said(history: History, metric: str) -> str:
    reference = history.trials[REFERENCE]
    if not reference.rung:
        return ""
    return f" (*#0, the thesis' values: {reference.at(reference.rung, metric):.3f} after {reference.rung})"


def progress_line(space: Space, history: History) -> str:
    """Return one line: how far the search is, its best trial, the time left."""
    search, trials = space.search, history.trials.values()
    waiting = Counter(t.rung for t in trials if t.rung and history.state(t, search.epochs) == "waiting")
    failed = sum(t.reason is not None for t in trials)
    best = race.best(search, history)
    again = sum(t.repeats is not None for t in history.trials.values())
    parts = [f"{len(history.candidates)} of {search.trials} started"]
    parts += [f"{count} at rung {rung}" for rung, count in sorted(waiting.items())]
    if again:
        parts.append(f"{again} of {len(race.finalists(search, history)) * search.seeds} repeats of finalists")
    parts.append(f"{failed} failed")
    if best:
        parts.append(f"best #{best.number} {best.at(best.rung, search.objective):.3f} at rung {best.rung}")
    left = seconds_left(search, history)
    parts.append("starting the workers …" if left is None else f"about {spoken(left)} left")
    return " " + " · ".join(parts)


def alpha_bars(trial: Trial) -> str:
    """Return mean α over the time steps as a row of bars; the tallest is the largest."""
    alphas = by_step(trial, trial.epoch, ALPHA).tolist()
    return sparkline(alphas, 0.0, max(alphas, default=1.0) or 1.0)


def sparkline(values: Sequence[float], low: float, high: float) -> str:
    """Return values as a row of bars between `low` and `high`; a dot where there is none to show."""
    spread = (high - low) or 1.0
    places = ((v - low) / spread * (len(BARS) - 1) + 0.5 for v in values)
    return "".join("·" if math.isnan(place) else BARS[max(0, min(len(BARS) - 1, int(place)))] for place in places)


def _by_epoch(trial: Trial, objective: str) -> list[float]:
    """Return a trial's objective over its epochs, thinned to what a cell has room for; the first and last are kept."""
    values = [metrics.get(objective, math.nan) for _, metrics in sorted(trial.reports.items())]
    most = min(SPARKS, len(values))
    return [values[round(k * (len(values) - 1) / max(1, most - 1))] for k in range(most)]


def _entropy(trial: Trial) -> str:
    entropy = trial.at(trial.epoch, "attention/entropy")
    return "–" if math.isnan(entropy) else f"{entropy:.2f}"


def search_table(found: list[dict[str, Any]]) -> Table:
    """Return the searches of a home, one a row."""
    table = Table(box=None, header_style="bold")
    for title in ("search", "state", "started", "best", "value", "failed"):
        table.add_column(title, justify="left" if title in ("search", "state") else "right")
    for each in found:
        best = each["best"]
        value = f"{best['value']:.3f}" if best else "–"
        table.add_row(
            each["search"],
            each["state"],
            f"{each['started']} of {each['trials']}",
            f"#{best['trial']}" if best else "–",
            value,
            str(len(each["failures"])),
        )
    return table


def status_view(found: dict[str, Any], history: History) -> Group:
    """Return one search's state: counts, rungs, best trial, failures, time left."""
    lines = [f"{found['search']}: {found['state']}, {found['started']} of {found['trials']} trials started"]
    lines.append("rungs: " + ", ".join(f"{count} finished {rung}" for rung, count in found["rungs"].items()))
    if best := found["best"]:
        lines.append(f"best: #{best['trial']}, {found['objective']} {best['value']:.4f} after {best['rung']} epochs")
        lines += [f"  {name}: {number(value)}" for name, value in best["settings"].items()]
        lines.append(f"  α over t: {alpha_bars(history.trials[best['trial']])}")
    lines += [f"failed #{number}: {why}" for number, why in found["failures"].items()]
    if found["seconds_left"] is not None:
        lines.append(f"about {spoken(found['seconds_left'])} left")
    if found["test_opened"]:
        lines.append(f"the test split was opened {found['test_opened']} times")
    return Group(*(Text(line) for line in [*lines, f"journal: {found['journal']}"]))
