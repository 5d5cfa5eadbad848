"""The folder that holds everything of the searches: journals, checkpoints, caches and the MLflow store."""

import os
import re
import socket
import subprocess
from dataclasses import dataclass
from difflib import get_close_matches
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from search.errors import InputError
from search.record.history import History
from search.record.journal import Fact, read

MODEL = "model.safetensors"  # fgmodel.use.saved.FILE, which takes torch's seconds to import: TAB would wait for it
SEARCH_NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"


@dataclass(frozen=True)
class Home:
    """`--home`, else FGSEARCH_HOME, else ./fgsearch-home."""

    path: Path
    shelf: str = "searches"  # the folder of the searches that are meant; a retrain's lies under `unfinished`

    @classmethod
    def find(cls, given: Path | None) -> "Home":
        """Return the home the user means."""
        return cls((given or Path(os.environ.get("FGSEARCH_HOME") or "fgsearch-home")).absolute())

    @property
    def cache(self) -> Path:
        """Decoded images, patches and features, shared by all searches: FGSEARCH_CACHE, else in the home."""
        return _given_cache() or self.path / "cache"

    def search(self, name: str) -> Path:
        """Return the folder of a search."""
        if not re.fullmatch(SEARCH_NAME, name):
            raise InputError(f"--name {name!r}: a search's name has letters, digits, '.', '_' and '-', 64 at most")
        return self.path / self.shelf / name

    def journal(self, name: str) -> Path:
        """Return a search's journal."""
        return self.search(name) / "journal.jsonl"

    def checkpoints(self, name: str) -> Path:
        """Return the folder of a search's checkpoints."""
        return self.search(name) / "checkpoints"

    def stop_flag(self, name: str) -> Path:
        """Return the file whose presence asks a running search to stop."""
        return self.search(name) / "stop"

    def names(self) -> list[str]:
        """Return every search that has begun."""
        journals = (self.path / self.shelf).glob("*/journal.jsonl")
        return sorted(journal.parent.name for journal in journals if _begun(journal))

    def models(self) -> list[str]:
        """Return every model that was retrained here, to its end."""
        return sorted(file.parent.name for file in (self.path / "models").glob(f"*/{MODEL}"))

    def history(self, name: str) -> History:
        """Return what a search's journal says; raises InputError naming the nearest search when there is none."""
        return History.of(self.facts(name))

    def facts(self, name: str) -> list[Fact]:
        """Return every line of a search's journal; raises InputError as `history` does."""
        names = self.names()
        if name not in names:
            near = get_close_matches(name, names, n=1, cutoff=0.4)
            there = f"; did you mean '{near[0]}'?" if near else f"; there {_are(names)}"
            raise InputError(f"{self.path}: holds no search '{name}'{there}")
        return read(self.journal(name))


def _begun(journal: Path) -> bool:
    """Whether the first line is there: whoever was killed within it had begun nothing."""
    with journal.open("rb") as file:
        return file.readline().endswith(b"\n")


def cache_here(drivers: Path, machine: str) -> Path:
    """Return the cache of the node this runs on, for a driver on `machine` with the cache `drivers`.

    FGSEARCH_CACHE where the node has it, so that caches are local; the driver's on its own machine; else the user's.
    """
    if given := _given_cache():
        return given
    if socket.gethostname() == machine:
        return drivers
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "fgsearch"


def _given_cache() -> Path | None:
    given = os.environ.get("FGSEARCH_CACHE")
    return Path(given).absolute() if given else None


def _are(names: list[str]) -> str:
    return f"are {', '.join(names)}" if names else "is none yet: fgsearch launch finches"


def code_version() -> tuple[str, str | None, bool]:
    """Return the package's version, and the commit and whether it was changed, where this is a git checkout."""
    here = Path(__file__).parent

    def git(*words: str) -> str | None:
        try:
            done = subprocess.run(["git", "-C", str(here), *words], capture_output=True, text=True, check=False)  # noqa: S603, S607 git of the user's path
        except FileNotFoundError:
            return None
        return done.stdout.strip() if done.returncode == 0 else None

    commit = git("rev-parse", "--short", "HEAD") if git("ls-files", "search/record/home.py", "home.py") else None
    try:
        number = version("fgsearch")
    except PackageNotFoundError:  # the code travelled with a job, and is not installed
        number = "travelling"
    return number, commit, bool(commit and git("status", "--porcelain"))
