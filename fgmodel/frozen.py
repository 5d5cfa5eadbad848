"""Frozen records that check themselves, and the words for what is wrong with one: the border to pydantic."""

from typing import NamedTuple

from pydantic import BaseModel, ValidationError


class Frozen(BaseModel, frozen=True, extra="forbid"):
    """A record: nothing in it is set again, and it has no fields but its own."""


class Strict(Frozen, strict=True, allow_inf_nan=False):
    """A record that takes no text for a number, and no number that is none."""


class Wrong(NamedTuple):
    """One wrong value of a record: the keys that lead to it, pydantic's name of the mistake, and what was given."""

    keys: tuple[str, ...]
    kind: str
    given: object
    said: str  # by pydantic

    @property
    def must(self) -> str:
        """What would be right, as the end of a sentence that names the value."""
        return self.said.removeprefix("Input ").replace("should", "must").replace("a valid tuple", "a list")


def mistakes(error: ValidationError) -> list[Wrong]:
    """Return what is wrong, in the record's order; at least one."""
    found = error.errors(include_url=False, include_context=False)
    return [Wrong(tuple(map(str, each["loc"])), each["type"], each["input"], each["msg"]) for each in found]
