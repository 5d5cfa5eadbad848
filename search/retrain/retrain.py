"""Trains an exported configuration on train and validation, over several seeds, and opens the test split once.

Killed at any moment, the same command goes on: `search.retrain.seeds` keeps what was trained and that test was opened.
"""

import json
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import torch
from rich.console import Console

from fgmodel.config import TrialConfig
from fgmodel.data.datasets import Dataset, open_dataset
from fgmodel.extraction import EXTRACTORS
from fgmodel.metrics import Evaluation
from fgmodel.prepare import prepare
from fgmodel.training import Run, best_device
from fgmodel.trial_data import TrialData, whole
from fgmodel.use.saved import FILE, About
from search.errors import InputError, writing
from search.export.bundle import Bundle, write_bundle
from search.export.environment import differences, here
from search.export.packing import Packed, unpack
from search.models.folder import keep_model
from search.models.registry import Version, register
from search.record.history import load, space_of
from search.record.home import Home
from search.record.journal import OpenedTest, now
from search.record.manifest import changes, difference
from search.retrain.openings import record_opening
from search.retrain.seeds import train_seeds, unfinished
from search.show.screen import Steps, preparing
from search.tracking.entry import StoreError, TrackedRun
from search.tracking.store import Store
from search.tracking.tracker import log_retrain, replay

MEASURES = ("accuracy", "accuracy_global", "accuracy_local", "nll")


@dataclass(frozen=True)
class Result:
    """What the test split said, one entry a seed."""

    bundle: Bundle
    seeds: tuple[int, ...]
    evaluations: tuple[Evaluation, ...]
    images: int
    folder: Path

    @property
    def measures(self) -> tuple[str, ...]:
        """Return what was measured: nothing of a local stream where there is none."""
        return tuple(m for m in MEASURES if getattr(self.evaluations[0], m) is not None)

    def values(self, measure: str) -> list[float]:
        """Return a measure of every seed."""
        return [float(getattr(evaluation, measure)) for evaluation in self.evaluations]

    def means(self) -> dict[str, float]:
        """Return the mean of every measure over the seeds, by its metric's name."""
        return {f"test/{measure}": statistics.mean(self.values(measure)) for measure in self.measures}

    def said(self, measure: str) -> str:
        """Return mean ± standard deviation over the seeds."""
        values = self.values(measure)
        spread = f" ± {statistics.stdev(values):.3f}" if len(values) > 1 else ""
        return f"{statistics.mean(values):.3f}{spread}"


def retrain(
    path: Path, seeds: Sequence[int], root: str | None, home: Home, store: Store, console: Console,
    threads: int | None = None,
) -> Result:
    """Return the test result of the bundle in `path`, trained anew with each seed; `root` is where the data lies now.

    With as many threads as where it was exported, unless `threads` says otherwise; then the numbers are the same to the
    bit wherever nothing differs that it names. Raises InputError: when the bundle is no bundle or was changed, the data
    differ from the search's, another process retrains it, or training diverges.
    """
    packed, begun = unpack(path), now()
    folder = model_folder(packed.bundle, home)
    with unfinished(home, folder.name) as kept:
        _set_threads(packed.bundle, threads, console)
        bundle = _placed(packed, root, folder)
        config = bundle.config()
        with preparing(console) as progress:
            images = require_same_images(packed, config, home, Steps(progress))
            train = _train_data(packed, config, home, folder, Steps(progress), console)
            kept.begin(config, train, here(), console)
            runs = train_seeds(config, seeds, whole(train), kept, progress, console)
        opened = OpenedTest(trial=bundle.origin.trial, seeds=tuple(seeds), images=int(images.rows("test").size))
        record_opening(kept.opening(opened), bundle.origin.search, home, folder, console)
        with preparing(console) as progress:
            test = prepare(config, home.cache, "test", Steps(progress), best_device())
        result = Result(bundle, tuple(seeds), tuple(run.test(test) for run in runs), len(test.labels), folder)
        _save(result, runs)
        about = keep_model(folder, runs[0], bundle.origin, result.means(), len(seeds), home, console)
        _say(result, console)
        _log(result, about, begun, home, store, console)
        kept.end()
    return result


def model_folder(bundle: Bundle, home: Home) -> Path:
    """Return the folder of a retrained model."""
    return home.path / "models" / f"{bundle.origin.search}-{bundle.origin.trial}"


def require_same_images(packed: Packed, config: TrialConfig, home: Home, steps: Steps) -> Dataset:
    """Return the images; raises InputError naming what changed when they are not those of the search."""
    dataset, origin = open_dataset(config.data, home.cache, steps), packed.bundle.origin
    if dataset.fingerprint != origin.data.fingerprint:
        brought = packed.digests  # of the search's images, where the bundle has them
        what = changes(brought, config, home) if brought else difference(home, origin.search, config)
        raise InputError(f"{config.data.root or config.data.dataset}: the images are not those of the search: {what}")
    return dataset


