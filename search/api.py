"""The search from Python, for a script or a notebook: what `import search` gives.

import search

found = search.launch("finches", trials=12)        # a shipped space, a file, or objects: search.space_of(...)
found.trials()                                     # pandas: a row a trial
found.export("best.yaml"); found.retrain(seeds=3)
"""

import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from os import PathLike, fspath
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, Any, Literal

from search.console import open_console
from search.errors import InputError, writing
from search.record.history import History
from search.record.home import Home
from search.run.begin import begin
from search.run.last_job import is_active, known_space, last_job, stop, where_it_ran
from search.run.way import Way
from search.show.status import running, summary
from search.space.file import read_space
from search.space.objects import as_yaml, with_settings
from search.space.shipped import find_space
from search.space.space import Space

if TYPE_CHECKING:
    import pandas as pd

State = Literal["running", "complete", "stopped", "budget", "interrupted", "submitted"]
BEGIN_SECONDS = 60.0  # in which a process that was started writes its first line
POLL_SECONDS = 0.2
STOPPED = 130  # the status of a search that was asked to stop


@dataclass(frozen=True)
class Best:
    """The configuration that a search would export now."""

    trial: int
    value: float                 # of the objective at its highest rung
    epochs: int
    settings: dict[str, Any]     # every setting
    tuned: dict[str, Any]        # of those, what the search chose
    mean: float | None           # of the race over fresh seeds, once it is over
    sd: float | None


def launch(
    space: Space | str | PathLike[str], *, name: str | None = None, home: str | PathLike[str] | None = None,
    address: str | None = None, tracking_uri: str | None = None, trials: int | None = None,
    settings: Mapping[str, Any] | None = None, inline: bool = False, blocking: bool = True,
) -> "Search":
    """Run a search and return it; the same name again goes on with it.

    `space` is a shipped space's name, a file or what `space_of` returns; `settings` fixes dotted settings or changes
    `search.*`, as --set does. With `address` it runs on a Ray cluster (http://HEAD:8265 takes it as a job), with
    `inline` in this process without Ray. Not `blocking`: in a process of its own, or as the job, which go on when this
    one ends; `wait` shows it. Raises InputError: for a wrong space, data that changed, a name that is taken.
    """
    wanted = _read(space, {**(settings or {}), **({"search.trials": trials} if trials is not None else {})})
    found = Search(name or wanted.name, _home(home).path)
    way = Way(address, tracking_uri, follow=blocking and address is not None and "://" in address, inline=inline)
    if blocking or way.is_job:
        begin(wanted, found.name, found._home, way, open_console())  # noqa: SLF001 of our own
    else:
        found._start(wanted, way)  # noqa: SLF001
    return found


def open_search(name: str, home: str | PathLike[str] | None = None) -> "Search":
    """Return a search that was begun, running or not; raises InputError naming the nearest one where there is none."""
    place = _home(home)
    if last_job(place, name) is None:
        place.history(name)
    return Search(name, place.path)


