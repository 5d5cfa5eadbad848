"""The authors' checkpoints (VITA-Group/Focus-Longer-to-See-Better) as our two-stream model.

Theirs is a dictionary with the state dict under `model`, written by a DataParallel: every name begins with `module.`.
It holds the two trunks, the add-on, the LSTM, one attention for all steps, and two heads: `img_classifier` is the
global stream's, `fc` the local stream's (thesis §8.13). T is not in it: the attention is the same at every step.
"""

import pickle
import struct
import warnings
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from fgmodel import checkpoint
from fgmodel.config import TrialConfig, official
from fgmodel.errors import InputError
from fgmodel.model import TwoStream

THEIR_STEPS = 10
"""T of the command in the released code's README."""

_OURS = {
    "img_features.": "global_stream.trunk.trunk.features.",
    "add_on.": "global_stream.addon.",
    "img_classifier.": "global_stream.head.",
    "patch_features.": "local_stream.trunk.trunk.features.",
    "lstm.": "local_stream.lstm.",
    "attention.att_len.": "local_stream.attention.score.",
    "fc.": "local_stream.head.",
}
_MOST_CLASSES = 100_000


def convert(source: Path, target: Path, time_steps: int = THEIR_STEPS) -> TwoStream:
    """Write the authors' checkpoint `source` to `target` as a run keeps its model, less the momentum; return the model.

    Raises InputError: where the file cannot be read, or is a checkpoint of another architecture.
    """
    model, config = read_official(source, time_steps)
    tensors = {f"fold0/model/{name}": value for name, value in model.state_dict().items()}
    checkpoint.write(target, tensors, config.settings() | {"the data": "", "the split": "", "the boxes": ""}, 0)
    return model


def read_official(path: Path, time_steps: int = THEIR_STEPS) -> tuple[TwoStream, TrialConfig]:
    """Return the model of the authors' checkpoint, in eval mode, and its configuration: `official()` with that T."""
    theirs = _plain(path, _read(path))
    config = TrialConfig.from_settings(_changed(official()) | {"model.time_steps": time_steps})
    classes = _classes(path, theirs)
    model = TwoStream(config.model.model_copy(update={"weights": "random"}), classes)   # overwritten: no download
    model.load_state_dict(translated(path, theirs, model.state_dict()))
    return model.eval(), config


def translated(path: Path, theirs: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return `theirs` under our names; raises InputError unless it has the names and shapes of `expected`, ours."""
    wanted = {their: expected[our] for our in expected for their in _their_name(our)}
    problems = [
        *_listed("lacks", sorted(wanted.keys() - theirs.keys())),
        *_listed("has besides", sorted(theirs.keys() - wanted.keys())),
        *_listed("has in another shape", [
            f"{name} ({_shape(theirs[name])}, not {_shape(value)})"
            for name, value in wanted.items() if name in theirs and theirs[name].shape != value.shape
        ]),
    ]
    if problems:
        raise InputError(f"{path}: is not the authors' two-stream model: it {'; it '.join(problems)}")
    for name, value in theirs.items():
        if not value.is_floating_point() or not value.isfinite().all():
            raise InputError(f"{path}: {name} is no tensor of finite real numbers")
    return {our: theirs[their].float() for our in expected for their in _their_name(our)}


def _read(path: Path) -> object:
    """Return what a file holds; only plain tensors are read, no Python object is made."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")   # of torch about archives of other kinds, which are refused below
            if path.suffix == ".safetensors":
                return load_file(path)
            _refuse_compressed(path)
            loaded: object = torch.load(path, map_location="cpu", weights_only=True)
            return loaded
    except FileNotFoundError:
        raise InputError(f"{path}: there is no such file") from None
    except pickle.UnpicklingError:
        raise InputError(f"{path}: holds more than tensors, or is no checkpoint; only plain tensors are read") from None
    except (   # what torch's reader raises on bytes that are no checkpoint, found by trying
        SafetensorError, OSError, RuntimeError, ValueError, TypeError, KeyError, IndexError, AttributeError, EOFError,
        OverflowError, MemoryError, AssertionError, struct.error, zipfile.BadZipFile,
    ):
        raise InputError(f"{path}: is neither a readable PyTorch checkpoint nor a safetensors file") from None


def _refuse_compressed(path: Path) -> None:
    """Raise InputError for an archive that unpacks to more than it is: torch writes none, and it may be a bomb."""
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as members:
            if sum(member.file_size for member in members.infolist()) > path.stat().st_size:
                raise InputError(f"{path}: is a compressed archive, which PyTorch does not write")


def _plain(path: Path, content: object) -> dict[str, Tensor]:
    """Return the state dict within a checkpoint, without DataParallel's prefix."""
    state = content.get("model", content) if isinstance(content, dict) else content
    tensors = isinstance(state, dict) and all(isinstance(k, str) and isinstance(v, Tensor) for k, v in state.items())
    if not isinstance(state, dict) or not state or not tensors:
        raise InputError(f"{path}: holds no state dict, neither at its top nor under 'model'")
    return {name.removeprefix("module."): value for name, value in state.items()}


def _classes(path: Path, theirs: Mapping[str, Tensor]) -> int:
    """Return C, of both heads: theirs can be built with different ones, which cannot be fused (thesis §1, row 5)."""
    names = ("fc.bias", "img_classifier.bias")
    if absent := [name for name in names if name not in theirs or not theirs[name].dim()]:
        raise InputError(f"{path}: is not the authors' two-stream model: it lacks {' and '.join(absent)}")
    heads = [theirs[name].shape[0] for name in names]
    if heads[0] != heads[1]:
        told = f"its local head has {heads[0]} classes, its global head {heads[1]}"
        raise InputError(f"{path}: {told}; such logits cannot be fused")
    if not 2 <= heads[0] <= _MOST_CLASSES:
        raise InputError(f"{path}: its heads have {heads[0]} classes")
    return heads[0]


def _their_name(our: str) -> Iterator[str]:
    for their, prefix in _OURS.items():
        if our.startswith(prefix):
            yield their + our.removeprefix(prefix)


def _changed(config: TrialConfig) -> dict[str, object]:
    default = TrialConfig().settings()
    return {name: value for name, value in config.settings().items() if value != default[name]}


def _listed(what: str, names: list[str]) -> Iterator[str]:
    if names:
        more = f" and {len(names) - 3} more" if len(names) > 3 else ""
        yield f"{what} {', '.join(names[:3])}{more}"


def _shape(value: Tensor) -> str:
    return "x".join(map(str, value.shape)) or "a number"