def require_same_data(bundle: Bundle, config: TrialConfig, data: TrialData) -> None:
    """Raise InputError naming what changed when boxes or validation cut are not those of the search."""
    then, now = bundle.origin.data, data
    if then.patches != now.patches:
        what = f"the patch boxes are not those of the search ({then.patches} then, {now.patches} now)"
        raise InputError(f"{config.data.patches}: {what}")
    if then.split != now.split:
        what = f"the validation cut is not that of the search ({then.split} then, {now.split} now)"
        raise InputError(f"data.seed, data.validation, data.folds: {what}")


def _set_threads(bundle: Bundle, threads: int | None, console: Console) -> None:
    """Take the bundle's number of threads, or the one given, and say what may change last bits, a line each."""
    then = bundle.origin.environment
    if chosen := threads or (then and then.threads):
        torch.set_num_threads(chosen)
    if then is None:
        return
    found = differences(then, here())
    for line in found:
        console.print(f"differs: {line}", soft_wrap=True)
    told = "so last bits may differ" if found else "the same versions, code, processor and threads as when exported"
    console.print(f"exported {bundle.origin.exported}: {told}", soft_wrap=True)


def _placed(packed: Packed, root: str | None, folder: Path) -> Bundle:
    """Return the bundle with the paths of this place: of the data, and of patch files that it brought along."""
    bundle = packed.bundle
    settings = {**bundle.settings, **({"data.root": root} if root else {})}
    config = TrialConfig.from_settings(settings)
    where = Path(config.data.root).expanduser()
    if config.data.dataset != "finches" and not where.is_dir():
        raise InputError(f"data.root: '{where}' is no folder; say where the images lie now: --root FOLDER")
    if config.data.patches not in EXTRACTORS and (boxes := packed.boxes(folder)):
        settings["data.patches"] = str(boxes)
    return bundle.model_copy(update={"settings": settings})


def _train_data(
    packed: Packed, config: TrialConfig, home: Home, folder: Path, steps: Steps, console: Console,
) -> TrialData:
    """Return the search's train split; where a method now finds other boxes than then, with those of the bundle."""
    train = prepare(config, home.cache, "train", steps, best_device())
    of_then = packed.bundle.origin.data.patches
    if train.patches != of_then and config.data.patches in EXTRACTORS and (boxes := packed.boxes(folder)):
        theirs = TrialConfig.from_settings({**config.settings(), "data.patches": str(boxes)})
        before, train = train, prepare(theirs, home.cache, "train", steps, best_device())
        others = int((before.boxes != train.boxes).any(axis=(1, 2)).sum())
        said = f"{config.data.patches} finds others here on {others} of {len(train.names)} images"
        console.print(f"differs: patch boxes: {said}; those of the bundle are trained on", soft_wrap=True)
    require_same_data(packed.bundle, config, train)
    return train


def _save(result: Result, runs: list[Run]) -> None:
    with writing(result.folder):
        result.folder.mkdir(parents=True, exist_ok=True)
        kept = [result.folder / f"seed{seed}.safetensors" for seed in result.seeds]
        for path, run in zip(kept, runs, strict=True):
            run.save(path)
        for path in set(result.folder.glob("seed*.safetensors")) - set(kept):
            path.unlink()  # of an earlier retrain with more seeds
        write_bundle(result.bundle, result.folder / "bundle.yaml")
        seeds = [str(seed) for seed in result.seeds]
        measured = {f"test/{m}": dict(zip(seeds, result.values(m), strict=True)) for m in result.measures}
        (result.folder / "test.json").write_text(json.dumps(measured, indent=2) + "\n")


def _log(result: Result, about: About, begun: datetime, home: Home, store: Store, console: Console) -> None:
    origin, name = result.bundle.origin, result.bundle.origin.search
    journal = home.journal(name) if name in home.names() else None
    means = result.means()
    spreads = {f"test/{m}_sd": statistics.stdev(result.values(m)) for m in result.measures if len(result.seeds) > 1}
    tags = {"fgsearch.search": name, "fgsearch.trial": str(origin.trial), "fgsearch.seeds": str(len(result.seeds))}
    registered: list[Version] = []

    def keep(run: TrackedRun) -> None:
        store.attach_folder(run, result.folder, without=FILE)  # the registered model holds it
        registered.append(register(store, run, result.folder, about, origin))

    try:
        where = log_retrain(
            store,
            journal,
            name=f"retrain {name} #{origin.trial}",
            settings=result.bundle.settings,
            metrics=means | spreads,
            times=(begun, now()),
            tags=tags,
            keep=keep,
        )
        if journal:
            replay(journal, space_of(load(journal)), store)  # the parent's tag that test was opened
    except StoreError as error:
        console.print(f"MLflow does not take this result ({error}); it is in {result.folder}", soft_wrap=True)
        return
    console.print(f"  run      {where} in {store.where}", soft_wrap=True)
    for version in registered:
        console.print(f"  registry {version.said()}, version {version.number}", soft_wrap=True)


def _say(result: Result, console: Console) -> None:
    for measure in result.measures:
        note = f"   ({len(result.seeds)} seeds, {result.images} images)" if measure == "accuracy" else ""
        console.print(f"test/{measure:<16} {result.said(measure)}{note}")
    console.print(f"  model    {result.folder}", soft_wrap=True)
    console.print(f"  predict  fgsearch predict {result.folder} IMAGE", soft_wrap=True)
