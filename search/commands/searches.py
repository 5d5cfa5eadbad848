"""The commands that begin a search or go on with one by its name: on this machine, or on a cluster as a job."""

from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated

import typer

from cluster.errors import ClusterError
from cluster.private import without_password
from cluster.token import use_token
from search.commands.options import (
    AddressOption,
    FollowOption,
    HomeOption,
    InlineOption,
    Name,
    ShipOption,
    UriOption,
    home_option,
    next_steps,
    open_store,
    out,
)
from search.errors import InputError
from search.record.home import Home

if TYPE_CHECKING:
    from search.record.history import History
    from search.run.submit import Submission
    from search.space.space import Space


@dataclass(frozen=True)
class Way:
    """Where a search is to run, and what is shown of it."""

    address: str | None
    tracking_uri: str | None
    follow: bool = False
    ship: bool = False
    inline: bool = False


def resume(
    name: Name, home: HomeOption = None, address: AddressOption = None, follow: FollowOption = False,
    ship: ShipOption = False, inline: InlineOption = False, tracking_uri: UriOption = None,
) -> None:
    """Go on with a search by its name, where it last ran: `--address local` brings it to this machine."""
    place = Home.find(home)
    way = Way(address, tracking_uri, follow=follow, ship=ship, inline=inline)
    begin(_space(place, name), name, place, way)


def extend(
    name: Name,
    trials: Annotated[str, typer.Option("--trials", help="+50: that many more; 80: as many in all.")],
    home: HomeOption = None, address: AddressOption = None, follow: FollowOption = False, ship: ShipOption = False,
    inline: InlineOption = False, tracking_uri: UriOption = None,
) -> None:
    """Add trials to a search by its name, finished or not, and go on with it."""
    place = Home.find(home)
    space = _space(place, name)
    wanted = _more(trials, space)
    space = replace(space, search=space.search.model_copy(update={"trials": wanted}))
    begin(space, name, place, Way(address, tracking_uri, follow=follow, ship=ship, inline=inline))


def logs(
    name: Name, home: HomeOption = None,
    follow: Annotated[bool, typer.Option("--follow", help="Go on until the search ends.")] = False,
    driver: Annotated[bool, typer.Option("--driver", help="What its driver on the cluster printed instead.")] = False,
) -> None:
    """Tell what happened in a search, a line each."""
    from search.run.follow import facts, line

    place = Home.find(home)
    use_token(place.path)
    if driver:
        _driver_logs(place, name, follow=follow)
        return
    objective = "val/accuracy"
    if _job(place, name) is None:
        place.history(name)
    for fact in facts(place.journal(name), lambda: follow and is_active(place, name)):
        if fact is not None:
            objective = fact.space["search"]["objective"] if fact.fact == "opened" else objective
            out.print(line(fact, objective), soft_wrap=True)
        elif not follow:
            break


def begin(space: "Space", name: str, home: Home, way: Way, go_on: str | None = None) -> None:
    """Run a search here, drive it on a cluster from here, or submit it as a job: by the way's address.

    Without one it goes where its last job ran.
    """
    use_token(home.path)
    before = _job(home, name)
    if before and go_on is None and not way.inline:
        address, uri = way.address or before.address, way.tracking_uri or before.tracking
        way = replace(way, address=address, tracking_uri=uri)
    go_on = go_on or f"fgsearch resume {name}"
    if way.inline and way.address not in (None, "local"):
        raise InputError("--inline: is in this process; leave --address out")
    if way.address is None or "://" not in way.address:
        if way.follow or way.ship:
            raise InputError("--follow and --ship: are for a job, with --address http://HEAD:8265")
        run(space, name, home, replace(way, address=None if way.address == "local" else way.address), go_on)
    else:
        _submit(space, name, home, way, go_on)


def run(space: "Space", name: str, home: Home, way: Way, go_on: str) -> None:
    """Run a search with this process as its driver, and say how it ended."""
    from search.run.executor import executor
    from search.run.launch import launch
    from search.tracking.address import require_address
    from search.tracking.tracker import default_uri

    uri = way.tracking_uri or default_uri(home.path)
    require_address(uri)
    runs = executor(space, way.address, inline=way.inline)
    history = launch(space, name, home, lambda: open_store(home, way.tracking_uri), out, runs)
    _tell_end(space, history, next_steps(name, home, without_password(uri), go_on, history))


