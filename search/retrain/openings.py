"""Writes down that the test split is opened, before it is: each look once, wherever the process is killed."""

from pathlib import Path

from pydantic import ValidationError
from rich.console import Console

from search.errors import writing
from search.record.history import load
from search.record.home import Home
from search.record.journal import Journal, OpenedTest

FILE = "test-opened.jsonl"


def record_opening(fact: OpenedTest, search: str, home: Home, folder: Path, console: Console) -> None:
    """Write it into the search's journal, or where the home has no such search beside the model in `folder`.

    A retrain that was killed after that does not write it again: it is the same look. Earlier ones are told.
    """
    if search in home.names():
        path = home.journal(search)
        held = list(load(path).tests)
        if fact not in held:
            with Journal(path) as journal:
                journal.append(fact)
    else:
        path = folder / FILE
        held = _opened_beside(path, fact)
    if before := [opened for opened in held if opened != fact]:
        often = "once" if len(before) == 1 else f"{len(before)} times, last"
        console.print(f"note: test was opened before: {often} on {before[-1].at:%Y-%m-%d %H:%M}")
    console.print(f"test opened (recorded in {path})", soft_wrap=True)


def _opened_beside(path: Path, fact: OpenedTest) -> list[OpenedTest]:
    """Append the opening to the model's own list, once; return what was there."""
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a+", errors="replace") as file:
            file.seek(0)
            text = file.read()
            held = [opened for line in text.splitlines() if (opened := _opening(line))]
            if fact not in held:
                file.write(("" if text[-1:] in ("", "\n") else "\n") + fact.model_dump_json() + "\n")
    return held


def _opening(line: str) -> OpenedTest | None:
    try:
        return OpenedTest.model_validate_json(line)
    except ValidationError:
        return None  # whoever wrote it was killed within it
