"""Exports the best configuration of a search as a bundle."""

import math
from datetime import UTC, datetime
from pathlib import Path

from fgmodel.config import DEFAULTS
from search import confirm
from search.bundle import Bundle, Code, Confirmation, Data, Origin, Validation, packages, write_bundle
from search.errors import InputError
from search.history import History, Trial, space_of
from search.home import Home, code_version
from search.space import Search


def export(home: Home, name: str, to: Path, number: int | None = None) -> Bundle:
    """Write the best trial at the highest rung (or trial `number`) to `to` and return it.

    Raises InputError: when there is no such search or trial, or none has finished a rung.
    """
    history = home.history(name)
    if number is not None and number not in history.trials:
        raise InputError(f"search '{name}' has no trial #{number}; it has #0 to #{len(history.trials) - 1}")
    trial = confirm.best(space_of(history).search, history) if number is None else history.trials[number]
    if trial is None or not trial.rung:
        raise InputError(
            f"search '{name}': {'no trial' if trial is None else f'trial #{trial.number}'} has finished a rung yet"
        )
    bundle = Bundle(settings=_settings(history, trial), origin=_origin(history, name, trial))
    write_bundle(bundle, to)
    return bundle


def _confirmed(search: Search, history: History, trial: Trial) -> Confirmation | None:
    race = confirm.confirmed(search, history)
    found = next((c for c in race if c.trial is trial and not math.isnan(c.mean)), None)
    if found is None:
        return None
    return Confirmation(mean=found.mean, sd=found.sd, seeds=len(found.values), finalists=len(race))


def _settings(history: History, trial: Trial) -> dict[str, object]:
    assert history.opened
    assert history.launched
    tunable = history.opened.space["tune"]
    fixed = {name: value for name, value in history.launched.reference.items() if name not in tunable}
    return {**DEFAULTS, **fixed, **trial.settings}


def _origin(history: History, name: str, trial: Trial) -> Origin:
    assert history.opened
    assert history.launched
    search, settings = space_of(history).search, _settings(history, trial)
    version, commit, dirty = code_version()
    value = trial.at(trial.rung, search.objective)
    return Origin(
        search=name,
        trial=trial.number,
        by=trial.by,
        exported=datetime.now(UTC).date(),
        validation=Validation(
            objective=search.objective,
            value=value,
            nll=trial.at(trial.rung, "val/nll"),
            epochs=trial.rung,
            kind="cross-validation" if settings["data.folds"] else "single cut",
            trials=len(history.candidates),
            confirmed=_confirmed(search, history, trial),
        ),
        data=Data(**history.launched.data),
        seeds={
            "sampler": search.sampler.seed,
            "data": int(str(settings["data.seed"])),
            "trial": int(str(settings["seed"])),
        },
        code=Code(version=version, commit=commit, dirty=dirty),
        packages=packages(),
    )
