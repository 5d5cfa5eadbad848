"""Patch files: found, imported, checked and shown; what `fgsearch patches` does."""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any, get_args

import numpy as np
from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

from cluster.connect import Connection
from fgmodel.atomic import whole
from fgmodel.cache import Frames
from fgmodel.config import TrialConfig
from fgmodel.data.boxes_file import Patches, read_any_patches, read_patches, write_patches
from fgmodel.data.datasets import Dataset, Split, open_dataset
from fgmodel.data.released import read_released
from fgmodel.extraction import EXTRACTORS
from fgmodel.extraction.quality import Quality, Truth, known_truth, measure, moved_at_random
from fgmodel.extraction.sheet import contact_sheet
from fgmodel.preparation_forecast import boxes_seconds
from fgmodel.prepare import extraction_trunk
from fgmodel.training import best_device
from search.data.patch_tasks import find_on_ray, workers
from search.decide.forecast import spoken
from search.errors import InputError, writing
from search.show.screen import Steps, preparing
from search.space.yaml_lines import read_set


def configure(dataset: str, root: str | None, sets: Iterable[str], **settings: str | float | None) -> TrialConfig:
    """Return the configuration of a data set and of how its boxes are found; `settings` are those of `data`.

    Raises SettingError: for what is no setting, or has no such value.
    """
    given: dict[str, Any] = {"data.dataset": dataset}
    given |= {} if root is None else {"data.root": root}
    given |= {f"data.{name}": value for name, value in settings.items() if value is not None}
    given |= dict(map(read_set, sets))
    return TrialConfig.from_settings(given)


def require_method(name: str) -> str:
    """Return the name of an extractor, or raise InputError naming the nearest."""
    if name in EXTRACTORS:
        return name
    near = get_close_matches(name, EXTRACTORS, n=1)
    there = f"did you mean '{near[0]}'?" if near else f"there are {', '.join(EXTRACTORS)}"
    raise InputError(f"--method: '{name}' is no method; {there}")


# --- extract and import -----------------------------------------------------------------------------------------------

def extract_to(folder: Path, config: TrialConfig, splits: Iterable[Split], cache: Path, console: Console) -> list[Path]:
    """Find the boxes of each split and write SPLIT.npz into `folder`; the same call again goes on after a kill."""
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    device, written = best_device(), []
    with preparing(console) as progress:
        steps = Steps(progress)
        dataset = open_dataset(config.data, cache, steps)
        of = [Frames(dataset, split, config.data.frame_size, cache, steps) for split in splits]
        for frames in of:
            seconds = boxes_seconds(config.data.patches, frames, extraction_trunk(config, device))
            console.print(f"{frames.split}: {len(frames)} images; about {spoken(seconds)} where nothing is kept yet")
        with Connection(workers(device), 1) as ray:   # starts while the fit is made
            for frames in of:
                patches = find_on_ray(config, frames, ray, device)
                written.append(folder / f"{frames.split}.npz")
                with writing(written[-1]):
                    write_patches(written[-1], patches, frames.names, _made_with(config, dataset))
    return written


def import_released(
    path: Path, to: Path, config: TrialConfig, split: Split, cache: Path, count: int | None,
) -> Patches:
    """Write a released array of this split in our format and return it; raises InputError where it is of other data."""
    dataset = open_dataset(config.data, cache)
    patches = _as_many(read_released(path, dataset.labels[dataset.rows(split)], dataset.classes), path, count)
    with writing(to):
        write_patches(to, patches, dataset.names_of(split), hashlib.sha256(path.read_bytes()).hexdigest()[:20])
    return patches


def _made_with(config: TrialConfig, dataset: Dataset) -> str:
    decides = {k: v for k, v in config.settings().items() if k.startswith(("data.", "model."))}
    return hashlib.sha256(f"{dataset.fingerprint} {sorted(decides.items())}".encode()).hexdigest()[:20]


def _as_many(patches: Patches, path: Path, count: int | None) -> Patches:
    return patches if count is None else patches.first(count, str(path), "--count")


# --- check and show ---------------------------------------------------------------------------------------------------

NOTHING_KNOWN = Truth()


