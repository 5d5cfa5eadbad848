"""Connects to Ray: a private instance on this machine, or the cluster at an address."""

import gc
import logging
import math
import os
import time
from concurrent.futures import Future
from threading import Event, Thread
from typing import Self

import ray

from cluster import nodes
from cluster.errors import ClusterError
from cluster.nodes import Node
from cluster.private import ensure_ray_token, folder_of_sockets

_SETTINGS = {
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",  # the journal is the record, not Tune's CSV and JSON
    "TUNE_GLOBAL_CHECKPOINT_S": "1000000000",  # Tune's snapshot of itself is never read, and costs a lot
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # Ctrl-C is ours, as SIGTERM and `fgsearch stop` are
    "RAY_CHDIR_TO_TRIAL_DIR": "0",  # relative paths mean the same in a worker
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # leave CUDA_VISIBLE_DEVICES alone on workers without a GPU
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_enable_metrics_collection": "0",  # else anyone on the network reads this machine's figures: no token is asked
    "DASHBOARD_METRIC_PORT": "65536",  # nor for these two, which have no other switch than a port that is none
    "AUTOSCALER_METRIC_PORT": "65536",
    "RAY_worker_niceness": "0",  # training is the work, not a guest on the machine
    "RAY_AIR_NEW_OUTPUT": "0",  # the screen is ours; the old output obeys verbose=0
}
_OF_WORKERS = ("RAY_CHDIR_TO_TRIAL_DIR", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO")  # what their processes read
_OBJECT_STORE_BYTES = 100 * 2**20  # data travels by memory map; Ray carries orders and outcomes only
NODES_SECONDS = 2.0  # between two looks at which nodes are alive


class Connection:
    """A Ray instance of this machine with room for `workers` of `cpus` cores each, from entering to leaving.

    With an address (`auto`, or host:port of a cluster's GCS) it is that cluster, as it is. Starting one takes
    four seconds and ending it one, in which the caller can do something else: it starts in the background, `wait`
    returns once it is there, `leave` begins to end it.
    """

    def __init__(self, workers: int, cpus: float, address: str | None = None) -> None:
        os.environ.update(_SETTINGS)
        self.address = address
        self._cpus = max(1, math.ceil(workers * cpus))
        self._there: Future[None] = Future()
        self._over = Event()
        self._looked, self._seen = -NODES_SECONDS, list[Node]()
        # One thread starts Ray, keeps it and ends it: its processes die with the thread that started them.
        self._thread = Thread(target=self._hold, name="ray")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.leave()
        self._thread.join()

    def wait(self) -> None:
        """Return once Ray is there."""
        self._there.result()
        gc.freeze()  # what was imported stays: `leave` need not look through it

    def nodes(self) -> list[Node]:
        """Return the nodes that are alive."""
        found = [each for each in ray.nodes() if each["Alive"]]  # type: ignore[no-untyped-call]  # Ray's
        return [nodes.node(n["NodeID"], n["NodeName"], n["NodeManagerAddress"], n["Resources"]) for n in found]

    def places(self, cpu: float, gpu: float) -> int:
        """Return how many trials with these needs the nodes that are alive hold at once; not asked anew each time."""
        now = time.monotonic()
        if now > self._looked + NODES_SECONDS:
            self._looked, self._seen = now, self.nodes()
        return nodes.places(self._seen, cpu, gpu)

    def leave(self) -> None:
        """Let Ray end; the way out of the context waits for it."""
        if self._over.is_set():
            return
        gc.collect()  # a handle that another thread frees while Ray ends takes the process with it, status 1
        self._over.set()

    def _hold(self) -> None:
        try:
            if self.address:
                _join(self.address)
            else:
                _start(self._cpus)
        except BaseException as error:  # noqa: BLE001 whatever it is, it is raised where Ray is waited for
            self._there.set_exception(error)
            return
        self._there.set_result(None)
        self._over.wait()
        ray.shutdown()


def _start(cpus: int) -> None:
    ensure_ray_token()
    try:
        ray.init(
            address="local",  # without an address Ray joins whatever cluster it finds
            num_cpus=cpus,
            include_dashboard=False,
            log_to_driver=False,
            logging_level=logging.ERROR,
            object_store_memory=_OBJECT_STORE_BYTES,
            _temp_dir=f"{folder_of_sockets()}/ray",
        )
    except Exception as error:  # noqa: BLE001 no room, no permission, no time: of a slow start Ray says so by a bare Exception
        raise ClusterError(f"Ray does not start: {' '.join(str(error).split())}") from None


def _join(address: str) -> None:
    environment = {"env_vars": {name: _SETTINGS[name] for name in _OF_WORKERS}}
    try:
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR, runtime_env=environment)
    except ConnectionError:
        raise ClusterError(f"Ray at {address}: does not answer; is the cluster up?") from None
    except ray.exceptions.AuthenticationError:
        raise ClusterError(f"Ray at {address}: refuses without its token; set RAY_AUTH_TOKEN_PATH") from None
    except RuntimeError as error:
        if "ersion mismatch" not in str(error):
            raise
        raise ClusterError(f"Ray at {address}: {' '.join(str(error).split())}") from None
