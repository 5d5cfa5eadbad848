"""Who proposes configurations: Optuna as a projection of the journal.

For every proposal the study is built anew from the history and the sampler seeded from (search seed, trial number), so
a replayed search asks what the undisturbed one would, and nothing of Optuna's has to be stored.
"""

import hashlib
import warnings
from random import Random
from typing import Any

import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.samplers import BaseSampler, CmaEsSampler, GPSampler, RandomSampler, TPESampler
from optuna.trial import FrozenTrial, TrialState, create_trial

from search.record.history import History, Trial
from search.space.parameter import Parameter
from search.space.space import Space, starting_point

ATTEMPTS = 20  # proposals a sampler may repeat itself before chance takes over
CHANCES = 1000  # draws after which the space counts as exhausted


def propose(space: Space, history: History) -> tuple[dict[str, Any], str] | None:
    """Return the next trial's tuned settings and who asked for them; None when every configuration has been tried."""
    number = len(history.candidates)
    if space.rows:
        row, settings = space.listed(number)
        return (settings, row) if number < space.search.trials else None
    tried = [trial.settings for trial in history.candidates]
    for settings, by in _given(space)[number:]:
        if settings not in tried:
            return settings, by
    study = _study(space, history)
    for attempt in range(ATTEMPTS):
        study.sampler = _sampler(space, _seed(space, number, attempt))
        settings = _ask(space, study)
        if settings not in tried:
            return settings, space.search.sampler.name
    random = Random(_seed(space, number, ATTEMPTS))  # noqa: S311 not a secret
    drawn = (space.draw(random) for _ in range(CHANCES))
    fresh = next((settings for settings in drawn if settings not in tried), None)
    return None if fresh is None else (fresh, "random")


def distribution(parameter: Parameter) -> BaseDistribution:
    """Return a parameter as Optuna has it."""
    if parameter.choices:
        return CategoricalDistribution(parameter.choices)
    if parameter.whole:
        return IntDistribution(int(parameter.low), int(parameter.high), parameter.log, int(parameter.step or 1))
    return FloatDistribution(parameter.low, parameter.high, parameter.log, parameter.step)


def _given(space: Space) -> list[tuple[dict[str, Any], str]]:
    starts = [(starting_point(space, point), "start") for point in space.search.start]
    return [(space.reference(), "reference"), *starts]


def _seed(space: Space, number: int, attempt: int) -> int:
    text = f"{space.search.sampler.seed}:{number}:{attempt}"
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4])


def _sampler(space: Space, seed: int) -> BaseSampler:
    match space.search.sampler.name:
        case "random":
            return RandomSampler(seed=seed)
        case "gp":
            return GPSampler(seed=seed, warn_independent_sampling=False)
        case "cmaes":
            return CmaEsSampler(seed=seed, warn_independent_sampling=False)
        case "tpe":
            return TPESampler(seed=seed)


def _study(space: Space, history: History) -> optuna.Study:
    optuna.logging.set_verbosity(optuna.logging.ERROR)  # its hints speak of our construction, not of the user's search
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore", optuna.exceptions.ExperimentalWarning
        )  # GP and CMA-ES say they are; the user chose
        study = optuna.create_study(direction="maximize" if space.search.maximize else "minimize")
        if space.search.sampler.name == "cmaes":
            study.sampler = _sampler(space, _seed(space, 0, 0))
    for trial in history.candidates:
        if not _inside(space, trial):
            continue  # the reference may lie outside the ranges, where a sampler has no model
        if space.search.sampler.name == "cmaes":
            _relive(space, study, trial)
        else:
            study.add_trial(_told(space, trial))
    return study


def _inside(space: Space, trial: Trial) -> bool:
    return all(p.contains(trial.settings[p.name]) for p in space.tune if p.name in trial.settings)


def _told(space: Space, trial: Trial) -> FrozenTrial:
    """Return the trial as Optuna keeps it: complete with its value at the highest rung, failed, or running."""
    value, state = _outcome(space, trial)
    tuned = [p for p in space.tune if p.name in trial.settings]
    return create_trial(
        state=state,
        value=value,
        params={p.name: trial.settings[p.name] for p in tuned},
        distributions={p.name: distribution(p) for p in tuned},
    )


def _relive(space: Space, study: optuna.Study, trial: Trial) -> None:
    """Ask and tell `trial` again: CMA-ES counts its generations as it is asked."""
    study.enqueue_trial(trial.settings)
    asked = study.ask()
    _ = asked.relative_params  # its generation is counted when it samples, which Optuna puts off until it must
    for parameter in space.tune:
        if parameter.name in trial.settings:
            _suggest(asked, parameter)
    value, state = _outcome(space, trial)
    if state != TrialState.RUNNING:
        study.tell(asked, value, state=state)


def _outcome(space: Space, trial: Trial) -> tuple[float | None, TrialState]:
    if trial.reason:
        return None, TrialState.FAIL
    if not trial.rung:
        return None, TrialState.RUNNING
    return trial.at(trial.rung, space.search.objective), TrialState.COMPLETE


def _ask(space: Space, study: optuna.Study) -> dict[str, Any]:
    trial = study.ask()
    values: dict[str, Any] = {}
    for parameter in space.tune:  # dependencies first
        if space.active({**values, parameter.name: None}).keys() > values.keys():
            values[parameter.name] = _suggest(trial, parameter)
    return values


def _suggest(trial: optuna.Trial, parameter: Parameter) -> Any:  # noqa: ANN401 any setting
    match distribution(parameter):
        case CategoricalDistribution(choices=choices):
            return trial.suggest_categorical(parameter.name, choices)
        case IntDistribution(low=low, high=high, step=step, log=log):
            return trial.suggest_int(parameter.name, low, high, step=step, log=log)
        case FloatDistribution(low=low, high=high, step=step, log=log):
            return trial.suggest_float(parameter.name, low, high, step=step, log=log)
        case other:
            raise TypeError(other)
