"""Where MLflow is: a server's address or a database's, and the login that is in it."""

import os
from pathlib import Path
from urllib.parse import unquote, urlsplit

import sqlalchemy

from cluster.private import without_password
from search.errors import InputError

SERVERS = ("http", "https")
DATABASES = ("sqlite", "postgresql", "mysql", "mssql")


def default_uri(home: Path) -> str:
    """Return the address of the MLflow database in a home."""
    return f"sqlite:///{home.resolve() / 'mlflow.db'}"


def require_address(uri: str) -> str:
    """Return the scheme of a tracking address; raises InputError where it is none."""
    scheme = urlsplit(uri).scheme.partition("+")[0]
    if scheme not in (*SERVERS, *DATABASES) or uri.rstrip("/") in {f"{scheme}:", f"{scheme}"}:
        known = "http://host:5000, sqlite:///path/mlflow.db or postgresql://user@host/name"
        raise InputError(f"MLflow at {without_password(uri)!r}: is no tracking address; write it as {known}")
    return scheme


def enter(uri: str) -> tuple[str, str | None]:
    """Return a server's address without its login, which MLflow then takes from the environment, and the password.

    In the address it would be in each message of MLflow's about it.
    """
    parts = urlsplit(uri)
    if parts.username is not None:
        os.environ["MLFLOW_TRACKING_USERNAME"] = unquote(parts.username)
        os.environ["MLFLOW_TRACKING_PASSWORD"] = unquote(parts.password or "")
    return without_password(uri), os.environ.get("MLFLOW_TRACKING_PASSWORD")


def password(database: str) -> str | None:
    """Return the password in a database's address, if it has one."""
    try:
        return sqlalchemy.make_url(database).password
    except sqlalchemy.exc.ArgumentError:
        return None  # said in better words when it is opened
