"""Trains an exported configuration on train and validation, over several seeds, and opens the test split once.

Killed at any moment, the same command goes on: `search.retrain.seeds` keeps what was trained and that test was opened.
"""

import json
import statistics
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import torch
from rich.console import Console

from fgmodel import atomic
from fgmodel.config import TrialConfig
from fgmodel.data.datasets import Dataset, open_dataset
from fgmodel.extraction import EXTRACTORS
from fgmodel.prepare import prepare
from fgmodel.training import Run, best_device
from fgmodel.trial_data import TrialData, whole
from fgmodel.use.saved import FILE, About
from search.errors import InputError, writing
from search.export.bundle import Bundle, write_bundle
from search.export.environment import Environment, differences, here
from search.export.packing import Packed, unpack
from search.models.folder import keep_model
from search.models.registry import Version, register
from search.record.history import load, space_of
from search.record.home import Home
from search.record.journal import OpenedTest, now
from search.record.manifest import changes, difference
from search.retrain.openings import record_opening
from search.retrain.seeds import one_row, train_seeds, unfinished
from search.run.executor import executor
from search.run.resources import places_here
from search.show.screen import Steps, preparing
from search.space.space import Resources, Space
from search.tracking.entry import StoreError, TrackedRun
from search.tracking.store import Store
from search.tracking.tracker import log_retrain, replay

MEASURES = ("accuracy", "accuracy_global", "accuracy_local", "nll")


@dataclass(frozen=True)
class Result:
    """What the test split said, one entry a seed."""

    bundle: Bundle
    tested: tuple[dict[str, float], ...]  # metrics by name
    images: int
    folder: Path

    @property
    def seeds(self) -> tuple[int, ...]:
        """The seeds, from 0."""
        return tuple(range(len(self.tested)))

    @property
    def measures(self) -> tuple[str, ...]:
        """Return what was measured: nothing of a local stream where there is none."""
        return tuple(measure for measure in MEASURES if f"test/{measure}" in self.tested[0])

    def values(self, measure: str) -> list[float]:
        """Return a measure of every seed."""
        return [metrics[f"test/{measure}"] for metrics in self.tested]

    def means(self) -> dict[str, float]:
        """Return the mean of every measure over the seeds, by its metric's name."""
        return {f"test/{measure}": statistics.mean(self.values(measure)) for measure in self.measures}

    def said(self, measure: str) -> str:
        """Return mean ± standard deviation over the seeds."""
        values = self.values(measure)
        spread = f" ± {statistics.stdev(values):.3f}" if len(values) > 1 else ""
        return f"{statistics.mean(values):.3f}{spread}"


def retrain(
    path: Path, seeds: int, root: str | None, home: Home, store: Store, console: Console, threads: int | None = None,
    *, address: str | None = None, inline: bool = False,
) -> Result:
    """Return the test result of the bundle in `path`, trained anew with the seeds 0, 1, …; `root` is where the data is.

    As many seeds at once as this machine, or the cluster at `address`, has room for; each with as many threads as a
    trial had, unless `threads` says otherwise: then the numbers are the same to the bit wherever nothing differs that
    it names. Raises InputError: when the bundle is no bundle or was changed, the data differ from the search's, another
    process retrains it, or training diverges.
    """
    packed, begun = unpack(path), now()
    folder = model_folder(packed.bundle, home)
    with unfinished(home, folder.name) as kept:
        environment = _environment(packed.bundle, threads, console)
        bundle = _placed(packed, root, folder)
        config = bundle.config()
        space = _study(bundle, config, folder.name, seeds, environment.threads, everywhere=address is not None)
        runs = executor(space, address, inline=inline or (address is None and space.search.workers == 1))
        with preparing(console) as progress:
            images = require_same_images(packed, config, home, Steps(progress))
        with runs:
            with preparing(console) as progress:
                train, boxes = _train_data(packed, config, home, folder, Steps(progress), console)
            count = int(images.rows("test").size)
            kept.begin(config, train, environment, console)
            nodes = runs.probe(space, kept.name, kept.home, console)
            opened = OpenedTest(trial=bundle.origin.trial, seeds=tuple(range(seeds)), images=count)
            record_opening(kept.opening(opened), bundle.origin.search, home, folder, console)
            with preparing(console) as progress:
                trained = train_seeds(space, train, boxes, count, kept, runs, nodes, progress, console)
        tested = tuple(trial.reports[config.optim.epochs] for trial in trained)
        result = Result(bundle, tested, count, folder)
        _save(result, [kept.checkpoint(trial) for trial in trained])
        about = keep_model(folder, _first(config, train, folder), bundle.origin, result.means(), seeds, home, console)
        _say(result, console)
        _log(result, about, begun, home, store, console)
        kept.end()
    return result