@dataclass(frozen=True)
class Search:
    """A search by its name in a home; everything it says is read from the journal when it is asked."""

    name: str
    home: Path

    @property
    def state(self) -> State:
        """Where it stands."""
        place = self._home
        if self.name not in place.names():  # nothing is written yet: the data are being prepared, or its job waits
            return "running" if is_active(place, self.name) else "submitted"
        state: State = summary(place, self.name)["state"]
        return state

    @property
    def space(self) -> Space:
        """What it searches, as its last launch had it."""
        return known_space(self._home, self.name)

    def status(self) -> dict[str, Any]:
        """Return what `fgsearch status --json` prints."""
        return summary(self._home, self.name)

    def trials(self) -> "pd.DataFrame":
        """Return a row a trial, by number: state, epochs, the metrics of its last epoch, what was tuned."""
        import pandas as pd  # noqa: PLC0415 half a second

        history = self._history()
        last = self.space.search.epochs if history.trials else 0
        rows = [
            {
                "trial": trial.number, "state": history.state(trial, last), "by": trial.by,
                "repeats": trial.repeats, "rung": trial.rung, "epochs": trial.epoch, "seconds": trial.seconds,
                "failure": trial.failure, **trial.reports.get(trial.epoch, {}), **trial.settings,
            }
            for trial in history.trials.values()
        ]
        table = pd.DataFrame(rows, columns=None if rows else ["trial"]).set_index("trial")
        return table.astype({"repeats": "Int64"}) if rows else table

    def curves(self) -> "pd.DataFrame":
        """Return a row an epoch of a trial, by (trial, epoch), a column a metric."""
        import pandas as pd  # noqa: PLC0415

        rows = [
            {"trial": trial.number, "epoch": epoch, **metrics}
            for trial in self._history().trials.values() for epoch, metrics in sorted(trial.reports.items())
        ]
        return pd.DataFrame(rows, columns=None if rows else ["trial", "epoch"]).set_index(["trial", "epoch"])

    def best(self) -> Best | None:
        """Return the race's winner once it is over, else the leader; None before any trial has finished a rung."""
        from search.decide import race  # noqa: PLC0415 scipy and Optuna are not needed to launch

        history = self._history()
        space = self.space if history.trials else None
        trial = race.best(space.search, history) if space else None
        if space is None or trial is None:
            return None
        raced = next((c for c in race.confirmed(space.search, history) if c.trial is trial), None)
        mean, sd = (raced.mean, raced.sd) if raced else (None, None)
        every = dict(space.config(trial.settings).settings())
        value = trial.at(trial.rung, space.search.objective)
        return Best(trial.number, value, trial.rung, every, trial.settings, mean, sd)

    def wait(self) -> "Search":
        """Show it until it has ended; an interrupt ends the watching only. Raises InputError: why its driver failed."""
        from search.run.follow import watch  # noqa: PLC0415

        place = self._home
        console = open_console()
        with suppress(KeyboardInterrupt):
            with console.status(f"{self.name}: the data are being prepared …"):
                while self.name not in place.names() and is_active(place, self.name):
                    time.sleep(POLL_SECONDS)
            if self.name in place.names():
                watch(place, self.name, self.space, console, lambda: is_active(place, self.name))
            if self.state in ("interrupted", "submitted") and self._log.exists():
                raise InputError(self._log.read_text().strip().rpartition("\n")[2] or "its driver ended without a word")
        return self

    def stop(self) -> bool:
        """Ask it to stop and wait until it has; False where it was not running. Everything reported is kept."""
        return stop(self._home, self.name)

    def resume(self, *, inline: bool = False, blocking: bool = True) -> "Search":
        """Go on with it where it last ran."""
        return self._go_on(self.space, inline=inline, blocking=blocking)

    def extend(self, trials: int, *, inline: bool = False, blocking: bool = True) -> "Search":
        """Go on until it has had `trials` more than it asked for so far."""
        if trials < 1 or self.space.rows:
            raise InputError("extend: give how many more trials, 1 or more; a list of rows has as many as it has")
        space = self.space
        more = space.search.model_copy(update={"trials": space.search.trials + trials})
        return self._go_on(replace(space, search=more), inline=inline, blocking=blocking)

    def export(self, path: str | PathLike[str], *, trial: int | None = None) -> Path:
        """Write the best configuration, or that of `trial`, as YAML; with all that repeats it where it ends in .zip."""
        to = Path(path)
        if to.suffix == ".zip":
            from search.export.full_bundle import export_bundle  # noqa: PLC0415 torch

            export_bundle(self._home, self.name, to, trial)
        else:
            from search.export.best import export  # noqa: PLC0415

            export(self._home, self.name, to, trial)
        return to

    def retrain(
        self, seeds: int = 3, *, trial: int | None = None, tracking_uri: str | None = None, inline: bool = False,
    ) -> "pd.DataFrame":
        """Train the best configuration on train and validation, open test once, and return a row a seed."""
        import pandas as pd  # noqa: PLC0415

        from search.export.packing import SETTINGS  # noqa: PLC0415
        from search.retrain.retrain import retrain  # noqa: PLC0415 torch and MLflow
        from search.tracking.open_store import open_store  # noqa: PLC0415

        console, bundle = open_console(), self._home.search(self.name) / SETTINGS
        store = open_store(self._home, tracking_uri, console)
        result = retrain(self.export(bundle, trial=trial), seeds, None, self._home, store, console, inline=inline)
        tested = {f"test/{measure}": result.values(measure) for measure in result.measures}
        return pd.DataFrame(tested, index=pd.Index(result.seeds, name="seed"))

    @property
    def _home(self) -> Home:
        return Home(self.home)

    @property
    def _log(self) -> Path:
        """What a driver in a process of its own says."""
        return self._home.search(self.name) / "driver.log"

    def _history(self) -> History:
        return self._home.history(self.name) if self.name in self._home.names() else History()

    def _go_on(self, space: Space, *, inline: bool, blocking: bool) -> "Search":
        way = where_it_ran(self._home, self.name, Way(inline=inline))
        if blocking or way.is_job:
            begin(space, self.name, self._home, replace(way, follow=blocking and way.is_job), open_console())
        else:
            self._start(space, way)
        return self

    def _start(self, space: Space, way: Way) -> None:
        """Launch in a process of its own and return once it has begun; raises InputError with what it said if not."""
        folder, journal = self._home.search(self.name), self._home.journal(self.name)
        if running(journal):
            raise InputError(f"{journal}: another process is running this search; stop it first")
        file, said = folder / f"{space.name}.yaml", self._log
        with writing(folder):
            folder.mkdir(parents=True, exist_ok=True)
            file.write_text(as_yaml(space))
            log = said.open("wb")
        words = [sys.executable, "-m", "search.cli", "launch", str(file), "--name", self.name, "--home", str(self.home)]
        words += ["--address", way.address] if way.address else []
        words += ["--tracking-uri", way.tracking_uri] if way.tracking_uri else []
        words += ["--inline"] if way.inline else []
        with log:
            child = subprocess.Popen(words, stdout=log, stderr=log, stdin=subprocess.DEVNULL, start_new_session=True)  # noqa: S603 this program
        Thread(target=child.wait, daemon=True).start()  # it ends as it likes, and leaves no zombie
        self._until_it_runs(child)

    def _until_it_runs(self, child: "subprocess.Popen[bytes]") -> None:
        journal, patience = self._home.journal(self.name), time.monotonic() + BEGIN_SECONDS
        while time.monotonic() < patience and not running(journal):
            if child.poll() is not None:
                if child.returncode not in (0, STOPPED):
                    raise InputError(self._log.read_text().strip() or f"{self.name}: ended without a word")
                return  # it was complete already
            time.sleep(POLL_SECONDS)


def _read(space: Space | str | PathLike[str], settings: Mapping[str, Any]) -> Space:
    return with_settings(space if isinstance(space, Space) else read_space(find_space(fspath(space))), settings)


def _home(given: str | PathLike[str] | None) -> Home:
    return Home.find(Path(given) if given is not None else None)
