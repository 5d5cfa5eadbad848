"""Exports the best configuration of a search as a bundle."""

import hashlib
import math
from datetime import UTC, datetime
from pathlib import Path

from fgmodel.config import DEFAULTS, TrialConfig
from search.decide import race
from search.errors import InputError
from search.export import environment
from search.export.bundle import (
    Bundle,
    Code,
    Confirmation,
    DataIdentity,
    JournalDigest,
    Origin,
    Validation,
    packages,
    write_bundle,
)
from search.record.history import History, Trial, space_of
from search.record.home import Home, code_version
from search.record.journal import Launched
from search.space.space import Plan


def export(home: Home, name: str, to: Path, number: int | None = None) -> Bundle:
    """Write the best trial at the highest rung (or trial `number`) to `to` and return it; raises as `chosen` does."""
    bundle = chosen(home, name, number)
    write_bundle(bundle, to)
    return bundle


def chosen(home: Home, name: str, number: int | None = None) -> Bundle:
    """Return the best trial at the highest rung, or trial `number`, with its origin.

    Raises InputError: when there is no such search or trial, none has finished a rung, or the journal lacks a line.
    """
    history = home.history(name)
    space, launched = space_of(history), _launched(home, name, history)
    if number is not None and number not in history.trials:
        raise InputError(f"search '{name}' has no trial #{number}; it has #0 to #{len(history.trials) - 1}")
    trial = race.best(space.search, history) if number is None else history.trials[number]
    if trial is None or not trial.rung:
        raise InputError(
            f"search '{name}': {'no trial' if trial is None else f'trial #{trial.number}'} has finished a rung yet"
        )
    fixed = {key: value for key, value in launched.reference.items() if key not in {p.name for p in space.tune}}
    config = TrialConfig.from_settings({**DEFAULTS, **fixed, **trial.settings})
    record = _record(home.journal(name))
    origin = _origin(space.search, history, launched, name, trial, config, record)
    return Bundle(settings=config.settings(), origin=origin)


def _record(journal: Path) -> JournalDigest:
    """Return what names the journal as it is, up to its last whole line."""
    content = journal.read_bytes()
    whole = content[: content.rfind(b"\n") + 1]
    return JournalDigest(sha256=hashlib.sha256(whole).hexdigest(), lines=whole.count(b"\n"))


def _confirmed(search: Plan, history: History, trial: Trial) -> Confirmation | None:
    raced = race.confirmed(search, history)
    found = next((c for c in raced if c.trial is trial and not math.isnan(c.mean)), None)
    if found is None:
        return None
    return Confirmation(mean=found.mean, sd=found.sd, seeds=len(found.values), finalists=len(raced))


def _launched(home: Home, name: str, history: History) -> Launched:
    launched = history.launched
    if launched is None or not DataIdentity.model_fields.keys() <= launched.data.keys():
        raise InputError(f"{home.journal(name)}: has no 'launched' line that says what the search was trained on")
    return launched


def _origin(
    search: Plan, history: History, launched: Launched, name: str, trial: Trial, config: TrialConfig,
    record: JournalDigest,
) -> Origin:
    version, commit, dirty = code_version()
    return Origin(
        search=name,
        trial=trial.number,
        by=trial.by,
        exported=datetime.now(UTC).date(),
        validation=Validation(
            objective=search.objective,
            value=trial.at(trial.rung, search.objective),
            nll=trial.at(trial.rung, "val/nll"),
            epochs=trial.rung,
            kind="cross-validation" if config.data.folds else "single cut",
            trials=len(history.candidates),
            confirmed=_confirmed(search, history, trial),
        ),
        data=DataIdentity(**{key: launched.data[key] for key in DataIdentity.model_fields}),
        seeds={"sampler": search.sampler.seed, "data": config.data.seed, "trial": config.seed},
        code=Code(version=version, commit=commit, dirty=dirty),
        packages=packages(),
        journal=record,
        environment=environment.here(threads=max(1, int(launched.resources.get("cpu", 1)))),
        resources=launched.resources or None,
    )
