"""Where Tune asks us: for the next job, what to do with a result, whether to stop, what to show.

The order of these hooks matters; each stands here for a measured reason (docs/decisions.md, "Ray Tune").
"""

import socket
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

from ray import tune
from ray.tune.experiment import Trial as TuneTrial
from ray.tune.progress_reporter import TrialProgressCallback
from ray.tune.schedulers import FIFOScheduler, TrialScheduler
from ray.tune.search import Searcher

from search.decide.dispatch import Dispatcher, Order, Outcome
from search.errors import InputError

ACTOR_START_SECONDS = 30.0  # how long a finished actor waits for one that is still starting


class Unpickled:
    """Tune pickles what it is given into its own folder; nothing of a search may go there."""

    def __getstate__(self) -> dict[str, Any]:
        return {}


class JobSource(Unpickled, Searcher):
    """Gives Tune a job for a trial."""

    def __init__(self, dispatcher: Dispatcher, cache: Path, places: Callable[[], int]) -> None:
        super().__init__(metric=None, mode=None)
        self.places = places
        self.losses: dict[str, str] = {}  # what Ray said of workers that vanished, by Tune's trial id
        self.dispatcher = dispatcher
        self.orders: dict[str, Order] = {}  # by Tune's trial id
        self.stopping = False
        self.error: InputError | None = None  # the journal's: Tune would take it for a trial's
        self._static = {
            "cache": str(cache),
            "machine": socket.gethostname(),
            "checkpoints": str(dispatcher.checkpoints),
            "threads": max(1, int(dispatcher.space.search.resources.cpu)),
        }

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:  # type: ignore[override]  # FINISHED is a string
        """Return a job; None when one may come later; FINISHED when none will (Tune would wait 600 s on a None)."""
        if self.stopping:
            return str(Searcher.FINISHED)
        if len(self.orders) >= min(self.dispatcher.space.search.workers, max(1, self.places())):
            return None
        try:
            order = self.dispatcher.next()
        except InputError as error:
            self.abort(error)
            return str(Searcher.FINISHED)
        if order is None:
            return None if self.dispatcher.history.live else str(Searcher.FINISHED)
        self.orders[trial_id] = order
        return {"order": order.model_dump_json(), **self._static}

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Take back a job whose worker vanished; a job that ended was recorded with its last epoch."""
        del result
        order = self.orders.pop(trial_id, None)
        if order is None or self.stopping:
            return
        try:
            why, blame = verdict(self.losses.pop(trial_id, "")) if error else ("Tune ended the job", "worker")
            self.dispatcher.lose(order.job, order.attempt, why, blame)
        except InputError as problem:
            self.abort(problem)

    def abort(self, error: InputError) -> None:
        """End the search for a reason of its own, e.g. a full disk; `run_jobs` raises it."""
        self.error, self.stopping = self.error or error, True

    def save(self, checkpoint_path: str) -> None:
        """Keep nothing: the journal is the state."""

    def restore(self, checkpoint_path: str) -> None:
        """Restore nothing: the journal is the state."""


def verdict(said: str) -> tuple[str, Literal["worker", "node"]]:
    """Return why a worker vanished, and whether it or its node is to blame, by what Ray's error says.

    Ray knows at once of a process that died: its raylet reports it. Of a worker that is cut off, raylet and all, it
    knows nothing for 15 s and says that the actor is unavailable.
    """
    if "node has died" in said or "preempted" in said:
        return "its node was lost", "node"
    if "is unavailable" in said or "was unreachable" in said:
        return "its node does not answer", "node"
    if "creation task" in said:
        return f"the worker could not start: {said.strip().splitlines()[-1][:200]}", "worker"
    if "low on memory" in said:
        return "the worker was ended: its node had no memory left", "worker"
    return "the worker process died", "worker"


class Ends(Unpickled, FIFOScheduler):
    """Ends jobs from the driver's side, after their last epoch is in the journal."""

    def __init__(self, source: JobSource) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # Ray's
        self.source = source
        self._parked: dict[str, float] = {}

    def on_trial_result(self, tune_controller: Any, trial: TuneTrial, result: dict[str, Any]) -> str:  # noqa: ANN401 Tune's
        """Record an epoch. This is the first of Tune's hooks to see a result, the one that ends a job included."""
        if "outcome" in result:
            try:
                over = self.source.dispatcher.take(Outcome.model_validate_json(result["outcome"]))
            except InputError as error:
                self.source.abort(error)
                return str(TrialScheduler.STOP)
            if not over:
                return str(TrialScheduler.CONTINUE)
            self.source.orders.pop(trial.trial_id, None)
            self._parked[trial.trial_id] = time.monotonic()
        if self._waits(tune_controller, trial):
            return str(TrialScheduler.CONTINUE)
        self._parked.pop(trial.trial_id, None)
        return str(TrialScheduler.STOP)

    def on_trial_complete(self, tune_controller: Any, trial: TuneTrial, result: dict[str, Any]) -> None:  # noqa: ANN401 Tune's
        """Let go of the jobs that ended before this one."""
        super().on_trial_complete(tune_controller, trial, result)
        _forget(tune_controller)

    def on_trial_error(self, tune_controller: Any, trial: TuneTrial) -> None:  # noqa: ANN401 Tune's
        """Keep what Ray said of a worker that vanished; the searcher is told only that it did."""
        super().on_trial_error(tune_controller, trial)
        _forget(tune_controller)
        with suppress(OSError):
            self.source.losses[trial.trial_id] = Path(trial.error_file or "").read_text()

    def _waits(self, controller: Any, trial: TuneTrial) -> bool:  # noqa: ANN401 Tune's
        """Whether the actor must stay parked while another is starting or while its next job may still come.

        Without this Tune gives a finished actor the job that another one is starting for, and kills that one.
        """
        dispatcher = self.source.dispatcher
        if self.source.stopping or time.monotonic() - self._parked.get(trial.trial_id, 0.0) > ACTOR_START_SECONDS:
            return False
        live = controller.get_live_trials()
        has_room = len(live) <= self.source.places()  # else what is pending waits for this very actor: a node was lost
        starting = has_room and any(other.status == TuneTrial.PENDING for other in live)
        busy = any(other.status == TuneTrial.RUNNING and other.trial_id not in self._parked for other in live)
        return starting or (dispatcher.idle and busy)


