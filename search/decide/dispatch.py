"""Hands out jobs and records what comes back: every decision is a journal line before anyone acts on it.

No Ray here: `search.run.tune` asks for the next job and passes results on. All state is the history, the fold of the
journal, so a dispatcher built from a journal goes on where the last one stopped.
"""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from shutil import rmtree
from typing import Any, Literal

from pydantic import Field

from fgmodel.frozen import Frozen
from search.decide.asha import Ladder, Promotion
from search.decide.race import due, repeat_settings
from search.decide.sampler import propose
from search.errors import InputError
from search.record.history import History, Job, Trial
from search.record.journal import (
    Asked,
    Ended,
    Fact,
    Failed,
    Finished,
    Journal,
    Lost,
    OpenedTest,
    Promoted,
    Reissued,
    Repeated,
    Reported,
    Stopped,
)
from search.space.space import Space

EVICTIONS = 25  # of a job from nodes that were lost: then it is its own doing after all
HOPELESS = 3  # errors before the first success that end a search


class Order(Frozen, extra="ignore"):
    """A job as a worker receives it."""

    job: int
    attempt: int
    trial: int
    to: int
    settings: dict[str, Any]  # every setting of the trial
    checkpoint: tuple[int, str] | None  # the epoch and name it continues from
    final: bool = False  # train on train and validation, and open the test split at the end
    boxes: str | None = None  # a folder of patch files to train on, where a method would now find others


class Outcome(Frozen, extra="ignore"):
    """One epoch of a job as a worker reports it, or the end of the trial by its own fault."""

    job: int
    attempt: int
    trial: int
    epoch: int
    metrics: dict[str, float] = Field({})
    seconds: float = 0.0
    checkpoint: str | None = None
    predictions: str | None = None
    looks: str | None = None
    failure: str | None = None
    reason: str | None = None


