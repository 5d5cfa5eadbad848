"""The commands that begin a search or go on with one by its name: on this machine, or on a cluster as a job."""

from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

import typer

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
    out,
)
from search.errors import InputError
from search.record.home import Home
from search.run.begin import begin
from search.run.last_job import is_active, known_space, last_job, where_it_ran
from search.run.way import Way

if TYPE_CHECKING:
    from search.record.history import History
    from search.space.space import Space


def resume(
    name: Name, home: HomeOption = None, address: AddressOption = None, follow: FollowOption = False,
    ship: ShipOption = False, inline: InlineOption = False, tracking_uri: UriOption = None,
) -> None:
    """Go on with a search by its name, where it last ran: `--address local` brings it to this machine."""
    place = Home.find(home)
    way = Way(address, tracking_uri, follow=follow, ship=ship, inline=inline)
    begin_and_tell(known_space(place, name), name, place, where_it_ran(place, name, way), f"fgsearch resume {name}")


def extend(
    name: Name,
    trials: Annotated[str, typer.Option("--trials", help="+50: that many more; 80: as many in all.")],
    home: HomeOption = None, address: AddressOption = None, follow: FollowOption = False, ship: ShipOption = False,
    inline: InlineOption = False, tracking_uri: UriOption = None,
) -> None:
    """Add trials to a search by its name, finished or not, and go on with it."""
    place = Home.find(home)
    space = known_space(place, name)
    wanted = _more(trials, space)
    space = replace(space, search=space.search.model_copy(update={"trials": wanted}))
    way = where_it_ran(place, name, Way(address, tracking_uri, follow=follow, ship=ship, inline=inline))
    begin_and_tell(space, name, place, way, f"fgsearch resume {name}")


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
    if last_job(place, name) is None:
        place.history(name)
    for fact in facts(place.journal(name), lambda: follow and is_active(place, name)):
        if fact is not None:
            objective = fact.space["search"]["objective"] if fact.fact == "opened" else objective
            out.print(line(fact, objective), soft_wrap=True)
        elif not follow:
            break


def begin_and_tell(space: "Space", name: str, home: Home, way: Way, go_on: str) -> None:
    """Run or submit a search, and say how it ended or how to watch it."""
    from search.record.history import History
    from search.tracking.address import default_uri

    ended = begin(space, name, home, way, out)
    if isinstance(ended, History):
        uri = without_password(way.tracking_uri or default_uri(home.path))
        tell_end(space, ended, next_steps(name, home, uri, go_on, ended))
    elif not way.follow:
        option = home_option(home)
        for what, words in (("status", ""), ("logs", "--follow"), ("stop", ""), ("extend", "--trials +50")):
            out.print(f"  {what:8} fgsearch {what} {name} {words}".rstrip() + option, soft_wrap=True)


def tell_end(space: "Space", history: "History", steps: list[str]) -> None:
    """Say how a search ended; a script reads from the status whether it was stopped."""
    from search.show.screen import ending

    out.print(ending(space, history, steps), soft_wrap=True)  # a command is copied whole
    if history.finished and history.finished.how == "stopped":
        raise typer.Exit(130)


def _driver_logs(home: Home, name: str, *, follow: bool) -> None:
    from cluster.jobs import Jobs

    made = last_job(home, name)
    if made is None:
        raise InputError(f"search '{name}' never ran as a job; its own lines are: fgsearch logs {name}")
    jobs = Jobs(made.address)
    with suppress(KeyboardInterrupt):
        for said in jobs.follow(made.id) if follow else [jobs.logs(made.id)]:
            out.print(said, end="", soft_wrap=True)


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
