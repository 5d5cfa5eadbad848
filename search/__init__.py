"""Searches the hyperparameters of a two-stream fine-grained image classifier; from Python: launch, open, Search."""

from typing import TYPE_CHECKING

from search.errors import InputError

if TYPE_CHECKING:
    from search.api import Best, Search, launch
    from search.api import open_search as open  # noqa: A004 search.open(...) is how it is called
    from search.space.objects import Range, space_of
    from search.space.space import Space

__all__ = ["Best", "InputError", "Range", "Search", "Space", "launch", "open", "space_of"]
_HOMES = {
    "Best": "search.api", "Search": "search.api", "launch": "search.api", "open": "search.api",
    "Range": "search.space.objects", "space_of": "search.space.objects", "Space": "search.space.space",
}


def __getattr__(name: str) -> object:
    """Import what is asked for: every module of the package passes here, and --help must stay fast."""
    from importlib import import_module  # noqa: PLC0415

    if name not in _HOMES:
        raise AttributeError(f"module 'search' has no attribute '{name}'")
    return getattr(import_module(_HOMES[name]), "open_search" if name == "open" else name)
