"""The errors a user can meet: each prints as plain lines and ends the program with status 2."""

from collections.abc import Sequence

from fgmodel.errors import InputError, SettingError, writing

__all__ = ["InputError", "JournalError", "Problems", "SettingError", "writing"]


class Problems(InputError):
    """Several mistakes at once, e.g. every wrong line of a space file."""

    def __init__(self, lines: Sequence[str], remark: str = "nothing was started") -> None:
        self.lines = tuple(lines)
        count = f"{len(lines)} problem{'s' if len(lines) > 1 else ''}; {remark}."
        super().__init__(*lines, count)


class JournalError(InputError):
    """The journal cannot be read, written or locked."""

