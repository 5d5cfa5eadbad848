"""`fgsearch new`: from a folder of one's own images to a space file and the next command."""

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fgmodel.atomic import whole
from search.commands.options import HomeOption, home_option, out
from search.console import aside
from search.errors import InputError, writing
from search.record.home import Home

if TYPE_CHECKING:
    from search.data.new_space import Facts
    from search.run.check import Report


def new(
    folder: Annotated[Path, typer.Argument(help="A folder with one folder of images a class.")],
    to: Annotated[
        Path | None, typer.Option("--out", help="The space file to write.", show_default="the folder's name, here")
    ] = None,
    hours: Annotated[float, typer.Option("--hours", help="How long the search may take.", min=0.01)] = 1.0,
    home: HomeOption = None,
) -> None:
    """Look at a folder of your own images and write a commented space file that suits them and this machine."""
    from search.data.inventory import check_data
    from search.data.new_space import facts
    from search.show.screen import Steps, preparing

    place, to = Home.find(home), to or Path(f"{_name(folder)}.yaml")
    if to.exists():
        raise InputError(f"{to}: is there already; name another file with --out, or delete it")
    with preparing(aside()) as progress:
        found = check_data(folder, None, place.cache, Steps(progress))
    given = facts(found, _gpus())
    out.print(found.view(), soft_wrap=True)
    with out.status("timing a few images …"):
        report = _write(to, given, place, 3600 * hours)
    _say(to, report, place, hours)


def _write(to: Path, given: "Facts", place: Home, limit: float) -> "Report":
    """Write the space file with as many trials as fit, and return what they will take."""
    from search.data.new_space import MOST_TRIALS, fitting_trials, space_text
    from search.decide.forecast import expected_epochs
    from search.run.check import check
    from search.space.file import read_space

    text = space_text(to.stem, given)
    with writing(to), whole(to) as file:
        file.write(text.encode())
    try:
        report = check(read_space(to), place.cache)
    except InputError:
        to.unlink()
        raise

    def seconds(trials: int) -> float:
        search = report.space.search
        epochs = expected_epochs(search.model_copy(update={"trials": trials}))
        return report.preparation_seconds + report.epoch_seconds * epochs / search.workers

    trials = fitting_trials(seconds, limit)
    if trials != MOST_TRIALS:
        with writing(to), whole(to) as file:
            file.write(space_text(to.stem, given, trials).encode())
    return report.of(read_space(to))


def _say(to: Path, report: "Report", place: Home, hours: float) -> None:
    from search.decide.forecast import spoken

    search = report.space.search
    for step in report.to_prepare:
        out.print(f"  prepare     {step.what}: about {spoken(step.seconds)}, once")
    out.print(f"  search      {search.trials} trials, up to {search.epochs} epochs, {search.workers} at a time")
    out.print(f"  forecast    about {spoken(report.seconds)} in all")
    if report.seconds > 3600 * hours:
        out.print(f"  note        that is more than --hours {hours:g}; fewer trials would find little", soft_wrap=True)
    out.print(f"{to}: written; each line says why it is so. Next:")
    out.print(f"  fgsearch launch {to}{home_option(place)}", soft_wrap=True)


def _name(folder: Path) -> str:
    """Return a search's name from a folder's."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", folder.resolve().name).strip("-.") or "mine"


def _gpus() -> int:
    import torch

    return torch.cuda.device_count()
