"""A retrain is a study of one row: the same configuration with several seeds, on as many workers as there are.

So whatever is killed goes on, and a finished seed is not trained again. Until the result is written, the home keeps
under `unfinished/MODEL/` what a search's folder holds (journal, checkpoints, predictions), and

    begun.json     what is trained, on what, and where: another one starts anew
    opened.json    the opening of the test split, kept before it is recorded, so that it is recorded once
"""

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError
from rich.console import Console
from rich.progress import Progress

from fgmodel import atomic
from fgmodel.config import TrialConfig
from fgmodel.lock import hold
from fgmodel.trial_data import TrialData
from search.decide.dispatch import Dispatcher
from search.decide.forecast import spoken
from search.errors import InputError, writing
from search.export.environment import Environment, differences
from search.record.history import History, Trial, load
from search.record.home import Home
from search.record.journal import Journal, OpenedTest
from search.run.drive import drive
from search.run.executor import Executor
from search.run.launch import open_search
from search.show.screen import Steps
from search.space.space import Plan, Resources, Space

SHELF = "unfinished"


def one_row(config: TrialConfig, name: str, seeds: int, workers: int, resources: Resources) -> Space:
    """Return the study that trains a configuration with the seeds 0, 1, … and opens the test split with each."""
    epochs = config.optim.epochs
    search = Plan(
        objective="test/accuracy", trials=seeds, seeds=seeds, epochs=epochs, rungs=(epochs,), workers=workers,
        resources=resources,
    )
    fixed = {**config.settings(), "seed": 0}
    return Space(name=name, question="", fixed=fixed, tune=(), search=search, rows={"retrain": {}})


@dataclass(frozen=True)
class Unfinished:
    """What a retrain keeps until it has ended."""

    home: Home
    name: str

    @property
    def folder(self) -> Path:
        """The folder of its study."""
        return self.home.search(self.name)

    def checkpoint(self, trial: Trial) -> Path:
        """Return the file of a seed's weights."""
        assert trial.checkpoint
        return self.home.checkpoints(self.name) / trial.checkpoint[1]

    def begin(self, config: TrialConfig, data: TrialData, here: Environment, console: Console) -> None:
        """Keep what is there where it is of the same configuration, data and place; else say so and drop it."""
        path, mine = self.folder / "begun.json", _begun(config, data, here)
        try:
            before = json.loads(path.read_bytes())
        except (FileNotFoundError, ValueError, RecursionError):
            before = None
        if before != mine:
            if before is not None:
                console.print(f"begun before, not gone on with: {_why(before, here)}", soft_wrap=True)
            shutil.rmtree(self.folder, ignore_errors=True)
            atomic.write(path, json.dumps(mine, indent=1).encode())

    def opening(self, fact: OpenedTest) -> OpenedTest:
        """Return the opening of the test split that this retrain decided on before it was killed, else `fact`, kept."""
        path = self.folder / "opened.json"
        try:
            kept = OpenedTest.model_validate_json(path.read_bytes())
            if kept.model_copy(update={"at": fact.at}) == fact:
                return kept
        except (FileNotFoundError, ValidationError):
            pass  # not decided yet
        atomic.write(path, fact.model_dump_json().encode())
        return fact

    def end(self) -> None:
        """Drop it: the result is written."""
        shutil.rmtree(self.folder, ignore_errors=True)


@contextmanager
def unfinished(home: Home, model: str) -> Iterator[Unfinished]:
    """Give what the retrain of a model keeps; raises InputError while another process is at it."""
    kept = Unfinished(Home(home.path, SHELF), model)
    refusal = InputError(f"{kept.folder}: another process is retraining this model; wait for its end")
    with writing(kept.folder):
        kept.folder.parent.mkdir(parents=True, exist_ok=True)
        alone = hold(kept.folder, refusal)
    with alone:
        yield kept


def train_seeds(
    space: Space, data: TrialData, boxes: Path | None, images: int, kept: Unfinished, executor: Executor,
    nodes: tuple[str, ...], progress: Progress, console: Console,
) -> list[Trial]:
    """Return a trained trial a seed, with what each says of the test split; what was done before is not done again.

    Raises InputError: where a seed failed, e.g. diverged. KeyboardInterrupt: where it was stopped.
    """
    with Journal(kept.home.journal(kept.name)) as journal:
        history = load(journal.path)
        _say_what_was_done(history, space, console)
        dispatcher = Dispatcher(space, journal, history, kept.home.checkpoints(kept.name), images, boxes)
        open_search(dispatcher, kept.name, data, nodes)
        drive(dispatcher, kept.name, kept.home, executor, _Pace(space, history, progress, console).tick)
    if failed := [trial for trial in history.trials.values() if trial.reason]:
        kept.end()  # the same command tries it anew
        why = f"seed {failed[0].number}: {failed[0].failure}"
        raise InputError(f"{why}; export another trial: fgsearch export NAME --trial K")
    if history.finished is None or history.finished.how != "complete":
        raise KeyboardInterrupt
    return list(history.trials.values())


def _say_what_was_done(history: History, space: Space, console: Console) -> None:
    for trial in history.trials.values():
        if trial.rung >= space.search.epochs:
            console.print(f"seed {trial.number}: was trained before")
        elif trial.checkpoint:
            console.print(f"seed {trial.number}: goes on after epoch {trial.checkpoint[0]}")


class _Pace:
    """Shows how far all seeds are together, and forecasts the rest once a seed has shown how long an epoch takes."""

    def __init__(self, space: Space, history: History, progress: Progress, console: Console) -> None:
        self._search, self._history, self._console = space.search, history, console
        self._steps = Steps(progress)
        self._before = {trial.number: len(trial.reports) for trial in history.trials.values()}
        self._done, self._told = sum(self._before.values()), False

    def tick(self) -> None:
        """Take in the epochs that were reported since."""
        done = sum(len(trial.reports) for trial in self._history.trials.values())
        if done == self._done:
            return
        self._done = done
        self._steps("training", done, self._search.trials * self._search.epochs)
        if not self._told and (each := self._seconds()):
            self._told = True
            left = self._search.trials * self._search.epochs - done
            at_once = f", {self._search.workers} seeds at once" if self._search.workers > 1 else ""
            about = spoken(each * left / self._search.workers)
            count = f"{left} epoch{'' if left == 1 else 's'}"
            self._console.print(f"forecast: {count} of {each:.2f} s{at_once}: about {about}")

    def _seconds(self) -> float | None:
        """Return what an epoch takes, by a seed's second one: its first waits for what is loaded."""
        for trial in self._history.trials.values():
            times = list(trial.reported.values())[self._before.get(trial.number, 0):]
            if len(times) > 1:
                return (times[-1] - times[0]).total_seconds() / (len(times) - 1)
        return None


def _begun(config: TrialConfig, data: TrialData, here: Environment) -> dict[str, object]:
    settings = {name: value for name, value in config.settings().items() if name not in ("seed", "data.root")}
    of = {"fingerprint": data.fingerprint, "split": data.split, "patches": data.patches}
    return json.loads(json.dumps({"settings": settings, "data": of, "environment": here.model_dump()}))  # type: ignore[no-any-return]


def _why(before: object, here: Environment) -> str:
    try:
        assert isinstance(before, dict)
        differs = differences(Environment(**before["environment"]), here)
    except (AssertionError, KeyError, TypeError, ValidationError):
        differs = []
    return differs[0] if differs else "it was of other settings or data"
