"""A Sphinx directive that writes a table of settings from the types that check them.

    ```{settings} fgmodel.config.DataConfig data
    ```

A row a field of the class, its name behind the prefix. Its meaning is the comment at the end of its line in the
source, so that there is one place to keep; a field without one fails the build.
"""

import inspect
import re
from importlib import import_module
from types import NoneType, UnionType
from typing import Any, Literal, NamedTuple, Union, get_args, get_origin

from annotated_types import Ge, Gt, Le, Lt
from docutils import nodes
from pydantic import BaseModel
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

_HEAD = ["| setting | holds | default | meaning |", "|---|---|---|---|"]
_KINDS = {int: "whole number", float: "number", str: "text", bool: "`true` or `false`"}
_SOURCES = {"TH's": "the thesis'", "TH": "thesis", "CO": "released code"}  # short in the source's comments
_YAML = {"None": "null", "True": "true", "False": "false"}


class Setting(NamedTuple):
    """A row of the table, in Markdown."""

    name: str
    holds: str
    default: str
    meaning: str


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the directive."""
    app.add_directive("settings", SettingsTable)
    return {"parallel_read_safe": True}


class SettingsTable(SphinxDirective):
    """The table of a class."""

    required_arguments = 1
    optional_arguments = 1

    def run(self) -> list[nodes.Node]:
        """Return the table, read as the page's own Markdown is."""
        module, _, name = self.arguments[0].rpartition(".")
        prefix = f"{self.arguments[1]}." if len(self.arguments) > 1 else ""
        cls = getattr(import_module(module), name)
        self.env.note_dependency(str(inspect.getsourcefile(cls)))
        rows = [f"| `{prefix}{row.name}` | {row.holds} | {row.default} | {row.meaning} |" for row in settings_of(cls)]
        return self.parse_text_to_nodes("\n".join([*_HEAD, *rows]))


def settings_of(cls: type[BaseModel]) -> list[Setting]:
    """Return a row for each field that is no section; raises LookupError for one whose line has no comment."""
    meanings = _meanings(cls)
    return [
        Setting(name, _holds(field.annotation, field.metadata), _default(field.default), meanings[name])
        for name, field in cls.model_fields.items() if not isinstance(field.default, BaseModel)
    ]


def _meanings(cls: type[BaseModel]) -> dict[str, str]:
    found: dict[str, str] = {}
    name = ""
    for line in inspect.getsource(cls).splitlines():
        if match := re.match(r"    (\w+): ", line):
            name = match[1]
        if name in cls.model_fields and (comment := line.partition("  # ")[2].strip()):
            for short, source in _SOURCES.items():
                comment = re.sub(rf"\b{short}(?!\w)", source, comment)
            found[name] = comment.replace("|", r"\|")
    return found


def _holds(kind: Any, limits: list[Any]) -> str:  # noqa: ANN401 a type, as typing has them
    parts = get_args(kind) if get_origin(kind) in (Union, UnionType) else (kind,)
    said = _kind(next(part for part in parts if part is not NoneType)) + _range(limits)
    return f"{said}; or `null`" if NoneType in parts else said


def _kind(kind: Any) -> str:  # noqa: ANN401 a type, as typing has them
    if get_origin(kind) is Literal:
        return ", ".join(f"`{choice}`" for choice in get_args(kind))
    if get_origin(kind) is tuple:
        return "list of whole numbers" if get_args(kind)[0] is int else "list"
    return _KINDS[kind]


def _range(limits: list[Any]) -> str:
    ends = [
        f"{word} {getattr(limit, key):,}"
        for kind, key, word in ((Ge, "ge", "from"), (Gt, "gt", "above"), (Le, "le", "to"), (Lt, "lt", "below"))
        for limit in limits if isinstance(limit, kind)
    ]
    return f", {' '.join(ends)}" if ends else ""


def _default(value: object) -> str:
    if isinstance(value, tuple):
        return f"`[{', '.join(map(str, value))}]`"
    return f"`{_YAML.get(str(value), value)}`" if value != "" else "empty"
