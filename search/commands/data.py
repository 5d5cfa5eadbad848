"""`fgsearch data`: what a folder of images holds, and how to get a published data set."""

from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.console import Console

from search.console import aside, open_console
from search.errors import InputError
from search.record.home import Home

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fgmodel.progress import Progress

data = typer.Typer(
    name="data",
    help="Look at a data set, or download a published one.",
    epilog="Example: fgsearch data check data/CUB_200_2011",
    no_args_is_help=True,
)


@data.command(epilog="Example: fgsearch data check data/CUB_200_2011 --json")
def check(
    root: Annotated[Path, typer.Argument(help="The folder of the data set.")],
    dataset: Annotated[
        Literal["auto", "cub", "dogs", "folders"], typer.Option("--dataset", help="Its layout; auto recognises it.")
    ] = "auto",
    home: Annotated[
        Path | None,
        typer.Option("--home", help="Folder of searches and caches.", show_default="./fgsearch-home"),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for a script.")] = False,
) -> None:
    """Tell what a folder holds, what it lacks and what is wrong with it; status 2 where a search could not use it."""
    from search.data.inventory import check_data
    from search.show.screen import Steps, preparing

    out = open_console()
    with preparing(aside()) as progress:
        steps = Steps(progress)
        found = check_data(root, None if dataset == "auto" else dataset, Home.find(home).cache, steps)
    out.print_json(data=found.document()) if as_json else out.print(found.view(), soft_wrap=True)
    if found.problem:
        raise InputError(found.problem)


@data.command(epilog="Example: fgsearch data fetch cub --to data")
def fetch(
    name: Annotated[Literal["cub", "dogs"], typer.Argument(help="Which: CUB-200-2011 or Stanford Dogs.")],
    to: Annotated[Path, typer.Option("--to", help="The folder to put its folder into.")] = Path("data"),
    url: Annotated[
        str | None, typer.Option("--url", help="A mirror's folder with the same archives.", show_default="its authors'")
    ] = None,
    sha256: Annotated[
        list[str] | None, typer.Option("--sha256", help="Accept this digest too, of a mirror that packs differently.")
    ] = None,
) -> None:
    """Download a published data set, check its digest and unpack it; the same command again goes on."""
    from search.data.fetch import SOURCES
    from search.data.fetch import fetch as run

    out, source = open_console(), SOURCES[name]
    there, here = url or source.url, to / source.folder
    out.print(f"{source.title}: {source.size / 1e9:.2f} GB from {there} to {here}", soft_wrap=True)
    with _bytes(out) as progress:
        root = run(source, to, url=url, accepted=[digest.lower() for digest in sha256 or ()], progress=progress)
    out.print(f"{root} is complete", soft_wrap=True)
    out.print(f"  check    fgsearch data check {root}", soft_wrap=True)
    out.print(f"  search   fgsearch launch {source.space} --set data.root={root}", soft_wrap=True)


@contextmanager
def _bytes(console: Console) -> "Iterator[Progress]":
    """Show bytes, rate and time left; where there is no terminal, a line now and then."""
    from rich.progress import BarColumn, DownloadColumn, TextColumn, TimeRemainingColumn, TransferSpeedColumn
    from rich.progress import Progress as Bars

    from search.show.screen import Steps

    columns = (
        TextColumn("{task.description}"), BarColumn(bar_width=28), DownloadColumn(), TransferSpeedColumn(),
        TextColumn("left"), TimeRemainingColumn(),
    )
    with Bars(*columns, console=console, refresh_per_second=4) as bars:
        yield Steps(bars, amount=lambda count: f"{count / 1e6:,.1f} MB")
