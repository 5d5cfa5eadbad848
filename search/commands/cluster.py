"""`fgsearch cluster`: several Ray nodes on this machine, for trying out."""

from contextlib import suppress
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from search.commands.options import HomeOption, JsonOption, Name, home_option, out
from search.commands.searches import begin_and_tell
from search.errors import InputError
from search.record.home import Home
from search.run.way import Way

if TYPE_CHECKING:
    from cluster.raylets import Raylets

app = typer.Typer(
    help="Several Ray nodes on this machine, for trying out.",
    epilog="Example: fgsearch cluster up --nodes 3",
    no_args_is_help=True,
)


@app.command(epilog="Example: fgsearch cluster up --nodes 3 --cpus-per-node 1 --gpus-per-node 0,1,1")
def up(
    nodes: Annotated[int, typer.Option("--nodes", help="How many, the head included.", min=1, max=64)] = 3,
    cpus: Annotated[str, typer.Option("--cpus-per-node", help="For all nodes, or one for each: 2,1,1.")] = "1",
    gpus: Annotated[str, typer.Option("--gpus-per-node", help="As Ray counts them; there need not be any.")] = "0",
    port: Annotated[int, typer.Option("--port", help="Of the dashboard, loopback only.", min=1, max=65535)] = 8265,
    home: HomeOption = None,
) -> None:
    """Start a cluster on this machine behind a token; again, the nodes that it lost."""
    from cluster.raylets import up as start

    place = Home.find(home)
    with out.status(f"starting {nodes} nodes …"):
        there = start(place.path, _each("cpus", cpus, nodes), _each("gpus", gpus, nodes), port)
    _show(there)
    option = home_option(place)
    out.print(f"  launch   fgsearch launch finches --address {there.address}{option}", soft_wrap=True)
    out.print(f"  end      fgsearch cluster down{option}", soft_wrap=True)


@app.command("status", epilog="Example: fgsearch cluster status --json")
def cluster_status(home: HomeOption = None, as_json: JsonOption = False) -> None:
    """Say which nodes of this machine's cluster live."""
    from cluster.raylets import status as look

    place = Home.find(home)
    there = look(place.path)
    if as_json:
        out.print_json(data=None if there is None else {"address": there.address, **asdict(there)})
    elif there is None:
        out.print(f"{place.path}: no cluster is up; start one with: fgsearch cluster up --nodes 3")
    else:
        _show(there)


@app.command(epilog="Example: fgsearch cluster down")
def down(home: HomeOption = None) -> None:
    """End this machine's cluster; searches keep everything reported."""
    from cluster.raylets import down as end

    place = Home.find(home)
    with out.status("ending the nodes …"):
        ended = end(place.path)
    out.print("the cluster is down" if ended else f"{place.path}: no cluster is up")


@app.command(hidden=True)
def drive(name: Name, home: HomeOption = None) -> None:
    """Be the driver of a submitted search: what its job on the head runs."""
    from search.run.submit import received

    place = Home.find(home)
    space, uri = received(place, name)
    with suppress(typer.Exit):  # a search that was asked to stop is no failed job
        begin_and_tell(space, name, place, Way("auto", uri), f"fgsearch resume {name}")


@app.command("retrain", hidden=True)
def drive_retrain(name: Name, home: HomeOption = None) -> None:
    """Retrain what was submitted: what its job runs, on the node it was given."""
    from search.commands.options import open_store
    from search.retrain.remote import received
    from search.retrain.retrain import retrain

    place = Home.find(home)
    order, bundle, uri = received(place, name)
    retrain(bundle, order.seeds, order.root, place, open_store(place, uri), out, order.threads, address="auto")


def _each(what: str, given: str, nodes: int) -> list[int]:
    parts = given.split(",")
    if not all(part.strip().isdigit() for part in parts) or len(parts) not in (1, nodes):
        raise InputError(f"--{what}-per-node {given!r}: give one number for all nodes, or {nodes}, as 2,1,1")
    numbers = [int(part) for part in parts]
    return numbers * nodes if len(numbers) == 1 else numbers


def _show(there: "Raylets") -> None:
    for member in there.members:
        state = "up" if member.alive else "lost: fgsearch cluster up starts it again"
        out.print(f"  {member.name}  {member.cpus} CPU  {member.gpus} GPU  {state}")
    out.print(f"cluster at {there.address}, behind a token")
