"""A space, journals written by hand and a search that trains nothing."""

import sys
from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest

from search.cli import main
from search.decide.dispatch import Dispatcher, Order, Outcome
from search.record.history import History
from search.record.journal import Journal, Opened
from search.space.file import read_space
from search.space.space import Space

SPACES = Path(__file__).parents[2] / "spaces"


@pytest.fixture
def space() -> Space:
    """Return the shipped search of drawn birds, without its race."""
    return read_space(SPACES / "finches.yaml", ["search.finalists=0"])


@pytest.fixture
def fgsearch(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Return a function that runs the command line and gives its status, output and errors."""

    def run(*words: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["fgsearch", *map(str, words)])
        with pytest.raises(SystemExit) as exit_:
            main()
        said = capsys.readouterr()
        return int(exit_.value.code or 0), said.out, said.err

    return run


@pytest.fixture
def dispatching(tmp_path: Path) -> Callable[..., Dispatcher]:
    """Return a function that opens a dispatcher on a journal of `tmp_path`, new or continued."""
    journals: list[Journal] = []

    def opened(space: Space, name: str = "s") -> Dispatcher:
        for journal in journals:
            journal.close()
        journals[:] = [Journal(tmp_path / name / "journal.jsonl")]
        from search.record.history import load

        history = load(journals[0].path)
        dispatcher = Dispatcher(space, journals[0], history, tmp_path / name / "checkpoints")
        if not history.facts:
            dispatcher.record(Opened(search=name, space=space.document(), digest=space.digest(), question=space.question))
        return dispatcher

    yield opened
    for journal in journals:
        journal.close()


def score(trial: int, epoch: int) -> float:
    """Return a made-up accuracy that rises with epochs and ranks trials differently early and late."""
    random = Random(trial)
    top, pace = random.random(), random.random()
    return top * (1 - 0.9 ** (epoch * (0.3 + pace)))


def train(dispatcher: Dispatcher, order: Order, until: int | None = None) -> None:
    """Report an order's epochs as a worker would, as far as `until`."""
    start = order.checkpoint[0] if order.checkpoint else 0
    for epoch in range(start + 1, (until or order.to) + 1):
        name = f"{order.trial}/epoch{epoch}-job{order.job}.{order.attempt}.safetensors"
        file = dispatcher.checkpoints / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
        metrics = {"val/accuracy": score(order.trial, epoch), "val/nll": 1.0}
        dispatcher.take(
            Outcome(
                job=order.job,
                attempt=order.attempt,
                trial=order.trial,
                epoch=epoch,
                metrics=metrics,
                seconds=1,
                checkpoint=name,
            )
        )


def run_to_end(dispatcher: Dispatcher) -> History:
    """Run a whole search with one worker."""
    while order := dispatcher.next():
        train(dispatcher, order)
    return dispatcher.history
