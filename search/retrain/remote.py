"""A retrain on a cluster: a job of Ray Jobs whose seeds train on its workers, each with what a trial of the search had.

What it needs lies in the home, which all nodes share: a copy of the bundle, and the order. A driver that is lost takes
at most a minute of training with it: the same command submits the job again, and it goes on.
"""

import secrets
from pathlib import Path

from rich.console import Console

from cluster.jobs import Jobs
from cluster.nodes import named
from cluster.private import without_password
from cluster.probe import versions
from fgmodel.config import TrialConfig
from search.errors import InputError
from search.export.packing import BOXES, Packed, unpack
from search.record.home import Home
from search.run.submit import JobRecord, last_line, record_of, shared_paths, take_login

UNSAID = {"cpu": 1.0, "gpu": 0.0}  # what a trial held, in bundles from before it was kept


class RetrainJob(JobRecord):
    """A retrain as its job reads it."""

    bundle: str  # the copy's name
    seeds: int
    root: str | None
    threads: int | None


def retrain_there(
    path: Path, seeds: int, root: str | None, threads: int | None, home: Home, address: str, tracking_uri: str | None,
    console: Console, *, ship: bool,
) -> None:
    """Submit a retrain, or find the one that runs, and show what it says until it ends.

    Raises InputError or ClusterError: when no node can hold it, data is named by a path that only this place knows, the
    cluster does not answer, or it fails, with its reason.
    """
    packed, jobs = unpack(path), Jobs(address)
    folder = _folder(home, packed)
    order = _running(jobs, folder, (seeds, root, threads))
    if order is None:
        order = RetrainJob(
            id=f"fgsearch-retrain-{folder.stem}-{secrets.token_hex(4)}", address=jobs.address,
            bundle=packed.copy(folder).name, seeds=seeds, root=root, threads=threads, code=versions()["fgsearch"],
        )
        _submit(order, packed, jobs, folder, home, tracking_uri, ship=ship)
    where = f" and {without_password(tracking_uri)}" if tracking_uri else ""
    console.print(f"{order.id}: on {order.address}{where}; Ctrl-C leaves it running, this command again shows it")
    _follow(order, jobs, console)


def received(home: Home, name: str) -> tuple[RetrainJob, Path, str | None]:
    """Return, on the head, the order, its bundle and MLflow's address; sets the login to MLflow.

    Raises InputError: when the head does not see the home, or runs other code than what submitted the job.
    """
    folder = home.path / "unfinished" / name
    order = record_of(folder / "job.json", RetrainJob)
    if order is None:
        raise InputError(f"the head does not see {folder}; the home must be a folder that every node shares")
    order.require_same_code("submitted")
    return order, folder / order.bundle, take_login(folder)


def _running(jobs: Jobs, folder: Path, asked: tuple[int, str | None, int | None]) -> RetrainJob | None:
    """Return the order of the model's job that waits or runs; raises InputError where other things were asked of it."""
    order = record_of(folder / "job.json", RetrainJob)
    if order is None or order.address != jobs.address or not jobs.active(order.id):
        return None
    if (order.seeds, order.root, order.threads) != asked:
        said = f"is retrained already, as {order.id}, with --seeds {order.seeds} or other options than these"
        raise InputError(f"{folder.stem}: {said}; wait for its end")
    return order


def _submit(
    order: RetrainJob, packed: Packed, jobs: Jobs, folder: Path, home: Home, tracking_uri: str | None, *, ship: bool,
) -> None:
    _require_fit(packed, jobs)
    _require_paths(packed, order.root)
    words = ["cluster", "retrain", folder.name, "--home", str(home.path)]
    order.start(jobs, folder, words, tracking_uri, ship=ship)


def _follow(order: RetrainJob, jobs: Jobs, console: Console) -> None:
    try:
        for said in jobs.follow(order.id):
            console.print(said, end="", soft_wrap=True)
    except KeyboardInterrupt:
        console.print(f"{order.id}: goes on")
        return
    if (state := jobs.status(order.id)) != "SUCCEEDED":
        raise InputError(last_line(jobs.logs(order.id)) or f"{order.id}: ended as {state}, without a word")


def _require_fit(packed: Packed, jobs: Jobs) -> None:
    held = {**UNSAID, **(packed.bundle.origin.resources or {})}
    nodes = jobs.nodes()
    if not any(node.places(held["cpu"], held["gpu"]) for node in nodes):
        said = f"a retrain needs what a trial held, {held['cpu']:g} CPU and {held['gpu']:g} GPU, and no node has that"
        raise InputError(f"--address: {said}: {named(nodes) or 'the cluster has no node'}")


def _require_paths(packed: Packed, root: str | None) -> None:
    brought = {"data.patches": "ddt"} if BOXES["test"] in packed.files else {}  # then its own are used there
    shared_paths(TrialConfig.from_settings({
        **packed.bundle.settings, **brought, **({"data.root": root} if root else {}),
    }))


def _folder(home: Home, packed: Packed) -> Path:
    origin = packed.bundle.origin
    return home.path / "unfinished" / f"{origin.search}-{origin.trial}.job"
