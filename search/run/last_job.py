"""Where a search last ran, and whether it runs now: by its journal here, by its job on a cluster."""

from dataclasses import replace
from typing import TYPE_CHECKING

from cluster.errors import ClusterError
from cluster.token import use_token
from search.record.history import space_of
from search.record.home import Home
from search.run.way import Way
from search.show.status import running
from search.show.status import stop as stop_driver
from search.space.space import Space

if TYPE_CHECKING:
    from search.run.submit import Submission


def last_job(home: Home, name: str) -> "Submission | None":
    """Return the last job of a search; None when it never ran on a cluster."""
    if not (home.search(name) / "job.json").exists():
        return None
    use_token(home.path)  # before Ray, which reads it once
    from search.run.submit import submission  # noqa: PLC0415 Ray's HTTP clients, for who has a cluster only

    return submission(home, name)


def where_it_ran(home: Home, name: str, way: Way) -> Way:
    """Return the way with the address and the tracking server of the search's last job, where it says none."""
    before = last_job(home, name)
    if before is None:
        return way
    address = way.address or (None if way.inline else before.address)
    return replace(way, address=address, tracking_uri=way.tracking_uri or before.tracking)


def known_space(home: Home, name: str) -> Space:
    """Return the space of a search: its journal's, or its job's where that never began."""
    made = last_job(home, name)
    return made.restored() if made and name not in home.names() else space_of(home.history(name))


def is_active(home: Home, name: str) -> bool:
    """Whether a driver runs or a job waits for one."""
    if running(home.journal(name)):
        return True
    found = job_state(home, name)
    return found is not None and found[1] in ("PENDING", "RUNNING")


def job_state(home: Home, name: str) -> "tuple[Submission, str] | None":
    """Return a search's last job and how it stands; None when it never ran on a cluster."""
    made = last_job(home, name)
    if made is None:
        return None
    from cluster.jobs import Jobs  # noqa: PLC0415 Ray's HTTP clients

    try:
        return made, Jobs(made.address).status(made.id) or "unknown there"
    except ClusterError as error:
        return made, str(error)


def stop(home: Home, name: str) -> bool:
    """Ask a search to stop and wait until it has, or end its job that has not begun; False when it was not running."""
    found = None if name in home.names() else job_state(home, name)
    if found is None or found[1] not in ("PENDING", "RUNNING"):
        return stop_driver(home, name)
    from cluster.jobs import Jobs  # noqa: PLC0415 Ray's HTTP clients

    Jobs(found[0].address).stop(found[0].id)
    return True
