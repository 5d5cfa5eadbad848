"""A YAML file as plain values, each with the line it stands on: no tags, no anchors, nothing executed."""

from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import Any

import yaml

from search.errors import InputError, Problems

LARGEST = 1_000_000  # bytes; a space file has a few thousand
DEEPEST = 12


@dataclass(frozen=True)
class Document:
    """The values of a file and where they stand."""

    path: str
    values: dict[str, Any]
    lines: dict[tuple[str, ...], int]  # by path of keys; list items by their index; 0 for what --set gave
    remark: str  # the comment that opens the file: the question it asks

    def where(self, *keys: str) -> str:
        """Return `file:line` of a key, or of the nearest one above it."""
        while keys and keys not in self.lines:
            keys = keys[:-1]
        line = self.lines.get(keys, 1)
        return f"{self.path}:{line}" if line else "--set"


def read_document(path: Path) -> Document:
    """Return the mapping in `path`; raises InputError with its line when the file is not plain YAML."""
    text = _text(path)
    lines: dict[tuple[str, ...], int] = {}
    try:
        _refuse_machinery(str(path), text)
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        if not isinstance(node, yaml.MappingNode):
            raise InputError(f"{path}:1: holds no settings; a space file has 'fixed', 'tune' and 'search'")
        problems: list[str] = []
        values = _plain(str(path), node, (), lines, problems)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise InputError(f"{path}:{line}: is not YAML: {error.problem}") from None
    except (yaml.YAMLError, ValueError) as error:
        raise InputError(f"{path}:1: is not YAML: {str(error).splitlines()[0]}") from None
    if problems:
        raise Problems(problems)
    return Document(str(path), values, lines, _opening_comment(text))


def read_set(text: str) -> tuple[str, Any]:
    """Return the name and value of a `--set name=value`; raises InputError."""
    name, equals, given = text.partition("=")
    if not equals:
        raise InputError(f"--set {text}: write it as key=value")
    try:
        return name, yaml.safe_load(given)
    except yaml.YAMLError:
        raise InputError(f"--set {text}: the value is not YAML") from None


def _text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            raw = file.read(LARGEST + 1)
    except IsADirectoryError:
        raise InputError(f"{path}: is a folder; name a YAML file in it") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from None
    if len(raw) > LARGEST:
        raise InputError(f"{path}: is larger than {LARGEST // 1_000_000} MB; a settings file has a few thousand bytes")
    try:
        return raw.decode()
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        raise InputError(f"{path}:{line}: is not text (UTF-8)") from None


def _opening_comment(text: str) -> str:
    comments = takewhile(lambda line: line.startswith("#"), text.splitlines())
    return "\n".join(line.lstrip("# ").rstrip() for line in comments).strip()


def _refuse_machinery(path: str, text: str) -> None:
    depth = 0
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        line = event.start_mark.line + 1 if event.start_mark else 1
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
            raise InputError(f"{path}:{line}: has a YAML anchor or alias; write the value out")
        if tag := getattr(event, "tag", None):
            raise InputError(f"{path}:{line}: has the YAML tag {tag!r}; write the plain value")
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > DEEPEST:
            raise InputError(f"{path}:{line}: is nested more than {DEEPEST} levels deep")


def _plain(
    path: str, node: yaml.Node, keys: tuple[str, ...], lines: dict[tuple[str, ...], int], problems: list[str]
) -> Any:  # noqa: ANN401 YAML
    lines.setdefault(keys, node.start_mark.line + 1)
    if isinstance(node, yaml.SequenceNode):
        return [_plain(path, item, (*keys, str(i)), lines, problems) for i, item in enumerate(node.value)]
    if not isinstance(node, yaml.MappingNode):
        return yaml.SafeLoader("").construct_object(node)
    values: dict[str, Any] = {}
    for key_node, value_node in node.value:
        key, line = str(key_node.value), key_node.start_mark.line + 1
        if key in values:
            problems.append(f"{path}:{line}: '{key}' is given twice")
        lines[(*keys, key)] = line
        values[key] = _plain(path, value_node, (*keys, key), lines, problems)
    return values
