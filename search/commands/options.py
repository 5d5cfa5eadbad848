"""What the commands share: their options, the screen, and what they say at their end."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from search.console import open_console
from search.record.home import Home
from search.space.shipped import shipped

if TYPE_CHECKING:
    from search.record.history import History
    from search.tracking.store import Store

out = open_console()


def search_names(context: typer.Context, incomplete: str) -> list[str]:
    """Return what TAB offers where a search is named."""
    return [name for name in Home.find(context.params.get("home")).names() if name.startswith(incomplete)]


def space_names(incomplete: str) -> list[str]:
    """Return what TAB offers where a space is named: shipped names and files beside them.

    Where no name begins so it is nothing, and the shell offers its files and folders.
    """
    names = [name for name in shipped() if name.startswith(incomplete)]
    files = [path.name for path in sorted(Path().glob("*.yaml")) if path.name.startswith(incomplete)]
    return names + files if names else []


SpaceFile = Annotated[
    str, typer.Argument(help="A space file, or a shipped one's name, e.g. finches.", autocompletion=space_names)
]
Name = Annotated[str, typer.Argument(help="The search's name.", autocompletion=search_names)]
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
AddressOption = Annotated[
    str | None,
    typer.Option(
        "--address", help="A Ray cluster: http://HEAD:8265 submits a job; auto or HOST:PORT drives it from here.",
        show_default="this machine",
    ),
]
FollowOption = Annotated[bool, typer.Option("--follow", help="Of a job on a cluster: show its live table.")]
InlineOption = Annotated[
    bool, typer.Option("--inline", help="One trial after another in this process, without Ray: for a debugger.")
]
ShipOption = Annotated[bool, typer.Option("--ship", help="Send this code with the job: the nodes need not have it.")]


def next_steps(name: str, home: Home, uri: str, go_on: str, history: "History") -> list[str]:
    """Return the commands that make sense after a launch; `go_on` is the one that takes up what is left."""
    option = home_option(home)
    complete = history.finished is not None and history.finished.how == "complete"
    return [
        *([] if complete else [f"go on    {go_on}{option}"]),
        f"MLflow   {uri}",
        f"browse   fgsearch browse {name}{option}",
        f"export   fgsearch export {name} --out best.yaml{option}",
        f"retrain  fgsearch retrain best.yaml{option}",
    ]


def home_option(home: Home) -> str:
    """Return what names the home in a command; nothing where it is the default."""
    return "" if home.path == Home.find(None).path else f" --home {home.path}"


def open_store(home: Home, uri: str | None) -> "Store":
    """Return the MLflow store at `uri`, or the home's own."""
    from search.tracking.open_store import open_store as opened

    return opened(home, uri, out)