def _forget(controller: Any) -> None:  # noqa: ANN401 Tune's
    """Have Tune let go of the jobs that are over: it keeps each, its order and last result included, for a summary.

    It also asks every one that it keeps, several times a turn, whether it is over.
    """
    kept = controller._live_trials, controller._stopped_trials, controller._failed_trials, controller._trials_to_cache  # noqa: SLF001 no public way
    over = {trial for trial in controller.get_trials() if trial.is_finished()}
    controller.get_trials()[:] = [trial for trial in controller.get_trials() if trial not in over]
    for trials in kept:
        trials.difference_update(over)


class Stop(Unpickled, tune.Stopper):
    """Ends the search when asked."""

    def __init__(self, source: JobSource, stop: Callable[[], bool]) -> None:
        self._source, self._stop = source, stop

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        """Stop no single trial: the scheduler does."""
        return False

    def stop_all(self) -> bool:
        """Stop everything once asked to; what was not reported is trained again by the next launch."""
        self._source.stopping = self._source.stopping or self._stop()
        return self._source.stopping


class Over(Exception):
    """Tune's loop has ended and its actors with it."""


class Tick(Unpickled, TrialProgressCallback):
    """Calls back once a turn of Tune's loop, and leaves it at its end.

    It stands in for Tune's printer of progress, which would keep every job for lines that `verbose=0` suppresses.
    """

    def __init__(self, tick: Callable[[], None]) -> None:
        super().__init__()
        self._tick = tick

    def on_trial_result(self, *_: Any, **__: Any) -> None:  # noqa: ANN401 Tune's
        """Print nothing."""

    def on_trial_error(self, *_: Any, **__: Any) -> None:  # noqa: ANN401 Tune's
        """Print nothing."""

    def on_trial_complete(self, *_: Any, **__: Any) -> None:  # noqa: ANN401 Tune's
        """Print nothing."""

    def on_step_end(self, iteration: int, trials: list[TuneTrial], **info: Any) -> None:  # noqa: ANN401 Tune's
        """Refresh the screen."""
        self._tick()

    def on_experiment_end(self, trials: list[TuneTrial], **info: Any) -> None:  # noqa: ANN401 Tune's
        """Leave before Tune sums up: for that it unpickles what it left in its folder, errors of workers among it."""
        if sys.exception() is None:  # else Tune ends for a fault of its own, which must be seen
            raise Over
