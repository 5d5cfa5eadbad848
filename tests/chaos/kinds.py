"""The kinds of disturbance. Each is a story in two halves: what happens, and, after the yield, what puts it right.

What a search needs before it can go on (a cluster, a `resume`) is done before the yield; the rest, without which it has
to go on, after it.
"""

import os
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from random import Random
from typing import Literal

import psutil

from tests.chaos.stage import ClusterStage, CommandError, Stage, family, named


@dataclass(frozen=True)
class Strike:
    """What was done and what shows that the search goes on: a report, one of the job that was lost, or a launch's."""

    at: float
    what: str = ""
    until: Literal["report", "job", "launch"] = "report"
    patience: float = 0.0  # how long a lost job may take to be noticed


@dataclass
class Scene:
    """A stage, where chance comes from, and what was destroyed on purpose."""

    stage: Stage
    chance: Random
    deleted: set[str] = field(default_factory=set)  # checkpoints
    torn: int = 0  # whole lines of the journal

    @property
    def cluster(self) -> ClusterStage:
        """The stage, where it has a cluster."""
        assert isinstance(self.stage, ClusterStage)
        return self.stage


Kind = Callable[[Scene], Iterator[Strike]]


class MissedError(Exception):
    """There is nothing to disturb just now."""


def actor_killed(scene: Scene) -> Iterator[Strike]:
    victim = _one(scene, scene.stage.actors())
    victim.kill()
    yield Strike(time.time(), until="job", patience=5)


def actor_stopped(scene: Scene) -> Iterator[Strike]:
    seconds = _held(scene, [_one(scene, scene.stage.actors())], 2, 12)
    yield Strike(time.time(), f"for {seconds:.0f} s")


def driver_killed(scene: Scene) -> Iterator[Strike]:
    at = _kill_driver(scene)
    scene.stage.resume()
    yield Strike(at, until="launch")


def driver_stopped(scene: Scene) -> Iterator[Strike]:
    seconds = _held(scene, [_one(scene, scene.stage.drivers())], 2, 10)
    yield Strike(time.time(), f"for {seconds:.0f} s")


def two_resumes(scene: Scene) -> Iterator[Strike]:
    at, words = _kill_driver(scene), ("resume", scene.stage.name)
    both = [scene.stage.start(*words, heard=True) for _ in range(2)]
    said = [process.communicate()[0] for process in both]
    if any(process.returncode for process in both):
        raise CommandError(f"two resumes at once: {said}")
    yield Strike(at, until="launch")


def last_line_torn(scene: Scene) -> Iterator[Strike]:
    at, journal = _kill_driver(scene), scene.stage.journal
    raw = journal.read_bytes()
    start = raw[:-1].rfind(b"\n") + 1
    os.truncate(journal, scene.chance.randint(start + 1, len(raw) - 1))
    scene.torn += 1
    scene.stage.resume()
    yield Strike(at, raw[start:start + 60].decode(), until="launch")


def checkpoint_deleted(scene: Scene) -> Iterator[Strike]:
    folder = scene.stage.journal.parent / "checkpoints"
    files = sorted(folder.glob("*/*.safetensors"))
    if not files:
        raise MissedError("no checkpoint")
    chosen = scene.chance.sample(files, min(len(files), scene.chance.randint(1, 5)))
    for file in chosen:
        file.unlink(missing_ok=True)
    scene.deleted |= {str(file.relative_to(folder)) for file in chosen}
    yield Strike(time.time(), f"{len(chosen)} of {len(files)}")


def submitted_twice(scene: Scene) -> Iterator[Strike]:
    at, before = time.time(), len(scene.stage.ledger().named("launched"))
    both = [scene.stage.start(*scene.stage.words(), heard=True) for _ in range(2)]
    said = [process.communicate()[0] for process in both]
    launches = len(scene.stage.ledger().named("launched")) - before
    if launches or any(process.returncode for process in both):
        raise CommandError(f"submitted again: {launches} more launches; {said}")
    yield Strike(at)


def second_driver(scene: Scene) -> Iterator[Strike]:
    at = time.time()
    done = scene.stage.tried("resume", scene.stage.name, "--address", "local", "--tracking-uri", scene.stage.tracking or "sqlite:////nowhere/m.db")
    refused = done.returncode == 2 and "another process is running this search" in done.stdout
    if not refused and not scene.stage.ledger().ended:
        raise CommandError(f"a second driver was not refused: {done.returncode} {done.stdout}")
    yield Strike(at)


def raylet_killed(scene: Scene) -> Iterator[Strike]:
    number, at_work = _node(scene)
    node = scene.cluster.node(number)
    whole = scene.chance.random() < 0.5
    victims = node if whole else named(node, "raylet")
    at = time.time()
    _kill(victims)
    yield Strike(at, "the whole node" if whole else "", "job", 25 if at_work else 1)
    scene.cluster.cluster_up()


def raylet_stopped(scene: Scene) -> Iterator[Strike]:
    number, at_work = _node(scene)
    seconds = _held(scene, named(scene.cluster.node(number), "raylet"), 4, 22)
    yield Strike(time.time(), f"for {seconds:.0f} s{', with a worker' if at_work else ''}", "job", 2)
    scene.cluster.cluster_up()


def head_killed(scene: Scene) -> Iterator[Strike]:
    head = scene.cluster.node(0)
    whole = scene.chance.random() < 0.5
    at = time.time()
    _kill(head if whole else named(head, "gcs_server"))
    time.sleep(scene.chance.uniform(0, 3))
    scene.cluster.cluster_up()
    scene.cluster.resume()
    yield Strike(at, "all its processes" if whole else "its gcs_server", "launch")


