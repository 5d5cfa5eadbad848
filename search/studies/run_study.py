"""Runs a study as the search it is, then shows, keeps and logs its table."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from matplotlib.figure import Figure
from rich.console import Console

from fgmodel import atomic
from search.console import open_console
from search.errors import writing
from search.record.history import History
from search.record.home import Home
from search.run.executor import executor
from search.run.launch import launch
from search.show.screen import Steps, preparing
from search.space.file import read_space
from search.space.space import Space
from search.studies.study import Row, Study, as_csv, document, find_study, on_data, only, read_study, table, view
from search.tracking.entry import StoreError
from search.tracking.rows import search_id
from search.tracking.store import Store


def run_study(
    name: str, data: str | None, settings: Sequence[str], search_name: str | None, home: Home,
    open_store: Callable[[], Store], console: Console, *, rows: Sequence[str] = (), inline: bool = False,
    as_json: bool,
) -> History:
    """Train the study's rows, or only those named in `rows`, with every seed, or what is left to do; show the table.

    It is kept as `table.csv` in the search's folder and with its MLflow run; of a study that was stopped the table
    holds what there is, and nothing is drawn yet. Raises InputError: for an unknown study or a wrong setting.
    """
    path = find_study(name)
    study = read_study(path)
    space = read_space(path, [*(on_data(data) if data else ()), *settings])
    if rows:
        study, space = only(rows, study, space)
    _require_drawable(study, space)
    search_name = search_name or space.name
    stores: list[Store] = []

    def opened() -> Store:
        stores.append(open_store())
        return stores[0]

    shown = open_console(stderr=True) if as_json else console
    history = launch(space, search_name, home, opened, shown, executor(space, None, inline=inline))
    found = table(study, space, history, home.search(search_name) / "predictions")
    if as_json:
        console.print_json(data=document(study, found))
    else:
        console.print(view(study, found))
    kept, text = home.search(search_name) / "table.csv", as_csv(found)
    with writing(kept):
        atomic.write(kept, text.encode())
    if history.finished is None or history.finished.how != "complete":
        shown.print("stopped; everything reported is kept, and the same command goes on")
        return history
    figures = dict(_figures(study, found, space, history, search_name, home, shown))
    if figures:
        _keep(figures, home.search(search_name) / "figures", shown)
    _log({kept.name: text, **figures}, history, stores[0], kept, shown)
    return history


def _require_drawable(study: Study, space: Space) -> None:
    """Say before anything is trained that what it would draw cannot be drawn."""
    if study.maps:
        from search.studies.maps import require_drawable  # noqa: PLC0415 torch and scipy, for studies with maps only

        for row in study.maps:
            require_drawable(space.config(space.rows[row]))


def _figures(
    study: Study, rows: Sequence[Row], space: Space, history: History, name: str, home: Home, console: Console,
) -> Iterator[tuple[str, Figure | str]]:
    from search.studies.curves import curves_figure  # noqa: PLC0415 matplotlib, once there is something to draw

    if curves := curves_figure(study, rows):
        yield "curves.png", curves
    if study.maps:
        from search.studies.maps import drawn  # noqa: PLC0415 torch and scipy, for studies with maps only

        with preparing(console) as progress:
            steps = Steps(progress)
            for row in study.maps:
                yield from drawn(space, history, row, name, home, steps)


def _keep(made: dict[str, Figure | str], folder: Path, console: Console) -> None:
    with writing(folder):
        for name, what in made.items():
            atomic.write(folder / name, what.encode() if isinstance(what, str) else what.savefig)
    for name, what in made.items():
        if isinstance(what, str) and name.endswith(".txt"):
            console.print(what.splitlines()[0], soft_wrap=True)
    console.print(f"  figures  {folder}", soft_wrap=True)


def _log(made: dict[str, Figure | str], history: History, store: Store, kept: Path, console: Console) -> None:
    assert history.opened
    try:
        if run := store.runs(search_id(history.opened)).get(None):
            for name, what in made.items():
                store.attach(run, name, what)
    except StoreError as error:
        console.print(f"MLflow does not take the results ({error}); they are in {kept.parent}", soft_wrap=True)
