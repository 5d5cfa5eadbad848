"""Runs the jobs of a search until they are done, its budget is spent or it is asked to stop."""

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Literal

from search.decide.dispatch import Dispatcher
from search.record.home import Home
from search.run.executor import Executor


def drive(dispatcher: Dispatcher, name: str, home: Home, executor: Executor, tick: Callable[[], None]) -> None:
    """Have the executor run what the dispatcher hands out; record how it ended."""
    search = dispatcher.space.search
    deadline = None if search.hours is None else time.monotonic() + 3600 * search.hours
    ending = Ending(home.stop_flag(name), deadline)
    executor.wait()
    with _signals(ending):
        executor.run(dispatcher, home.cache, ending, tick, home.search(name))
        dispatcher.finish(ending.why or "stopped")


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


@contextmanager
def _signals(ending: Ending) -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():  # of a notebook, say: signals are not its own
        yield
        return
    numbers = (signal.SIGINT, signal.SIGTERM)  # after Ray's start: it installs its own
    before = [signal.signal(number, ending.by_signal) for number in numbers]
    try:
        yield
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)
