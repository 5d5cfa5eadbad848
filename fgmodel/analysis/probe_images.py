"""Where the time steps of a run in training look, on a few of its validation images: small enough to keep at each rung.

The images are the same at every epoch, and in every trial of a search that shares its cut, so that heatmaps can be
compared. Maps are shown as coarse as they are: this is to look at; what measures them is `claim`.

n  images      T  time steps      P  pixels of a patch      h, w  cells of a map
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, UInt8
from torch import Tensor

from fgmodel.analysis.gradcam import step_maps
from fgmodel.arrays import read_npz
from fgmodel.cache import Frames
from fgmodel.config import TrialConfig
from fgmodel.data.boxes_file import cut
from fgmodel.data.datasets import open_dataset
from fgmodel.prepare import stream_trunks
from fgmodel.spatial import SpatialStream
from fgmodel.streams import LocalStream
from fgmodel.training import Run
from fgmodel.trial_data import TrialData
from fgmodel.trunks.frozen_trunk import pixels

SHOWN = 4          # images
SIDE = 96          # pixels of a picture that is kept
SEEN_THROUGH = (
    "model.local_backbone", "model.weights", "model.freeze_backbones", "model.drop_last_pool", "model.local_stride16",
    "model.local_stream", "model.spatial_attention",
)
"""Settings that decide a `ProbeImages`, beside those of the data."""


@dataclass(frozen=True)
class Looks:
    """A run's heatmaps at one epoch."""

    pictures: UInt8[np.ndarray, "n P P 3"]   # the best patch of each image
    maps: Float[np.ndarray, "n T h w"]       # Grad-CAM of the true class, ≥ 0
    right: Bool[np.ndarray, "n T"]           # whether that step alone names the class
    names: tuple[str, ...]                   # n  classes

    def write(self, file: IO[bytes]) -> None:
        """Write them as npz."""
        arrays = {"pictures": self.pictures, "maps": self.maps.astype(np.float16), "right": self.right}
        np.savez_compressed(file, allow_pickle=False, names=np.array(self.names), **arrays)


def read_looks(path: Path) -> Looks:
    """Return what a file holds. Raises OSError; ValueError: where it is none of looks."""
    held = read_npz(path)
    try:
        pictures, maps, right = held["pictures"], held["maps"].astype(np.float32), held["right"].astype(bool)
        names = tuple(str(name) for name in held["names"])
    except KeyError as error:
        raise ValueError(f"it has no {error}") from None
    fits = pictures.ndim == 4 and maps.ndim == 4 and maps.shape[:2] == right.shape and pictures.dtype == np.uint8
    if not fits or not len(pictures) == len(maps) == len(names) or 0 in maps.shape:
        raise ValueError("its arrays do not belong together")
    return Looks(pictures, maps, right, names)


@dataclass(frozen=True)
class ProbeImages:
    """The images that are looked at, and what of them is the same at every epoch; `open_probe_images` makes one."""

    rows: np.ndarray                       # n  places in the run's data
    patches: Float[Tensor, "n 3 P P"]
    cells: Float[Tensor, "n D h w"] | None  # of a frozen trunk

    def looks(self, run: Run, side: int = SIDE) -> Looks:
        """Return where the run's first model looks now, with pictures of `side` px."""
        stream = run.models[0].eval().local_stream
        assert isinstance(stream, LocalStream | SpatialStream)
        labels = torch.tensor(run.data.labels[self.rows], device=self.patches.device)
        seen = step_maps(stream, self._cells_of(stream), labels)
        pictures = F.interpolate(self.patches, (side, side), mode="bilinear", antialias=True).clamp(0, 1)
        return Looks(
            pictures=(255 * pictures.permute(0, 2, 3, 1)).round().byte().cpu().numpy(),
            maps=seen.maps.float().cpu().numpy(),
            right=(seen.step_logits.argmax(dim=2) == labels[:, None]).cpu().numpy(),
            names=tuple(run.data.classes[label] for label in labels.tolist()),
        )

    @torch.no_grad()
    def _cells_of(self, stream: LocalStream | SpatialStream) -> Float[Tensor, "n D h w"]:
        if self.cells is not None:
            return self.cells
        assert stream.trunk is not None
        cells: Tensor = stream.trunk(self.patches)
        return cells


def open_probe_images(config: TrialConfig, data: TrialData, cache: Path, device: str) -> ProbeImages | None:
    """Return the images that are looked at; None where nothing can be seen: no time steps, or no validation image."""
    held_out = data.folds[0].validation
    if config.model.local_stream != "lstm" or not len(held_out):
        return None
    return probe_images_of(np.sort(np.random.default_rng(0).permutation(held_out)[:SHOWN]), config, data, cache, device)


def probe_images_of(rows: np.ndarray, config: TrialConfig, data: TrialData, cache: Path, device: str) -> ProbeImages:
    """Return chosen images, to be looked at: `rows` are their places in the run's data."""
    boxes = torch.from_numpy(data.boxes[rows, :1].astype(np.float32)).to(device)          # n 1 4
    frames = pixels(_frames(config, data, rows, cache), device)                           # n 3 S S
    patches = cut(frames, boxes, config.data.patch_size)[:, 0]                             # n 3 P P
    return ProbeImages(rows, patches, _cells(config, data, rows, patches, device))


def _frames(config: TrialConfig, data: TrialData, rows: np.ndarray, cache: Path) -> np.ndarray:
    """Return those frames, n S S 3; none but them are decoded where the cache lacks the split's."""
    if data.frames is not None:
        return np.asarray(data.frames[rows])
    frames = Frames(open_dataset(config.data, cache), "train", config.data.frame_size, cache)
    return np.concatenate([replace(frames, part=(row, row + 1)).array for row in rows.tolist()])


def _cells(config: TrialConfig, data: TrialData, rows: np.ndarray, patches: Tensor, device: str) -> Tensor | None:
    if not config.model.freeze_backbones:
        return None
    if data.local_maps is not None:
        return torch.from_numpy(np.array(data.local_maps[rows, 0])).float().to(device)     # n D h w
    return stream_trunks(config, device)[1].maps(patches)
