"""`fgsearch`: the command line."""

import gc
import shlex
import sys
from functools import partial
from io import TextIOWrapper
from pathlib import Path
from typing import Annotated

import typer

from cluster.errors import ClusterError
from cluster.private import without_password
from cluster.token import use_token
from search.commands import cluster, export, new, patches, searches, services, use
from search.commands.data import data
from search.commands.options import (
    AddressOption,
    FollowOption,
    HomeOption,
    InlineOption,
    JsonOption,
    Name,
    SetOption,
    ShipOption,
    SpaceFile,
    UriOption,
    open_store,
    out,
    search_names,
)
from search.commands.report import report
from search.errors import InputError, writing
from search.record.home import Home, code_version
from search.run.way import Way
from search.space.file import read_space
from search.space.shipped import find_space

app = typer.Typer(
    help="Search the hyperparameters of a two-stream fine-grained image classifier.",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(data)
app.add_typer(patches.app, name="patches")
app.add_typer(cluster.app, name="cluster")
app.add_typer(services.app, name="services")


def main() -> None:
    """Run the command line: a user's mistake is plain lines and status 2, Ctrl-C is status 130."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="replace")  # where there is no α it is a question mark, and the search goes on
    gc.set_threshold(200_000, 20, 20)  # torch, Ray and MLflow make a million objects that stay: 0.7 s of a start
    try:
        app()
    except (InputError, ClusterError) as error:
        print(error, file=sys.stderr)
        raise SystemExit(2) from None
    except KeyboardInterrupt:
        print("stopped; everything reported is kept", file=sys.stderr)
        raise SystemExit(130) from None
    finally:
        gc.freeze()  # and none of them needs to be looked through for the end: 1 s


def _version(wanted: bool) -> None:
    if wanted:
        version, commit, dirty = code_version()
        print(f"fgsearch {version}" + (f" ({commit}{', changed' if dirty else ''})" if commit else ""))
        raise typer.Exit


@app.callback()
def common(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_version, is_eager=True)
    ] = False,
) -> None:
    """Search the hyperparameters of a two-stream fine-grained image classifier."""
    del version


@app.command(epilog="Example: fgsearch check finches --set search.trials=50")
def check(
    space: SpaceFile, sets: SetOption = None, home: HomeOption = None, address: AddressOption = None,
    as_json: JsonOption = False,
) -> None:
    """Validate a space file, its data and the resources; print the settings and a forecast. Starts nothing."""
    use_token(Home.find(home).path)
    from search.run.check import check as report

    read = read_space(find_space(space), sets or ())
    found = report(read, Home.find(home).cache, address)
    out.print_json(data=found.document()) if as_json else out.print(found.view())


@app.command(epilog="Example: fgsearch launch finches --name night --trials 60 --set optim.batch_size=64")
def launch(
    space: SpaceFile,
    name: Annotated[str | None, typer.Option("--name", help="The search's name.", show_default="the file's")] = None,
    trials: Annotated[
        int | None, typer.Option("--trials", help="How many trials in all; more than before extends the search.")
    ] = None,
    sets: SetOption = None,
    home: HomeOption = None,
    address: AddressOption = None,
    follow: FollowOption = False,
    ship: ShipOption = False,
    inline: InlineOption = False,
    tracking_uri: UriOption = None,
) -> None:
    """Run a search, here or on a cluster; launching the same name again continues it."""
    overrides = [*(sets or ()), *([f"search.trials={trials}"] if trials is not None else [])]
    read, place = read_space(find_space(space), overrides), Home.find(home)
    name = name or read.name
    words = ["fgsearch", "launch", space, "--name", name, *(w for given in overrides for w in ("--set", given))]
    words += ["--address", address] if address else []
    words += ["--inline"] if inline else []
    words += ["--tracking-uri", without_password(tracking_uri)] if tracking_uri else []
    way = Way(address, tracking_uri, follow=follow, ship=ship, inline=inline)
    searches.begin_and_tell(read, name, place, way, shlex.join(words))


app.command(epilog="Example: fgsearch resume finches")(searches.resume)
app.command(epilog="Example: fgsearch extend finches --trials +50")(searches.extend)
app.command(epilog="Example: fgsearch logs finches --follow")(searches.logs)
app.command(epilog="Example: fgsearch report finches --watch")(report)


@app.command("list", epilog="Example: fgsearch list --json")
def list_searches(home: HomeOption = None, as_json: JsonOption = False) -> None:
    """List the searches of a home."""
    from search.show.screen import search_table
    from search.show.status import summary

    place = Home.find(home)
    found = [summary(place, name) for name in place.names()]
    if as_json:
        out.print_json(data=found)
    elif found:
        out.print(search_table(found))
    else:
        out.print(f"{place.path} holds no search yet; begin one with: fgsearch launch finches")


@app.command(epilog="Example: fgsearch status finches --json")
def status(name: Name, home: HomeOption = None, as_json: JsonOption = False) -> None:
    """Show where a search stands, running or not."""
    from search.run.last_job import job_state
    from search.show.screen import status_view
    from search.show.status import summary

    place = Home.find(home)
    use_token(place.path)
    job = job_state(place, name)
    told = None if job is None else {"id": job[0].id, "address": job[0].address, "state": job[1]}
    begun = job is None or name in place.names()
    found = summary(place, name) if begun else {"search": name, "state": "submitted"}
    found |= {"job": told} if told else {}
    if as_json:
        out.print_json(data=found)
    else:
        out.print(status_view(found, place.history(name)) if begun else f"{name}: has not begun")
        if told:
            out.print(f"job: {told['id']} on {told['address']}: {told['state']}", soft_wrap=True)


@app.command(epilog="Example: fgsearch stop finches")
def stop(name: Name, home: HomeOption = None) -> None:
    """Ask a running search to stop; everything reported is kept."""
    from search.run.last_job import stop as ask

    place = Home.find(home)
    use_token(place.path)
    stopped = ask(place, name)
    out.print(f"{name}: stopped; everything reported is kept" if stopped else f"{name}: is not running")


@app.command(epilog="Example: fgsearch browse finches --port 5001")
def browse(
    name: Annotated[
        str | None,
        typer.Argument(help="The search to open.", show_default="the list of all", autocompletion=search_names),
    ] = None,
    home: HomeOption = None,
    port: Annotated[int, typer.Option("--port", help="Port on this machine (loopback only).", min=1, max=65535)] = 5000,
    tracking_uri: UriOption = None,
    show: Annotated[
        bool | None, typer.Option("--open/--no-open", help="Open a browser.", show_default="on a terminal")
    ] = None,
) -> None:
    """Open MLflow's pages on the searches' store: a search at a glance, its trials best first, their charts."""
    from search.tracking.address import default_uri
    from search.tracking.browse import landing, serve, show_pages
    from search.tracking.entry import StoreError

    place, wanted = Home.find(home), sys.stdout.isatty() if show is None else show
    store = open_store(place, tracking_uri)
    try:
        pages = landing(place, store, name)
    except StoreError as error:
        raise InputError(str(error)) from None
    if store.remote:
        show_pages(store.where, out, pages, show=wanted)
    else:
        serve(tracking_uri or default_uri(place.path), place.path / "artifacts", port, out, pages, show=wanted)


app.command(epilog="Example: fgsearch export finches --bundle best.zip")(export.export)
app.command(epilog="Example: fgsearch retrain best.zip --seeds 3")(export.retrain)
app.command(epilog="Example: fgsearch new my/pictures")(new.new)


app.command(epilog="Example: fgsearch predict finches-4 pictures/ --csv")(use.predict)
app.command(epilog="Example: fgsearch explain finches-4 bird.jpg --out explained")(use.explain)
app.command("export-onnx", epilog="Example: fgsearch export-onnx finches-4 --out model.onnx")(use.export_onnx)


@app.command(epilog="Example: fgsearch study table-5.1 --data finches --epochs 27 --set model.freeze_backbones=true")
def study(
    name: Annotated[str, typer.Argument(help="A study's name, e.g. table-5.1, or its file.")],
    data: Annotated[str | None, typer.Option("--data", help="A folder of images, or finches.")] = None,
    epochs: Annotated[int | None, typer.Option("--epochs", help="Epochs of every row.", min=1)] = None,
    seeds: Annotated[int | None, typer.Option("--seeds", help="Runs of every row.", min=1)] = None,
    rows: Annotated[list[str] | None, typer.Option("--row", help="Only this row; repeatable.")] = None,
    search_name: Annotated[
        str | None, typer.Option("--name", help="The search's name.", show_default="the study's")
    ] = None,
    sets: SetOption = None,
    home: HomeOption = None,
    inline: InlineOption = False,
    tracking_uri: UriOption = None,
    as_json: JsonOption = False,
) -> None:
    """Reproduce a table or figure of the thesis: our numbers beside the published ones. Opens the test split."""
    from search.studies.run_study import run_study

    lengths = {"search.epochs": epochs, "search.seeds": seeds}
    given = [f"{key}={value}" for key, value in lengths.items() if value is not None] + (sets or [])
    place = Home.find(home)
    store = partial(open_store, place, tracking_uri)
    history = run_study(
        name, data, given, search_name, place, store, out, rows=rows or (), inline=inline, as_json=as_json,
    )
    if history.finished and history.finished.how == "stopped":
        raise typer.Exit(130)


@app.command(epilog="Example: fgsearch convert checkpoint_60_0.798.pth --out official.safetensors")
def convert(
    checkpoint: Annotated[Path, typer.Argument(help="A checkpoint of the authors' released code.")],
    to: Annotated[Path, typer.Option("--out", help="The file to write.")] = Path("official.safetensors"),
    time_steps: Annotated[int, typer.Option("--time-steps", help="T, which theirs does not hold.", min=1, max=64)] = 10,
) -> None:
    """Turn a checkpoint of the authors' released code into a model file of ours (preset `official`)."""
    from fgmodel.use.official import convert as write

    with writing(to):
        model = write(checkpoint, to, time_steps)
    count = sum(parameter.numel() for parameter in model.parameters())
    out.print(f"{to}: {count:,} parameters, {model.global_stream.head.out_features} classes, T {time_steps}")


if __name__ == "__main__":
    main()
