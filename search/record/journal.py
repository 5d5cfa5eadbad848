"""The journal of a search: the only truth, one fact a line, appended and synced before anyone acts on it.

Everything else (Optuna's study, the rungs, MLflow, the status page) is a projection: rebuilt by reading the journal,
never restored from a pickle. A line cut short by a crash is dropped when read; a broken line anywhere else is an error.
"""

import json
import os
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Annotated, Any, Literal, Self

from pydantic import AwareDatetime, Field, TypeAdapter, ValidationError
from pydantic_core import from_json

from fgmodel.frozen import Frozen, mistakes
from fgmodel.lock import flocked, hold
from search.errors import JournalError

FORMAT = 1
FileName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-][A-Za-z0-9._-]*(/[A-Za-z0-9_-][A-Za-z0-9._-]*)*$")]
"""A file below a folder of the search's: no line of a journal leads out of it."""


def now() -> datetime:
    """Return the present time to the millisecond, MLflow's resolution, so that a replay writes the same rows."""
    time = datetime.now(UTC)
    return time.replace(microsecond=time.microsecond // 1000 * 1000)


class _Fact(Frozen, allow_inf_nan=False):
    at: AwareDatetime = Field(default_factory=now)


class Opened(_Fact):
    """The first line: which search this is."""

    fact: Literal["opened"] = "opened"
    search: str
    question: str = ""  # the comment that opens the space file
    space: dict[str, Any]  # the resolved space file: what is fixed, tuned, and how the search decides
    digest: str  # sha256 of that
    format: int = FORMAT


class Launched(_Fact):
    """A driver began or went on, with what may change between launches; whatever ran before it is gone."""

    fact: Literal["launched"] = "launched"
    trials: int
    workers: int
    finalists: int = 0
    seeds: int = 0
    version: str
    commit: str | None
    reference: dict[str, Any]  # trial 0's settings, every one
    resources: dict[str, float] = Field({})  # of a trial; empty in journals from before they were kept
    hours: float | None = None
    retries: int | None = None
    nodes: tuple[str, ...] = ()  # of a cluster, when the driver began
    data: dict[str, str]  # fingerprint, split, patches


class Asked(_Fact):
    """A new trial and its first job."""

    fact: Literal["asked"] = "asked"
    trial: int
    settings: dict[str, Any]  # what is tuned; the rest is in the space
    by: str  # "reference", "start" or the sampler's name
    job: int
    to: int


class Repeated(_Fact):
    """A finalist is trained again, with another seed and another validation cut, as a trial of its own."""

    fact: Literal["repeated"] = "repeated"
    trial: int
    of: int
    settings: dict[str, Any]
    job: int
    to: int


class Promoted(_Fact):
    """A trial goes on from a rung to the next, as a new job."""

    fact: Literal["promoted"] = "promoted"
    trial: int
    rung: int  # the epochs it has
    job: int
    to: int


class Reissued(_Fact):
    """A job whose worker vanished is given to another; asking and promoting issue attempt 1."""

    fact: Literal["reissued"] = "reissued"
    trial: int
    job: int
    attempt: int


class Reported(_Fact):
    """One epoch's metrics; the first line for a (trial, epoch) counts."""

    fact: Literal["reported"] = "reported"
    trial: int
    epoch: int
    job: int
    attempt: int
    metrics: dict[str, float]
    seconds: float
    checkpoint: FileName | None  # under the search's checkpoints/; the file exists only if this line does
    predictions: FileName | None = None  # of the test split, under the search's predictions/; likewise
    looks: FileName | None = None  # heatmaps of a few validation images, under the search's looks/; likewise


class Ended(_Fact):
    """A job reached its rung."""

    fact: Literal["ended"] = "ended"
    trial: int
    job: int


class Lost(_Fact):
    """A worker vanished with its job; what its node did is not held against the trial."""

    fact: Literal["lost"] = "lost"
    trial: int
    job: int
    attempt: int
    why: str
    blame: Literal["worker", "node"] = "worker"


class Stopped(_Fact):
    """The stopping kind of ASHA gave up on a trial at a rung."""

    fact: Literal["stopped"] = "stopped"
    trial: int
    rung: int


class Failed(_Fact):
    """A trial is over without reaching its rung."""

    fact: Literal["failed"] = "failed"
    trial: int
    job: int
    reason: Literal["divergence", "error", "lost"]
    why: str


class Finished(_Fact):
    """A driver ended in order."""

    fact: Literal["finished"] = "finished"
    how: Literal["complete", "stopped", "budget"]


class OpenedTest(_Fact):
    """The test split was looked at."""

    fact: Literal["test_opened"] = "test_opened"
    trial: int
    seeds: tuple[int, ...]
    images: int


Fact = Annotated[
    Opened
    | Launched
    | Asked
    | Repeated
    | Promoted
    | Reissued
    | Reported
    | Ended
    | Lost
    | Stopped
    | Failed
    | Finished
    | OpenedTest,
    Field(discriminator="fact"),
]
_FACT: TypeAdapter[Fact] = TypeAdapter(Fact)


class Journal:
    """The one writer of a search's journal; a second one on the same file is refused."""

    def __init__(self, path: Path) -> None:
        self.path = path
        refusal = JournalError(f"{path}: another process is running this search; stop it first")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            if flocked(path):  # by an older version, which locked the journal itself
                raise refusal
            self._alone = hold(path, refusal)
            self._file = path.open("ab+")
        except OSError as error:
            raise JournalError(f"{path}: cannot be opened for writing: {error.strerror}") from None
        self._drop_torn_line()

    def append(self, fact: Fact) -> Fact:
        """Return `fact` once it is on the disk."""
        line = json.dumps(fact.model_dump(mode="json"), allow_nan=False, ensure_ascii=False)
        try:
            self._file.write(line.encode() + b"\n")
            self._file.flush()
            os.fsync(self._file.fileno())
        except OSError as error:
            raise JournalError(
                f"{self.path}: cannot be written: {error.strerror}; what was recorded before is kept"
            ) from None
        return fact

    def close(self) -> None:
        """Give the file to the next writer."""
        try:
            self._file.close()
        except OSError as error:  # the rest of a line that a full disk refused
            raise JournalError(f"{self.path}: cannot be closed: {error.strerror}") from None
        finally:
            self._alone.lock.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _drop_torn_line(self) -> None:
        self._file.seek(0)
        raw = self._file.read()
        whole = raw.rfind(b"\n") + 1
        if whole < len(raw):
            self._file.truncate(whole)


class Reader:
    """Reads a journal from where it left off; never waits, never locks, never takes half a line."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._offset = 0
        self._line = 0
        self._trials: set[int] = set()  # asked for so far

    def new(self) -> Iterator[Fact]:
        """Yield the facts appended since the last call; raises JournalError at a line that is none."""
        try:
            with self.path.open("rb") as file:
                file.seek(self._offset)
                raw = file.read()
        except OSError as error:
            raise JournalError(f"{self.path}: cannot be read: {error.strerror}") from None
        for line in raw.split(b"\n")[:-1]:
            self._line += 1
            fact = self._parse(line)
            self._offset += len(line) + 1
            yield fact

    def _parse(self, line: bytes) -> Fact:
        try:
            told = from_json(line, allow_inf_nan=False)
            if isinstance(told, dict) and "at" not in told:
                raise ValueError("it has no time")  # noqa: TRY301 said below with the others
            fact = _FACT.validate_python(told)
        except ValueError as error:
            what = mistakes(error)[0].said if isinstance(error, ValidationError) else error
            raise JournalError(f"{self.path}:{self._line}: is not a line of a search's journal: {what}") from None
        if (self._line == 1) != isinstance(fact, Opened):
            raise JournalError(f"{self.path}:{self._line}: a journal opens with one 'opened' line, and has no other")
        if isinstance(fact, Opened) and fact.format != FORMAT:
            raise JournalError(f"{self.path}:1: has format {fact.format}; this version reads {FORMAT}")
        self._require_asked(fact)
        return fact

    def _require_asked(self, fact: Fact) -> None:
        known = fact.of if isinstance(fact, Repeated) else getattr(fact, "trial", None)
        if not isinstance(fact, Asked) and known is not None and known not in self._trials:
            raise JournalError(f"{self.path}:{self._line}: is of trial {known}, which no line before it began")
        if isinstance(fact, (Asked, Repeated)):
            self._trials.add(fact.trial)


def read(path: Path) -> list[Fact]:
    """Return every fact of a journal; raises JournalError naming the line that is none."""
    return list(Reader(path).new())
