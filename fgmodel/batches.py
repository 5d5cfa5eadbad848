"""Batches for a run: features where the trunks are frozen, images and patches cut on the device where not.

n  images of the data      B  images of a batch      N  patches of an image      K  patches taken of each
S  pixels of the frame     s, P  pixels of the streams' inputs                    D  channels of a trunk
h, w  cells of a map
"""

import warnings
from typing import NamedTuple, TypeAlias

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from fgmodel.augmentation import DRAWS, Boxes, augment
from fgmodel.config import DataConfig, ModelConfig, TrialConfig
from fgmodel.data.boxes_file import cut
from fgmodel.trial_data import TrialData


class Batch(NamedTuple):
    """The inputs of both streams: features, or RGB in 0..1."""

    whole: Tensor    # B D,   or B 3 s s
    patches: Tensor  # B K D, B K D h w, or B K 3 P P; K = 0 without a local stream


def draw(images: int, generator: torch.Generator) -> Float[Tensor, "n R"]:
    """Return an epoch's random numbers, a row an image: what happens to an image does not depend on its batch."""
    return torch.rand(images, DRAWS, generator=generator, dtype=torch.float64)


def evaluation_picks(config: DataConfig, images: int, patches: int) -> Int[Tensor, "n K"]:
    """Return which patches of each image are evaluated: all, the best, or draws.

    The draws follow `data.seed`, so that all trials of a search, at every epoch, are compared on the same patches.
    """
    if not patches:
        return torch.empty(images, 0, dtype=torch.int64)
    match config.evaluation_patches:
        case "mean_all":
            return torch.arange(patches).expand(images, -1)
        case "top1":
            return torch.zeros(images, 1, dtype=torch.int64)
        case "random":
            generator = torch.Generator().manual_seed(config.seed)
            each = [torch.randint(patches, (images, 1), generator=generator) for _ in range(config.evaluation_draws)]
            return torch.cat(each, dim=1)  # more draws begin with those of fewer


class Features:
    """Features of frozen trunks, read from the shared memory map without a copy (a GPU gets one)."""

    def __init__(self, config: ModelConfig, data: TrialData, device: torch.device) -> None:
        assert data.global_features is not None
        self._whole = _tensor(data.global_features).to(device)    # n D
        self._patches = _tensor(_of_patches(config, data)).to(device)  # n N D, or n N D h w
        self.patches_per_image = self._patches.shape[1]
        self.widths = (self._whole.shape[-1], self._patches.shape[2])

    def training(self, rows: Int[Tensor, " B"], draws: Float[Tensor, "B R"]) -> Batch:
        """Return each image with one of its patches, uniformly."""
        held = self.patches_per_image
        return self.evaluation(rows, (draws[:, : min(1, held)] * held).long())

    def evaluation(self, rows: Int[Tensor, " B"], picks: Int[Tensor, "B K"]) -> Batch:
        """Return each image with the patches asked for."""
        rows, picks = rows.to(self._whole.device), picks.to(self._whole.device)
        patches = self._patches[rows[:, None], picks].float()               # B K D, or B K D h w: maps are kept as fp16
        return Batch(self._whole[rows], patches)


class Pixels:
    """Decoded images from the shared memory map, resized and cut on the device."""

    def __init__(self, config: DataConfig, data: TrialData, device: torch.device, *, patches: bool = True) -> None:
        assert data.frames is not None
        self._config, self._device = config, device
        self._frames = _tensor(data.frames)                                   # n S S 3  uint8
        self._boxes = torch.from_numpy(data.boxes.astype(np.float32))         # n N 4    small: a copy
        self.patches_per_image = self._boxes.shape[1] if patches else 0
        self.widths = None  # the model has trunks that know

    def training(self, rows: Int[Tensor, " B"], draws: Float[Tensor, "B R"]) -> Batch:
        """Return each image, augmented, with one of its patches, uniformly among those still visible."""
        images, boxes = augment(self._config.augmentation, self._read(rows), self._boxes[rows], draws)
        return self._cut(images, boxes[:, : self.patches_per_image])          # K = 1

    def evaluation(self, rows: Int[Tensor, " B"], picks: Int[Tensor, "B K"]) -> Batch:
        """Return each image, whole, with the patches asked for.

        Also under `data.augmentation: standard`, where a centre crop is the custom: it would lose boxes, and accuracies
        under different augmentations would be of different patches.
        """
        return self._cut(self._read(rows), self._boxes[rows[:, None], picks])

    def _read(self, rows: Int[Tensor, " B"]) -> Float[Tensor, "B 3 S S"]:
        frames: UInt8[Tensor, "B S S 3"] = self._frames[rows]
        if self._device.type == "cuda":
            frames = frames.pin_memory().to(self._device, non_blocking=True)  # bytes travel: a quarter of the floats
        return frames.permute(0, 3, 1, 2).float() / 255                       # B 3 S S

    def _cut(self, images: Float[Tensor, "B 3 S S"], boxes: Boxes) -> Batch:
        patches = cut(images, boxes.to(self._device), self._config.patch_size)  # B K 3 P P
        size = (self._config.image_size, self._config.image_size)
        if images.shape[-2:] != size:
            images = F.interpolate(images, size, mode="bilinear", antialias=True)
        return Batch(images.contiguous(memory_format=torch.channels_last), patches)


Source: TypeAlias = Features | Pixels
"""Where batches come from. Rows are positions in the data, on the CPU; batches are on the run's device."""


def source(config: TrialConfig, data: TrialData, device: torch.device) -> Source:
    """Return the batches of `data` as `config` wants them."""
    if config.model.freeze_backbones:
        return Features(config.model, data, device)
    return Pixels(config.data, data, device, patches=config.model.local_stream != "none")


def _of_patches(config: ModelConfig, data: TrialData) -> np.ndarray:
    if config.local_stream == "none":
        return np.empty((len(data.labels), 0, 0), np.float32)
    held = data.local_features if config.spatial_attention == "none" else data.local_maps
    assert held is not None
    return held


def _tensor(array: np.ndarray) -> Tensor:
    with warnings.catch_warnings():  # the shared map is read-only, which torch cannot express; nothing writes to it
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        return torch.from_numpy(array)
