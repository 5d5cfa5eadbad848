"""A YAML file as plain values, each with the line it stands on: no tags, no anchors, nothing executed."""

from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import Any

import yaml

from search.errors import InputError, Problems

LARGEST = 100_000  # bytes; a space file has a few thousand
MOST = 3000        # values and keys; the largest study has 600. PyYAML reads 50 kB a second where it has no libyaml
DEEPEST = 12
HUGE = 2**63       # whole numbers beyond this are no setting; Python does not even print those of 10,000 digits
LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # libyaml's is twenty times faster


@dataclass(frozen=True)
class Document:
    """The values of a file and where they stand."""

    path: str
    values: dict[str, Any]
    lines: dict[tuple[str, ...], int]  # by path of keys; list items by their index; 0 for what --set gave
    remark: str  # the comment that opens the file: the question it asks

    def where(self, *keys: str) -> str:
        """Return `file:line` of a key, or of the nearest one above it; of what is no file, its name."""
        if not self.lines:
            return self.path
        while keys and keys not in self.lines:
            keys = keys[:-1]
        line = self.lines.get(keys, 1)
        return f"{self.path}:{line}" if line else "--set"

    def named(self, *keys: str) -> str:
        """Return `file:line: 'a.b'`, with which a line about a value begins."""
        return f"{self.where(*keys)}: '{'.'.join(keys)}'"


def read_document(path: Path) -> Document:
    """Return the mapping in `path`; raises InputError with its line when the file is not plain YAML."""
    return document_of(str(path), _content(path))


def document_of(path: str, content: bytes) -> Document:
    """Return the mapping in `content`, which `path` names; raises InputError as `read_document` does."""
    text = _text(path, content)
    node = _composed(path, text)
    if not isinstance(node, yaml.MappingNode):
        raise InputError(f"{path}:1: holds no settings; a space file has 'fixed', 'tune' and 'search'")
    lines: dict[tuple[str, ...], int] = {}
    problems: list[str] = []
    values = _plain(path, node, (), lines, problems)
    if problems:
        raise Problems(problems)
    return Document(path, values, lines, _opening_comment(text))


def read_set(text: str) -> tuple[str, Any]:
    """Return the name and value of a `--set name=value`; raises InputError."""
    name, equals, given = text.partition("=")
    if not equals:
        raise InputError(f"--set {text}: write it as key=value")
    try:
        node = _composed("", given)
        return name, None if node is None else _plain("", node, (), {}, [])
    except InputError as error:
        raise InputError(f"--set {text}: the value {str(error).partition(': ')[2]}") from None


def _composed(path: str, text: str) -> yaml.Node | None:
    try:
        _refuse_machinery(path, text)
        return yaml.compose(text, Loader=LOADER)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise InputError(f"{path}:{line}: is not YAML: {error.problem}") from None
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise InputError(f"{path}:{line}: is not YAML: {str(error).splitlines()[0]}") from None


def _content(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(LARGEST + 1)
    except IsADirectoryError:
        raise InputError(f"{path}: is a folder; name a YAML file in it") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from None


def _text(path: str, raw: bytes) -> str:
    if len(raw) > LARGEST:
        raise InputError(f"{path}: is larger than {LARGEST // 1000} kB; a settings file has a few thousand bytes")
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise InputError(f"{path}:{line}: is not text (UTF-8)") from None


def _opening_comment(text: str) -> str:
    comments = takewhile(lambda line: line.startswith("#"), text.splitlines())
    return "\n".join(line.lstrip("# ").rstrip() for line in comments).strip()


def _refuse_machinery(path: str, text: str) -> None:
    depth = 0
    for count, event in enumerate(yaml.parse(text, Loader=LOADER)):
        line = event.start_mark.line + 1 if event.start_mark else 1
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
            raise InputError(f"{path}:{line}: has a YAML anchor or alias; write the value out")
        if tag := getattr(event, "tag", None):
            raise InputError(f"{path}:{line}: has the YAML tag {tag!r}; write the plain value")
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > DEEPEST:
            raise InputError(f"{path}:{line}: is nested more than {DEEPEST} levels deep")
        if count > MOST:
            raise InputError(f"{path}:{line}: holds more than {MOST} values")


def _plain(
    path: str, node: yaml.Node, keys: tuple[str, ...], lines: dict[tuple[str, ...], int], problems: list[str]
) -> Any:  # noqa: ANN401 YAML
    lines.setdefault(keys, node.start_mark.line + 1)
    if isinstance(node, yaml.SequenceNode):
        return [_plain(path, item, (*keys, str(i)), lines, problems) for i, item in enumerate(node.value)]
    if not isinstance(node, yaml.MappingNode):
        return _scalar(path, node)
    values: dict[str, Any] = {}
    for key_node, value_node in node.value:
        line = key_node.start_mark.line + 1
        if not isinstance(key_node, yaml.ScalarNode):
            raise InputError(f"{path}:{line}: has a list or a mapping for a key; write a name")
        key = str(key_node.value)
        if key in values:
            problems.append(f"{path}:{line}: '{key}' is given twice")
        lines[(*keys, key)] = line
        values[key] = _plain(path, value_node, (*keys, key), lines, problems)
    return values


def _scalar(path: str, node: yaml.Node) -> Any:  # noqa: ANN401 YAML
    line = node.start_mark.line + 1
    try:
        value = yaml.SafeLoader("").construct_object(node)
    except (yaml.YAMLError, ValueError, OverflowError):  # `<<`; 2026-13-45; 1:30:00… of 200 parts; 10,000 digits
        said = f"has {node.value!r}, which is no value; put it in quotes if it is text"
        raise InputError(f"{path}:{line}: {said}") from None
    if isinstance(value, int) and abs(value) >= HUGE:
        raise InputError(f"{path}:{line}: has a number too large for any setting: {node.value}")
    return value
