"""The report of a search: what was asked and answered, how sure that is, and everything it rests on, on one page.

A projection of the journal like any other; only the pictures of images need more, the best trial's checkpoint and the
cache, and say so in a line where they are not to be had. The page is kept with the search's run in MLflow.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from fgmodel.intervals import Interval
from fgmodel.progress import Progress, silent
from fgmodel.store import write
from search.asha import Ladder
from search.errors import InputError, writing
from search.forecast import seconds_left, spoken
from search.history import History, space_of
from search.home import Home
from search.importance import Importance, importance, standings
from search.journal import Fact
from search.mlflow_store import RefusedError, Store
from search.projection import search_id
from search.report_attention import attention_charts
from search.report_figures import (
    effect_chart,
    history_chart,
    importance_chart,
    parallel_chart,
    rungs_chart,
    sampler_chart,
)
from search.report_page import Charts, Page, Part, Section
from search.report_tables import (
    best_table,
    cost_table,
    elapsed,
    failures_table,
    finalists_table,
    rungs_table,
    settings_table,
    shares_table,
)
from search.space import Space
from search.status import running
from search.verdict import Verdict, number, verdict

FILE = "report.html"
CURVES = 4              # trials whose attention is drawn
BELIEVED = 0.1          # R² below which a forest's importance is noise


@dataclass(frozen=True)
class Told:
    """What a report is written from."""

    name: str
    facts: Sequence[Fact]
    history: History
    space: Space
    verdict: Verdict

    @classmethod
    def of(cls, home: Home, name: str) -> "Told":
        """Read a search's journal; raises InputError where there is none, or no trial has finished a rung."""
        facts = home.facts(name)
        history = History.of(facts)
        space = space_of(history)
        found = verdict(space, history)
        if found is None:
            raise InputError(f"search '{name}': no trial has finished a rung yet, so there is nothing to report")
        return cls(name, facts, history, space, found)


def write_report(
    home: Home, name: str, to: Path | None = None, *, images: bool = True, refresh: int | None = None,
    progress: Progress = silent,
) -> Path:
    """Write a search's report to `to`, else into its folder, whole or not at all; return where.

    Raises InputError: for an unknown search, one without a finished rung, a folder that cannot be written.
    """
    told, path = Told.of(home, name), to or home.search(name) / FILE
    page = _page(told, home, refresh, progress if images else None)
    text = page.html().encode()
    with writing(path):
        write(path, lambda file: file.write(text))
    return path


