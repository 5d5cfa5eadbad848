"""The texts and numbers of a MATLAB file, read by scipy in a process of its own.

scipy's reader is compiled and trusts what it reads: of damaged lists, changed by a few bytes, one in some thousands
crashes it (scipy 1.17), and so do cells nested deeply. A process of its own makes that one line for the user; it costs
0.4 s a file, once. Nothing in a MATLAB file is executed: its objects, functions and structures are read as nothing.
"""

import functools
import json
import os
import subprocess
import sys
import warnings
from pathlib import Path
from typing import TypeAlias

import numpy as np

from fgmodel.errors import InputError

Content: TypeAlias = dict[str, list[str] | list[float] | None]
"""By variable: a cell array's texts, an array's numbers, None for anything else."""

_LARGEST = 8 << 20      # bytes of a file
_MEMORY = 1 << 30       # bytes the reader may ask for: a small file can unpack to much
_SECONDS = 60.0


def read_matlab(path: Path, keys: tuple[str, ...]) -> Content:
    """Return those of the variables `keys` that a file holds; raises InputError where it is no MATLAB file."""
    try:
        status = path.stat()
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from None
    if status.st_size > _LARGEST:
        raise InputError(f"{path}: is larger than {_LARGEST >> 20} MB, more than a list of images takes")
    return _read(path.absolute(), status.st_mtime_ns, keys)


@functools.lru_cache(maxsize=8)
def _read(path: Path, _mtime_ns: int, keys: tuple[str, ...]) -> Content:
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "OPENBLAS_NUM_THREADS": "1"}
    command = [sys.executable, "-P", "-m", "fgmodel.data.matlab", str(path), *keys]
    try:
        done = subprocess.run(   # noqa: S603  ourselves
            command, env=environment, capture_output=True, text=True, check=False, timeout=_SECONDS,
        )
    except subprocess.TimeoutExpired:
        raise InputError(f"{path}: is not a readable MATLAB file (its reader found no end)") from None
    if done.returncode:
        said = done.stderr.strip().splitlines()[-1:] if done.returncode > 0 else ["its reader crashed"]
        raise InputError(f"{path}: is not a readable MATLAB file ({' '.join(said)[:160]})")
    content: Content = json.loads(done.stdout)
    return content


def _load(path: str, keys: list[str]) -> Content:
    """Return the variables, or whatever error or crash scipy has for the file."""
    import resource  # noqa: PLC0415  likewise; Windows has none

    from scipy.io import loadmat  # noqa: PLC0415  only the process that reads needs it
    from scipy.io.matlab import MatReadWarning  # noqa: PLC0415

    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    warnings.simplefilter("error", MatReadWarning)   # a variable held twice
    content = loadmat(path, variable_names=keys)
    return {key: _plain(content[key]) for key in keys if key in content}


def _plain(value: object) -> list[str] | list[float] | None:
    if type(value) is not np.ndarray:   # MATLAB's objects and functions are subclasses
        return None
    if value.dtype.kind in "uif":
        return [float(number) for number in value.flat]
    cells = list(value.flat) if value.dtype == object else []
    if all(type(cell) is np.ndarray and cell.dtype.kind == "U" and cell.size == 1 for cell in cells) and cells:
        return [str(cell.item()) for cell in cells]
    return None


if __name__ == "__main__":
    print(json.dumps(_load(sys.argv[1], sys.argv[2:])))