def _submit(space: "Space", name: str, home: Home, way: Way, go_on: str) -> None:
    from search.commands.services import log_in
    from search.run.launch import finished_already
    from search.run.submit import submit, wait_until_begun
    from search.show.status import running

    assert way.address
    if finished_already(space, name, home) and not running(home.journal(name)):  # else its job still writes to MLflow
        run(space, name, home, replace(way, address=None), go_on)  # projects what MLflow lacks, and says the result
        return
    if way.tracking_uri:
        log_in(home.path, way.tracking_uri)  # so that the login travels with the job
    made = submit(space, name, home, way.address, way.tracking_uri, ship=way.ship)
    try:
        wait_until_begun(made, out)
    except KeyboardInterrupt:
        out.print(f"{name}: was submitted as {made.id} and goes on; fgsearch stop {name} ends it", soft_wrap=True)
        return
    out.print(f"{name}: runs as {made.id} on {made.address}; it goes on without this machine", soft_wrap=True)
    if way.follow:
        _watch(space, name, home, made, way.tracking_uri)
        return
    option = home_option(home)
    for what, words in (("status", ""), ("logs", "--follow"), ("stop", ""), ("extend", "--trials +50")):
        out.print(f"  {what:8} fgsearch {what} {name} {words}".rstrip() + option, soft_wrap=True)


def is_active(home: Home, name: str) -> bool:
    """Whether a driver runs or a job waits for one."""
    from search.show.status import running

    if running(home.journal(name)):
        return True
    found = job_state(home, name)
    return found is not None and found[1] in ("PENDING", "RUNNING")


def job_state(home: Home, name: str) -> "tuple[Submission, str] | None":
    """Return a search's last job and how it stands; None when it never ran on a cluster."""
    made = _job(home, name)
    if made is None:
        return None
    from cluster.jobs import Jobs

    try:
        return made, Jobs(made.address).status(made.id) or "unknown there"
    except ClusterError as error:
        return made, str(error)


def end_job(home: Home, name: str) -> bool:
    """End a job whose driver has not opened the journal yet; False when there is none."""
    from cluster.jobs import Jobs

    found = job_state(home, name)
    if found is None or found[1] not in ("PENDING", "RUNNING"):
        return False
    Jobs(found[0].address).stop(found[0].id)
    return True


def _watch(space: "Space", name: str, home: Home, made: "Submission", tracking_uri: str | None) -> None:
    from cluster.jobs import Jobs
    from search.run.follow import watch
    from search.run.submit import last_line
    from search.tracking.tracker import default_uri

    jobs = Jobs(made.address)
    try:
        history = watch(home, name, space, out, lambda: jobs.active(made.id))
    except KeyboardInterrupt:
        said = f"{name}: goes on; fgsearch logs {name} --follow watches it, fgsearch stop {name} ends it"
        out.print(said, soft_wrap=True)
        return
    if history.finished is None:
        raise InputError(last_line(jobs.logs(made.id)) or f"{made.id}: ended without a word")
    uri = without_password(tracking_uri or default_uri(home.path))
    _tell_end(space, history, next_steps(name, home, uri, f"fgsearch resume {name}", history))


def _tell_end(space: "Space", history: "History", steps: list[str]) -> None:
    """Say how a search ended; a script reads from the status whether it was stopped."""
    from search.show.screen import ending

    out.print(ending(space, history, steps), soft_wrap=True)  # a command is copied whole
    if history.finished and history.finished.how == "stopped":
        raise typer.Exit(130)


def _driver_logs(home: Home, name: str, *, follow: bool) -> None:
    from cluster.jobs import Jobs

    made = _job(home, name)
    if made is None:
        raise InputError(f"search '{name}' never ran as a job; its own lines are: fgsearch logs {name}")
    jobs = Jobs(made.address)
    with suppress(KeyboardInterrupt):
        for said in jobs.follow(made.id) if follow else [jobs.logs(made.id)]:
            out.print(said, end="", soft_wrap=True)


def _space(home: Home, name: str) -> "Space":
    """Return the space of a search: its journal's, or its job's where that never began."""
    from search.record.history import space_of

    made = _job(home, name)
    return made.restored() if made and name not in home.names() else space_of(home.history(name))


def _job(home: Home, name: str) -> "Submission | None":
    if not (home.search(name) / "job.json").exists():
        return None
    use_token(home.path)  # before Ray, which reads it once
    from search.run.submit import submission

    return submission(home, name)


def _more(given: str, space: "Space") -> int:
    if space.rows:
        raise InputError("--trials: a list has as many trials as rows times seeds; give search.seeds to its launch")
    number = given.removeprefix("+")
    if not number.isdigit() or not int(number):
        raise InputError(f"--trials {given!r}: write +50 for fifty more, or 80 for eighty in all")
    before = space.search.trials
    wanted = before + int(number) if given.startswith("+") else int(number)
    if not before <= wanted <= 100_000:
        raise InputError(f"--trials {given}: the search has {before} already; {wanted} in all is out of range")
    return wanted
