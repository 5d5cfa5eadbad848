"""The jobs of a search on workers of Ray: on this machine, or on the cluster at an address."""

from collections.abc import Callable
from pathlib import Path
from typing import Self

from rich.console import Console

from cluster.connect import Connection
from search.decide.dispatch import Dispatcher
from search.record.home import Home
from search.run.resources import require_resources
from search.space.space import Space


class RayExecutor:
    """Workers that Ray starts; it is starting from entering on, while the rest is imported."""

    def __init__(self, space: Space, address: str | None) -> None:
        self._each = space.search.resources
        self._ray = Connection(space.search.workers, self._each.cpu, address)

    def of(self, space: Space) -> Space:
        """Return the space; raises InputError when this machine cannot hold as many trials at once as it asks."""
        if self._ray.address is None:
            require_resources(space)
        return space

    def __enter__(self) -> Self:
        self._ray.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self._ray.__exit__(*error)

    def probe(self, space: Space, name: str, home: Home, console: Console) -> tuple[str, ...]:
        """Return the nodes of the cluster, once each has shown that it can take part; nothing on this machine."""
        if self._ray.address is None:
            return ()
        from search.run.submit import require_cluster  # noqa: PLC0415 Ray's HTTP clients, for who has a cluster only

        self._ray.wait()
        require_cluster(space, name, home, self._ray, console)
        return tuple(str(node) for node in self._ray.nodes())

    def wait(self) -> None:
        """Return once Ray is there."""
        self._ray.wait()

    def run(
        self, dispatcher: Dispatcher, cache: Path, stop: Callable[[], bool], tick: Callable[[], None], folder: Path,
    ) -> None:
        """Run jobs until none is left or `stop` says so."""
        from search.run.tune import run_jobs  # noqa: PLC0415 Tune reads its settings when first imported

        scratch = folder if self._ray.address else None
        places = lambda: self._ray.places(self._each.cpu, self._each.gpu)  # noqa: E731 asked for several times a second
        run_jobs(dispatcher, cache, stop, tick, places, scratch)

    def leave(self) -> None:
        """Let Ray end while MLflow takes the rest."""
        self._ray.leave()
