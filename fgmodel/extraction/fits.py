"""What a method fitted on the train images, in a file named by all that decides it.

So every image of either split, in whatever process, is seen by the very same fit.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from fgmodel import atomic
from fgmodel.arrays import read_npz
from fgmodel.errors import InputError
from fgmodel.progress import Progress

_LARGEST = 4 << 30   # bytes of a fit: protopnet's trunk and prototypes


def kept_fit(path: Path, what: str, progress: Progress, fit: Callable[[], dict[str, Tensor]]) -> dict[str, Tensor]:
    """Return what `fit` returned when it was first needed; it is called where `path` does not hold that yet."""
    with atomic.building(path, what, progress) as must_build:
        if must_build:
            arrays = {name: tensor.detach().cpu().numpy() for name, tensor in fit().items()}
            atomic.write(path, lambda file: np.savez(file, **arrays))  # type: ignore[arg-type]  # its option is no array
    try:
        return {name: torch.from_numpy(array) for name, array in read_npz(path, _LARGEST).items()}
    except (OSError, ValueError, TypeError) as error:   # a type torch has not
        raise InputError(f"{path} is damaged ({error}); delete it to have it computed again") from None
