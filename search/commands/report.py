"""`fgsearch report`: a search on one page."""

import time
from pathlib import Path
from typing import Annotated

import typer

from search.commands.options import HomeOption, Name, UriOption, open_store, out
from search.console import aside
from search.record.home import Home


def report(
    name: Name,
    to: Annotated[
        Path | None, typer.Option("--out", help="The file to write.", show_default="report.html in the search's folder")
    ] = None,
    watch: Annotated[
        bool, typer.Option("--watch", help="Rewrite it as long as the search runs; wait for its launch.")
    ] = False,
    every: Annotated[int, typer.Option("--every", help="Seconds between looks, with --watch.", min=2, max=3600)] = 10,
    images: Annotated[
        bool, typer.Option("--images/--no-images", help="Heatmaps and confusions, from the best trial's checkpoint.")
    ] = True,
    log: Annotated[bool, typer.Option("--log/--no-log", help="Keep it with the search's run in MLflow.")] = True,
    home: HomeOption = None,
    tracking_uri: UriOption = None,
) -> None:
    """Write a search's report: one page that works offline, with everything in it. Opens no test split."""
    from search.report.write import watch as follow
    from search.report.write import write_report
    from search.show.screen import Steps, preparing

    place, begun = Home.find(home), time.monotonic()
    if watch:
        follow(place, name, to, every, lambda line: out.print(line, soft_wrap=True))
    with preparing(aside()) as progress:
        path = write_report(place, name, to, images=images, progress=Steps(progress))
    out.print(f"{path}: {path.stat().st_size / 1e6:.1f} MB, {time.monotonic() - begun:.1f} s", soft_wrap=True)
    if log:
        _log(place, name, path, tracking_uri)


def _log(place: Home, name: str, path: Path, tracking_uri: str | None) -> None:
    from search.report.write import attach_report
    from search.tracking.entry import StoreError

    store = open_store(place, tracking_uri)
    try:
        where = attach_report(place, name, path, store)
    except StoreError as error:
        out.print(f"{error}; the report itself is written", soft_wrap=True)
    else:
        out.print(f"  kept with its run in MLflow: {where}", soft_wrap=True)
