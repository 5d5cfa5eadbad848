"""Exports the best configuration with all that repeats its result elsewhere: the whole bundle."""

import tempfile
from pathlib import Path

from fgmodel.cache import Frames
from fgmodel.config import TrialConfig
from fgmodel.data.boxes_file import Patches, write_patches
from fgmodel.data.datasets import Dataset, Split, cut_validation, open_dataset
from fgmodel.data.splits import Fold, split_hash
from fgmodel.extraction import EXTRACTORS
from fgmodel.prepare import find_patches
from fgmodel.progress import Progress, silent
from fgmodel.training import best_device
from search.errors import InputError
from search.export.best import chosen
from search.export.bundle import Bundle
from search.export.environment import code_changes, requirements
from search.export.packing import BOXES, IMAGES, Image, lines, pack
from search.record.home import Home
from search.record.manifest import difference

LICENCES = {
    "cub": "The images of CUB-200-2011 come from Flickr and stay their photographers'; Caltech publishes them for "
           "non-commercial research and teaching.",
    "dogs": "The images of Stanford Dogs are ImageNet's, which grants them for non-commercial research and teaching.",
    "folders": "The images are yours, or whose you got them from; whoever gets the bundle needs them from you.",
    "finches": "The images are drawn by fgsearch (Apache-2.0).",
}
"""Whose the images are, by `data.dataset`."""


def export_bundle(
    home: Home, name: str, to: Path, number: int | None = None, root: str | None = None, progress: Progress = silent,
) -> Bundle:
    """Write the bundle of the best trial, or of trial `number`, to `to` (.zip, else a folder) and return it.

    `root` is where the data lies now. The boxes of the train split go with it. Raises InputError: as `export` does, and
    where the images or boxes are no longer those of the search.
    """
    bundle = chosen(home, name, number)
    config = bundle.config()
    if root:
        config = TrialConfig.from_settings({**bundle.settings, "data.root": root})
    dataset = open_dataset(config.data, home.cache, progress)
    folds = cut_validation(dataset, config.data)
    _require_same(bundle, config, dataset, folds, home)
    beside = {IMAGES: lines(_listed(dataset, folds))}
    beside |= _boxes(bundle, config, dataset, home.cache, progress)
    beside |= {"README.md": _readme(bundle, to.name).encode(), "requirements.txt": requirements().encode()}
    if changes := code_changes():
        beside["code.diff"] = changes.encode()
    pack(bundle, beside, to)
    return bundle


def _require_same(bundle: Bundle, config: TrialConfig, dataset: Dataset, folds: tuple[Fold, ...], home: Home) -> None:
    origin, where = bundle.origin, config.data.root or config.data.dataset
    if dataset.fingerprint != origin.data.fingerprint:
        what = difference(home, origin.search, config)
        raise InputError(f"{where}: the images are not those of the search: {what}")
    if split_hash(dataset.names_of("train"), folds) != origin.data.split:
        raise InputError(f"{where}: the validation cut is not that of the search; this version cuts it otherwise")


def _listed(dataset: Dataset, folds: tuple[Fold, ...]) -> list[Image]:
    validates = {int(dataset.rows("train")[i]): k for k, fold in enumerate(folds) for i in fold.validation}
    return [
        Image(
            image=name, label=dataset.classes[dataset.labels[i]], part="train" if dataset.train[i] else "test",
            fold=validates.get(i), sha256=dataset.digests[i],
        )
        for i, name in enumerate(dataset.names)
    ]


def _boxes(
    bundle: Bundle, config: TrialConfig, dataset: Dataset, cache: Path, progress: Progress,
) -> dict[str, bytes]:
    """Return the patch files: of test only where a file gave them, for nothing looks at test images before retrain."""
    splits: tuple[Split, ...] = ("train",) if config.data.patches in EXTRACTORS else ("train", "test")
    found: dict[str, bytes] = {}
    for split in splits:
        frames = Frames(dataset, split, config.data.frame_size, cache, progress)
        boxes = find_patches(config, frames, best_device())
        if split == "train" and boxes.hash != bundle.origin.data.patches:
            raise InputError(f"data.patches: {config.data.patches}: the boxes are not those of the search")
        found[BOXES[split]] = _as_file(boxes, dataset.names_of(split))
    return found


def _as_file(boxes: Patches, names: tuple[str, ...]) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "boxes.npz"
        write_patches(path, boxes, names, boxes.hash)
        return path.read_bytes()


def _readme(bundle: Bundle, name: str) -> str:
    origin, data = bundle.origin, bundle.config().data
    made = f"`data.patches: {data.patches}` finds them" if data.patches in EXTRACTORS else "they came from a file"
    model = bundle.config().model
    trunks = ", ".join(sorted({model.global_backbone, model.local_backbone}))
    fold = f"fold, of {data.folds}," if data.folds else "cut"
    return f"""\
# Trial {origin.trial} of search {origin.search}

{origin.said()}. Exported {origin.exported}.

    fgsearch retrain {name} --seeds 3              # train + validation, full length; opens the test split once
    fgsearch retrain {name} --root MY/IMAGES       # where the images lie somewhere else

With the same versions, kind of processor and number of threads the numbers are the same to the bit on a CPU; `retrain`
says what differs, a line each. A file that was changed by hand is refused.

| file | holds |
|---|---|
| bundle.yaml | every setting; its search, trial, seeds, versions, the digests of data, split, boxes and journal |
| images.jsonl | every image's class, part, the {fold} in which it validates, and sha256; not the images themselves |
| patches/ | the boxes the local stream looked at in training; {made} |
| requirements.txt | every package as it was: `pip install -r requirements.txt` |
| code.diff | what was changed of fgsearch's code since commit {origin.code.commit}; absent where nothing was |
| manifest.json | sha256 of each file |

## Licences

fgsearch, this bundle's settings and boxes: Apache-2.0. {LICENCES[data.dataset]}
Pretrained weights ({trunks}) are under their publishers' terms, and were learned from ImageNet's images.
A model trained from all of these is yours to use as far as each of them lets you.
"""
