"""Assembles a search and runs it. Launching, resuming after a crash and extending are this one function."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from fgmodel.config import TrialConfig
from fgmodel.data.datasets import open_dataset
from search.decide import race
from search.decide.dispatch import Dispatcher
from search.errors import InputError
from search.record.history import History, load
from search.record.home import Home, code_version
from search.record.journal import Journal, Launched, Opened
from search.record.manifest import write_manifest
from search.run.drive import drive
from search.run.executor import Executor
from search.run.resources import require_sampler
from search.show.screen import Screen, Steps, preparing
from search.space.space import Space
from search.tracking.store import Store
from search.tracking.tracker import Tracker

if TYPE_CHECKING:
    from fgmodel.trial_data import TrialData

DRAIN_SECONDS = 60.0  # how long a finished search waits for MLflow before it says how to go on


def launch(
    space: Space, name: str, home: Home, open_store: Callable[[], Store], console: Console, executor: Executor,
) -> History:
    """Run the search until it is complete, its budget is spent or it is stopped; returns what the journal then says.

    This process is its driver, `executor` runs its jobs. `open_store` is called while that starts, since MLflow takes
    two seconds to import. Raises InputError: when the name belongs to another space, the data changed, or another
    process runs this search; ClusterError: naming the node that cannot take part.
    """
    require_sampler(space)
    path = home.journal(name)
    with Journal(path) as journal:
        history = load(path)
        require_same_space(space, name, history)
        home.stop_flag(name).unlink(missing_ok=True)
        if is_complete(space, history):
            _project(path, space, open_store(), console)
            return history
        space = executor.of(space)
        config = space.config(space.reference())
        with executor:  # while the rest is imported
            nodes = executor.probe(space, name, home, console)
            tracker = Tracker(path, space, open_store())
            data = open_data(config, home, console)
            if not history.facts:
                write_manifest(home, name, config)
            test_images = count_test_images(config, home) if space.search.final else 0
            dispatcher = Dispatcher(space, journal, history, home.checkpoints(name), test_images)
            open_search(dispatcher, name, data, nodes)
            with tracker:
                with Screen(console, space, history) as screen:
                    drive(dispatcher, name, home, executor, screen.tick)
                executor.leave()  # ends while MLflow takes the rest
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


def open_search(dispatcher: Dispatcher, name: str, data: "TrialData", nodes: tuple[str, ...]) -> None:
    """Record that a driver began or goes on; raises InputError when the data is not what the search began with."""
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
