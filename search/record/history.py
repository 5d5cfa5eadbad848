"""What a journal says so far: its trials, their epochs and their jobs. Folding the same facts twice changes nothing."""

import math
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from search.record.journal import (
    Asked,
    Ended,
    Fact,
    Failed,
    Finished,
    Launched,
    Lost,
    Opened,
    OpenedTest,
    Promoted,
    Reissued,
    Repeated,
    Reported,
    Stopped,
    read,
)
from search.space.file import stored_space
from search.space.space import Resources, Space

State = Literal["running", "waiting", "stopped", "failed", "completed"]


@dataclass
class Job:
    """One piece of work: a trial from its checkpoint to a rung."""

    number: int
    trial: int
    to: int
    attempt: int = 1
    crashes: int = 0  # workers that vanished by themselves
    evictions: int = 0  # workers that vanished with their nodes


@dataclass
class Trial:
    """One configuration and what is known of it."""

    number: int
    settings: dict[str, Any]  # what was tuned
    by: str
    asked: datetime
    repeats: int | None = None  # the trial it is a repeat of, with another seed
    reports: dict[int, dict[str, float]] = field(default_factory=dict)  # by epoch
    reported: dict[int, datetime] = field(default_factory=dict)  # by epoch
    seconds: float = 0.0  # of training
    checkpoint: tuple[int, str] | None = None  # epoch, name
    predictions: str | None = None  # the file of its test predictions
    looks: dict[int, str] = field(default_factory=dict)  # the files of its heatmaps, by epoch
    rung: int = 0  # the highest it has finished
    promoted: int = 0  # the highest it was told to reach
    stopped: bool = False
    failure: str | None = None
    reason: str | None = None

    @property
    def epoch(self) -> int:
        """The last epoch reported."""
        return max(self.reports, default=0)

    def at(self, rung: int, metric: str) -> float:
        """Return a metric at a rung; NaN where it was not measured."""
        return self.reports.get(rung, {}).get(metric, math.nan)


@dataclass
class History:
    """The fold of a journal."""

    opened: Opened | None = None
    launched: Launched | None = None
    finished: Finished | None = None
    trials: dict[int, Trial] = field(default_factory=dict)
    live: dict[int, Job] = field(default_factory=dict)  # jobs that have not ended
    lost: list[int] = field(default_factory=list)  # of those, the ones no worker has
    tests: list[OpenedTest] = field(default_factory=list)
    jobs: int = 0  # issued so far
    facts: int = 0

    @classmethod
    def of(cls, facts: Iterable[Fact]) -> "History":
        """Return the fold of `facts`."""
        history = cls()
        for fact in facts:
            history.see(fact)
        return history

    def see(self, fact: Fact) -> None:  # noqa: C901 one case a kind of fact
        """Take in one fact."""
        self.facts += 1
        match fact:
            case Opened():
                self.opened = fact
            case Launched():
                self.launched, self.finished = fact, None
                self.lost = sorted(self.live)
            case Asked():
                self.trials.setdefault(fact.trial, Trial(fact.trial, fact.settings, fact.by, fact.at))
                self._start(Job(fact.job, fact.trial, fact.to))
            case Repeated():
                again = Trial(fact.trial, fact.settings, "confirm", fact.at, repeats=fact.of)
                self.trials.setdefault(fact.trial, again)
                self._start(Job(fact.job, fact.trial, fact.to))
            case Promoted():
                self._start(Job(fact.job, fact.trial, fact.to))
            case Reissued():
                self._reissue(fact)
            case Reported():
                self._report(fact)
            case Ended() | Failed():
                self._end(fact)
            case Lost():
                self._lose(fact)
            case Stopped():
                self.trials[fact.trial].stopped = True
            case Finished():
                self.finished = fact
            case OpenedTest():
                self.tests.append(fact)

    @property
    def candidates(self) -> list[Trial]:
        """The trials that compete: all but the repeats of finalists."""
        return [trial for trial in self.trials.values() if trial.repeats is None]

    def state(self, trial: Trial, last_rung: int) -> State:
        """Say where a trial stands; `last_rung` is the search's epochs."""
        if trial.reason:
            return "failed"
        if trial.rung >= last_rung:
            return "completed"
        if trial.stopped or (self.finished and self.finished.how == "complete"):
            return "stopped"
        return "running" if trial.promoted > trial.rung and not self.finished else "waiting"

    def _start(self, job: Job) -> None:
        self.jobs = max(self.jobs, job.number + 1)
        trial = self.trials[job.trial]
        if job.to > trial.promoted:
            trial.promoted = job.to
            self.live[job.number] = job

    def _reissue(self, fact: Reissued) -> None:
        if fact.job in self.live:
            self.live[fact.job].attempt = fact.attempt
            self.lost = [job for job in self.lost if job != fact.job]

    def _report(self, fact: Reported) -> None:
        trial = self.trials[fact.trial]
        if fact.epoch not in trial.reports:  # an epoch repeated after a crash: the first counts
            trial.reports[fact.epoch], trial.reported[fact.epoch] = fact.metrics, fact.at
            trial.seconds += fact.seconds
        trial.predictions = trial.predictions or fact.predictions
        if fact.looks:
            trial.looks[fact.epoch] = fact.looks
        if fact.checkpoint and (trial.checkpoint is None or fact.epoch >= trial.checkpoint[0]):
            trial.checkpoint = fact.epoch, fact.checkpoint

    def _end(self, fact: Ended | Failed) -> None:
        job = self.live.pop(fact.job, None)
        self.lost = [number for number in self.lost if number != fact.job]
        trial = self.trials[fact.trial]
        if isinstance(fact, Failed):
            trial.failure, trial.reason = fact.why, fact.reason
        elif job:
            trial.rung = max(trial.rung, job.to)

    def _lose(self, fact: Lost) -> None:
        if fact.job in self.live and fact.job not in self.lost:
            self.lost.append(fact.job)
            job = self.live[fact.job]
            job.crashes, job.evictions = job.crashes + (fact.blame == "worker"), job.evictions + (fact.blame == "node")


def space_of(history: History) -> Space:
    """Return the space of a search as its journal has it, with what launches may change as its last one had it."""
    assert history.opened
    space = stored_space(history.opened.search, history.opened.question, history.opened.space)
    if history.launched is None:
        return space
    launched, loose = history.launched, ("trials", "workers", "finalists", "seeds", "hours")
    now: dict[str, Any] = {name: getattr(launched, name) for name in loose}
    if launched.resources:
        now |= {"resources": Resources(**launched.resources), "retries": launched.retries}
    return replace(space, search=space.search.model_copy(update=now))


def load(path: Path) -> History:
    """Return the history a journal tells; raises JournalError at a line that is none."""
    return History.of(read(path))
