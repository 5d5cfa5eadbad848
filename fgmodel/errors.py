"""The mistakes a user can make with data and settings, each a single line."""

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

LONGEST = 1000   # characters of a line: more is a file quoted whole


class InputError(Exception):
    """Something the user gave is wrong: the message says where, what was given and what would be right.

    Each of `lines` is one line that any terminal shows, whatever it quotes of a file.
    """

    def __init__(self, *lines: str) -> None:
        super().__init__("\n".join(map(printable, lines)))


class NoRoomError(InputError):
    """A file cannot be written for want of space or permission: it is the disk's fault, not that of what is kept."""


class SettingError(InputError):
    """A setting is wrong; `name` is its dotted name, so that a caller can add the file and line it came from."""

    def __init__(self, name: str, message: str) -> None:
        self.name = name
        super().__init__(message)


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn an operating system's refusal (disk full, no permission) into one line that names `path`."""
    try:
        yield
    except OSError as error:
        raise InputError(f"{path}: cannot be written: {error.strerror or error}") from error


def require_packages(who: str, extra: str, *needed: str) -> None:
    """Raise InputError, naming our extra to install, where packages that `who` needs are missing."""
    if missing := [name for name in needed if find_spec(name) is None]:
        what = f"the package{'s' if len(missing) > 1 else ''} {', '.join(missing)}"
        raise InputError(f"{who} needs {what}: pip install 'fgsearch[{extra}]'")


def printable(text: str) -> str:
    """Return `text` as one line: cut in its middle where too long; line breaks, control codes and the like escaped."""
    if len(text) > LONGEST:
        text = f"{text[: LONGEST - 300]} … {text[-200:]}"
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)
