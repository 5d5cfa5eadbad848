"""The bundle: an exported configuration with everything needed to repeat it, as a file people can read."""

from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import Field, ValidationError

from fgmodel.atomic import whole
from fgmodel.config import DEFAULTS, TrialConfig
from fgmodel.frozen import Frozen, Wrong, mistakes
from search.errors import InputError, Problems, SettingError, writing
from search.export.environment import Environment
from search.record.home import SEARCH_NAME
from search.space.yaml_lines import Document, read_document

PACKAGES = ("torch", "torchvision", "timm", "numpy", "ray", "optuna", "mlflow", "pillow")


class Confirmation(Frozen):
    """The race over seeds: fresh runs of the trial that did not choose it."""

    mean: float
    sd: float
    seeds: int
    finalists: int  # it is the best of so many


class Validation(Frozen):
    """What the search measured; selection makes it optimistic."""

    objective: str
    value: float
    nll: float
    epochs: int
    kind: Literal["single cut", "cross-validation"]
    trials: int  # it is the best of so many
    confirmed: Confirmation | None = None


class DataIdentity(Frozen):
    """Hashes of what the trial was trained on."""

    fingerprint: str
    split: str
    patches: str


class Code(Frozen):
    """Which code trained it."""

    version: str
    commit: str | None
    dirty: bool


class JournalDigest(Frozen):
    """The search's journal when the configuration was exported: its first `lines` lines have this digest."""

    sha256: str
    lines: int


class Origin(Frozen):
    """Where a configuration comes from."""

    search: str = Field(pattern=SEARCH_NAME)  # it becomes a folder's name
    trial: int = Field(ge=0)
    by: str
    exported: date
    validation: Validation
    data: DataIdentity
    seeds: dict[str, int]  # of the sampler, the data and the trial
    code: Code
    packages: dict[str, str]
    journal: JournalDigest | None = None            # these three: None in files from before they were kept
    environment: Environment | None = None   # where it was exported
    resources: dict[str, float] | None = None  # what a trial held: cpu, gpu

    def said(self) -> str:
        """Return the validation result in a few words."""
        v, c = self.validation, self.validation.confirmed
        again = f"; {c.mean:.4f} ± {c.sd:.4f} over {c.seeds} fresh seeds, best of {c.finalists} finalists" if c else ""
        return f"{v.objective} {v.value:.4f} after {v.epochs} epochs ({v.kind}, best of {v.trials}){again}"


class Bundle(Frozen):
    """A configuration and its origin."""

    settings: dict[str, Any]
    origin: Origin

    def config(self) -> TrialConfig:
        """Return the configuration; raises SettingError when a setting is wrong."""
        return TrialConfig.from_settings(self.settings)


def packages() -> dict[str, str]:
    """Return the versions of what the numbers depend on."""
    return {name: version(name) for name in PACKAGES}


def write_bundle(bundle: Bundle, path: Path) -> None:
    """Write `bundle` as YAML that opens with how to use it; a file cut short never replaces a whole one."""
    with writing(path), whole(path) as file:
        file.write(as_yaml(bundle, path.name).encode())


def as_yaml(bundle: Bundle, name: str) -> str:
    """Return `bundle` as YAML that opens with how to use it, as the file `name`."""
    origin = bundle.origin
    head = (
        f"# {name}: trial {origin.trial} of search {origin.search}, exported {origin.exported}. "
        f"Retrain with: fgsearch retrain {name}\n"
    )
    held = bundle.model_dump(mode="json")
    body = yaml.safe_dump(held, sort_keys=False, allow_unicode=True)
    if yaml.safe_load(body) != held:  # PyYAML loses U+0085 and its like unless it escapes what is not ASCII
        body = yaml.safe_dump(held, sort_keys=False)
    return head + body


def read_bundle(path: Path) -> Bundle:
    """Return the bundle in `path`; raises InputError with the line of what is wrong."""
    return bundle_of(read_document(path))


def bundle_of(document: Document) -> Bundle:
    """Return the bundle a document holds; raises InputError with the line of what is wrong."""
    try:
        bundle = Bundle.model_validate(document.values)
    except ValidationError as error:
        raise Problems([_problem(document, wrong) for wrong in mistakes(error)]) from None
    try:
        bundle.config()
    except SettingError as error:
        raise InputError(f"{document.where('settings', error.name)}: {error}") from None
    if missing := sorted(set(DEFAULTS) - set(bundle.settings)):
        where = document.where("settings")
        raise InputError(f"{where}: '{missing[0]}' is missing; an exported file holds every setting")
    return bundle


def _problem(document: Document, wrong: Wrong) -> str:
    named = document.named(*wrong.keys)
    if wrong.kind == "missing":
        return f"{named} is missing; is this a file of fgsearch export?"
    if wrong.kind == "extra_forbidden":
        return f"{named} does not belong in a file of fgsearch export"
    return f"{named}: {wrong.must}"
