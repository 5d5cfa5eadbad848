"""Files for their owner's eyes, and the token without which a Ray cluster answers nobody."""

import os
import re
import secrets
import stat
import tempfile
from pathlib import Path

from fgmodel import atomic
from fgmodel.errors import InputError


def secret() -> str:
    """Return a new password: 256 bits, of letters that need no quoting in a shell, a URL or an ini file."""
    return secrets.token_hex(32)


def write_private(path: Path, text: str) -> None:
    """Write a file nobody else can read at any moment, whole or not at all."""
    atomic.write(path, text.encode(), private=True)


def read_private(path: Path) -> str:
    """Return a private file's text; raises InputError when others could have read it."""
    if path.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise InputError(f"{path}: others can read this password; chmod 600 it, and change the password if they did")
    return path.read_text()


def ensure_ray_token() -> Path:
    """Return the file of the token that Ray asks of everyone, made where it is missing; nobody else can read it.

    Ray (2.60) would make it readable by all. `ray.init` on a machine then asks for it unless RAY_AUTH_MODE says
    otherwise; `ray start` does where RAY_AUTH_MODE=token or the file is there. A token in RAY_AUTH_TOKEN needs no file.
    """
    path = Path(os.environ.get("RAY_AUTH_TOKEN_PATH") or Path.home() / ".ray" / "auth_token")
    if "RAY_AUTH_TOKEN" in os.environ:
        return path
    if not path.exists():
        write_private(path, secret())
    elif path.stat().st_uid == os.getuid():
        path.chmod(0o600)
    return path


def folder_of_sockets() -> str:
    """Return the temporary folder, or /tmp where its name leaves no room: a socket's path may have 107 letters only.

    Ray adds up to 90 of its own: a folder, a session named by time and process, in it `sockets/plasma_store`.
    """
    return given if len(given := tempfile.gettempdir()) <= 107 - 90 else "/tmp"  # noqa: S108


def without_password(uri: str) -> str:
    """Return an address as it may be shown: without user, password and what a query says of them."""
    start, slashes, rest = uri.partition("//") if "//" in uri else ("", "", uri)
    place, slash, path = rest.partition("/")
    shown = f"{start}{slashes}{place.rpartition('@')[2]}{slash}{path}"
    return re.sub(r"(?i)([?&][^=&]*(?:password|token|secret)[^=&]*)=[^&]*", r"\1=***", shown)
