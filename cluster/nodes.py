"""The nodes of a cluster and what a trial finds on them."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

ENOUGH = 1 - 1e-6  # of a fraction of a GPU: 1 / (1/3) is a little less than 3


@dataclass(frozen=True)
class Node:
    """A node that is alive, with all it has, in use or not."""

    id: str
    name: str
    cpu: float
    gpu: float

    def places(self, cpu: float, gpu: float) -> int:
        """Return how many trials with these needs fit on it at once."""
        fits = [there / wanted for there, wanted in ((self.cpu, cpu), (self.gpu, gpu)) if wanted]
        return int(min(fits) + 1 - ENOUGH)

    def __str__(self) -> str:
        return f"{self.name} ({self.cpu:g} CPU, {self.gpu:g} GPU)"


def node(id_: str, name: str, address: str, resources: dict[str, float]) -> Node:
    """Return a node from what Ray says of it; a name that is only its address, or none, becomes its address."""
    return Node(id_, name or address, resources.get("CPU", 0.0), resources.get("GPU", 0.0))


def places(nodes: Iterable[Node], cpu: float, gpu: float) -> int:
    """Return how many trials with these needs the nodes hold at once."""
    return sum(each.places(cpu, gpu) for each in nodes)


def named(nodes: Sequence[Node]) -> str:
    """Return the nodes in one line, at most eight of them."""
    more = f" and {len(nodes) - 8} more" if len(nodes) > 8 else ""
    return ", ".join(str(each) for each in nodes[:8]) + more
