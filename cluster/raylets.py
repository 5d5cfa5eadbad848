"""A cluster of several nodes on this machine, for trying out: each node is a `ray start --block` of its own.

Everything listens behind a token; the dashboard on loopback only. A node holds a lock on its file for as long as it
lives, so whoever asks sees a killed one at once, and never takes another process of the same number for it.
"""

import fcntl
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from cluster.errors import ClusterError
from cluster.private import folder_of_sockets
from cluster.token import token_path, write_token
from fgmodel import atomic
from fgmodel.lock import held, lock

START_SECONDS = 120.0  # a quiet machine takes 6
END_SECONDS = 15.0
TRIES = 2
_OF_WORKERS = range(10002, 20000)  # ports
_OBJECT_STORE_BYTES = 100 * 2**20  # data travels by memory map; Ray carries orders and outcomes only


@dataclass(frozen=True)
class Member:
    """One node: `pid` is its process group while its lock is held."""

    name: str
    cpus: int
    gpus: int
    pid: int = 0
    alive: bool = False


@dataclass(frozen=True)
class Raylets:
    """What `up` started; kept in the home."""

    port: int                     # of the dashboard and the Jobs API
    gcs: str                      # where nodes and drivers join
    temporary: str                # Ray's sockets and logs; a socket's path may have 107 letters only
    members: tuple[Member, ...]   # the head first

    @property
    def address(self) -> str:
        """What `fgsearch launch --address` takes."""
        return f"http://127.0.0.1:{self.port}"


def up(home: Path, cpus: list[int], gpus: list[int], port: int) -> Raylets:
    """Start a node for every entry of `cpus`, the head first; of a cluster that is up, the nodes it lost.

    Raises ClusterError: when a node does not come up, with the last line it said.
    """
    folder = home / "cluster"
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    wanted = tuple(Member(f"node-{n}", c, g) for n, (c, g) in enumerate(zip(cpus, gpus, strict=True), 1))
    with lock(_state(folder)):
        write_token(home)
        there = status(home)
        if there is None or not there.members[0].alive:
            _forget(folder, there)
            there = _start_head(folder, wanted, port)
        elif there.port != port or [_shape(m) for m in there.members] != [_shape(m) for m in wanted]:
            raise ClusterError(f"{folder}: another cluster is up at {there.address}; fgsearch cluster down ends it")
        lost = [number for number, member in enumerate(there.members) if not member.alive]
        join = [f"--address={there.gcs}", "--include-log-monitor=false"]
        return _started(folder, there, lost, join)


def status(home: Path) -> Raylets | None:
    """Return the cluster this home started and which of its nodes live; None when there is none."""
    try:
        kept = json.loads(_state(home / "cluster").read_text())
        members = tuple(Member(**member) for member in kept.pop("members"))
    except FileNotFoundError:
        return None
    except (ValueError, TypeError, KeyError) as error:
        raise ClusterError(f"{_state(home / 'cluster')}: is not the state of a cluster ({error}); delete it") from None
    alive = tuple(replace(member, alive=_held(home / "cluster", member)) for member in members)
    return Raylets(**kept, members=alive)


def down(home: Path) -> bool:
    """End every node; False when none was up. The token goes too: the next cluster has another."""
    folder = home / "cluster"
    if not folder.exists():
        return False
    with lock(_state(folder)):
        there = status(home)
        _forget(folder, there)
        token_path(home).unlink(missing_ok=True)
    return there is not None and any(member.alive for member in there.members)


def _start_head(folder: Path, wanted: tuple[Member, ...], port: int) -> Raylets:
    if port in _OF_WORKERS:
        raise ClusterError(f"port {port}: Ray keeps 10002-19999 for its workers; choose another --port")
    if not _free(port):
        raise ClusterError(f"port {port}: is in use; choose another --port")
    temporary = tempfile.mkdtemp(prefix="fgsearch-ray-", dir=folder_of_sockets())  # 0700
    gcs = f"127.0.0.1:{_any_port()}"
    words = [
        "--head", f"--port={gcs.rpartition(':')[2]}", "--dashboard-host=127.0.0.1", f"--dashboard-port={port}",
        f"--ray-client-server-port={_any_port()}", "--no-monitor",  # a port without a token, for autoscaling only
    ]
    return _started(folder, Raylets(port, gcs, temporary, wanted), [0], words)


