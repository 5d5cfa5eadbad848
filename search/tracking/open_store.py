"""Opens the MLflow store that is meant: a home's own, or a server, entered with the login that is known for it."""

import os
from pathlib import Path

from rich.console import Console

from search.errors import writing
from search.record.home import Home
from search.tracking.address import default_uri
from search.tracking.store import EXPERIMENT, Store


def open_store(home: Home, uri: str | None, console: Console) -> Store:
    """Return the MLflow store at `uri`, or the home's own; says so where a server does not answer now."""
    with writing(home.path):
        home.path.mkdir(parents=True, exist_ok=True)
    if uri:
        log_in(home.path, uri)
    with console.status("opening the MLflow store …"):
        store = Store(uri or default_uri(home.path), None if uri else home.path / "artifacts")
    if store.away:
        console.print(store.away, soft_wrap=True)
    return store


def log_in(home: Path, uri: str) -> None:
    """Have MLflow enter the server of a home's services, when `uri` is it and no other login is given."""
    from cluster.mlflow_service import Services  # noqa: PLC0415 for who has a server only; PostgreSQL's is no Windows module

    if not {"MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_TOKEN"} & os.environ.keys():
        os.environ.update(Services(home, EXPERIMENT).login(uri))
