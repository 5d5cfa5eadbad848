"""`fgsearch`: the command line."""

import gc
import shlex
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from search import cli_patches
from search.cli_data import data
from search.errors import InputError, writing
from search.home import Home, code_version
from search.space import read_space

if TYPE_CHECKING:
    from search.history import History
    from search.mlflow_store import Store

app = typer.Typer(
    help="Search the hyperparameters of a two-stream fine-grained image classifier.",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(data)
app.add_typer(cli_patches.app, name="patches")
out = Console(highlight=False, width=None if sys.stdout.isatty() else 120)

SpaceFile = Annotated[Path, typer.Argument(help="A space file, e.g. spaces/finches.yaml.")]
Name = Annotated[str, typer.Argument(help="The search's name.")]
HomeOption = Annotated[
    Path | None,
    typer.Option("--home", help="Folder of searches, caches and MLflow store.", show_default="./fgsearch-home"),
]
SetOption = Annotated[
    list[str] | None, typer.Option("--set", help="key=value: fix any dotted setting, or change search.*; repeatable.")
]
UriOption = Annotated[
    str | None, typer.Option("--tracking-uri", help="MLflow server or store.", show_default="SQLite in the home")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON for a script.")]


def main() -> None:
    """Run the command line: a user's mistake is plain lines and status 2, Ctrl-C is status 130."""
    gc.set_threshold(200_000, 20, 20)  # torch, Ray and MLflow make a million objects that stay: 0.7 s of a start
    try:
        app()
    except InputError as error:
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


@app.command(epilog="Example: fgsearch check spaces/finches.yaml --set search.trials=50")
def check(space: SpaceFile, sets: SetOption = None, home: HomeOption = None, as_json: JsonOption = False) -> None:
    """Validate a space file, its data and the resources; print the settings and a forecast. Starts nothing."""
    from search.check import check as report

    read = read_space(space, sets or ())
    found = report(read, Home.find(home).cache)
    out.print_json(data=found.document()) if as_json else out.print(found.view())


@app.command(epilog="Example: fgsearch launch spaces/finches.yaml --name night --trials 60 --set optim.batch_size=64")
def launch(
    space: SpaceFile,
    name: Annotated[str | None, typer.Option("--name", help="The search's name.", show_default="the file's")] = None,
    trials: Annotated[
        int | None, typer.Option("--trials", help="How many trials in all; more than before extends the search.")
    ] = None,
    sets: SetOption = None,
    home: HomeOption = None,
    tracking_uri: UriOption = None,
) -> None:
    """Run a search; launching the same name again continues it."""
    from search.launch import launch as run
    from search.mlflow_store import require_address, without_password
    from search.screen import ending
    from search.tracking import default_uri

    overrides = [*(sets or ()), *([f"search.trials={trials}"] if trials is not None else [])]
    read, place = read_space(space, overrides), Home.find(home)
    name, uri = name or read.name, tracking_uri or default_uri(place.path)
    require_address(uri)
    history = run(read, name, place, lambda: _store(place, tracking_uri), out)
    words = ["fgsearch", "launch", str(space), "--name", name, *(w for given in overrides for w in ("--set", given))]
    words += ["--tracking-uri", without_password(uri)] if tracking_uri else []
    out.print(ending(read, history, _next_steps(name, place, without_password(uri), shlex.join(words), history)))
    if history.finished and history.finished.how == "stopped":
        raise typer.Exit(130)


@app.command("list", epilog="Example: fgsearch list --json")
def list_searches(home: HomeOption = None, as_json: JsonOption = False) -> None:
    """List the searches of a home."""
    from search.screen import search_table
    from search.status import summary

    place = Home.find(home)
    found = [summary(place, name) for name in place.names()]
    if as_json:
        out.print_json(data=found)
    elif found:
        out.print(search_table(found))
    else:
        out.print(f"{place.path} holds no search yet; begin one with: fgsearch launch spaces/finches.yaml")


@app.command(epilog="Example: fgsearch status finches --json")
def status(name: Name, home: HomeOption = None, as_json: JsonOption = False) -> None:
    """Show where a search stands, running or not."""
    from search.screen import status_view
    from search.status import summary

    place = Home.find(home)
    found = summary(place, name)
    out.print_json(data=found) if as_json else out.print(status_view(found, place.history(name)))


@app.command(epilog="Example: fgsearch stop finches")
def stop(name: Name, home: HomeOption = None) -> None:
    """Ask a running search to stop; everything reported is kept."""
    from search.status import stop as ask

    stopped = ask(Home.find(home), name)
    out.print(f"{name}: stopped; everything reported is kept" if stopped else f"{name}: is not running")


@app.command(epilog="Example: fgsearch browse --port 5001")
def browse(
    home: HomeOption = None,
    port: Annotated[int, typer.Option("--port", help="Port on this machine (loopback only).", min=1, max=65535)] = 5000,
    tracking_uri: UriOption = None,
) -> None:
    """Open the MLflow UI on the searches' store."""
    from search.browse import serve
    from search.tracking import default_uri

    place = Home.find(home)
    _store(place, tracking_uri)
    serve(tracking_uri or default_uri(place.path), place.path / "artifacts", port, out)


@app.command(epilog="Example: fgsearch export finches --out best.yaml")
def export(
    name: Name,
    to: Annotated[Path, typer.Option("--out", help="The file to write.")] = Path("best.yaml"),
    trial: Annotated[int | None, typer.Option("--trial", help="Another trial than the best.")] = None,
    home: HomeOption = None,
) -> None:
    """Write the best configuration, with everything needed to repeat it, to one file."""
    from search.export import export as write

    bundle = write(Home.find(home), name, to, trial)
    out.print(f"{to}: trial #{bundle.origin.trial} of {name}, {bundle.origin.said()}")
    out.print(f"  retrain  fgsearch retrain {to}")


@app.command(epilog="Example: fgsearch retrain best.yaml --seeds 3")
def retrain(
    bundle: Annotated[Path, typer.Argument(help="A file written by fgsearch export.")],
    seeds: Annotated[int, typer.Option("--seeds", help="How many runs, with seeds 0, 1, …", min=1, max=100)] = 3,
    root: Annotated[str | None, typer.Option("--root", help="Where the images lie now, if they moved.")] = None,
    home: HomeOption = None,
    tracking_uri: UriOption = None,
) -> None:
    """Train an exported configuration on train and validation, and open the test split once."""
    from search.retrain import retrain as run

    place = Home.find(home)
    run(bundle, range(seeds), root, place, _store(place, tracking_uri), out)


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
    tracking_uri: UriOption = None,
    as_json: JsonOption = False,
) -> None:
    """Reproduce a table or figure of the thesis: our numbers beside the published ones. Opens the test split."""
    from search.study_run import run_study

    lengths = {"search.epochs": epochs, "search.seeds": seeds}
    given = [f"{key}={value}" for key, value in lengths.items() if value is not None] + (sets or [])
    place = Home.find(home)
    store = partial(_store, place, tracking_uri)
    history = run_study(name, data, given, search_name, place, store, out, rows=rows or (), as_json=as_json)
    if history.finished and history.finished.how == "stopped":
        raise typer.Exit(130)


@app.command(epilog="Example: fgsearch convert checkpoint_60_0.798.pth --out official.safetensors")
def convert(
    checkpoint: Annotated[Path, typer.Argument(help="A checkpoint of the authors' released code.")],
    to: Annotated[Path, typer.Option("--out", help="The file to write.")] = Path("official.safetensors"),
    time_steps: Annotated[int, typer.Option("--time-steps", help="T, which theirs does not hold.", min=1, max=64)] = 10,
) -> None:
    """Turn a checkpoint of the authors' released code into a model file of ours (preset `official`)."""
    from fgmodel.official import convert as write

    with writing(to):
        model = write(checkpoint, to, time_steps)
    count = sum(parameter.numel() for parameter in model.parameters())
    out.print(f"{to}: {count:,} parameters, {model.global_stream.head.out_features} classes, T {time_steps}")


def _next_steps(name: str, home: Home, uri: str, launch_again: str, history: "History") -> list[str]:
    option = "" if home.path == Home.find(None).path else f" --home {home.path}"
    complete = history.finished is not None and history.finished.how == "complete"
    steps = [] if complete else [f"go on    {launch_again}{option}"]
    return [
        *steps,
        f"MLflow   {uri}",
        f"browse   fgsearch browse{option}",
        f"export   fgsearch export {name} --out best.yaml{option}",
        f"retrain  fgsearch retrain best.yaml{option}",
    ]


def _store(home: Home, uri: str | None) -> "Store":
    from search.mlflow_store import Store
    from search.tracking import default_uri

    with writing(home.path):
        home.path.mkdir(parents=True, exist_ok=True)
    with out.status("opening the MLflow store …"):
        store = Store(uri or default_uri(home.path), None if uri else home.path / "artifacts")
    if store.away:
        out.print(store.away, soft_wrap=True)
    return store


if __name__ == "__main__":
    main()
