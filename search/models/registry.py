"""MLflow's model registry: a retrained model as a version of `fgsearch-NAME`, the best of them under the alias `best`.

What is registered is a folder that `mlflow models serve` can run: the model file, `search/models/served.py` to run it,
a signature, an input example, the bundle it was trained from and what the test split said. Nothing in it is pickled.
"""

import math
import re
import tempfile
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from difflib import get_close_matches
from io import BytesIO
from pathlib import Path
from typing import Any

import pandas as pd

from fgmodel.data.finches import draw
from fgmodel.errors import printable
from fgmodel.use.saved import FILE, About
from search.errors import InputError
from search.export.bundle import Origin, packages
from search.models.predict import TOP, Prediction
from search.record.home import code_version
from search.tracking.entry import StoreError, TrackedRun
from search.tracking.store import Store

ALIAS = "best"
PREFIX = "fgsearch-"
FOLDER = "model"            # of a run's artifacts
ADDRESS = re.compile(r"models:/(?P<name>[^/@]+)(?:@(?P<alias>[^/@]+)|/(?P<version>\d+))")


@dataclass(frozen=True)
class Version:
    """A registered model."""

    name: str
    number: str
    best: bool      # whether the alias is its

    def said(self) -> str:
        """Return its address, the one to use it by."""
        return f"models:/{self.name}@{ALIAS}" if self.best else f"models:/{self.name}/{self.number}"


def register(store: Store, run: TrackedRun, folder: Path, about: About, origin: Origin) -> Version:
    """Make the model in a retraining's folder a version in the registry; raises StoreError where it cannot.

    The alias goes to the trial that validation says is best, one that was confirmed over seeds before one that was not;
    the test split decides nothing.
    """
    name = f"{PREFIX}{origin.search}"
    with tempfile.TemporaryDirectory() as temporary:
        packed = Path(temporary) / FOLDER
        with store.client() as client:
            _pack(store, packed, folder, about)
            client.log_artifacts(run.id, str(packed), FOLDER)
    tags = _tags(about, origin)
    with store.client() as client:
        if not _found(client, name):
            client.create_registered_model(name, description=f"The best of search {origin.search}, retrained.")
        source, story = f"{client.get_run(run.id).info.artifact_uri}/{FOLDER}", _story(about, origin)
        made = client.create_model_version(name, source, run.id, tags, description=story)
        held = client.get_registered_model(name).aliases.get(ALIAS)
        best = held is None or _rank(tags) >= _rank(client.get_model_version(name, held).tags)
        if best:
            client.set_registered_model_alias(name, ALIAS, made.version)
    return Version(name, str(made.version), best)


def fetched(opens: Callable[[], Store], address: str) -> Path:
    """Return the model file of models:/NAME@ALIAS or models:/NAME/VERSION, brought here; `opens` opens the store.

    Raises InputError: where it is no such address, or there is no such model, with the nearest.
    """
    said = ADDRESS.fullmatch(address)
    if said is None:
        raise InputError(f"'{address}': write it as models:/{PREFIX}NAME@{ALIAS} or models:/{PREFIX}NAME/VERSION")
    store = opens()
    try:
        with store.client() as client:
            version = _version(store, client, said)
            if "fgsearch.search" not in version.tags:
                raise InputError(f"{address}: is not a model that fgsearch retrain registered")
            folder = client.download_artifacts(version.run_id, f"{FOLDER}/artifacts/{FILE}")
    except StoreError as error:
        raise InputError(str(error)) from None
    return Path(folder)


