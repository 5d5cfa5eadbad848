"""The tree of the sources with a phrase a module, as docs/tree.md has it: `python -m tests.docs.tree` writes it anew.

Rooms stand in the order of the import contracts, from the ground up, so that what is read needs only what was read before.
"""

import ast
import tomllib
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "tree.md"
HEAD = """\
# The tree

Every module in a phrase, from the ground up: each needs only what stands above it. Made from the modules' first sentences by
`make tree`; a test keeps it so.
"""


def page() -> str:
    """Return the page."""
    return HEAD + "".join(f"\n## {package}/\n\n{''.join(_room(ROOT / package, rank(package)))}" for package in ("fgmodel", "cluster", "search"))


def rank(package: str) -> dict[str, int]:
    """Return the floor of every name directly in a package, the lowest 0, by its import contract."""
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    layers = next((c["layers"] for c in contracts if c.get("containers") == [package]), [])
    return {name.strip(): floor for floor, layer in enumerate(reversed(layers)) for name in layer.replace("|", ":").split(":")}


def _room(folder: Path, floors: dict[str, int], depth: int = 0) -> Iterator[str]:
    names = {path.stem if path.suffix else path.name: path for path in folder.iterdir()
             if (path.suffix == ".py" and path.name != "__init__.py") or (path / "__init__.py").exists()}
    for name in sorted(names, key=lambda name: (floors.get(name, 0), name)):
        path = names[name]
        file = path / "__init__.py" if path.is_dir() else path
        yield f"{'  ' * depth}- `{path.name}{'/' if path.is_dir() else ''}` {_phrase(file)}\n"
        if path.is_dir():
            yield from _room(path, {}, depth + 1)


def _phrase(file: Path) -> str:
    said = ast.get_docstring(ast.parse(file.read_text())) or ""
    first = " ".join(said.split("\n\n")[0].split())
    return first.rstrip(".").replace("<", "&lt;")


if __name__ == "__main__":
    PAGE.write_text(page())
