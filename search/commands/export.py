"""`fgsearch export` and `fgsearch retrain`: the best configuration, and what it comes to on the test split."""

from pathlib import Path
from typing import Annotated

import typer

from search.commands.options import (
    AddressOption,
    HomeOption,
    InlineOption,
    Name,
    ShipOption,
    UriOption,
    home_option,
    open_store,
    out,
)
from search.errors import InputError
from search.record.home import Home


def export(
    name: Name,
    to: Annotated[
        Path | None, typer.Option("--out", help="The file to write.", show_default="best.yaml")
    ] = None,
    bundle: Annotated[
        Path | None, typer.Option("--bundle", help="Write all that repeats it: best.zip, or a folder.")
    ] = None,
    optuna: Annotated[
        Path | None, typer.Option("--optuna", help="Write every trial to an Optuna storage: search.db.")
    ] = None,
    trial: Annotated[int | None, typer.Option("--trial", help="Another trial than the best.")] = None,
    root: Annotated[str | None, typer.Option("--root", help="Where the images lie now, if they moved.")] = None,
    home: HomeOption = None,
) -> None:
    """Write the best configuration with its origin, alone or with all that repeats it; or every trial, for Optuna."""
    place = Home.find(home)
    if bundle:
        _bundle(place, name, bundle, trial, root)
    if optuna:
        _optuna(place, name, optuna)
    if to or not (bundle or optuna):
        _file(place, name, to or Path("best.yaml"), trial)


def retrain(
    bundle: Annotated[Path, typer.Argument(help="What fgsearch export wrote: best.yaml, best.zip or a folder.")],
    seeds: Annotated[int, typer.Option("--seeds", help="How many runs, with seeds 0, 1, …", min=1, max=100)] = 3,
    root: Annotated[str | None, typer.Option("--root", help="Where the images lie now, if they moved.")] = None,
    threads: Annotated[
        int | None,
        typer.Option("--threads", help="CPU threads; another number changes last bits.", show_default="as exported",
                     min=1, max=4096),
    ] = None,
    home: HomeOption = None,
    address: AddressOption = None,
    ship: ShipOption = False,
    inline: InlineOption = False,
    tracking_uri: UriOption = None,
) -> None:
    """Train an exported configuration on train and validation, and open the test split once; killed, it goes on."""
    place = Home.find(home)
    if address and address != "local":
        _retrain_there(place, bundle, seeds, root, threads, address, tracking_uri, ship=ship)
        return
    if ship:
        raise InputError("--ship: is for a job, with --address http://HEAD:8265")
    from search.retrain.retrain import retrain as run

    run(bundle, seeds, root, place, open_store(place, tracking_uri), out, threads, inline=inline)


def _file(place: Home, name: str, to: Path, trial: int | None) -> None:
    from search.export.best import export as write

    made = write(place, name, to, trial)
    out.print(f"{to}: trial #{made.origin.trial} of {name}, {made.origin.said()}", soft_wrap=True)
    out.print(f"  retrain  fgsearch retrain {to}{home_option(place)}", soft_wrap=True)


def _bundle(place: Home, name: str, to: Path, trial: int | None, root: str | None) -> None:
    from search.export.full_bundle import export_bundle
    from search.show.screen import Steps, preparing

    with preparing(out) as progress:
        made = export_bundle(place, name, to, trial, root, Steps(progress))
    trial_said = f"trial #{made.origin.trial} of {name} with all that repeats it, {made.origin.said()}"
    out.print(f"{to}: {trial_said}", soft_wrap=True)
    out.print(f"  retrain  fgsearch retrain {to}    here or elsewhere; --root FOLDER: where the images lie there",
              soft_wrap=True)


def _optuna(place: Home, name: str, to: Path) -> None:
    from search.export.optuna_storage import export_optuna

    count = export_optuna(place, name, to)
    out.print(f"{to}: {count} trials of {name} as an Optuna study")
    out.print(f"  open     optuna-dashboard sqlite:///{to}    pip install 'fgsearch[dashboard]'", soft_wrap=True)


def _retrain_there(
    place: Home, bundle: Path, seeds: int, root: str | None, threads: int | None, address: str,
    tracking_uri: str | None, *, ship: bool,
) -> None:
    from cluster.token import use_token

    if "://" not in address:
        raise InputError(f"--address {address}: a retrain is a job on a cluster; write it as http://HEAD:8265")
    use_token(place.path)
    from search.retrain.remote import retrain_there
    from search.tracking.open_store import log_in

    if tracking_uri:
        log_in(place.path, tracking_uri)  # so that the login travels with the job
    retrain_there(bundle, seeds, root, threads, place, address, tracking_uri, out, ship=ship)
