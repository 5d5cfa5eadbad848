"""Validates a search before anything starts: data, patches and resources, and says how long it will take."""

import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Group
from rich.table import Table
from rich.text import Text

from fgmodel.config import DEFAULTS, TrialConfig
from fgmodel.data.datasets import cut_validation, open_dataset
from fgmodel.data.splits import Fold, split_hash
from fgmodel.preparation_forecast import Pending, pending
from fgmodel.training import Run
from fgmodel.trial_data import TrialData, patch_features
from search.decide.forecast import expected_epochs, spoken
from search.run.resources import require_fit, require_resources, require_sampler
from search.space.space import Space

TIMED_IMAGES = {True: 64, False: 2}  # on features an image costs milliseconds, end to end seconds


@dataclass(frozen=True)
class Report:
    """What a search is and what it will cost, in seconds on this machine."""

    space: Space
    config: TrialConfig     # of trial 0
    images: int             # of train, validation included
    classes: int
    split: str
    to_prepare: tuple[Pending, ...]
    epoch_seconds: float
    epochs: int
    notes: tuple[str, ...] = ()   # of the data set

    @property
    def preparation_seconds(self) -> float:
        """Seconds for what the cache does not hold yet."""
        return sum(step.seconds for step in self.to_prepare)

    @property
    def seconds(self) -> float:
        """Seconds from launch to the end with all workers busy."""
        return self.preparation_seconds + self.epoch_seconds * self.epochs / self.space.search.workers

    def of(self, space: Space) -> "Report":
        """Return the report of a space that differs only in how many trials it has."""
        return replace(self, space=space, epochs=expected_epochs(space.search))

    def document(self) -> dict[str, Any]:
        """Return the report for a script."""
        return {
            "settings": self.config.settings(),
            "tune": {p.name: p.document() for p in self.space.tune},
            "search": self.space.search.model_dump(mode="json"),
            "data": {"images": self.images, "classes": self.classes, "split": self.split, "notes": self.notes},
            "forecast": {
                "preparation_seconds": self.preparation_seconds,
                "epoch_seconds": self.epoch_seconds,
                "epochs": self.epochs,
                "seconds": self.seconds,
            },
        }

    def view(self) -> Group:
        """Return the report for a person."""
        search = self.space.search
        table = Table(box=None, header_style="bold")
        for title in ("setting", "value", "thesis"):
            table.add_column(title)
        tuned = {p.name: _range(p.document()) for p in self.space.tune}
        for name, value in self.config.settings().items():
            default = DEFAULTS[name]
            if name in tuned or value != default:
                table.add_row(name, tuned.get(name, str(value)), str(default))
        rest = len(DEFAULTS) - table.row_count
        others = Text(f"  every other setting has the thesis' value ({rest} of {len(DEFAULTS)})")
        sampler = f"{search.sampler.name} seed {search.sampler.seed}"
        rungs = " ".join(map(str, search.rungs))
        steps = [f"  prepare {step.what}: about {spoken(step.seconds)}" for step in self.to_prepare]
        lines = [
            f"data: {self.classes} classes, {self.images} train images, validation included ({self.split[:19]}…)",
            *(f"note: {note}" for note in self.notes),
            f"search: {search.trials} trials, rungs {rungs}, {search.workers} workers, {sampler}",
            *steps,
            f"forecast: {self.epochs} epochs of {self.epoch_seconds:.2f} s: about {spoken(self.seconds)} in all",
        ]
        return Group(table, others, *(Text(line) for line in lines))


def check(space: Space, cache: Path, address: str | None = None) -> Report:
    """Return what a search would do; raises InputError for data, patches or resources that are not there.

    Resources are this machine's, or those of the cluster at `address`; the time is measured on this machine.
    """
    if address is None:
        require_resources(space)
        require_sampler(space)
    else:
        from cluster.jobs import Jobs  # noqa: PLC0415 Ray's HTTP clients, for who has a cluster only

        require_fit(space, Jobs(address).nodes())
    config = space.config(space.reference())
    dataset = open_dataset(config.data, cache)
    folds = cut_validation(dataset, config.data)
    return Report(
        space=space,
        config=config,
        images=int(dataset.rows("train").size),
        classes=len(dataset.classes),
        split=split_hash(dataset.names_of("train"), folds),
        to_prepare=pending(config, cache),
        epoch_seconds=_epoch_seconds(config, len(dataset.classes), folds),
        epochs=expected_epochs(space.search),
        notes=dataset.notes,
    )


def _epoch_seconds(config: TrialConfig, classes: int, folds: tuple[Fold, ...]) -> float:
    """Time a few images of training and of validation on arrays of the right shapes, and scale to an epoch's."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    images = max(TIMED_IMAGES[config.model.freeze_backbones], 1)
    run = Run(config, _made_up(config, classes, images))
    run.train_epoch()  # the first one also allocates
    train, begun = 0.0, time.perf_counter()
    run = Run(config, _made_up(config, classes, images))
    run.train_epoch()
    train = time.perf_counter() - begun
    begun = time.perf_counter()
    run.validate()
    validate = time.perf_counter() - begun
    torch.set_num_threads(threads)
    trained, validated = sum(len(f.train) for f in folds), sum(len(f.validation) for f in folds)
    return (train * trained + validate * validated) / images


def _made_up(config: TrialConfig, classes: int, images: int) -> TrialData:
    random, data = np.random.default_rng(0), config.data
    side, width, frozen = data.frame_size, 1280, config.model.freeze_backbones
    each, kept = (images, data.patches_per_image), patch_features(config.model)
    cells = max(1, data.patch_size // (16 if config.model.local_stride16 else 32))
    everything = Fold(train=np.arange(images), validation=np.arange(images))
    box = np.array([0, 0, side, side], np.int16)
    return TrialData(
        classes=tuple(map(str, range(classes))),
        names=tuple(map(str, range(images))),
        labels=np.arange(images) % classes,
        folds=(everything,),
        boxes=np.tile(box, (images, data.patches_per_image, 1)),
        frames=None if frozen else random.integers(0, 255, (images, side, side, 3), np.uint8),
        global_features=random.random((images, width), np.float32) if frozen else None,
        local_features=random.random((*each, width), np.float32) if kept == "pooled" else None,
        local_maps=np.ones((*each, width, cells, cells), np.float16) if kept == "maps" else None,
        fingerprint="",
        split="",
        patches="",
    )


def _range(document: dict[str, Any]) -> str:
    if "choices" in document:
        said = " | ".join(map(str, document["choices"]))
    else:
        said = f"{document['low']:g} … {document['high']:g}" + (" (log)" if document.get("log") else "")
    return said + "".join(f" when {name} {test}" for name, test in document.get("when", {}).items())