@dataclass(frozen=True)
class OpenedPatches:
    """A patch file, and the images it is of where a data set was given."""

    path: Path
    patches: Patches
    dataset: Dataset | None = None
    split: Split | None = None
    truth: Truth = NOTHING_KNOWN

    def document(self) -> dict[str, Any]:
        """Return what the file holds and how good it is, for a script."""
        patches, boxes = self.patches, self.patches.boxes.astype(int)
        areas = (boxes[..., 2:] - boxes[..., :2]).prod(axis=-1) / patches.frame**2                     # n N
        distinct = [len(np.unique(each, axis=0)) == len(each) for each in boxes]
        return {
            "file": str(self.path), "method": patches.method, "images": len(boxes), "count": boxes.shape[1],
            "frame": patches.frame, "hash": patches.hash,
            "data": self.dataset.name if self.dataset else None, "split": self.split,
            "area": {"mean": float(areas.mean()), "median": float(np.median(areas)),
                     "smallest": float(areas.min()), "largest": float(areas.max())},
            "all_distinct": float(np.mean(distinct)),
            "quality": self._measured(patches), "random": self._measured(moved_at_random(patches)),
        }

    def _measured(self, patches: Patches) -> dict[str, Any] | None:
        return measure(patches, self.truth).document() if self.truth else None

    def view(self) -> Group:
        """Return the same for a person."""
        told = self.document()
        of = f"the {self.split} split of {told['data']}, image by image" if self.split else "compared with no data set"
        area = ", ".join(f"{name} {value:.1%}" for name, value in told["area"].items())
        lines = [
            f"{self.path}: {told['count']} boxes by {told['method']} for each of {told['images']} images",
            f"images: {of}",
            f"frame:  {told['frame']}x{told['frame']}",
            f"areas:  {area} of the frame; all boxes distinct in {told['all_distinct']:.0%} of images",
            f"hash:   {told['hash']}",
        ]
        return Group(*map(Text, lines), *self._quality())

    def _quality(self) -> list[Table | Text]:
        if not self.truth:
            return []
        found, chance = measure(self.patches, self.truth), measure(moved_at_random(self.patches), self.truth)
        table = Table(box=None, header_style="bold")
        for title in ("", "these boxes", "random, same sizes"):
            table.add_column(title, justify="right" if title else "left")
        for said, ours, theirs in zip(_said(found), _values(found), _values(chance), strict=True):
            table.add_row(said, ours, theirs)
        return [Text(), table]


def open_patches(path: Path, config: TrialConfig | None, cache: Path, count: int | None) -> OpenedPatches:
    """Return a patch file of ours, or a released array of the data set that `config` names.

    Raises InputError: where it is neither, or holds other images than the data set's, or fewer boxes than `count`.
    """
    if config is None:
        if path.suffix == ".npy":
            raise InputError(f"{path}: a released array has no names; give the images it is of with --root")
        return OpenedPatches(path, _as_many(read_any_patches(path)[1], path, count))
    dataset = open_dataset(config.data, cache)
    split, patches = _matched(path, dataset)
    root = Path(config.data.root).expanduser() if config.data.root else None
    return OpenedPatches(path, _as_many(patches, path, count), dataset, split, known_truth(dataset, split, root))


def show(opened: OpenedPatches, to: Path) -> None:
    """Write a contact sheet of the file's boxes."""
    assert opened.dataset is not None   # who has no images has nothing to show: the command requires them
    assert opened.split is not None
    if to.suffix.lower() not in (".png", ".jpg", ".jpeg"):
        raise InputError(f"--out {to}: a sheet is a .png or .jpg file")
    sheet = contact_sheet(opened.dataset, opened.split, opened.patches, opened.truth)
    with writing(to), whole(to) as file:
        sheet.save(file, "PNG" if to.suffix.lower() == ".png" else "JPEG")


def _matched(path: Path, dataset: Dataset) -> tuple[Split, Patches]:
    """Return the split a file is of, and its boxes."""
    if path.suffix == ".npy":
        split: Split = "test" if "test" in path.name else "train"
        return split, read_released(path, dataset.labels[dataset.rows(split)], dataset.classes)
    names = set(read_any_patches(path)[0])
    train, test = (len(names & set(dataset.names_of(each))) for each in get_args(Split))
    split = "test" if test > train else "train"
    return split, read_patches(path, dataset.names_of(split))


def _said(quality: Quality) -> list[str]:
    """Return what each figure means, in `_values`' order."""
    shown = f"visible parts an image's boxes hold, of {quality.parts_visible:.1f}" if quality.parts_visible else ""
    words = {
        "inside": "area inside the bird's box", "boxes_hitting": "boxes that hold a visible part",
        "images_hitting": "images of which a box does", "parts_a_box": "visible parts a box holds", "parts_hit": shown,
        "covered": "images of which a box holds half the telling part",
    }
    known = quality.document()
    return [*(said for name, said in words.items() if name in known),
            *(f"  images whose {part} is held" for part in known.get("by_part", {}))]


def _values(quality: Quality) -> list[str]:
    known = quality.document()
    order = ("inside", "boxes_hitting", "images_hitting", "parts_a_box", "parts_hit", "covered")
    shares = [*(known[name] for name in order if name in known), *known.get("by_part", {}).values()]
    return [f"{share:.3f}" for share in shares]