def _study(bundle: Bundle, config: TrialConfig, name: str, seeds: int, threads: int, *, everywhere: bool) -> Space:
    """Return the study of one row, with as many workers as seeds, or as this machine has room for."""
    gpu = (bundle.origin.resources or {}).get("gpu", 0.0) if everywhere or torch.cuda.is_available() else 0.0
    workers = seeds if everywhere else min(seeds, places_here(threads, gpu))
    return one_row(config, name, seeds, workers, Resources(cpu=threads, gpu=gpu))


def _first(config: TrialConfig, train: TrialData, folder: Path) -> Run:
    """Return the run of the first seed, trained."""
    run = Run(TrialConfig.from_settings({**config.settings(), "seed": 0}), whole(train), best_device())
    run.load(folder / "seed0.safetensors")
    return run


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


def _environment(bundle: Bundle, threads: int | None, console: Console) -> Environment:
    """Return this place with the threads a trial gets, and say what may change last bits, a line each."""
    then, held = bundle.origin.environment, bundle.origin.resources or {}
    mine = here(threads or (then.threads if then else max(1, int(held.get("cpu", 1)))))
    if then:
        found = differences(then, mine)
        for line in found:
            console.print(f"differs: {line}", soft_wrap=True)
        told = "so last bits may differ" if found else "the same versions, code, processor and threads as when exported"
        console.print(f"exported {bundle.origin.exported}: {told}", soft_wrap=True)
    return mine


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
) -> tuple[TrialData, Path | None]:
    """Return the search's train split, and the boxes of the bundle where a method now finds others than then."""
    train = prepare(config, home.cache, "train", steps, best_device())
    of_then, theirs = packed.bundle.origin.data.patches, None
    if train.patches != of_then and config.data.patches in EXTRACTORS and (theirs := packed.boxes(folder)):
        given = TrialConfig.from_settings({**config.settings(), "data.patches": str(theirs)})
        before, train = train, prepare(given, home.cache, "train", steps, best_device())
        others = int((before.boxes != train.boxes).any(axis=(1, 2)).sum())
        said = f"{config.data.patches} finds others here on {others} of {len(train.names)} images"
        console.print(f"differs: patch boxes: {said}; those of the bundle are trained on", soft_wrap=True)
    require_same_data(packed.bundle, config, train)
    return train, theirs


def _save(result: Result, trained: list[Path]) -> None:
    with writing(result.folder):
        result.folder.mkdir(parents=True, exist_ok=True)
        kept = [result.folder / f"seed{seed}.safetensors" for seed in result.seeds]
        for path, weights in zip(kept, trained, strict=True):
            atomic.write(path, weights.read_bytes())
        for path in set(result.folder.glob("seed*.safetensors")) - set(kept):
            path.unlink()  # of an earlier retrain with more seeds
        write_bundle(result.bundle, result.folder / "bundle.yaml")
        seeds = [str(seed) for seed in result.seeds]
        measured = {f"test/{m}": dict(zip(seeds, result.values(m), strict=True)) for m in result.measures}
        atomic.write(result.folder / "test.json", json.dumps(measured, indent=2).encode() + b"\n")


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