def _started(folder: Path, there: Raylets, numbers: list[int], words: list[str]) -> Raylets:
    """Start some nodes side by side; each twice if need be: Ray gives up its own start after 30 s, loaded or not."""
    for _ in range(TRIES):
        for number in numbers:
            there = _begun(folder, there, number, words)
        numbers = [number for number in numbers if not _runs(folder, there.members[number])]
        if not numbers:
            return there
    member = there.members[numbers[0]]
    raise ClusterError(f"{member.name}: did not start: {_last_line(_log(folder, member))} ({_log(folder, member)})")


def _begun(folder: Path, there: Raylets, number: int, words: list[str]) -> Raylets:
    """Start one node, and note that it lives before anything can go wrong with it."""
    member = there.members[number]
    log, mine = _log(folder, member), _lock(folder, member)
    words = [
        sys.executable, "-m", "ray.scripts.scripts", "start", "--block", *words, f"--node-name={member.name}",
        "--node-ip-address=127.0.0.1", f"--num-cpus={member.cpus}", f"--num-gpus={member.gpus}",
        f"--temp-dir={there.temporary}/{number}",  # its own: nodes that start at once would choose one name of a socket
        f"--object-store-memory={_OBJECT_STORE_BYTES}", "--disable-usage-stats",
        "--dashboard-agent-listen-port=0",
    ]
    with log.open("w") as said, mine.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # the node inherits it, its children do not; filelock's cannot be inherited
        process = subprocess.Popen(  # noqa: S603 Ray of our own environment
            words, stdin=subprocess.DEVNULL, stdout=said, stderr=subprocess.STDOUT, env=_environment(folder.parent),
            start_new_session=True, pass_fds=[file.fileno()],
        )
    members = list(there.members)
    members[number] = replace(member, pid=process.pid, alive=True)
    there = replace(there, members=tuple(members))
    _write(folder, there)
    return there


def _runs(folder: Path, member: Member) -> bool:
    """Wait until the node says that it runs; one that does not is ended, and what it started with it."""
    log, patience = _log(folder, member), time.monotonic() + START_SECONDS
    while "Ray runtime started" not in log.read_text():
        if not _held(folder, member) or time.monotonic() > patience:
            with suppress(ProcessLookupError):
                os.killpg(member.pid, signal.SIGKILL)
            _end((member,), folder)
            return False
        time.sleep(0.1)
    return True


def _environment(home: Path) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name not in ("RAY_ADDRESS", "RAY_AUTH_TOKEN")}
    return kept | {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}",  # the job's fgsearch
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(token_path(home)),
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_worker_niceness": "0",  # training is the work, not a guest on the machine
        "RAY_enable_metrics_collection": "0",  # Prometheus' port asks for no token
        "DASHBOARD_METRIC_PORT": "65536",  # nor do these two, which have no other switch than a port that is none
        "AUTOSCALER_METRIC_PORT": "65536",
    }


def _forget(folder: Path, there: Raylets | None) -> None:
    """End the nodes, the head last, and what is left of the cluster."""
    if there:
        _end(there.members[1:], folder)
        _end(there.members[:1], folder)
        shutil.rmtree(there.temporary, ignore_errors=True)
    _state(folder).unlink(missing_ok=True)


def _end(members: tuple[Member, ...], folder: Path) -> None:
    for number in (signal.SIGTERM, signal.SIGKILL):
        left = [member for member in members if _held(folder, member)]
        for member in left:
            with suppress(ProcessLookupError):
                os.killpg(member.pid, number)
        patience = time.monotonic() + END_SECONDS
        while any(_held(folder, member) for member in left) and time.monotonic() < patience:
            time.sleep(0.1)
    for member in members:
        _lock(folder, member).unlink(missing_ok=True)


def _held(folder: Path, member: Member) -> bool:
    return held(folder / member.name)


def _write(folder: Path, there: Raylets) -> None:
    atomic.write(_state(folder), json.dumps(asdict(there), indent=1).encode())


def _state(folder: Path) -> Path:
    return folder / "state.json"


def _lock(folder: Path, member: Member) -> Path:
    return folder / f"{member.name}.lock"


def _log(folder: Path, member: Member) -> Path:
    return folder / f"{member.name}.log"


def _shape(member: Member) -> tuple[str, int, int]:
    return member.name, member.cpus, member.gpus


def _free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def _any_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _last_line(log: Path) -> str:
    lines = [line.strip() for line in log.read_text().splitlines() if line.strip()]
    return lines[-1] if lines else "it said nothing"
