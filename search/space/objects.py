"""A space from Python objects, checked as a file is, and back to a file."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import yaml

from search.space.file import assemble, override, try_out
from search.space.space import Space
from search.space.yaml_lines import Document


@dataclass(frozen=True)
class Range:
    """A range that is tuned, both ends included; `when` holds conditions, as {"loss.lambda_rank": "> 0"}."""

    low: float
    high: float
    log: bool = False
    step: float | None = None
    when: Mapping[str, Any] = field(default_factory=dict)

    def document(self) -> dict[str, Any]:
        """Return the range as a space file gives it."""
        rest = {"log": self.log, "step": self.step, "when": dict(self.when)}
        return {"low": self.low, "high": self.high, **{key: value for key, value in rest.items() if value}}


def space_of(
    *, fixed: Mapping[str, Any], tune: Mapping[str, "Range | tuple[float, float] | Sequence[Any] | Mapping[str, Any]"],
    name: str = "space", question: str = "", **search: Any,  # noqa: ANN401 as in a space file
) -> Space:
    """Return the space with these fixed and tuned settings; `search` is what a space file's part `search` holds.

    A tuned setting is a `Range`, a tuple (low, high), a list of choices, or a mapping as in a file. Raises Problems
    naming every mistake.
    """
    values = {
        "fixed": dict(fixed), "tune": {key: _as_in_a_file(given) for key, given in tune.items()}, "search": search,
    }
    return _checked(name, Document(f"space '{name}'", values, {}, question))


def with_settings(space: Space, settings: Mapping[str, Any]) -> Space:
    """Return the space with settings fixed, or `search.` ones changed; raises Problems naming every mistake."""
    document = Document(f"space '{space.name}'", values_of(space), {}, space.question)
    return _checked(space.name, override(document, settings.items())) if settings else space


def values_of(space: Space) -> dict[str, Any]:
    """Return a space as its file's values."""
    return {**space.document(), "search": space.search.model_dump(mode="json")}


def as_yaml(space: Space) -> str:
    """Return the file that `read_space` reads as this space."""
    question = "".join(f"# {line}\n" for line in space.question.splitlines())
    return question + yaml.safe_dump(values_of(space), sort_keys=False, allow_unicode=True)


def _checked(name: str, document: Document) -> Space:
    space = assemble(name, document)
    try_out(space, document)
    return space


def _as_in_a_file(given: object) -> object:
    match given:
        case Range():
            return given.document()
        case (low, high) if isinstance(given, tuple):
            return {"low": low, "high": high}
        case list():
            return {"choices": given}
        case _:
            return given
