"""Where the commands write: words as they are, since brackets in a path or in the name of a class are no markup."""

import sys
from importlib.util import find_spec

from rich.console import Console


def open_console(*, stderr: bool = False, soft_wrap: bool = False) -> Console:
    """Return what a person or a script reads: as wide as the terminal, else 120 columns.

    In a notebook what changes is drawn over, where `ipywidgets` is there for it; else it is told in lines.
    """
    width = None if (sys.stderr if stderr else sys.stdout).isatty() else 120
    draws = None if find_spec("ipywidgets") else False
    return Console(
        stderr=stderr, markup=False, highlight=False, soft_wrap=soft_wrap, width=width, force_jupyter=draws,
    )


def aside() -> Console:
    """Return where progress is shown beside what a script reads: standard error, silent where it is no terminal."""
    return Console(stderr=True, markup=False, highlight=False, quiet=not sys.stderr.isatty())
