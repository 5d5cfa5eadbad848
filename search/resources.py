"""What a search needs of the machine it runs on."""

import os

import torch

from search.errors import InputError
from search.space import Space


def require_resources(space: Space) -> None:
    """Raise InputError when this machine cannot hold as many trials at once as asked."""
    search, each = space.search, space.search.resources
    for name, wanted, there in (("cpu", each.cpu, os.cpu_count() or 1), ("gpu", each.gpu, torch.cuda.device_count())):
        if wanted * search.workers > there:
            said = f"{search.workers} workers with {wanted:g} each do not fit: this machine has {there}"
            raise InputError(f"search.resources.{name}: {said}; set search.workers or search.resources.{name}")
