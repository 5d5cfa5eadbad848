"""Compares a search with its MLflow runs and with the undisturbed search, and says what differs."""

from collections import Counter
from dataclasses import dataclass
from typing import Any

from search.record.journal import Opened, read
from search.tracking.pages import PLACE
from search.tracking.rows import search_id, texts
from tests.chaos.ledger import Ledger
from tests.chaos.stage import Stage

OF_SEARCH = "r.lifecycle_stage = 'active' and r.run_uuid in (select run_uuid from tags where key = 'fgsearch.id' and value = ?)"
ROWS = f"""
    select t.value, m.step, m.key, m.value from metrics m join runs r on r.run_uuid = m.run_uuid
    join tags t on t.run_uuid = m.run_uuid and t.key = 'fgsearch.trial' where {OF_SEARCH}"""
PARAMS = f"""
    select t.value, p.key, p.value from params p join runs r on r.run_uuid = p.run_uuid
    join tags t on t.run_uuid = p.run_uuid and t.key = 'fgsearch.trial' where {OF_SEARCH}"""
DERIVED = ("best/", "by time step/", PLACE)   # metrics that follow from the reported ones
RUNS = f"select r.status from runs r where {OF_SEARCH}"


@dataclass(frozen=True)
class Audit:
    """What is wrong with a search that has ended; nothing where all is 0."""

    missing: int         # (trial, epoch, metric) of the journal that MLflow has not
    doubled: int         # that MLflow has more than once
    foreign: int         # that the journal has not, or has with another value
    settings: int        # of trials, other than MLflow shows them
    running: int         # runs still RUNNING
    runs: int            # more or fewer than the trials and the search
    failed: int          # trials
    contradictions: int  # epochs told of twice, with different numbers
    different: bool      # decisions or metrics other than the undisturbed search's

    @property
    def wrong(self) -> dict[str, int]:
        """Return what is not 0."""
        return {name: int(count) for name, count in vars(self).items() if count}


def audit(stage: Stage, undisturbed: Ledger | None) -> Audit:
    """Look at the search that has ended; `undisturbed` where it must have decided the same."""
    ledger = stage.ledger()
    told = {(t, e, key): value for (t, e), metrics in ledger.reports.items() for key, value in metrics.items()}
    rows = _rows(stage)
    shown = {place: value for *place, value in rows if not place[2].startswith(DERIVED) for place in [tuple(place)]}
    asked = {(f["trial"], key): text for f in ledger.named("asked") for key, text in texts(f["settings"]).items()}
    given = {(int(trial), key): text for trial, key, text in stage.query(PARAMS, _id(stage))}
    states = [row[0] for row in stage.query(RUNS, _id(stage))]
    same = undisturbed is None or (
        ledger.decisions() == undisturbed.decisions() and ledger.reports == undisturbed.reports
    )
    return Audit(
        missing=len(told.keys() - shown.keys()),
        doubled=_doubled(rows),
        foreign=sum(told.get(place) != value for place, value in shown.items()),
        settings=sum(given.get(place) != text for place, text in asked.items()),
        running=states.count("RUNNING"),
        runs=abs(len(states) - len(ledger.named("asked", "repeated")) - 1),
        failed=len(ledger.named("failed")),
        contradictions=ledger.contradictions(),
        different=not same,
    )


def doubled(stage: Stage) -> int:
    """Return how many values MLflow has more than once of the running search, the best so far included."""
    return _doubled(_rows(stage))


def _doubled(rows: list[tuple[Any, ...]]) -> int:
    return sum(count - 1 for count in Counter(row[:3] for row in rows).values())


def _rows(stage: Stage) -> list[tuple[Any, ...]]:
    return [(int(trial), *row) for trial, *row in stage.query(ROWS, _id(stage))]


def _id(stage: Stage) -> str:
    opened = read(stage.journal)[0]
    assert isinstance(opened, Opened)
    return search_id(opened)
