"""Boxes of images that belong to no data set: by the method a model was trained with, and what that method learned.

n  images      N  boxes of each
"""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from fgmodel.cache import Frames
from fgmodel.config import TrialConfig
from fgmodel.data.boxes_file import read_any_patches, to_pixels
from fgmodel.data.datasets import Dataset
from fgmodel.extraction import EXTRACTORS
from fgmodel.extraction.task import Fit, Task, enlarged
from fgmodel.trunks.frozen_trunk import FrozenTrunk


@dataclass(frozen=True)
class Finder:
    """All that finds boxes in a new image."""

    method: str
    instead_of: str | None   # what the model was trained on, where a new image alone cannot have that
    count: int               # N
    scale: float             # how much boxes are enlarged
    trunk: FrozenTrunk       # as the method cuts it; never loaded where the method looks at no image
    fit: Fit

    def boxes(self, frames: Frames) -> np.ndarray:
        """Return each image's boxes in pixels of its frame, best first: n N 4, int16."""
        found = EXTRACTORS[self.method].find(Task(frames, self.fit, self.count, self.trunk))
        return to_pixels(enlarged(found.boxes, self.scale), frames.size)

    def said(self) -> str:
        """Return how boxes are found, in a few words."""
        if self.instead_of is None:
            return f"found by {self.method}, as in training"
        return f"found by {self.method}; the model was trained and tested on boxes of {self.instead_of}"


def finder(config: TrialConfig, dataset: Dataset, train: Frames, trunk: FrozenTrunk) -> Finder:
    """Return what finds boxes for a model of `config`: its method, with what that learned of the train images.

    Boxes of a file, and `parts`, belong to the images of the data set. New images then get those of the method that
    made the file; where that is not known those of `ddt`, or for drawn birds of `peaks` (docs/patches.md: best there).
    """
    data = config.data
    method = _method(data.patches, dataset.name == "finches")
    extractor = EXTRACTORS[method]
    same = method == data.patches
    scale = data.patch_scale if same and data.patch_scale is not None else extractor.scale
    cut = extractor.trunk(trunk)
    fit = extractor.fit(replace(train, split="train"), cut)
    return Finder(method, None if same else data.patches, data.patches_per_image, scale, cut, fit)


def _method(given: str, drawn: bool) -> str:
    if given in EXTRACTORS and given != "parts":
        return given
    path = Path(given).expanduser()
    path = path / "train.npz" if path.is_dir() else path
    made = read_any_patches(path)[1].method if path.suffix == ".npz" and path.exists() else ""
    if made in EXTRACTORS and made != "parts":
        return made
    return "peaks" if drawn else "ddt"
