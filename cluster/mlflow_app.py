"""MLflow's server as we start it: its pages begin with what they are about.

In a browser that is new to it, on this machine or at the end of a tunnel, MLflow opens its assistant over a quarter of
the page, and what a search was about is pushed out of sight. No setting of the server's keeps that shut, a note in the
browser does: the page is sent with a line that leaves the note. `mlflow server --app-name` finds the two by
pyproject.toml's entry points. The assistant stays a click away.
"""

import os
from pathlib import Path

from fastapi import FastAPI
from mlflow.server import app as flask_app
from mlflow.server.fastapi_app import app

from fgmodel.lock import lock

SHUT = "<script>try { localStorage.setItem('mlflow.assistant.fab.autoOpenedOnFirstLoad_v1', 'true') } catch {}</script>"

__all__ = ["app", "with_login"]


def with_login() -> FastAPI:
    """Return the server that asks for a password, as `--app-name basic-auth` does."""
    from mlflow.server.auth import create_app  # noqa: PLC0415 it reads a configuration that only this server has

    with lock(Path(os.environ["MLFLOW_AUTH_CONFIG_PATH"])):  # else each worker makes the tables
        asking: FastAPI = create_app(flask_app)
    return asking


def _page() -> str:
    assert flask_app.static_folder is not None
    return Path(flask_app.static_folder, "index.html").read_text().replace("<head>", f"<head>{SHUT}", 1)


flask_app.view_functions["serve"] = _page
