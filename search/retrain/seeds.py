"""Trains one configuration with several seeds so that whatever is killed goes on: a finished seed is not trained again.

Until the result is written, the home keeps under `unfinished/MODEL/`:

    begun.json          what is trained, on what, and where: another one starts anew
    seed0.safetensors   a run at its last checkpoint, no older than a minute and an epoch, or finished
    opened.json         the opening of the test split, kept before it is recorded, so that it is recorded once
"""

import json
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from filelock import FileLock, Timeout
from pydantic import ValidationError
from rich.console import Console
from rich.progress import Progress

from fgmodel import atomic
from fgmodel.config import TrialConfig
from fgmodel.training import Diverged, Run, best_device
from fgmodel.trial_data import TrialData
from search.decide.forecast import spoken
from search.errors import InputError, writing
from search.export.environment import Environment, differences
from search.record.home import Home
from search.record.journal import OpenedTest
from search.show.screen import Steps

CHECKPOINT_SECONDS = 60.0


@dataclass(frozen=True)
class Unfinished:
    """What a retrain keeps until it has ended."""

    folder: Path

    def run(self, seed: int) -> Path:
        """Return where the run of a seed is kept."""
        return self.folder / f"seed{seed}.safetensors"

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
            atomic.write(path, lambda file: file.write(json.dumps(mine, indent=1).encode()))

    def opening(self, fact: OpenedTest) -> OpenedTest:
        """Return the opening of the test split that this retrain decided on before it was killed, else `fact`, kept."""
        path = self.folder / "opened.json"
        try:
            kept = OpenedTest.model_validate_json(path.read_bytes())
            if kept.model_copy(update={"at": fact.at}) == fact:
                return kept
        except (FileNotFoundError, ValidationError):
            pass  # not decided yet
        atomic.write(path, lambda file: file.write(fact.model_dump_json().encode()))
        return fact

    def end(self) -> None:
        """Drop it: the result is written."""
        shutil.rmtree(self.folder, ignore_errors=True)


@contextmanager
def unfinished(home: Home, model: str) -> Iterator[Unfinished]:
    """Give what the retrain of a model keeps; raises InputError while another process is at it."""
    folder = home.path / "unfinished" / model
    with writing(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder.with_name(f"{model}.lock"))
        try:
            lock.acquire(timeout=0)
        except Timeout:
            raise InputError(f"{folder}: another process is retraining this model; wait for its end") from None
    try:
        yield Unfinished(folder)
    finally:
        lock.release()


def train_seeds(
    config: TrialConfig, seeds: Sequence[int], data: TrialData, kept: Unfinished, progress: Progress, console: Console,
) -> list[Run]:
    """Return the finished run of every seed, what was done before not done again; raises InputError on divergence."""
    runs = [_started(config, seed, data, kept, console) for seed in seeds]
    pace = _Pace(len(seeds) * config.optim.epochs, sum(run.epoch for run in runs), progress, console)
    for seed, run in zip(seeds, runs, strict=True):
        _train(seed, run, kept, pace)
    return runs


def _started(config: TrialConfig, seed: int, data: TrialData, kept: Unfinished, console: Console) -> Run:
    run = Run(TrialConfig.from_settings({**config.settings(), "seed": seed}), data, best_device())
    if kept.run(seed).exists():
        try:
            run.load(kept.run(seed))
        except InputError as error:
            console.print(f"seed {seed}: starts again: {error}", soft_wrap=True)
            return run
        finished = run.epoch >= config.optim.epochs
        console.print(f"seed {seed}: {'was trained before' if finished else f'goes on after epoch {run.epoch}'}")
    return run


def _train(seed: int, run: Run, kept: Unfinished, pace: "_Pace") -> None:
    epochs, saved = run.config.optim.epochs, time.monotonic()
    try:
        while run.epoch < epochs:
            run.train_epoch()
            if run.epoch == epochs or time.monotonic() - saved > CHECKPOINT_SECONDS:
                run.save(kept.run(seed))
                saved = time.monotonic()
            pace.epoch()
    except Diverged as error:
        raise InputError(f"seed {seed}: {error}; export another trial: fgsearch export NAME --trial K") from None


@dataclass
class _Pace:
    """Shows how far all seeds are together, and forecasts the rest from the epochs so far."""

    total: int
    before: int  # epochs done by an earlier process
    progress: Progress
    console: Console
    done: int = 0
    begun: float = field(default_factory=time.monotonic)

    def __post_init__(self) -> None:
        self._steps = Steps(self.progress)

    def epoch(self) -> None:
        """Take in one epoch; the first one gives the forecast."""
        self.done += 1
        left = self.total - self.before - self.done
        self._steps("training", self.before + self.done, self.total)
        each = (time.monotonic() - self.begun) / self.done
        if self.done == 1:
            self.console.print(f"forecast: {left + 1} epochs of {each:.2f} s: about {spoken(each * (left + 1))}")


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
