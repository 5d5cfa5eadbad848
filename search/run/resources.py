"""What a search needs of the machine or the cluster it runs on."""

import os
from collections.abc import Sequence

from cluster.nodes import Node, named
from fgmodel.errors import require_packages
from search.errors import InputError
from search.space.space import Space


def require_resources(space: Space) -> None:
    """Raise InputError when this machine cannot hold as many trials at once as asked."""
    search, each = space.search, space.search.resources
    for name, wanted, there in (("cpu", each.cpu, os.cpu_count() or 1), ("gpu", each.gpu, _gpus(each.gpu))):
        if wanted * search.workers > there:
            said = f"{search.workers} workers with {wanted:g} each do not fit: this machine has {there}"
            raise InputError(f"search.resources.{name}: {said}; set search.workers or search.resources.{name}")


def require_sampler(space: Space) -> None:
    """Raise InputError where the space's sampler needs a package that is not installed here."""
    if space.search.sampler.name == "cmaes" and not space.rows:
        require_packages("'search.sampler.name': cmaes", "cmaes", "cmaes")


def places_here(cpu: float, gpu: float) -> int:
    """Return how many trials with these needs this machine holds at once, at least one."""
    fits = [there / wanted for there, wanted in ((os.cpu_count() or 1, cpu), (_gpus(gpu), gpu)) if wanted]
    return max(1, int(min(fits)))


def require_fit(space: Space, nodes: Sequence[Node]) -> None:
    """Raise InputError when no single node of a cluster can hold one trial; how many at once is its affair."""
    each = space.search.resources
    if any(node.places(each.cpu, each.gpu) for node in nodes):
        return
    needs = [f"{amount:g} {what}" for what, amount in (("CPU", each.cpu), ("GPU", each.gpu)) if amount]
    said = f"a trial needs {' and '.join(needs)}, and no node has that"
    raise InputError(f"search.resources: {said}: {named(nodes) or 'the cluster has no node'}; set less")


def _gpus(wanted: float) -> int:
    if not wanted:
        return 0
    import torch  # noqa: PLC0415 two seconds, for who asks for a GPU only

    return torch.cuda.device_count()
