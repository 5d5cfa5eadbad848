"""The report of a search: what was asked and answered, how sure that is, and everything it rests on, on one page.

A projection of the journal like any other; only the pictures of images need more, the best trial's checkpoint and the
cache, and say so in a line where they are not to be had. The page is kept with the search's run in MLflow.
"""

import time
from collections.abc import Callable
from contextlib import nullcontext
from datetime import UTC, datetime
from pathlib import Path

from fgmodel.atomic import write
from fgmodel.progress import Progress, silent
from search.errors import InputError, writing
from search.record.home import Home
from search.report.pictures import drawing
from search.report.sections import Told, page
from search.show.status import running
from search.tracking.entry import RefusedError
from search.tracking.rows import search_id
from search.tracking.store import Store

FILE = "report.html"
LAUNCH_SECONDS = 60  # from the command to the first line in the journal: imports, and what is to be prepared


def write_report(
    home: Home, name: str, to: Path | None = None, *, images: bool = True, progress: Progress = silent,
) -> Path:
    """Write a search's report to `to`, else into its folder, whole or not at all; return where.

    Raises InputError: for an unknown search, one without a finished rung, a folder that cannot be written.
    """
    path = to or home.search(name) / FILE
    with drawing(home, name, progress) if images else nullcontext() as pictures:
        told = Told.of(home, name)
        if told.verdict is None:
            raise InputError(f"search '{name}': no trial has finished a rung yet, so there is nothing to report")
        _keep(path, page(told, told.verdict, pictures).html())
    return path


def watch(
    home: Home, name: str, to: Path | None, every: int, say: Callable[[str], None],
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Rewrite the report, without images, while the search runs and its journal grows; the page loads itself again.

    A search that could go on and does not run is waited for, a minute: it may just be launched in another window.
    """
    path, seen = to or home.search(name) / FILE, -1
    _await(home, name, say, sleep)
    while running(home.journal(name)):
        told = Told.of(home, name)
        if told.history.facts != seen:
            seen, said = told.history.facts, f"search '{name}': no trial has finished a rung yet; waiting"
            if told.verdict:
                _keep(path, page(told, told.verdict, refresh=every).html())
                said = f"{path}: written, {datetime.now(UTC):%H:%M:%S} UTC"
            say(said)
        sleep(every)


def _await(home: Home, name: str, say: Callable[[str], None], sleep: Callable[[float], None]) -> None:
    finished = home.history(name).finished
    if running(home.journal(name)) or (finished and finished.how == "complete"):
        return
    say(f"search '{name}' does not run now; waiting up to {LAUNCH_SECONDS} s for its launch")
    for _ in range(LAUNCH_SECONDS):
        if running(home.journal(name)):
            return
        sleep(1)


def attach_report(home: Home, name: str, path: Path, store: Store) -> str:
    """Keep a report with its search's run in MLflow; return the run's address. Raises StoreError where it cannot."""
    opened = home.history(name).opened
    assert opened
    run = store.search_run(search_id(opened))
    if run is None:
        raise RefusedError(f"MLflow at {store.where}: has no run of search '{name}'; launching it again writes it")
    store.attach(run, FILE, path.read_text(encoding="utf-8"))
    return store.address(run)


def _keep(path: Path, text: str) -> None:
    with writing(path):
        write(path, text.encode())
