"""Assembles a search and runs it. Launching, resuming after a crash and extending are this one function."""

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Literal

from rich.console import Console

from cluster.connect import Connection
from fgmodel.config import TrialConfig
from fgmodel.data.datasets import open_dataset
from search.decide import race
from search.decide.dispatch import Dispatcher
from search.errors import InputError
from search.record.history import History, load
from search.record.home import Home, code_version
from search.record.journal import Journal, Launched, Opened
from search.record.manifest import write_manifest
from search.run.resources import require_resources
from search.show.screen import Screen, Steps, preparing
from search.space.space import Space
from search.tracking.store import Store
from search.tracking.tracker import Tracker

if TYPE_CHECKING:
    from fgmodel.trial_data import TrialData

DRAIN_SECONDS = 60.0  # how long a finished search waits for MLflow before it says how to go on


@dataclass
class Ending:
    """Why a search should end before its work is done."""

    flag: Path
    deadline: float | None
    why: Literal["stopped", "budget"] | None = field(default=None)

    def __call__(self) -> bool:
        """Whether it is time to end."""
        if self.why is None and self.flag.exists():
            self.why = "stopped"
        if self.why is None and self.deadline is not None and time.monotonic() > self.deadline:
            self.why = "budget"
        return self.why is not None

    def by_signal(self, number: int, _: FrameType | None) -> None:
        """End at the next turn; a second signal ends at once."""
        self.why = "stopped"
        signal.signal(number, signal.SIG_DFL)


def launch(
    space: Space, name: str, home: Home, open_store: Callable[[], Store], console: Console, address: str | None = None,
) -> History:
    """Run the search until it is complete, its budget is spent or it is stopped; returns what the journal then says.

    On this machine, or with an `address` (`auto`, host:port) on that Ray cluster, this process being its driver.
    `open_store` is called while Ray starts, since MLflow takes two seconds to import. Raises InputError: when the name
    belongs to another space, the data changed, or another process runs this search; ClusterError: naming the node that
    cannot take part.
    """
    path = home.journal(name)
    with Journal(path) as journal:
        history = load(path)
        require_same_space(space, name, history)
        home.stop_flag(name).unlink(missing_ok=True)
        if is_complete(space, history):
            _project(path, space, open_store(), console)
            return history
        if address is None:
            require_resources(space)
        config = space.config(space.reference())
        with Connection(space.search.workers, space.search.resources.cpu, address) as ray:  # while the rest is imported
            if address is not None:
                _require_cluster(space, name, home, ray, console)
            tracker = Tracker(path, space, open_store())
            data = open_data(config, home, console)
            if not history.facts:
                write_manifest(home, name, config)
            test_images = count_test_images(config, home) if space.search.final else 0
            dispatcher = Dispatcher(space, journal, history, home.checkpoints(name), test_images)
            _open(dispatcher, name, data, tuple(str(node) for node in ray.nodes()) if address else ())
            with tracker:
                _run(dispatcher, name, home, ray, console)
                ray.leave()  # ends while MLflow takes the rest
                _drain(tracker, console)
        return dispatcher.history


def finished_already(space: Space, name: str, home: Home) -> bool:
    """Whether nothing is left to do; raises InputError when the name belongs to another space."""
    if not home.journal(name).exists():
        return False
    history = load(home.journal(name))
    require_same_space(space, name, history)
    return is_complete(space, history)


def require_same_space(space: Space, name: str, history: History) -> None:
    """Raise InputError naming what differs when the journal belongs to another space."""
    if history.opened is None or history.opened.digest == space.digest():
        return
    theirs, ours = _flat(history.opened.space), _flat(space.document())
    differs = sorted(key for key in theirs | ours if theirs.get(key) != ours.get(key))
    listed = "; ".join(f"{key} was {theirs.get(key, 'absent')}, is {ours.get(key, 'absent')}" for key in differs[:3])
    more = f" and {len(differs) - 3} more" if len(differs) > 3 else ""
    raise InputError(f"search '{name}' belongs to another space: {listed}{more}; choose another --name")


