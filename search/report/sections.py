"""The sections of a report, in reading order: what each says, and the charts and tables it rests on."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Self

from search.decide.forecast import seconds_left, spoken
from search.record.history import History, space_of
from search.record.home import Home
from search.record.journal import Fact
from search.report.page import Page, Part, Plots, Section
from search.report.pictures import Pictures, not_drawn
from search.report.tables import (
    best_table,
    cost_table,
    elapsed,
    failures_table,
    finalists_table,
    rungs_table,
    settings_table,
    shares_table,
)
from search.show.charts.listed import CHARTS
from search.show.charts.seen import Seen
from search.show.importance import Importance
from search.show.names import number
from search.show.verdict import Verdict, between, verdict

BELIEVED = 0.1          # R² below which a forest's importance is noise


@dataclass(frozen=True)
class Told(Seen):
    """What a report is written from."""

    name: str
    facts: Sequence[Fact]
    verdict: Verdict | None     # None: no trial has finished a rung

    def plots(self, name: str, *, small: bool = False) -> Plots:
        """Return the charts of a name."""
        return Plots(CHARTS[name](self), small)

    @classmethod
    def of(cls, home: Home, name: str) -> Self:
        """Read a search's journal; raises InputError where there is none."""
        facts = home.facts(name)
        history = History.of(facts)
        space = space_of(history)
        return cls(space, history, name, facts, verdict(space, history))


def page(told: Told, found: Verdict, pictures: Pictures | None = None, refresh: int | None = None) -> Page:
    """Return the report; `pictures` are waited for when all the rest is made."""
    others = [
        _best(told, found), _cost_history(told), *_rungs(told), *_settings(told), _failures(told),
        _attention(told, found),
    ]
    drawn = pictures.sections() if pictures else not_drawn("this page was written without images")
    sections = [*others, *drawn, _cost(told)]
    written = f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC"
    return Page(told.name, found.asked, found.answer, found.sure, _glance(told, found), sections, written, refresh)


def _glance(told: Told, found: Verdict) -> list[tuple[str, str]]:
    history, search = told.history, told.space.search
    how = {"complete": "complete", "stopped": "stopped", "budget": "its hours are over"}
    state = how[history.finished.how] if history.finished else "running or interrupted"
    left = None if history.finished else seconds_left(search, history)
    failed = sum(t.reason is not None for t in history.trials.values())
    value = number(found.value)
    if found.interval:
        value = f"{found.interval.mean:.3f}"
        value += "" if math.isnan(found.interval.low) else f" (95 %: {between(found.interval)})"
    return [
        ("state", state + (f", about {spoken(left)} left" if left else "")),
        ("best trial", f"#{found.trial.number}"),
        (found.objective, value),
        ("trials", f"{len(history.candidates):,} of {search.trials:,}, {failed:,} failed"),
        ("epochs", f"{sum(len(t.reports) for t in history.trials.values()):,}"),
        ("time on the clock", spoken(elapsed(told.facts))),
        ("test split", f"opened {len(history.tests)} times" if history.tests else "not opened"),
    ]


def _best(told: Told, found: Verdict) -> Section:
    race = [finalists_table(told.space, found)] if found.race else []
    parts = [*race, settings_table(told.space, found.trial), best_table(told.space, told.history)]
    lead = "By the race of the finalists." if race else "By its value at the highest rung: no race has ended."
    return Section("best", "The best configuration", lead, parts)


def _cost_history(told: Told) -> Section:
    lead = "What was found, against what it cost so far."
    return Section("history", "History against cost", lead, [told.plots("history")])


def _rungs(told: Told) -> list[Section]:
    search = told.space.search
    if len(search.rungs) < 2:
        return []
    goes = "goes on" if search.promote else "may go on, the others stop"
    lead = f"Trials compete at {', '.join(map(str, search.rungs))} epochs; one in {search.reduction} of a rung {goes}."
    return [Section("rungs", "Rungs", lead, [rungs_table(told.space, told.history), told.plots("rungs")])]


def _settings(told: Told) -> list[Section]:
    """Return the sections on what is tuned: none of a list of rows."""
    space, history = told.space, told.history
    if not space.tune:
        return []
    found, effects = told.importance, list[Part]()
    if found:
        effects = [told.plots("importance"), shares_table(space, history, found), told.plots("effects", small=True)]
    by = f"Each setting's value by trial, as '{space.search.sampler.name}' asked for it after the reference."
    return [
        Section("parallel", "Settings side by side", "Which combinations did well.", [told.plots("parallel")]),
        Section("importance", "What decides: importance and effects", _importance_said(found), effects),
        Section("sampler", "Where the sampler looked", by, [told.plots("sampler", small=True)]),
    ]


def _importance_said(found: Importance | None) -> str:
    if found is None:
        return "Too few trials have finished a rung to tell the settings' effects from chance."
    trust = f"On trials that a tree has not seen the forest explains {max(0.0, found.explained):.0%} of it (R²)"
    trust += ": too little to go by." if found.explained < BELIEVED else "."
    return (
        f"Computed from {found.trials:,} trials, those stopped early included: a trial's standing is the share "
        "of the others it is ahead of, by the rung it reached and then by its value there, so values are compared at "
        "equal epochs only; diverged trials stand last. A random forest learns standing from the settings, and its "
        "variance over the space is divided among them (fANOVA): what a setting explains alone, and with all it does "
        f"together with others. {trust} In the curves, the most important first, dots are trials, the line is the "
        "forest's mean with the others averaged out, the band the middle half of its trees."
    )


def _failures(told: Told) -> Section:
    table = failures_table(told.space, told.history, told.facts)
    if table is None:
        return Section("failures", "Failed trials", "None: no trial failed, and no worker was lost.")
    return Section("failures", "Failed trials", "A diverged trial is an outcome; an error is a fault to mend.", [table])


def _attention(told: Told, found: Verdict) -> Section:
    best, plots = found.trial, told.plots("attention")
    lead = (
        f"The best trial, #{best.number}, after {best.rung} epochs, beside the next ones of its rung, on validation "
        "images. The patch is the same at each step; what differs is the LSTM's state."
    )
    if not plots.charts:
        lead = "The best trial's local stream has no time steps, so there is no attention to show."
    return Section("attention", "Attention and accuracy over the time steps", lead, [plots] if plots.charts else [])


def _cost(told: Told) -> Section:
    table = cost_table(told.space, told.history, told.facts)
    return Section("cost", "Time and cost", f"The search ran {spoken(elapsed(told.facts))}.", [table])
