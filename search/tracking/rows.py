"""What MLflow is told of a search and of a trial: functions of the journal alone."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

from fgmodel.palette import GREY, SIX
from search.decide.race import Confirmed
from search.record.history import History, Trial
from search.record.journal import Opened
from search.space.space import Space
from search.tracking.entry import Point, Status
from search.tracking.pages import OVER_STEPS, PLACE, placed

COLOUR = "mlflow.runColor"   # the tag by which MLflow's charts draw a run
COLOURS = (*SIX, GREY)
ENDS = {"complete": "", "stopped": "the search was stopped", "budget": "the search's hours were over"}


def search_id(opened: Opened) -> str:
    """Return what tells a search from every other, in whatever home: the tag `fgsearch.id`."""
    return hashlib.sha256(f"{opened.search}\n{opened.digest}\n{opened.at.isoformat()}".encode()).hexdigest()[:16]


def search_tags(history: History, best: Trial | None) -> dict[str, str]:
    """Return the tags a search's run should have by now."""
    finished, launched = history.finished, history.launched
    state = "running" if finished is None else "completed" if finished.how == "complete" else "stopped"
    tags = {
        "fgsearch.state": state,
        "fgsearch.reason": ENDS[finished.how] if finished else "",
        "fgsearch.best": f"#{best.number}" if best else "",
        "fgsearch.epochs": str(epochs(history)),
    }
    if launched and launched.commit:
        tags["mlflow.source.git.commit"] = launched.commit
    if tests := history.tests:
        tags["fgsearch.test_opened"] = "; ".join(
            f"trial {t.trial}, seeds {' '.join(map(str, t.seeds))}, {t.images} images, {t.at:%Y-%m-%d %H:%M} UTC"
            for t in tests
        )
    return tags


def epochs(history: History) -> int:
    """Return how many epochs were trained so far, by all trials: the search's own time."""
    return sum(len(trial.reports) for trial in history.trials.values())


def standing(space: Space, history: History, trial: Trial, race: Confirmed | None) -> tuple[Status, dict[str, str]]:
    """Return the status and the tags a trial's run should have by now."""
    finished, state = history.finished, history.state(trial, space.search.epochs)
    status: Status
    match state:
        case "completed":
            status, reason = "FINISHED", ""
        case "stopped":
            status, reason = "FINISHED", f"stopped at rung {trial.rung}"
        case "failed":
            status, reason = "FAILED", f"{trial.reason}: {trial.failure}"
        case _ if finished:
            status, state, reason = "KILLED", "stopped", f"{ENDS[finished.how]} at epoch {trial.epoch}"
        case "waiting":
            status, state, reason = "RUNNING", "running", f"waiting at rung {trial.rung}"
        case _:
            status, reason = "RUNNING", ""
    counts = {"fgsearch.rung": str(trial.rung), "fgsearch.epochs": str(len(trial.reports))}
    confirmed = {"fgsearch.confirmed": race.said()} if race else {}
    return status, {"fgsearch.state": state, "fgsearch.reason": reason, **counts, **confirmed}


def colours(space: Space, history: History) -> dict[int, dict[str, str]]:
    """Return the tag of its colour for each trial at the last rung, as they came there; MLflow's own may look alike."""
    last = space.search.epochs
    came = sorted((t.reported[last], t.number) for t in history.candidates if t.rung >= last and last in t.reported)
    return {number: {COLOUR: COLOURS[place % len(COLOURS)]} for place, (_, number) in enumerate(came)}


def points(space: Space, trial: Trial, written: int) -> Iterator[Point]:
    """Yield every metric of the epochs after the first `written`, and the best objective so far with each."""
    objective, better = space.search.objective, max if space.search.maximize else min
    best: list[float] = []
    for number, (epoch, metrics) in enumerate(trial.reports.items()):
        best = [better([*best, metrics[objective]])] if objective in metrics else best
        if number >= written:
            at = trial.reported[epoch]
            yield from (Point(name, value, at, epoch) for name, value in metrics.items())
            yield from (Point(f"best/{objective}", value, at, epoch) for value in best)
            yield from _standings(space, epoch, metrics, at, repeat=trial.repeats is not None)


def race_points(space: Space, race: Confirmed, epoch: int, over: datetime) -> Iterator[Point]:
    """Yield what a finalist's repeats came to, at the time the last of them was over."""
    yield Point(f"confirmed/{space.search.objective}", race.mean, over, epoch)
    yield Point(f"confirmed/{space.search.objective}_sd", race.sd, over, epoch)


def _standings(
    space: Space, epoch: int, metrics: Mapping[str, float], at: datetime, *, repeat: bool,
) -> Iterator[Point]:
    """Yield what the list of trials is ordered by at a rung, and at the last one the curves over time steps."""
    search = space.search
    if epoch in search.rungs and search.objective in metrics and not repeat:
        yield Point(PLACE, placed(space, epoch, metrics[search.objective]), at, epoch)
    if epoch == search.epochs:
        for name, value in metrics.items():
            kind, _, step = name.rpartition("/")
            if kind in OVER_STEPS:
                yield Point(f"by time step/{OVER_STEPS[kind]}", value, at, int(step))


def flat(space: dict[str, Any]) -> dict[str, Any]:
    """Return a search's space under single names: what is fixed under its own, the rest under `tune.` and `search.`."""
    tune = {f"tune.{name}": value for name, value in space.get("tune", {}).items()}
    search = {f"search.{name}": value for name, value in space.get("search", {}).items()}
    return {**space.get("fixed", {}), **tune, **search}


def texts(settings: Mapping[str, Any]) -> dict[str, str]:
    """Return settings as a space file would write them."""
    return {name: value if isinstance(value, str) else json.dumps(value) for name, value in settings.items()}
