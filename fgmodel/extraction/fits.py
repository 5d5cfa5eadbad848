"""What a method fitted on the train images, in a file named by all that decides it.

So every image of either split, in whatever process, is seen by the very same fit.
"""

import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from fgmodel import store
from fgmodel.errors import InputError
from fgmodel.progress import Progress


def kept_fit(path: Path, what: str, progress: Progress, fit: Callable[[], dict[str, Tensor]]) -> dict[str, Tensor]:
    """Return what `fit` returned when it was first needed; it is called where `path` does not hold that yet."""
    with store.building(path, what, progress) as must_build:
        if must_build:
            arrays = {name: tensor.detach().cpu().numpy() for name, tensor in fit().items()}
            store.write(path, lambda file: np.savez(file, **arrays))  # type: ignore[arg-type]  # its option is no array
    try:
        with path.open("rb") as opened, np.load(opened, allow_pickle=False) as file:   # np.load leaks a torn file
            return {name: torch.from_numpy(file[name]) for name in file.files}
    except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile) as error:
        raise InputError(f"{path} is damaged ({error}); delete it to have it computed again") from None