def watch(
    home: Home, name: str, to: Path | None, every: int, say: Callable[[str], None], sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Rewrite the report as long as the search runs and its journal grows; the pages load themselves again."""
    home.facts(name)
    journal, seen = home.journal(name), -1
    while running(journal):
        size = journal.stat().st_size
        if size != seen:
            try:
                path = write_report(home, name, to, images=False, refresh=every)
            except InputError as error:
                if "no trial has finished" not in str(error):
                    raise
                say(str(error).replace("so there is nothing to report", "waiting"))
            else:
                say(f"{path}: written, {datetime.now(UTC):%H:%M:%S} UTC")
            seen = size
        sleep(every)


def attach_report(home: Home, name: str, path: Path, store: Store) -> str:
    """Keep a report with its search's run in MLflow and return the run's address; raises StoreError where it cannot."""
    opened = home.history(name).opened
    assert opened
    run = store.search_run(search_id(opened))
    if run is None:
        raise RefusedError(f"MLflow at {store.where}: has no run of search '{name}'; launching it again writes it")
    store.attach(run, FILE, path.read_text(encoding="utf-8"))
    return store.address(run)


def _page(told: Told, home: Home, refresh: int | None, progress: Progress | None) -> Page:
    found = told.verdict
    pictures = _pictures(told, home, progress)
    sections = [
        _best(told), _cost_history(told), _rungs(told), *_settings(told), _failures(told), _attention(told), *pictures,
        _cost(told),
    ]
    return Page(
        name=told.name, asked=found.asked, answer=found.answer, sure=found.sure, facts=_glance(told),
        sections=[section for section in sections if section], refresh=refresh,
        written=f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC",
    )


def _glance(told: Told) -> list[tuple[str, str]]:
    history, found, search = told.history, told.verdict, told.space.search
    how = {"complete": "complete", "stopped": "stopped", "budget": "its hours are over"}
    state = how[history.finished.how] if history.finished else "running or interrupted"
    left = None if history.finished else seconds_left(search, history)
    return [
        ("state", state + (f", about {spoken(left)} left" if left else "")),
        ("best trial", f"#{found.trial.number}"),
        (found.objective, _value(found.interval, found.value)),
        ("trials", f"{len(history.candidates):,} of {search.trials:,}, {sum(bool(t.reason) for t in history.trials.values()):,} failed"),
        ("epochs", f"{sum(len(t.reports) for t in history.trials.values()):,}"),
        ("time on the clock", spoken(elapsed(told.facts))),
        ("test split", f"opened {len(history.tests)} times" if history.tests else "not opened"),
    ]


def _value(interval: Interval | None, value: float) -> str:
    if interval is None or interval.low != interval.low:  # NaN: a single seed
        return number(float(value if interval is None else interval.mean))
    return f"{interval.mean:.3f} (95 %: {interval.low:.3f} to {interval.high:.3f})"


def _best(told: Told) -> Section:
    parts: list[Part] = [settings_table(told.space, told.verdict.trial)]
    if told.verdict.race:
        parts.insert(0, finalists_table(told.space, told.verdict))
    return Section("best", "The best configuration", told.verdict.sure, [*parts, best_table(told.space, told.history)])


def _cost_history(told: Told) -> Section:
    lead = "What was found, against what it cost so far."
    return Section("history", "History against cost", lead, [history_chart(told.space, told.history)])


def _rungs(told: Told) -> Section | None:
    if len(told.space.search.rungs) < 2:
        return None
    kind = "the best go on to the next" if told.space.search.promote else "the others stop"
    lead = f"Trials compete at {', '.join(map(str, told.space.search.rungs))} epochs; one in {told.space.search.reduction}: {kind}."
    return Section("rungs", "Rungs", lead, [rungs_table(told.space, told.history), rungs_chart(told.space, told.history)])


def _settings(told: Told) -> list[Section]:
    """Return the sections on what is tuned: none of a list of rows."""
    space, history = told.space, told.history
    if not space.tune:
        return []
    standing = standings(space, history)
    side = Section(
        "parallel", "Settings side by side", "Which combinations did well.", [parallel_chart(space, history, standing)],
    )
    found = importance(space, history)
    effects: list[Part] = [] if found is None else [
        importance_chart(found), shares_table(space, history, found),
        Charts([effect_chart(space, history, standing, effect) for effect in found.effects]),
    ]
    looked = Charts([sampler_chart(space, history, parameter) for parameter in space.tune])
    sampler = space.search.sampler.name
    where = f"Each setting's value by trial, as '{sampler}' asked for it; reference and start points come first."
    return [
        side,
        Section("importance", "What decides: importance and effects", _importance_said(found), effects),
        Section("sampler", "Where the sampler looked", where, [looked]),
    ]


def _importance_said(found: Importance | None) -> str:
    if found is None:
        return "Too few trials have finished a rung to tell the settings' effects from chance."
    trust = f"On trials that a tree has not seen the forest explains {max(0.0, found.explained):.0%} of the variance (R²)"
    trust += ": too little to go by." if found.explained < BELIEVED else "."
    return (
        f"Computed from {found.trials:,} trials, those that were stopped early included: a trial's standing is the share of "
        "the others it is ahead of, by the rung it reached and then by its value there, so values are compared at equal "
        "epochs only; diverged trials stand last. A random forest learns standing from the settings, and its variance "
        "over the space is divided among them (fANOVA): what a setting explains alone, and with all it does together "
        f"with others. {trust} In the curves below, the most important first, dots are trials, the line is the forest's "
        "mean with the others averaged out, the band the middle half of its trees."
    )


def _failures(told: Told) -> Section:
    table = failures_table(told.history, told.facts)
    lead = "None: no trial failed, and no worker was lost." if table is None else "A diverged trial is an outcome; an error is a fault to mend."
    return Section("failures", "Failed trials", lead, [table] if table else [])


def _attention(told: Told) -> Section:
    best = told.verdict.trial
    others = [t for t in Ladder(told.space.search).rank(told.history, best.rung) if t is not best and not t.reason]
    charts = attention_charts([best, *others[: CURVES - 1]])
    lead = (
        f"The best trial, #{best.number}, after {best.rung} epochs, beside the next ones of its rung, on validation images. "
        "The patch is the same at each step; what differs is the LSTM's state."
    )
    if not charts:
        lead = "The best trial's local stream has no time steps, so there is no attention to show."
    return Section("attention", "Attention and accuracy over the time steps", lead, charts)


def _pictures(told: Told, home: Home, progress: Progress | None) -> list[Section]:
    """Return the sections that need the model itself; where it is not to be had, they say so."""
    maps = partial(Section, "heatmaps", "Where the time steps look")
    pairs = partial(Section, "confusions", "The most mistaken classes")
    if progress is None:
        left_out = "Not drawn: this report was written without images."
        return [maps(left_out), pairs(left_out)]
    from search.report_images import confusion_parts, heatmap_parts, predicted  # noqa: PLC0415  torch: for images only

    try:
        held = predicted(told.space, told.verdict.trial, told.name, home, progress)
    except InputError as error:
        return [maps(f"Not drawn: {error}."), pairs(f"Not drawn: {error}.")]
    whose = f"Trial #{told.verdict.trial.number} on the {held.seen.n} validation images of its own cut."
    try:
        drawn = maps(
            f"{whose} Grad-CAM on the best patch: which part of it speaks for the true class at each time step; ✓ and ✗: "
            "whether that step alone names the class. The images were drawn at random among those told right and wrong.",
            heatmap_parts(held),
        )
    except InputError as error:
        drawn = maps(f"Not drawn: {error}.")
    return [drawn, pairs(f"{whose} By the whole model, both streams together.", confusion_parts(held))]


def _cost(told: Told) -> Section:
    lead = f"The search ran {spoken(elapsed(told.facts))}."
    return Section("cost", "Time and cost", lead, [cost_table(told.space, told.history, told.facts)])
