"""Connects to Ray: a private instance on this machine, or the cluster at an address."""

import logging
import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import ray

_SETTINGS = {
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",  # the journal is the record, not Tune's CSV and JSON
    "TUNE_GLOBAL_CHECKPOINT_S": "1000000000",  # Tune's snapshot of itself is never read, and costs a lot
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # Ctrl-C is ours, as SIGTERM and `fgsearch stop` are
    "RAY_CHDIR_TO_TRIAL_DIR": "0",  # relative paths mean the same in a worker
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # leave CUDA_VISIBLE_DEVICES alone on workers without a GPU
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_worker_niceness": "0",  # training is the work, not a guest on the machine
    "RAY_AIR_NEW_OUTPUT": "0",  # the screen is ours; the old output obeys verbose=0
}
_OBJECT_STORE_BYTES = 100 * 2**20  # data travels by memory map; Ray carries orders and outcomes only


@contextmanager
def connected(workers: int, cpus: float) -> Iterator[None]:
    """Hold a Ray instance of this machine with room for `workers` of `cpus` cores each."""
    os.environ.update(_SETTINGS)
    ray.init(
        address="local",  # without an address Ray joins whatever cluster it finds
        num_cpus=max(1, math.ceil(workers * cpus)),
        include_dashboard=False,
        log_to_driver=False,
        logging_level=logging.ERROR,
        object_store_memory=_OBJECT_STORE_BYTES,
    )
    _guard_token()
    try:
        yield
    finally:
        ray.shutdown()


def _guard_token() -> None:
    token = Path.home() / ".ray" / "auth_token"  # Ray writes it readable by everyone
    if token.exists():
        token.chmod(0o600)
