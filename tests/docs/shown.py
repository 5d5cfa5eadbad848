"""The commands that the README and the pages show, and how they are read."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeAlias

from typer.main import get_command

from search.cli import app

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
_TYPED = re.compile(r"^(?:\$ )?(?=(?:\.venv/bin/)?fgsearch\b|[A-Z]+=)")
_PRINTED = re.compile(r"^ +\w+(?: \w+)?  +(?=fgsearch\b)")                   # a next step, as `  browse   fgsearch browse`
_INLINE = re.compile(r"`(fgsearch(?: [^`]*)?)`")


Kind: TypeAlias = Literal["typed", "printed", "in prose"]


class Shown(NamedTuple):
    """A command: where it stands, its words without `fgsearch`, and how it is shown."""

    where: str
    words: tuple[str, ...]
    kind: Kind

    def __str__(self) -> str:
        return f"{self.where}: fgsearch {shlex.join(self.words)}"


def shown() -> list[Shown]:
    """Return every command shown, in the order of reading."""
    return [each for page in PAGES for each in _of_page(page)]


def _of_page(page: Path) -> Iterator[Shown]:
    variables: dict[str, str] = {}
    inside, lines = False, iter(enumerate(page.read_text().splitlines(), 1))
    for number, line in lines:
        where = f"{page.relative_to(ROOT)}:{number}"
        if line.startswith("```"):
            inside = not inside
        elif not inside:
            yield from (Shown(where, tuple(words), "in prose") for text in _INLINE.findall(line) for words in _commands(text))
        elif begin := _TYPED.match(line) or _PRINTED.match(line):
            kind: Kind = "typed" if _TYPED.match(line) else "printed"
            text = line[begin.end() :]
            while text.endswith("\\") or text.count('"') % 2:   # goes on in the next line
                text = text.removesuffix("\\") + " " + next(lines)[1].strip()
            if assigned := re.match(r'([A-Z]+)="(.*)"$', text):
                variables[assigned[1]] = assigned[2]
            for name, value in variables.items():
                text = text.replace(f"${name}", value)
            yield from (Shown(where, tuple(words), kind) for words in _commands(text))


def _commands(text: str) -> Iterator[list[str]]:
    """Yield the words of each fgsearch in a line of shell, without what its output goes to."""
    lexer = shlex.shlex(text, posix=True, punctuation_chars=";&|<>")
    lexer.whitespace_split = True
    words: list[str] = []
    for word in [*lexer, ";"]:
        if set(word) <= set(";&|"):
            words = words[: next((i for i, w in enumerate(words) if set(w) <= set("<>")), None)]
            if words and words[0].removeprefix(".venv/bin/") == "fgsearch":
                yield words[1:]
            words = []
        else:
            words.append(word)


def parse(words: tuple[str, ...], *, whole: bool = True) -> Any:   # click's context
    """Return the context in which the command would run; raises click's UsageError where there is no such one.

    Without `whole` only the names of command and options are asked for, not that its arguments are there.
    """
    command, context, rest = get_command(app), None, list(words)
    while True:
        name = command.name if context is None else rest.pop(0)
        context = command.make_context(name, rest, parent=context, resilient_parsing=not whole or _acts(command, rest))
        rest = [*getattr(context, "_protected_args", ()), *context.args]
        if not hasattr(command, "resolve_command") or not rest:
            return context
        command = command.resolve_command(context, rest)[1]


def _acts(command: Any, words: list[str]) -> bool:
    """Say whether an option does its work while it is read, as --install-completion does."""
    return any(p.callback and set(words) & set(p.opts) for p in command.params)


def examples(command: Any | None = None, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], str | None]]:
    """Yield every command of the line with the example of its help."""
    command = command or get_command(app)
    for name, child in getattr(command, "commands", {}).items():
        if hasattr(child, "commands"):
            yield from examples(child, (*path, name))
        elif not child.hidden:
            found = re.match(r"Example: fgsearch (.*)", child.epilog or "")
            yield (*path, name), found[1] if found else None
