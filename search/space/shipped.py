"""The space files that come with fgsearch, found by name: finches, cub, … and the studies, table-5.1, ….

`search/shipped` is the repository's `spaces/`: in a checkout a link to it, in an installed package a copy of it.
"""

from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path

from search.errors import InputError

FOLDER = (Path(__file__).parents[1] / "shipped").resolve()  # so that in a checkout messages name the file one edits
STUDIES = FOLDER / "thesis"


def shipped() -> dict[str, Path]:
    """Return every shipped space file by its name, studies last."""
    return {**named(FOLDER), **named(STUDIES)}


def named(folder: Path) -> dict[str, Path]:
    """Return the space files in a folder by their names."""
    return {path.stem: path for path in sorted(folder.glob("*.yaml"), key=lambda path: path.stem)}


def find_space(given: str, known: Mapping[str, Path] | None = None, what: str = "space") -> Path:
    """Return the file that a user means: the file of that path, else the known (shipped) one of that name.

    Raises InputError naming the nearest. What is there and cannot be read is left to whoever reads it.
    """
    known = shipped() if known is None else known
    if given in known and not Path(given).is_file():  # data may lie in a folder called finches
        return known[given]
    if not _is_missing(Path(given)):
        return Path(given)
    is_path = "/" in given or given.endswith((".yaml", ".yml"))
    said = f"{given}: there is no such file" if is_path else f"'{given}' is no {what}"
    near = get_close_matches(Path(given).name.removesuffix(".yaml"), known, n=1)
    there = f"did you mean '{near[0]}'?" if near else f"by name there are {', '.join(known) or 'none'}"
    raise InputError(f"{said}; {there}")


def _is_missing(path: Path) -> bool:
    try:
        path.stat()
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return False
