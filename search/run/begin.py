"""Begins a search or goes on with one: in this process, on Ray here, or on a cluster, as its driver or as a job."""

from dataclasses import replace
from typing import TYPE_CHECKING

from rich.console import Console

from cluster.token import use_token
from search.errors import InputError
from search.record.history import History
from search.record.home import Home
from search.run.way import Way
from search.space.space import Space

if TYPE_CHECKING:
    from search.run.submit import Submission


def begin(space: Space, name: str, home: Home, way: Way, console: Console) -> "History | Submission":
    """Run a search to its end, or submit it; returns what its journal then says, or the job that goes on elsewhere.

    Raises InputError or ClusterError as `launch` and `submit` do.
    """
    use_token(home.path)
    way.require_possible()
    if way.is_job and not _finished(space, name, home):
        return _submit(space, name, home, way, console)
    elsewhere = None if way.is_job or way.address == "local" else way.address  # of a finished one: project, say, end
    return run(space, name, home, replace(way, address=elsewhere), console)


def run(space: Space, name: str, home: Home, way: Way, console: Console) -> History:
    """Run a search with this process as its driver."""
    from search.run.executor import executor  # noqa: PLC0415 torch and Ray, seconds for who submits only
    from search.run.launch import launch  # noqa: PLC0415
    from search.tracking.address import default_uri, require_address  # noqa: PLC0415
    from search.tracking.open_store import open_store  # noqa: PLC0415

    require_address(way.tracking_uri or default_uri(home.path))
    runs = executor(space, way.address, inline=way.inline)
    return launch(space, name, home, lambda: open_store(home, way.tracking_uri, console), console, runs)


def _finished(space: Space, name: str, home: Home) -> bool:
    from search.run.launch import finished_already  # noqa: PLC0415
    from search.show.status import running  # noqa: PLC0415

    return finished_already(space, name, home) and not running(home.journal(name))  # else its job still writes


def _submit(space: Space, name: str, home: Home, way: Way, console: Console) -> "History | Submission":
    from search.run.submit import submit, wait_until_begun  # noqa: PLC0415 Ray's HTTP clients
    from search.tracking.open_store import log_in  # noqa: PLC0415

    assert way.address
    if way.tracking_uri:
        log_in(home.path, way.tracking_uri)  # so that the login travels with the job
    made = submit(space, name, home, way.address, way.tracking_uri, ship=way.ship)
    try:
        wait_until_begun(made, console)
    except KeyboardInterrupt:
        console.print(f"{name}: was submitted as {made.id} and goes on; fgsearch stop {name} ends it", soft_wrap=True)
        return made
    console.print(f"{name}: runs as {made.id} on {made.address}; it goes on without this machine", soft_wrap=True)
    return _watched(space, name, home, made, console) if way.follow else made


def _watched(space: Space, name: str, home: Home, made: "Submission", console: Console) -> "History | Submission":
    from cluster.jobs import Jobs  # noqa: PLC0415
    from search.run.follow import watch  # noqa: PLC0415
    from search.run.submit import last_line  # noqa: PLC0415

    jobs = Jobs(made.address)
    try:
        history = watch(home, name, space, console, lambda: jobs.active(made.id))
    except KeyboardInterrupt:
        said = f"{name}: goes on; fgsearch logs {name} --follow watches it, fgsearch stop {name} ends it"
        console.print(said, soft_wrap=True)
        return made
    if history.finished is None:
        raise InputError(last_line(jobs.logs(made.id)) or f"{made.id}: ended without a word")
    return history
