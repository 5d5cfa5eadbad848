"""Watches a search that runs somewhere else, from its journal: the live table, and its facts as lines."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path

from rich.console import Console

from search.record.history import History
from search.record.home import Home
from search.record.journal import (
    Asked,
    Ended,
    Fact,
    Failed,
    Finished,
    Launched,
    Lost,
    Opened,
    OpenedTest,
    Promoted,
    Reader,
    Reissued,
    Repeated,
    Reported,
    Stopped,
)
from search.show.screen import Screen
from search.space.space import Space

TURN_SECONDS = 0.2
ASK_SECONDS = 2.0  # between two questions whether the search still runs


def watch(home: Home, name: str, space: Space, console: Console, active: Callable[[], bool]) -> History:
    """Show the live table until the search is no longer `active`; Ctrl-C ends only the watching."""
    history = History()
    with Screen(console, space, history) as screen:
        for fact in facts(home.journal(name), active):
            if fact is None:
                screen.tick()
            else:
                history.see(fact)
    return history


def facts(journal: Path, active: Callable[[], bool]) -> Iterator[Fact | None]:
    """Yield a journal's facts, and None whenever there is no new one, until nobody writes to it any more."""
    reader, asked, over = Reader(journal), 0.0, False
    while True:
        if journal.exists():
            yield from reader.new()
        if over:
            return
        yield None
        time.sleep(TURN_SECONDS)
        if time.monotonic() > asked + ASK_SECONDS:
            over, asked = not active(), time.monotonic()  # then once more: it may just have written its last line


def line(fact: Fact, objective: str) -> str:
    """Return a fact as a person reads it."""
    return f"{fact.at.astimezone():%Y-%m-%d %H:%M:%S}  {_told(fact, objective)}"


def _told(fact: Fact, objective: str) -> str:  # noqa: C901, PLR0911, PLR0912 one line a kind of fact
    match fact:
        case Opened():
            return f"{fact.search} opened: {fact.question.splitlines()[0] if fact.question else 'no question asked'}"
        case Launched():
            where = f" on {', '.join(fact.nodes)}" if fact.nodes else ""
            return f"launched by fgsearch {fact.version}: {fact.trials} trials, {fact.workers} workers{where}"
        case Asked():
            return f"#{fact.trial} by {fact.by}, to epoch {fact.to}: {_settings(fact.settings)}"
        case Repeated():
            return f"#{fact.trial} repeats finalist #{fact.of}, to epoch {fact.to}: {_settings(fact.settings)}"
        case Promoted():
            return f"#{fact.trial} promoted from epoch {fact.rung} to {fact.to}"
        case Reissued():
            return f"#{fact.trial} given to another worker, attempt {fact.attempt}"
        case Reported():
            value = fact.metrics.get(objective)
            said = f", {objective} {value:.4f}" if value is not None else ""
            return f"#{fact.trial} epoch {fact.epoch}{said}, {fact.seconds:.1f} s"
        case Ended():
            return f"#{fact.trial} reached its rung"
        case Lost():
            return f"#{fact.trial} lost its worker: {fact.why}"
        case Stopped():
            return f"#{fact.trial} stopped after epoch {fact.rung}"
        case Failed():
            return f"#{fact.trial} failed ({fact.reason}): {fact.why}"
        case Finished():
            return f"the driver ended: {fact.how}"
        case OpenedTest():
            return f"the test split was opened by #{fact.trial}: {fact.images} images"


def _settings(settings: dict[str, object]) -> str:
    pairs = settings.items()
    return ", ".join(f"{key} {value:.4g}" if isinstance(value, float) else f"{key} {value}" for key, value in pairs)
