"""A run on disk: one safetensors file with what it is a checkpoint of, written whole or not at all."""

import json
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from fgmodel import atomic
from fgmodel.errors import InputError

_FORMAT = 1
_LAST = 1_000_000   # epochs no run has


def write(path: Path, tensors: dict[str, Tensor], identity: dict[str, Any], epoch: int) -> None:
    """Keep a run's tensors and epoch in `path`; a reader sees the old file or the new one, never a part."""
    header = json.dumps({"format": _FORMAT, "epoch": epoch, "identity": identity}, sort_keys=True)
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    atomic.write(path, save(plain, {"run": header}))


def read(path: Path, identity: dict[str, Any], expected: dict[str, Tensor]) -> tuple[dict[str, Tensor], int]:
    """Return the tensors and the epoch of a run's checkpoint.

    `expected` holds tensors of the names, shapes and types the run has.
    Raises InputError: where the file is none, is damaged, or belongs to another configuration.
    """
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            header = _header(path, file.metadata())
            _require_same(path, header["identity"], json.loads(json.dumps(identity)))
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  it is no dict
    except (SafetensorError, OSError) as error:
        raise InputError(f"{path}: not a readable checkpoint ({error}); use an older one or start anew") from None
    if _shapes(tensors) != _shapes(expected):
        raise InputError(f"{path}: its tensors are not those of this configuration's model; start the run anew")
    return tensors, header["epoch"]


def _header(path: Path, metadata: dict[str, str] | None) -> dict[str, Any]:
    try:
        header = json.loads((metadata or {})["run"])
        if header["format"] == _FORMAT and isinstance(header["identity"], dict):
            return {**header, "epoch": _epoch(header["epoch"])}
    except (KeyError, TypeError, ValueError, RecursionError):
        pass  # said below: it is one mistake, however it shows
    raise InputError(f"{path}: a safetensors file, but not a checkpoint of a run in format {_FORMAT}")


def _epoch(given: object) -> int:
    if not isinstance(given, int) or not 0 <= given < _LAST:
        raise ValueError(given)
    return given


def _require_same(path: Path, there: dict[str, Any], here: dict[str, Any]) -> None:
    for name in sorted(there.keys() | here.keys()):
        if there.get(name) != here.get(name):
            given, wanted = there.get(name), here.get(name)
            raise InputError(f"{path}: checkpoint of another configuration: {name} is {given!r} there, {wanted!r} here")


def _shapes(tensors: dict[str, Tensor]) -> dict[str, tuple[Any, ...]]:
    return {name: (tensor.shape, tensor.dtype) for name, tensor in tensors.items()}
