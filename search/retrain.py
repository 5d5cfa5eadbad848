"""Trains an exported configuration on train and validation, over several seeds, and opens the test split once."""

import json
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from rich.console import Console
from rich.progress import Progress

from fgmodel.config import TrialConfig
from fgmodel.metrics import Evaluation
from fgmodel.prepare import prepare
from fgmodel.saved import FILE, About
from fgmodel.training import Diverged, Run, best_device
from fgmodel.trial_data import TrialData, whole
from search import mlflow_store
from search.bundle import Bundle, read_bundle, write_bundle
from search.errors import InputError, writing
from search.history import load, space_of
from search.home import Home
from search.journal import Journal, OpenedTest, now
from search.manifest import difference
from search.mlflow_store import Store, StoreError
from search.model_folder import keep_model
from search.registry import Version, register
from search.screen import Steps, preparing
from search.tracking import log_retrain, replay

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


def retrain(path: Path, seeds: Sequence[int], root: str | None, home: Home, store: Store, console: Console) -> Result:
    """Return the test result of the bundle in `path`, trained anew with each seed; `root` is where the data lies now.

    Raises InputError: when the bundle is no bundle, the data differ from the search's, or training diverges.
    """
    bundle, begun = read_bundle(path), now()
    config = _configured(bundle, root)
    with preparing(console) as progress:
        train = prepare(config, home.cache, "train", Steps(progress), best_device())
        require_same_data(bundle, config, train, home)
        runs = [_train(config, seed, whole(train), progress) for seed in seeds]
        test = prepare(config, home.cache, "test", Steps(progress), best_device())
    _record_opening(bundle, tuple(seeds), len(test.labels), home, console)
    folder = home.path / "models" / f"{bundle.origin.search}-{bundle.origin.trial}"
    result = Result(bundle, tuple(seeds), tuple(run.test(test) for run in runs), len(test.labels), folder)
    _save(result, runs)
    about = keep_model(folder, runs[0], bundle.origin, result.means(), len(seeds), home, console)
    _say(result, console)
    _log(result, about, begun, home, store, console)
    return result


def require_same_data(bundle: Bundle, config: TrialConfig, data: TrialData, home: Home) -> None:
    """Raise InputError naming what changed when the data are not those of the search."""
    then, now = bundle.origin.data, data
    if then.fingerprint != now.fingerprint:
        what = difference(home, bundle.origin.search, config)
        raise InputError(f"{config.data.root or config.data.dataset}: the images are not those of the search: {what}")
    if then.patches != now.patches:
        what = f"the patch boxes are not those of the search ({then.patches} then, {now.patches} now)"
        raise InputError(f"{config.data.patches}: {what}")
    if then.split != now.split:
        what = f"the validation cut is not that of the search ({then.split} then, {now.split} now)"
        raise InputError(f"data.seed, data.validation, data.folds: {what}")


def _configured(bundle: Bundle, root: str | None) -> TrialConfig:
    return TrialConfig.from_settings({**bundle.settings, **({"data.root": root} if root else {})})


def _train(config: TrialConfig, seed: int, data: TrialData, progress: Progress) -> Run:
    seeded = TrialConfig.from_settings({**config.settings(), "seed": seed})
    run = Run(seeded, data, best_device())
    step, epochs = Steps(progress), config.optim.epochs
    try:
        while run.epoch < epochs:
            run.train_epoch()
            step(f"training, seed {seed}", run.epoch, epochs)
    except Diverged as error:
        raise InputError(f"seed {seed}: {error}; export another trial: fgsearch export NAME --trial K") from None
    return run


def _record_opening(bundle: Bundle, seeds: tuple[int, ...], images: int, home: Home, console: Console) -> None:
    """Write that the test split is opened before it is: into the search's journal, or beside the model without one."""
    name = bundle.origin.search
    fact = OpenedTest(trial=bundle.origin.trial, seeds=seeds, images=images)
    if name not in home.names():
        path = home.path / "models" / f"{name}-{bundle.origin.trial}" / "test-opened.jsonl"
        with writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("a") as file:
                file.write(fact.model_dump_json() + "\n")
    else:
        path = home.journal(name)
        before = load(path).tests
        with Journal(path) as journal:
            journal.append(fact)
        if before:
            console.print(f"note: test was opened before, {len(before)} times, last on {before[-1].at:%Y-%m-%d %H:%M}")
    console.print(f"test opened (recorded in {path})", soft_wrap=True)


def _save(result: Result, runs: list[Run]) -> None:
    with writing(result.folder):
        result.folder.mkdir(parents=True, exist_ok=True)
        for seed, run in zip(result.seeds, runs, strict=True):
            run.save(result.folder / f"seed{seed}.safetensors")
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

    def keep(run: mlflow_store.Run) -> None:
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
