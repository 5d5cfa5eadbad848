"""The folder a retraining leaves: its model as one file that is enough by itself, found again by path or name."""

from collections.abc import Callable, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from fgmodel.cache import Frames
from fgmodel.data.datasets import open_dataset
from fgmodel.extraction.finder import Finder, finder
from fgmodel.prepare import extraction_trunk, stream_trunks
from fgmodel.training import Run, best_device
from fgmodel.use.classifier import Classifier
from fgmodel.use.saved import FILE, About, Saved, read_model, save_model
from search.errors import InputError, writing
from search.export.bundle import Origin
from search.record.home import Home
from search.show.screen import Steps, preparing

if TYPE_CHECKING:
    from search.tracking.store import Store

REGISTRY = "models:/"


def keep_model(
    folder: Path, run: Run, origin: Origin, test: Mapping[str, float], seeds: int, home: Home, console: Console,
) -> About:
    """Write a retraining's model into its folder and return what it is; its weights are those of `run`, the first seed.

    No seed is chosen by what it did on test, which would be another look at it.
    """
    config = run.config
    device = best_device()
    with preparing(console) as progress:
        finds = _finder(run, home.cache, Steps(progress), device)
    trunks = stream_trunks(config, device) if config.model.freeze_backbones else None
    trained: dict[str, str | int] = {
        "search": origin.search, "trial": origin.trial, "seed": config.seed, "epochs": run.epoch,
        "data": run.data.fingerprint, "boxes": run.data.patches,
    }
    path = folder / FILE
    with writing(path):
        return save_model(
            path, Classifier(config, run.data.classes, run.models[0], trunks, finds, device), trained, test, seeds,
        )


def open_model(given: str, home: Home, registry: "Callable[[], Store]") -> Saved:
    """Return the model a person means: a folder of fgsearch retrain, its file, a name, or models:/NAME@ALIAS.

    `registry` opens MLflow's store, which takes seconds, for such an address only.
    Raises InputError: where there is none, with the nearest name.
    """
    if given.startswith(REGISTRY):
        from search.models.registry import fetched  # noqa: PLC0415  MLflow takes two seconds

        path = fetched(registry, given)
    else:
        path = _path(given, home)
    return read_model(path, best_device())


def _path(given: str, home: Home) -> Path:
    for path in (Path(given).expanduser(), home.path / "models" / given):
        if path.is_file():
            return path
        if (path / FILE).is_file():
            return path / FILE
        if path.is_dir():
            raise InputError(f"{path}: holds no {FILE}; a model's folder is what fgsearch retrain writes")
    names = home.models()
    near = get_close_matches(given, names, n=1, cutoff=0.4)
    there = f"there are {', '.join(names)}" if names else f"{home.path} holds none yet: fgsearch retrain best.yaml"
    raise InputError(f"'{given}' is no model; " + (f"did you mean '{near[0]}'?" if near else there))


def _finder(run: Run, cache: Path, steps: Steps, device: str) -> Finder | None:
    config = run.config
    if config.model.local_stream == "none":
        return None
    dataset = open_dataset(config.data, cache, steps)
    train = Frames(dataset, "train", config.data.frame_size, cache, steps)
    return finder(config, dataset, train, extraction_trunk(config, device))
