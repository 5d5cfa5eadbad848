"""The jobs of a search one after another in this process, without Ray: for a debugger, a notebook, Windows, the tests.

With one worker and a seed it decides and measures what Ray does with one worker, to the bit.
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Self

import torch
from rich.console import Console

from search.decide.dispatch import Dispatcher, Order
from search.errors import InputError
from search.record.home import Home
from search.run.worker import Room, Worker
from search.space.space import Space


class InlineExecutor:
    """This process as the only worker."""

    def of(self, space: Space) -> Space:
        """Return the space with one worker; raises InputError when it asks for a GPU and none is here."""
        if space.search.resources.gpu and not torch.cuda.is_available():
            raise InputError("search.resources.gpu: this machine has none; set it to 0")
        return replace(space, search=space.search.model_copy(update={"workers": 1}))

    def __enter__(self) -> Self:
        self._threads = torch.get_num_threads()
        return self

    def __exit__(self, *error: object) -> None:
        torch.set_num_threads(self._threads)

    def probe(self, space: Space, name: str, home: Home, console: Console) -> tuple[str, ...]:
        """Return nothing: there is one place."""
        del space, name, home, console
        return ()

    def wait(self) -> None:
        """Return at once."""

    def run(
        self, dispatcher: Dispatcher, cache: Path, stop: Callable[[], bool], tick: Callable[[], None], folder: Path,
    ) -> None:
        """Run jobs until none is left or `stop` says so."""
        del folder
        worker = Worker()
        room = Room(dispatcher.checkpoints, cache, max(1, int(dispatcher.space.search.resources.cpu)))
        while not stop() and (order := dispatcher.next()):
            _train(worker, order, room, dispatcher, stop, tick)

    def leave(self) -> None:
        """Do nothing: nothing was started."""


def _train(
    worker: Worker, order: Order, room: Room, dispatcher: Dispatcher, stop: Callable[[], bool],
    tick: Callable[[], None],
) -> None:
    worker.take(order, room)
    tick()
    while not dispatcher.take(worker.epoch()):
        tick()
        if stop():
            return
    tick()