def _version(store: Store, client: Any, said: re.Match[str]) -> Any:  # noqa: ANN401  MLflow's types are partial
    name, alias, number = said["name"], said["alias"], said["version"]
    held = _found(client, name)
    if not held:
        known = [model.name for model in client.search_registered_models()]
        near = get_close_matches(name, known, n=1, cutoff=0.4)
        there = f"there are {', '.join(known)}" if known else "there is none yet: fgsearch retrain registers one"
        better = f"did you mean 'models:/{near[0]}@{ALIAS}'?" if near else there
        raise InputError(f"MLflow at {store.where}: has no model '{printable(name)}'; {better}")
    if alias is not None and alias not in held.aliases:
        raise InputError(f"models:/{name}: has no alias '{alias}'; it has {', '.join(held.aliases) or 'none'}")
    versions = {int(each.version): each for each in client.search_model_versions(f"name='{name}'")}
    if alias is None and int(number) not in versions:
        raise InputError(f"models:/{name}: has no version {number}; it has {', '.join(map(str, sorted(versions)))}")
    return versions[int(number if alias is None else held.aliases[alias])]


def _found(client: Any, name: str) -> Any:  # noqa: ANN401  MLflow's types are partial
    return next(iter(client.search_registered_models(f"name = '{name.replace(chr(39), '')}'")), None)


def _pack(store: Store, to: Path, folder: Path, about: About) -> None:
    """Write the folder that MLflow can run."""
    types, kinds = store.mlflow.types, {str: "string", float: "double"}
    outputs = [types.ColSpec(kinds[type(value)], name) for name, value in _any_row(about).items()]
    signature = store.mlflow.models.ModelSignature(
        types.Schema([types.ColSpec("binary", "image")]), types.Schema(outputs),
    )
    artifacts = {"model": FILE, "bundle": "bundle.yaml", "test": "test.json"}
    needs = {"fgsearch": code_version()[0], **packages()}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")   # of MLflow's about itself
        store.mlflow.pyfunc.save_model(
            to, python_model=str(Path(__file__).with_name("served.py")),
            artifacts={name: str(folder / file) for name, file in artifacts.items()},
            signature=signature, input_example=_example(),
            pip_requirements=[f"{name}=={number}" for name, number in needs.items()],
        )


def _any_row(about: About) -> dict[str, str | float]:
    """Return a row as the model answers it, for its columns."""
    one = about.classes[0], 1.0
    top = (one,) * min(TOP, len(about.classes))
    return Prediction("", top, one, one if about.boxes else None, ()).row()


def _example() -> pd.DataFrame:
    """Return an image file to try the model with: a drawn bird, since pictures of the data may not be ours to give."""
    content = BytesIO()
    draw(0, 0, 0).resize((96, 96)).save(content, "PNG")
    return pd.DataFrame({"image": [content.getvalue()]})


def _tags(about: About, origin: Origin) -> dict[str, str]:
    """Return what the registry's list shows of a version, and what `_rank` needs."""
    validation, confirmed = origin.validation, origin.validation.confirmed
    return {
        "fgsearch.search": origin.search, "fgsearch.trial": str(origin.trial),
        "fgsearch.objective": validation.objective, "fgsearch.confirmed": "yes" if confirmed else "no",
        "fgsearch.validation": str(confirmed.mean if confirmed else validation.value),
        **{name: f"{value:.4f}" for name, value in about.test.items()},
    }


def _rank(tags: dict[str, str]) -> tuple[bool, float]:
    """Return what validation says of a version; the larger is the better."""
    sign = -1 if tags.get("fgsearch.objective") == "val/nll" else 1
    try:
        return tags.get("fgsearch.confirmed") == "yes", sign * float(tags["fgsearch.validation"])
    except (KeyError, ValueError):   # a version that someone else made, or changed
        return False, -math.inf


def _story(about: About, origin: Origin) -> str:
    """Return what a person reads on the version's page."""
    address = f"models:/{PREFIX}{origin.search}@{ALIAS}"
    rows = [f"| {name} | {value:.4f} |" for name, value in about.test.items()]
    chosen = (
        f"Trial #{origin.trial} of search `{origin.search}`, trained again on train and validation: "
        f"{about.trained['epochs']} epochs, seed {about.trained['seed']}."
    )
    return "\n".join([
        chosen, "", f"| measured once, mean of {about.seeds} seeds | |", "|---|---|", *rows, "",
        f"Chosen by validation: {origin.said()}.", "",
        f"`fgsearch predict {address} IMAGE`, or as a server `mlflow models serve -m {address} --env-manager local`.",
    ])
