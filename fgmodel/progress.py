"""How slow work tells a reader how far it is."""

from collections.abc import Callable
from typing import TypeAlias

Progress: TypeAlias = Callable[[str, int, int], None]
"""Called with what is being done, how much of it is done, and how much there is; at least once a second."""


def silent(_what: str, _done: int, _total: int) -> None:
    """Do nothing: nobody is watching."""