@dataclass
class Dispatcher:
    """The only one who writes to the journal while a search runs."""

    space: Space
    journal: Journal
    history: History
    checkpoints: Path
    test_images: int = 0  # of a search that opens the test split
    boxes: Path | None = None  # to train on in place of those that `data.patches` finds
    exhausted: bool = False  # every configuration of a finite space has been tried

    def record(self, fact: Fact) -> None:
        """Append a fact, then take it in."""
        self.history.see(self.journal.append(fact))
        self.__dict__.pop("_due", None)

    def next(self) -> Order | None:
        """Return the next job: a lost one again, a promotion, a new trial, a repeat; None when nothing is ready."""
        if self.history.lost:
            return self._again(self.history.live[self.history.lost[0]])
        number = self.history.jobs
        match self._due:
            case None:
                return None
            case Promotion() as climb:
                self.record(Promoted(trial=climb.trial, rung=climb.rung, job=number, to=climb.to))
            case (finalist, seed):
                settings = repeat_settings(self.space, finalist, seed)
                trial, to = len(self.history.trials), self.space.search.epochs
                self.record(Repeated(trial=trial, of=finalist.number, settings=settings, job=number, to=to))
            case "trial":
                proposal = propose(self.space, self.history)
                if proposal is None:
                    self.exhausted = True
                    self.__dict__.pop("_due")
                    return self.next()
                settings, by = proposal
                trial, to = len(self.history.trials), self.space.search.rungs[0]
                self.record(Asked(trial=trial, settings=settings, by=by, job=number, to=to))
        return self._order(self.history.live[number])

    @property
    def ladder(self) -> Ladder:
        """The rungs; an exhausted space has no more trials to wait for."""
        search = self.space.search
        return Ladder(search.model_copy(update={"trials": len(self.history.candidates)}) if self.exhausted else search)

    @property
    def idle(self) -> bool:
        """Whether no job is ready until a running one reports."""
        return not self.history.lost and self._due is None

    @cached_property
    def _due(self) -> Promotion | tuple[Trial, int] | Literal["trial"] | None:
        """What should begin now, beside lost jobs; found out once after each fact, however often it is asked."""
        if climb := self.ladder.next(self.history):
            return climb
        if len(self.history.candidates) < self.ladder.search.trials:
            return "trial"
        if any(self.history.trials[job.trial].repeats is None for job in self.history.live.values()):
            return None  # only once nothing but repeats runs the finalists are known
        return due(self.space.search, self.history)

    @property
    def complete(self) -> bool:
        """Whether nothing is left to do."""
        return self.idle and not self.history.live

    def take(self, outcome: Outcome) -> bool:
        """Record an epoch; True when it was the last of its job. Raises InputError: when a disk is full."""
        job = self.history.live.get(outcome.job)
        if job is None or job.attempt != outcome.attempt:
            return True  # an attempt that was given up: its lines no longer count
        if outcome.failure and outcome.reason == "storage":
            raise InputError(outcome.failure)  # no trial's fault: its job is issued again by the next launch
        if outcome.failure:
            reason = "divergence" if outcome.reason == "divergence" else "error"
            self.record(Failed(trial=outcome.trial, job=outcome.job, reason=reason, why=outcome.failure))
            self._require_hope()
            return True
        if outcome.checkpoint or outcome.epoch not in self.history.trials[outcome.trial].reports:
            self.record(Reported(**outcome.model_dump(exclude={"failure", "reason"})))
        self._forget_checkpoints(outcome.trial)
        if outcome.epoch < job.to:
            return False
        self._end(job)
        return True

    def lose(self, number: int, attempt: int, why: str, blame: Literal["worker", "node"] = "worker") -> None:
        """Record that a worker vanished; after the allowed retries the trial has failed. A lost node costs none."""
        job = self.history.live.get(number)
        if job is None or job.attempt != attempt:
            return
        self.record(Lost(trial=job.trial, job=number, attempt=attempt, why=why, blame=blame))
        if job.crashes > self.space.search.retries or job.evictions > EVICTIONS:
            times = job.crashes + job.evictions
            self.record(
                Failed(trial=job.trial, job=number, reason="lost", why=f"its worker vanished {times} times: {why}")
            )

    def finish(self, how: Literal["stopped", "budget"]) -> None:
        """Record that this driver ended in order, and delete the checkpoints nobody will continue."""
        self.record(Finished(how="complete" if self.complete else how))
        if self.complete:
            for trial in self.history.trials.values():
                self._forget_checkpoints(trial.number)

    def _require_hope(self) -> None:
        """Raise InputError when the first trials all failed by an error: the next ones would too."""
        trials = self.history.trials.values()
        errors = [t.failure for t in trials if t.reason == "error"]
        if len(errors) >= HOPELESS and not any(t.rung for t in trials):
            raise InputError(f"the first {len(errors)} trials failed, the last one with: {errors[-1]}")

    def _end(self, job: Job) -> None:
        self.record(Ended(trial=job.trial, job=job.number))
        trial = self.history.trials[job.trial]
        if trial.repeats is None and self.ladder.stops(self.history, trial):
            self.record(Stopped(trial=trial.number, rung=trial.rung))

    def _again(self, job: Job) -> Order | None:
        trial = self.history.trials[job.trial]
        if job.to in trial.reports and trial.checkpoint and trial.checkpoint[0] >= job.to:
            self._end(job)  # its last epoch was recorded, only its end was lost
            return self.next()
        self.record(Reissued(trial=job.trial, job=job.number, attempt=job.attempt + 1))
        return self._order(job)

    def _order(self, job: Job) -> Order:
        trial = self.history.trials[job.trial]
        checkpoint = trial.checkpoint
        if checkpoint and not (self.checkpoints / checkpoint[1]).is_file():
            checkpoint = None  # deleted: the same epochs are trained again and their first report counts
        settings = self.space.config(trial.settings).settings()
        final = self.space.search.final
        if final and job.trial not in {opening.trial for opening in self.history.tests}:
            self.record(OpenedTest(trial=job.trial, seeds=(int(str(settings["seed"])),), images=self.test_images))
        return Order(
            job=job.number, attempt=job.attempt, trial=job.trial, to=job.to, settings=settings, checkpoint=checkpoint,
            final=final, boxes=str(self.boxes) if self.boxes else None,
        )

    def _forget_checkpoints(self, number: int) -> None:
        """Delete what a trial will not continue from: all but its newest, and that too once it cannot place.

        Its heatmaps then go as well: they are shown of trials at the last rung.
        """
        trial = self.history.trials[number]
        state = self.history.state(trial, self.space.search.epochs)
        keep = trial.checkpoint[1] if trial.checkpoint and state not in ("stopped", "failed") else None
        if state in ("stopped", "failed"):
            rmtree(self.checkpoints.parent / "looks" / str(number), ignore_errors=True)
        for file in (self.checkpoints / str(number)).glob("*.safetensors"):
            if f"{number}/{file.name}" != keep and _older(file.name, trial.checkpoint):
                file.unlink(missing_ok=True)


def _older(name: str, checkpoint: tuple[int, str] | None) -> bool:
    epoch = name.partition("-")[0].removeprefix("epoch")
    return checkpoint is not None and epoch.isdigit() and int(epoch) <= checkpoint[0]
