"""A frozen trunk over many images: small batches, one a CPU thread or all on a GPU, the weights loaded once a process.

Legend: B images, S pixels of the frame, s pixels of the trunk's input, D channels, h w a map's cells.
"""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TypeVar

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from fgmodel.trunks.backbones import Backbone, backbone, freeze
from fgmodel.trunks.find import Weights

T = TypeVar("T")
BATCH_PIXELS = 200_704   # 448²: four images of 224 px stay in a core's cache, measured 1.2-1.5x faster than sixteen,
#                          and VGG19 at 448 px, a second an image, still reports every second


@dataclass(frozen=True)
class FrozenTrunk:
    """Which trunk, cut where, with which weights, on which device."""

    name: str
    weights: Weights
    drop_last_pool: bool = False
    stride16: bool = False
    unstrided: bool = False
    device: str = "cpu"

    @property
    def model(self) -> Backbone:
        """The trunk, frozen and loaded."""
        return _loaded(self)

    def identity(self) -> list[str | bool]:
        """Return what decides its maps, for keys of what is computed with them; the device is no part of it."""
        return [self.model.weights_id, self.drop_last_pool, self.stride16, *(["unstrided"] if self.unstrided else [])]

    @torch.inference_mode()
    def maps(self, images: Float[Tensor, "B 3 s s"]) -> Float[Tensor, "B D h w"]:
        """Return the trunk's maps."""
        batches = max(1, round(len(images) / batch_size(images.shape[-1], self.device)))
        return torch.cat([self.model(part) for part in images.chunk(batches)])

    def pooled(self, images: Float[Tensor, "B 3 s s"]) -> Float[Tensor, "B D"]:
        """Return the maps' global averages (Eq. 3.3), in full precision."""
        return self.maps(images).mean(dim=(2, 3))


@dataclass(frozen=True)
class HeldTrunk(FrozenTrunk):
    """A trunk whose weights came some other way, as in a model's file."""

    held: Backbone | None = field(default=None, compare=False)

    @property
    def model(self) -> Backbone:
        """The trunk, frozen."""
        assert self.held is not None
        return self.held


def batch_size(size: int, device: str) -> int:
    """Return how many images of `size` px to run at once."""
    return max(1, BATCH_PIXELS * (1 if device == "cpu" else 64) // size**2)


def each_batch(
    work: Callable[[slice], T], rows: range, size: int, device: str, *, images_a_row: int = 1,
) -> Iterator[T]:
    """Yield what `work` returns for `rows` in order, a batch of rows a call.

    On a CPU each thread takes a batch of its own. Against threads sharing one batch that gives the same numbers
    whatever their count, and does not collapse where another process wants the cores too (measured: 344 s for 51).
    """
    step = max(1, batch_size(size, device) // images_a_row)
    slices = [slice(a, min(a + step, rows.stop)) for a in range(rows.start, rows.stop, step)]
    with one_thread_each() as threads, ThreadPoolExecutor(threads if device == "cpu" else 1) as pool:
        yield from pool.map(work, slices)


@contextmanager
def one_thread_each() -> Iterator[int]:
    """Have every computation keep to its own thread meanwhile; gives how many threads there were."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield threads
    finally:
        torch.set_num_threads(threads)


def pixels(frames: np.ndarray, device: str) -> Float[Tensor, "B 3 S S"]:
    """Return frames (B S S 3, uint8) as RGB in 0..1."""
    held = torch.from_numpy(np.array(frames)).to(device)   # a copy: the frames are a read-only memory map
    return held.permute(0, 3, 1, 2).contiguous().float() / 255


def resized(images: Float[Tensor, "B 3 S S"], size: int) -> Float[Tensor, "B 3 s s"]:
    """Return the images at `size` px, antialiased."""
    if images.shape[-1] == size:
        return images
    return F.interpolate(images, (size, size), mode="bilinear", antialias=True)


@lru_cache(maxsize=4)   # global and local stream, and the extractor's trunk
def _loaded(trunk: FrozenTrunk) -> Backbone:
    loaded = backbone(
        trunk.name, trunk.weights,
        drop_last_pool=trunk.drop_last_pool, stride16=trunk.stride16, unstrided=trunk.unstrided,
    )
    return freeze(loaded).to(trunk.device)