def mlflow_killed(scene: Scene) -> Iterator[Strike]:
    processes = scene.cluster.services._mlflow.processes()
    whole = scene.chance.random() < 0.5
    leader = scene.cluster.services._mlflow.leader()
    at = time.time()
    _kill(processes if whole or leader is None else [leader])
    yield Strike(at, "" if whole else "its first process alone")
    time.sleep(scene.chance.uniform(0, 6))
    scene.cluster.run("services", "up")


def mlflow_stopped(scene: Scene) -> Iterator[Strike]:
    yield from _goes_on_while_held(scene, scene.cluster.services._mlflow.processes())


def postgres_killed(scene: Scene) -> Iterator[Strike]:
    first, at = _postgres(scene), time.time()
    _kill([first])
    yield Strike(at)
    time.sleep(scene.chance.uniform(0, 4))
    scene.cluster.run("services", "up")


def postgres_stopped(scene: Scene) -> Iterator[Strike]:
    yield from _goes_on_while_held(scene, family(_postgres(scene)))


def network_hung(scene: Scene) -> Iterator[Strike]:
    at, seconds = time.time(), scene.chance.uniform(3, 25)
    scene.cluster.proxy.hang()
    try:
        yield Strike(at, f"for {seconds:.0f} s")
        time.sleep(max(0.0, at + seconds - time.time()))
    finally:
        scene.cluster.proxy.resume()


def searches_disk_full(scene: Scene) -> Iterator[Strike]:
    at = time.time()
    with scene.cluster.full("searches"):
        while scene.stage.drivers() and time.time() < at + 60:
            time.sleep(0.1)
        ended = time.time() - at
    scene.stage.resume()
    yield Strike(at, f"its driver ended after {ended:.1f} s", "launch")


def services_disk_full(scene: Scene) -> Iterator[Strike]:
    at, seconds = time.time(), scene.chance.uniform(4, 12)
    with scene.cluster.full("services"):
        yield Strike(at, f"for {seconds:.0f} s")
        time.sleep(max(0.0, at + seconds - time.time()))
    scene.cluster.run("services", "up")


ANYWHERE: dict[str, tuple[Kind, int]] = {  # and how many of them in a deck
    "trial actor, kill -9": (actor_killed, 4),
    "trial actor, stopped": (actor_stopped, 2),
    "driver, kill -9": (driver_killed, 3),
    "driver, stopped": (driver_stopped, 2),
    "last line of the journal cut": (last_line_torn, 2),
    "checkpoints deleted": (checkpoint_deleted, 3),
    "second driver": (second_driver, 2),
}
ON_CLUSTER: dict[str, tuple[Kind, int]] = ANYWHERE | {
    "raylet or node, kill -9": (raylet_killed, 2),
    "raylet, stopped": (raylet_stopped, 1),
    "head, kill -9": (head_killed, 1),
    "MLflow's server, kill -9": (mlflow_killed, 2),
    "MLflow's server, stopped": (mlflow_stopped, 2),
    "PostgreSQL, kill -9": (postgres_killed, 3),
    "PostgreSQL, stopped": (postgres_stopped, 2),
    "network to MLflow hangs": (network_hung, 3),
    "disk of the searches full": (searches_disk_full, 1),
    "disk of MLflow's database full": (services_disk_full, 1),
    "submitted twice more": (submitted_twice, 1),
    "driver, kill -9, then two resumes at once": (two_resumes, 1),
}
NEED_A_DISK = {"disk of the searches full": "searches", "disk of MLflow's database full": "services"}


def _one(scene: Scene, processes: list[psutil.Process]) -> psutil.Process:
    if not processes:
        raise MissedError("no such process")
    return scene.chance.choice(processes)


def _kill(processes: list[psutil.Process]) -> None:
    for process in processes:
        try:
            process.send_signal(signal.SIGKILL)
        except psutil.NoSuchProcess:
            continue


def _kill_driver(scene: Scene) -> float:
    driver, at = _one(scene, scene.stage.drivers()), time.time()
    driver.kill()
    psutil.wait_procs([driver], 10)
    time.sleep(scene.chance.choice([0.0, scene.chance.uniform(0, 3)]))
    return at


def _held(scene: Scene, processes: list[psutil.Process], least: float, most: float) -> float:
    """Stop processes for a while and return for how long."""
    _one(scene, processes)
    seconds = scene.chance.uniform(least, most)
    _signal(processes, signal.SIGSTOP)
    try:
        time.sleep(seconds)
    finally:
        _signal(processes, signal.SIGCONT)
    return seconds


def _goes_on_while_held(scene: Scene, processes: list[psutil.Process]) -> Iterator[Strike]:
    _one(scene, processes)
    at, seconds = time.time(), scene.chance.uniform(3, 12)
    _signal(processes, signal.SIGSTOP)
    try:
        yield Strike(at, f"for {seconds:.0f} s")
        time.sleep(max(0.0, at + seconds - time.time()))
    finally:
        _signal(processes, signal.SIGCONT)


def _signal(processes: list[psutil.Process], number: signal.Signals) -> None:
    for process in processes:
        if process.is_running():
            process.send_signal(number)


def _node(scene: Scene) -> tuple[int, bool]:
    """Return a node that is not the head and whether it trains: rather one that does."""
    there = {number for number in (1, 2) if named(scene.cluster.node(number), "raylet")}
    at_work = {n for n in there if any(actor in scene.cluster.node(n) for actor in scene.stage.actors())}
    if not there:
        raise MissedError("no node but the head")
    return scene.chance.choice(sorted(at_work or there)), bool(at_work)


def _postgres(scene: Scene) -> psutil.Process:
    first = scene.cluster.services._postgres.process()
    if first is None:
        raise MissedError("PostgreSQL does not run")
    return psutil.Process(first)
