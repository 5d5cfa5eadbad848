"""How patch boxes are found: extractors behind one interface, run once and kept.

`task` holds the interface, `boxes` the rule from maps to boxes, `fits` what was fitted; `ddt`, `cam`, `protopnet` (with
`prototypes`, its network, and `prototype_training`), `peaks`, `parts` and `blind` are the methods; `quality` measures
what they found, `sheet` shows it.
"""

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from fgmodel import atomic
from fgmodel.cache import Frames
from fgmodel.data.boxes_file import Patches, read_patches, to_pixels, write_patches
from fgmodel.extraction.blind import CENTER, GRID, RANDOM
from fgmodel.extraction.cam import CAM
from fgmodel.extraction.ddt import DDT
from fgmodel.extraction.parts import PARTS
from fgmodel.extraction.peaks import PEAKS
from fgmodel.extraction.protopnet import PROTOPNET, PROTOPNET_TRAINED
from fgmodel.extraction.task import Extractor, Task, enlarged
from fgmodel.trunks.frozen_trunk import FrozenTrunk

EXTRACTORS: Mapping[str, Extractor] = MappingProxyType({
    "ddt": DDT, "peaks": PEAKS, "cam": CAM, "protopnet": PROTOPNET, "protopnet_trained": PROTOPNET_TRAINED,
    "parts": PARTS, "grid": GRID, "center": CENTER, "random": RANDOM,
})


def extract(
    method: str, frames: Frames, train: Frames, trunk: FrozenTrunk, count: int, scale: float | None = None,
) -> Patches:
    """Return `count` boxes for each image of `frames`, found by `method`, enlarged by `scale` or the method's own.

    What is fitted is fitted on `train`, the train split. Raises InputError: where the data or the trunk do not suit.
    """
    extractor = EXTRACTORS[method]
    path = boxes_path(method, frames, trunk, count, scale)
    with atomic.building(path, "boxes", frames.progress) as must_build:
        if must_build:
            cut = extractor.trunk(trunk)
            found = extractor.find(Task(frames, extractor.fit(train, cut), count, cut))
            boxes = to_pixels(enlarged(found.boxes, scale or extractor.scale), frames.size)
            write_patches(path, Patches(boxes, found.scores, frames.size, method), frames.names, path.stem)
    return read_patches(path, frames.names)


def boxes_path(method: str, frames: Frames, trunk: FrozenTrunk, count: int, scale: float | None = None) -> Path:
    """Return where `extract` keeps the boxes."""
    extractor = EXTRACTORS[method]
    scale = extractor.scale if scale is None else scale
    identity = extractor.trunk(trunk).identity() if extractor.size else []
    return frames.path("patches", ".npz", method, count, scale, *identity)
