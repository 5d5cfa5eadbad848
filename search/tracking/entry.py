"""What is written to MLflow: runs, points and data sets, and the two things that can go wrong.

`AwayError`: nothing can be written now (the server is down, the database is locked); the same call will do later.
`RefusedError`: this one thing will not be taken (a deleted run, an artifact store nobody may write to).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, NamedTuple

LONGEST_TEXT = 4_000  # of a tag or parameter; MLflow's own limits are 5,000 and 6,000
Status = Literal["RUNNING", "FINISHED", "FAILED", "KILLED"]


class StoreError(Exception):
    """Something could not be written to MLflow."""


class AwayError(StoreError):
    """Nothing can be written now; later it can."""


class RefusedError(StoreError):
    """MLflow will not take this, whenever it is asked."""


class TrackedData(NamedTuple):
    """Images that runs are trained on, as MLflow links them; two of one name and digest are one."""

    name: str
    digest: str
    source: str              # where they are
    profile: dict[str, str]  # what else tells them from others


class Point(NamedTuple):
    """A metric at a step; the same point written twice is one row."""

    name: str
    value: float
    at: datetime
    step: int


@dataclass
class TrackedRun:
    """What MLflow shows of a run."""

    id: str
    status: str
    tags: dict[str, str]
    started: int  # milliseconds since 1970

    def began(self, at: datetime) -> bool:
        """Whether it is of what began then."""
        return self.started == milliseconds(at)

    def shows(self, status: str, tags: Mapping[str, str]) -> bool:
        """Whether it already has this status and these tags."""
        return self.status == status and fitting(tags).items() <= self.tags.items()


def fitting(texts: Mapping[str, str]) -> dict[str, str]:
    """Return tags or parameters no longer than MLflow takes them."""
    return {key: text[:LONGEST_TEXT] for key, text in texts.items()}


def milliseconds(at: datetime) -> int:
    """Return a time as MLflow has it, since 1970."""
    return round(at.timestamp() * 1000)
