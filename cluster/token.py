"""The token that opens a cluster. It travels by file only: no command line, log or record ever holds it."""

import os
from pathlib import Path

from cluster.private import secret, write_private

HOLDERS = ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH")


def token_path(home: Path) -> Path:
    """Return where a home keeps the token of the cluster it started."""
    return home / "cluster" / "token"


def write_token(home: Path) -> Path:
    """Return the file of the home's token, made now where there is none; its owner alone can read it."""
    path = token_path(home)
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    if not path.exists():
        write_private(path, secret())
    path.chmod(0o600)
    return path


def use_token(home: Path) -> None:
    """Let this process show the home's token, unless the user's environment names another. Before Ray is imported."""
    os.environ.update(token_environment(home))


def token_environment(home: Path) -> dict[str, str]:
    """Return what a process needs in its environment to show the token; nothing where the home has none."""
    path = token_path(home)
    if any(os.environ.get(name) for name in HOLDERS) or not path.exists():
        return {}
    return {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(path)}