def is_complete(space: Space, history: History) -> bool:
    """Whether the search ended with all the trials this space asks for."""
    done = history.finished is not None and history.finished.how == "complete"
    search, launched = space.search, history.launched
    enough = launched is not None and launched.trials >= search.trials
    return done and enough and race.due(search, history) is None


def open_data(config: TrialConfig, home: Home, console: Console) -> "TrialData":
    """Return the data every trial trains on, computed now where the cache lacks it."""
    from fgmodel.data.datasets import NOTES  # noqa: PLC0415 torch takes two seconds, in which Ray starts
    from fgmodel.prepare import prepare  # noqa: PLC0415
    from fgmodel.training import best_device  # noqa: PLC0415

    for note in NOTES[config.data.dataset]:
        console.print(f"note: {note}", soft_wrap=True)
    with preparing(console) as progress:
        return prepare(config, home.cache, progress=Steps(progress), device=best_device())


def count_test_images(config: TrialConfig, home: Home) -> int:
    """Return how many images the test split has, opening none."""
    return int(open_dataset(config.data, home.cache).rows("test").size)


def _require_cluster(space: Space, name: str, home: Home, ray: Connection, console: Console) -> None:
    from search.run.submit import require_cluster  # noqa: PLC0415 Ray's HTTP clients, for who has a cluster only

    ray.wait()
    require_cluster(space, name, home, ray, console)


def _open(dispatcher: Dispatcher, name: str, data: "TrialData", nodes: tuple[str, ...]) -> None:
    space, history = dispatcher.space, dispatcher.history
    facts = {"fingerprint": data.fingerprint, "split": data.split, "patches": data.patches}
    before = history.launched.data if history.launched else facts
    if changed := [key for key in facts if before[key] != facts[key]]:
        what = ", ".join(changed)
        raise InputError(f"search '{name}': its {what} changed since it began; put it back or choose another --name")
    if history.opened is None:
        dispatcher.record(Opened(search=name, question=space.question, space=space.document(), digest=space.digest()))
    version, commit, dirty = code_version()
    dispatcher.record(
        Launched(
            trials=space.search.trials,
            workers=space.search.workers,
            finalists=space.search.finalists,
            seeds=space.search.seeds,
            version=version,
            data=facts,
            commit=f"{commit}{'-dirty' if dirty else ''}" if commit else None,
            reference=dict(space.config(space.reference()).settings()),
            resources=space.search.resources.model_dump(),
            hours=space.search.hours,
            retries=space.search.retries,
            nodes=nodes,
        )
    )


def _run(dispatcher: Dispatcher, name: str, home: Home, ray: Connection, console: Console) -> None:
    search = dispatcher.space.search
    deadline = None if search.hours is None else time.monotonic() + 3600 * search.hours
    ending = Ending(home.stop_flag(name), deadline)
    with Screen(console, dispatcher.space, dispatcher.history) as screen:
        from search.run.tune import run_jobs  # noqa: PLC0415 Tune reads its settings when first imported

        ray.wait()
        each, scratch = search.resources, home.search(name) if ray.address else None
        with _signals(ending):
            run_jobs(dispatcher, home.cache, ending, screen.tick, lambda: ray.places(each.cpu, each.gpu), scratch)
            dispatcher.finish(ending.why or "stopped")


@contextmanager
def _signals(ending: Ending) -> Iterator[None]:
    numbers = (signal.SIGINT, signal.SIGTERM)  # after Ray's start: it installs its own
    before = [signal.signal(number, ending.by_signal) for number in numbers]
    try:
        yield
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)


def _project(path: Path, space: Space, store: Store, console: Console) -> None:
    with Tracker(path, space, store) as tracker:
        _drain(tracker, console)


def _drain(tracker: Tracker, console: Console) -> None:
    if not tracker.drain(DRAIN_SECONDS):
        console.print(tracker.remark, soft_wrap=True)


def _flat(tree: object, prefix: str = "") -> dict[str, object]:
    if not isinstance(tree, dict):
        return {prefix: tree}
    pairs = (_flat(value, f"{prefix}.{key}" if prefix else key) for key, value in tree.items())
    return {key: value for pair in pairs for key, value in pair.items()}
