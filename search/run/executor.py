"""Who runs the jobs of a search: workers of Ray Tune on this machine or a cluster, or this very process."""

from collections.abc import Callable
from pathlib import Path
from typing import Protocol, Self

from rich.console import Console

from search.decide.dispatch import Dispatcher
from search.record.home import Home
from search.space.space import Space


class Executor(Protocol):
    """Runs a dispatcher's jobs, as a context; starting may go on in the background until `wait`."""

    def of(self, space: Space) -> Space:
        """Return the space as it runs here; raises InputError when this place cannot hold its trials."""
        ...

    def __enter__(self) -> Self:
        """Begin to start."""
        ...

    def __exit__(self, *error: object) -> None:
        """End, and wait until all that was started has ended."""
        ...

    def probe(self, space: Space, name: str, home: Home, console: Console) -> tuple[str, ...]:
        """Return the nodes of a cluster once each has shown that it can take part; nothing where there is one place.

        Raises InputError or ClusterError naming the node that cannot.
        """
        ...

    def wait(self) -> None:
        """Return once jobs can be run."""
        ...

    def run(
        self, dispatcher: Dispatcher, cache: Path, stop: Callable[[], bool], tick: Callable[[], None], folder: Path,
    ) -> None:
        """Run jobs until none is left or `stop` says so; `tick` is called as often as there may be something new.

        `folder` is the search's own. Raises InputError: for what ends a search, e.g. a full disk.
        """
        ...

    def leave(self) -> None:
        """Begin to end: no more jobs will come."""
        ...


def executor(space: Space, address: str | None, *, inline: bool = False) -> Executor:
    """Return this process, or Ray on this machine or at `address` (`auto`, host:port)."""
    if inline:
        from search.run.inline import InlineExecutor  # noqa: PLC0415 torch takes two seconds

        return InlineExecutor()
    from search.run.on_ray import RayExecutor  # noqa: PLC0415 so does Ray

    return RayExecutor(space, address)
