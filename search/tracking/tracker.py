"""Keeps MLflow at what the journal says: in the background while a search runs, or once, by `replay`.

Nothing that goes wrong here reaches the search: what a server that is away keeps from being written now is written
when it is back, or by the next launch of the same name.
"""

from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path
from threading import Condition, Thread
from types import TracebackType
from typing import Any, Self

from search.errors import InputError
from search.record.journal import Opened, Reader
from search.space.space import Space
from search.tracking.entry import Point, RefusedError, StoreError, TrackedRun
from search.tracking.projection import Projection
from search.tracking.rows import search_id, texts
from search.tracking.store import Store

PERIOD = 2.0         # seconds between two looks at the journal
LONGEST_WAIT = 30.0  # between two tries at a server that is away
END_SECONDS = 10.0   # for the pass under way: the interpreter's end must not break into a figure being drawn


def replay(journal_path: Path, space: Space, store: Store) -> None:
    """Write all of a journal that MLflow does not show yet; raises StoreError where it cannot."""
    projection = Projection(journal_path, space, store)
    try:
        projection.read()
        if refusals := projection.write():
            raise RefusedError(refusals[0])
        store.settle()
    finally:
        projection.close()


def log_retrain(
    store: Store,
    journal_path: Path | None,
    *,
    name: str,
    settings: Mapping[str, Any],
    metrics: Mapping[str, float],
    times: tuple[datetime, datetime],
    tags: Mapping[str, str],
    artifacts: Path | None = None,
    keep: Callable[[TrackedRun], object] | None = None,
) -> str:
    """Write one retraining as a run under its search's and return its address; raises StoreError where it cannot.

    `journal_path` is None for a bundle that came without its search; `times` are its start and end. `keep` does
    what else belongs to the run before it counts as finished.
    """
    identity = {"fgsearch.kind": "retrain", **tags}
    if journal_path and isinstance(opened := next(Reader(journal_path).new(), None), Opened):
        identity |= {"fgsearch.search": opened.search, "fgsearch.id": search_id(opened)}
        if parent := store.runs(search_id(opened)).get(None):
            identity["mlflow.parentRunId"] = parent.id
    run = store.create(name, times[0], identity)
    points = [Point(metric, value, times[1], 0) for metric, value in metrics.items()]
    store.write(run, points, texts(settings), {"fgsearch.state": "completed"})
    if artifacts:
        store.attach_folder(run, artifacts)
    if keep:
        keep(run)
    store.set_status(run, "FINISHED", times[1])
    return store.address(run)


class Tracker:
    """Keeps MLflow up to date from a thread of its own, as a context; nothing that happens there reaches the search."""

    def __init__(self, journal_path: Path, space: Space, store: Store) -> None:
        self.remark = ""         # one line on what is not written, and what to do
        self._projection = Projection(journal_path, space, store)
        self._store = store
        self._changed = Condition()
        self._asked = 0          # drains so far
        self._served = 0         # the last one that has been answered
        self._over = False
        self._thread = Thread(target=self._run, name="mlflow", daemon=True)  # a hung server must not hold the program

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def drain(self, timeout: float) -> bool:
        """Wait until what the journal holds now is in MLflow; False, with a `remark`, when it is not by then."""
        with self._changed:
            self._asked += 1
            mine = self._asked
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._served >= mine or self._over, timeout)
            served = self._served >= mine
        if not served and not self.remark:
            self._note(f"MLflow at {self._store.where}: not all is written after {timeout:.0f} s")
        return served and not self.remark

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End after the pass that is under way, unless it takes longer than `END_SECONDS`: a hung server's does."""
        self._close()
        self._thread.join(END_SECONDS)

    def _close(self) -> None:
        with self._changed:
            self._over = True
            self._changed.notify_all()

    def _run(self) -> None:
        wait = PERIOD
        try:
            while not self._over:
                ticket = self._asked
                wait = PERIOD if self._pass(ticket) else min(2 * wait, LONGEST_WAIT)
                with self._changed:
                    unanswered = self._asked > self._served
                    self._changed.wait_for(lambda: self._over or self._asked > ticket, 1.0 if unanswered else wait)  # noqa: B023 waited for here
        except InputError as error:  # the journal itself is broken: the search will say so too
            self._note(str(error))
        finally:
            self._projection.close()
            self._close()

    def _pass(self, ticket: int) -> bool:
        try:
            self._projection.read()
            refusals = self._projection.write()
            if ticket > self._served:
                self._store.settle()
        except StoreError as error:
            self._note(str(error))
            return False
        self.remark = ""
        if refusals:
            self._note(refusals[0])
        with self._changed:
            self._served = ticket
            self._changed.notify_all()
        return not refusals

    def _note(self, why: str) -> None:
        self.remark = f"{why}; everything is in the journal: launching the same name again writes the rest"
