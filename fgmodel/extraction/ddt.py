"""Method `ddt`: Deep Descriptor Transforming (Wei et al. 2017), where the images' descriptors vary most.

The first principal component of a trunk's spatial descriptors over the train images separates the objects they share
from what is behind them. Boxes are the peaks of its projection. Without any training it covers real birds better than
the released boxes do (thesis.md §9: 86 % of the area inside the bird, 78 % after enlarging, as theirs).

Legend: B images, n train images, D channels, h w cells of the last map, G cells of the grid peaks are sought in.
"""

import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from fgmodel import store
from fgmodel.cache import STEP, Frames
from fgmodel.errors import InputError
from fgmodel.extraction.boxes import GRID, peak_boxes
from fgmodel.extraction.task import Extractor, Found, Task, joined
from fgmodel.frozen import FrozenTrunk, each_batch, pixels, resized
from fgmodel.progress import Progress, silent

SIZE = 320   # px (thesis.md §9)


@dataclass(frozen=True)
class Component:
    """The mean descriptor of the train images and the direction of their largest variance, towards the object."""

    mean: Float[Tensor, " D"]
    direction: Float[Tensor, " D"]

    def project(self, maps: Float[Tensor, "B D h w"]) -> Float[Tensor, "B h w"]:
        """Return how far each cell lies in that direction."""
        return torch.einsum("bdhw,d->bhw", maps - self.mean[:, None, None], self.direction)


def find(task: Task) -> Found:
    """Return boxes around the peaks of each image's projection."""
    component = fitted(task.train, task.trunk)
    parts, done = [], 0
    for maps in _chunks(_maps(task.frames, task.trunk)):
        object_like = component.project(maps).clamp_min(0)                                   # B h w
        grid = F.interpolate(object_like[:, None], (GRID, GRID), mode="bilinear")[:, 0]      # B G G
        parts.append(peak_boxes(grid, task.count))
        done += len(maps)
        task.frames.progress("boxes", done, len(task.frames))
    for frames in (task.frames, task.train):
        _maps_path(frames, task.trunk).unlink(missing_ok=True)   # large, and needed for this only
    return joined(parts)


def fitted(train: Frames, trunk: FrozenTrunk) -> Component:
    """Return the component of the train images; it is kept, so that test images are projected on this very one."""
    path = train.path("patches", ".ddt.npz", SIZE, trunk.identity())
    with store.building(path, "principal component", train.progress) as must_build:
        if must_build:
            component = principal_component(_maps(train, trunk), train.progress)
            mean, direction = component.mean.numpy(), component.direction.numpy()
            store.write(path, lambda file: np.savez(file, mean=mean, direction=direction))
    try:
        with path.open("rb") as opened, np.load(opened, allow_pickle=False) as file:
            return Component(torch.from_numpy(file["mean"]), torch.from_numpy(file["direction"]))
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise InputError(f"{path} is damaged ({error}); delete it to have it computed again") from None


def principal_component(maps: np.ndarray, progress: Progress = silent) -> Component:
    """Return the first principal component of all cells of all maps (n D h w); images' centres lie above borders."""
    mean_map = torch.stack([chunk.double().sum(dim=0) for chunk in _chunks(maps)]).sum(dim=0) / len(maps)  # D h w
    mean = mean_map.mean(dim=(1, 2)).float()                                                 # D
    covariance = torch.zeros(len(mean), len(mean), dtype=torch.float64)                      # D D  but for a factor
    for done, chunk in enumerate(_chunks(maps)):
        progress("principal component", done * STEP, len(maps))
        deviation = (chunk - mean[:, None, None]).transpose(0, 1).flatten(1)                 # D B·h·w
        covariance += deviation @ deviation.T
    direction = torch.linalg.eigh(covariance).eigenvectors[:, -1].float()                    # D  the largest is last
    component = Component(mean, direction)
    towards = _centre_above_border(component.project(mean_map.float()[None])[0])
    return component if towards >= 0 else Component(mean, -direction)


def _centre_above_border(typical: Float[Tensor, "h w"]) -> float:
    inner = torch.zeros_like(typical, dtype=torch.bool)
    inner[1:-1, 1:-1] = True
    return (typical[inner].mean() - typical[~inner].mean()).item()


def _maps(frames: Frames, trunk: FrozenTrunk) -> np.ndarray:
    """Return the images' last maps (n D h w), kept on disk meanwhile: fitting reads them twice, projecting once."""

    def maps(part: slice) -> np.ndarray:
        return trunk.maps(resized(pixels(frames.array[part], trunk.device), SIZE)).cpu().half().numpy()

    def compute(a: int, b: int) -> Iterator[np.ndarray]:
        frames.decode()
        yield from each_batch(maps, range(a, b), SIZE, trunk.device)

    one = trunk.maps(torch.zeros(1, 3, SIZE, SIZE, device=trunk.device)).shape[1:]           # D h w
    # In half precision: all of CUB-200-2011 is then 1.5 GB on EfficientNet-Lite0.
    return store.array(
        _maps_path(frames, trunk), (len(frames), *one), np.float16, compute,
        step=STEP, what="maps for ddt", progress=frames.progress,
    )


def _maps_path(frames: Frames, trunk: FrozenTrunk) -> Path:
    return frames.path("maps", ".npy", SIZE, trunk.identity())


def _chunks(maps: np.ndarray) -> Iterator[Float[Tensor, "B D h w"]]:
    for a in range(0, len(maps), STEP):
        yield torch.from_numpy(np.array(maps[a : a + STEP], np.float32))


DDT = Extractor(find, scale=1.5, size=SIZE)   # thesis.md §9
