"""A search as a study in an Optuna storage (SQLite), for optuna-dashboard and whatever else reads one.

Another projection of the journal, written whole each time. Optuna's best trial is ours as long as no race has chosen
another: only what ran to the last rung is COMPLETE; what ASHA left behind is PRUNED, with the value it had there. The
repeats of finalists are a study of their own, since their values are of other validation cuts.
"""

import json
import sqlite3
import warnings
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path
from typing import Any

import optuna
import sqlalchemy
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.storages import RDBStorage
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from fgmodel.atomic import whole
from search.decide.sampler import distribution
from search.errors import InputError, writing
from search.record.history import History, Trial, space_of
from search.record.home import Home
from search.space.parameter import Parameter
from search.space.space import Space

_STATES = {
    "completed": TrialState.COMPLETE, "stopped": TrialState.PRUNED, "waiting": TrialState.PRUNED,
    "failed": TrialState.FAIL, "running": TrialState.RUNNING,
}
_PLAIN = (type(None), bool, int, float, str)  # what Optuna keeps as a choice


def export_optuna(home: Home, name: str, to: Path) -> int:
    """Write every trial of a search to the SQLite file `to`, replacing what it held; return how many.

    Raises InputError: when there is no such search, or `to` is something else than an Optuna storage.
    """
    history = home.history(name)
    space = space_of(history)
    _require_ours(to)
    repeats = [trial for trial in history.trials.values() if trial.repeats is not None]
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    with writing(to), whole(to) as file:
        storage = _storage(Path(file.name))
        _write(storage, name, space, history, history.candidates)
        if repeats:
            _write(storage, f"{name}: finalists again", space, history, repeats)
        storage.engine.dispose()
    return len(history.trials)


def _require_ours(to: Path) -> None:
    if not to.exists():
        return
    try:
        with sqlite3.connect(f"file:{to}?mode=ro", uri=True) as database:
            tables = {name for (name,) in database.execute("select name from sqlite_master where type = 'table'")}
        database.close()
    except sqlite3.Error:
        tables = set()
    if "studies" not in tables:
        raise InputError(f"{to}: is there and is no Optuna storage; name another file")


def _storage(path: Path) -> RDBStorage:
    storage = RDBStorage(f"sqlite:///{path}")

    @sqlalchemy.event.listens_for(storage.engine, "connect")
    def _hasty(connection: Any, _: object) -> None:  # noqa: ANN401 of whatever driver
        connection.execute("pragma synchronous = off")  # a file that was cut short is never renamed

    storage.engine.dispose()  # so that the next connection is such a one
    return storage


def _write(storage: RDBStorage, name: str, space: Space, history: History, trials: Iterable[Trial]) -> None:
    direction = StudyDirection.MAXIMIZE if space.search.maximize else StudyDirection.MINIMIZE
    study = optuna.create_study(storage=storage, study_name=name, direction=direction)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        study.set_metric_names([space.search.objective])
    said = {"question": space.question, "fixed": space.fixed, "search": space.search.model_dump(mode="json")}
    for key, value in said.items():
        study.set_user_attr(key, value)
    study.add_trials(_frozen(space, history, trial) for trial in trials)


def _frozen(space: Space, history: History, trial: Trial) -> FrozenTrial:
    state = _STATES[history.state(trial, space.search.epochs)]
    objective = space.search.objective
    values = {epoch: told[objective] for epoch, told in trial.reports.items() if objective in told}
    last = trial.at(trial.rung, objective)
    ended = max(trial.reported.values(), default=trial.asked)
    params, distributions = _params(space, trial)
    return FrozenTrial(
        number=-1,  # the storage counts
        trial_id=-1,
        state=state,
        value=last if trial.rung and state in (TrialState.COMPLETE, TrialState.PRUNED) else None,
        datetime_start=_local(trial.asked),
        datetime_complete=_local(ended) if state.is_finished() else None,
        params=params,
        distributions=distributions,
        user_attrs=_attributes(history, trial, space),
        system_attrs={},
        intermediate_values=values,
    )


def _params(space: Space, trial: Trial) -> tuple[dict[str, Any], dict[str, BaseDistribution]]:
    if space.rows:
        seeds = IntDistribution(0, 2**31)
        chosen: dict[str, tuple[Any, BaseDistribution]] = {
            "row": (trial.by, CategoricalDistribution(tuple(space.rows))), "seed": (trial.settings["seed"], seeds),
        }
    else:
        chosen = {p.name: _chosen(p, trial.settings[p.name]) for p in space.tune if p.name in trial.settings}
    return {name: value for name, (value, _) in chosen.items()}, {name: where for name, (_, where) in chosen.items()}


def _chosen(parameter: Parameter, value: Any) -> tuple[Any, BaseDistribution]:  # noqa: ANN401 any setting
    """Return a value and its distribution: the space's, widened for trial 0 where the thesis' value lies outside."""
    match distribution(parameter) if not parameter.choices else None:
        case IntDistribution(low=low, high=high, step=step, log=log):
            if low <= value <= high:
                return value, IntDistribution(low, high, log, step)
            return value, IntDistribution(min(low, value), max(high, value), log)
        case FloatDistribution(low=low, high=high, step=step, log=log):
            if low <= value <= high:
                return value, FloatDistribution(low, high, log, step)
            return value, FloatDistribution(min(low, value), max(high, value), log)
        case _:
            choices = tuple(_plain(choice) for choice in parameter.choices)
            return _plain(value), CategoricalDistribution(choices)


def _plain(choice: Any) -> Any:  # noqa: ANN401 any setting
    return choice if isinstance(choice, _PLAIN) else json.dumps(choice)


def _attributes(history: History, trial: Trial, space: Space) -> dict[str, Any]:
    """Return what Optuna has no place for: our number, who asked, why it failed, the metrics of the last epoch."""
    told: dict[str, Any] = {
        "trial": trial.number, "by": trial.by, "state": history.state(trial, space.search.epochs),
        "epochs": trial.epoch, "rung": trial.rung, "seconds": round(trial.seconds, 3),
    }
    if trial.repeats is not None:
        told |= {"repeats": trial.repeats}
    if trial.reason:
        told |= {"failure": trial.failure, "reason": trial.reason}
    tuned = {p.name for p in space.tune}
    told |= {name: value for name, value in trial.settings.items() if name not in tuned and not space.rows}
    return told | trial.reports.get(trial.epoch, {})


def _local(at: datetime) -> datetime:
    return at.astimezone().replace(tzinfo=None)  # Optuna's times are local, and say nothing of a zone
