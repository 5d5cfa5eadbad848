"""Ray Tune as a runner of jobs: it keeps actors warm and passes results on; it decides nothing.

The settings and the order of the hooks matter; each stands here for a measured reason (docs/decisions.md, "Ray Tune").
"""

import logging
import shutil
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from ray import tune
from ray.tune.experiment import Trial as TuneTrial

from search.decide.dispatch import Dispatcher
from search.run.actor import TrialActor
from search.run.tune_hooks import Ends, JobSource, Over, Stop, Tick

SCRATCH = "fgsearch-tune-"


def run_jobs(
    dispatcher: Dispatcher, cache: Path, stop: Callable[[], bool], tick: Callable[[], None],
    places: Callable[[], int], scratch: Path | None = None,
) -> None:
    """Run the dispatcher's jobs until none is left or `stop` says so; `tick` is called several times a second.

    `places` tells how many trials Ray has room for now. Tune wants a folder that all nodes share: it is made in
    `scratch`, which on one machine is the temporary one.
    """
    _quieten()
    for left in scratch.glob(f"{SCRATCH}*") if scratch else ():  # by a driver that was killed
        shutil.rmtree(left, ignore_errors=True)
    source = JobSource(dispatcher, cache, places)
    # 0700: Tune pickles; nobody reads it. What Ray still writes there, or a network's file system holds, may stay.
    with tempfile.TemporaryDirectory(prefix=SCRATCH, dir=scratch, ignore_cleanup_errors=True) as private:
        tuner = tune.Tuner(
            tune.with_resources(TrialActor, dispatcher.space.search.resources.model_dump()),
            tune_config=_tune_config(source),
            run_config=_run_config(source, private, stop, tick),
        )
        with suppress(Over):
            tuner.fit()
    if source.error:
        raise source.error


def _quieten() -> None:
    """Have Tune say nothing that is no news: its snapshot of itself is never read, so that it could not be copied.

    Of a worker that was lost the journal and the screen tell, where Tune would print a traceback.
    """
    for module in ("experiment_state", "tune_controller"):
        logging.getLogger(f"ray.tune.execution.{module}").setLevel(logging.CRITICAL)


def _tune_config(source: JobSource) -> tune.TuneConfig:
    return tune.TuneConfig(
        search_alg=source,
        scheduler=Ends(source),
        num_samples=-1,
        max_concurrent_trials=source.dispatcher.space.search.workers,
        reuse_actors=True,
        trial_name_creator=_tune_id,
        trial_dirname_creator=_tune_id,
    )


def _run_config(source: JobSource, folder: str, stop: Callable[[], bool], tick: Callable[[], None]) -> tune.RunConfig:
    return tune.RunConfig(
        storage_path=folder,
        name="jobs",
        verbose=0,
        stop=Stop(source, stop),
        callbacks=[Tick(tick)],
        checkpoint_config=tune.CheckpointConfig(checkpoint_frequency=0, checkpoint_at_end=False),
        failure_config=tune.FailureConfig(max_failures=0),  # retries are ours, from our checkpoints
    )


def _tune_id(trial: TuneTrial) -> str:
    return str(trial.trial_id)
