"""Plays disturbances on a search, one after another, and notes what came of each before the next begins."""

import json
import os
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from random import Random
from typing import Any

import psycopg

from tests.chaos.audit import audit, doubled
from tests.chaos.kinds import Kind, MissedError, Scene, Strike
from tests.chaos.ledger import Again, Ledger, trained_again
from tests.chaos.stage import CommandError, Stage

RECOVERY_SECONDS = 240.0
ENOUGH_SECONDS = 900.0  # for what is left of a search once nothing disturbs it
GONE_SECONDS = 4.0      # without a driver, after which an operator goes on with the search


class LostError(Exception):
    """A search does not go on, whatever an operator does."""


class Play:
    """Searches on a stage, and the log of what happened to them."""

    def __init__(self, stage: Stage, seed: int, log: Path) -> None:
        self.stage, self.log = stage, log
        self.scene = Scene(stage, Random(seed))
        self.undisturbed: Ledger | None = None
        self._resumes = 0       # by the harness, because a search did not go on by itself
        self._begun = 0.0

    def begin(self, name: str, workers: int) -> None:
        """Launch the next search and wait until it reports."""
        self.scene.deleted.clear()
        self._begun = time.time()
        self.stage.begin(name, workers)
        self._until(lambda: bool(self.stage.ledger().reports), RECOVERY_SECONDS)

    @property
    def over(self) -> bool:
        """Whether the search is at its end, or too near for another disturbance."""
        ledger = self.stage.ledger()
        return ledger.ended or len(ledger.named("asked")) >= self.stage.trials

    def disturb(self, name: str, kind: Kind) -> bool:
        """Disturb the search, see it go on, put the rest right; False where there was nothing to disturb.

        Raises LostError.
        """
        stage, scene = self.stage, self.scene
        before, torn, resumes = stage.ledger(), scene.torn, self._resumes
        twice, again, acting, wrong = self._doubled(), self._again().epochs, kind(scene), list[str]()
        strike = Strike(time.time())
        seconds = None
        try:
            strike = next(acting)
            seconds = self._recovered(strike)
            next(acting, None)
        except MissedError:
            return False
        except CommandError as error:
            wrong.append(str(error))
            with suppress(CommandError):
                next(acting, None)
        try:
            seconds = seconds if seconds is not None else self._recovered(Strike(strike.at))
        except LostError as error:
            wrong.append(str(error))
        kept = Ledger(before.raw if scene.torn == torn else b"".join(before.raw.splitlines(keepends=True)[:-1]))
        after = stage.ledger()
        intact = after.raw.startswith(kept.raw) or scene.torn > torn
        self._note({
            "kind": name, "what": strike.what, "search": stage.name, "workers": stage.workers,
            "seconds": None if seconds is None else round(seconds, 1),
            "lost": 0 if intact else len(set(kept.raw.splitlines()) - set(after.raw.splitlines())),
            "again": self._again().epochs - again,
            "doubled": self._doubled() - twice, "resumes": self._resumes - resumes, "wrong": wrong,
        })
        if seconds is None:
            raise LostError(f"{stage.name}: {wrong}")
        return True

    def end(self, compared: bool) -> dict[str, Any]:
        """Let the search end and say whether all of it is as it must be."""
        stage = self.stage
        self._until(lambda: stage.ledger().ended and not stage.drivers(), ENOUGH_SECONDS)
        found = audit(stage, self.undisturbed if compared else None)
        late = bool(found.missing or found.running)
        if late:  # MLflow was away for too long after the end: the same command writes the rest
            self._resumes += 1
            stage.run(*self.stage.words())
            found = audit(stage, self.undisturbed if compared else None)
        ledger, again = stage.ledger(), self._again()
        wrong = found.wrong | ({"too_many": again.too_many} if again.too_many else {})
        line = {
            "ended": stage.name, "workers": stage.workers, "seconds": round(time.time() - self._begun),
            "epochs": len(ledger.reports), "trials": len(ledger.named("asked", "repeated")),
            "launches": len(ledger.named("launched")), "compared": compared, "late": late,
            "again": again.epochs, "most": again.most, "wrong": wrong,
        }
        self._note(line)
        return line

    def _recovered(self, strike: Strike) -> float:
        """Return the seconds until the search went on."""
        found: list[float] = []

        def on() -> bool:
            found[:] = _went_on(self.stage.ledger(), strike)
            return bool(found)

        self._until(on, RECOVERY_SECONDS)
        return found[0] - strike.at

    def _until(self, reached: Callable[[], bool], patience: float) -> None:
        """Wait; a search without a driver is gone on with, once."""
        until, seen, resumed = time.monotonic() + patience, time.monotonic(), False
        while not reached():
            now = time.monotonic()
            if self.stage.drivers() or self.stage.ledger().ended:
                seen = now
            elif now > seen + GONE_SECONDS and not resumed:
                resumed, self._resumes = True, self._resumes + 1
                with suppress(CommandError):
                    self.stage.resume()
                seen = time.monotonic() + 20
            if now > until:
                raise LostError(f"{self.stage.name}: does not go on after {patience:.0f} s")
            time.sleep(0.25)

    def _again(self) -> Again:
        return trained_again(self.stage.ledger(), self.stage.witness, frozenset(self.scene.deleted))

    def _doubled(self) -> int:
        try:
            return doubled(self.stage)
        except (psycopg.Error, IndexError):
            return 0

    def _note(self, line: dict[str, Any]) -> None:
        line = {"at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), **line, "load": round(os.getloadavg()[0], 1)}
        with self.log.open("a") as file:
            file.write(json.dumps(line) + "\n")
            file.flush()
            os.fsync(file.fileno())
        print(json.dumps(line), flush=True)


def _went_on(ledger: Ledger, strike: Strike) -> list[float]:
    """Return when the search went on after a strike; nothing while it has not."""
    after = [fact for fact in ledger.facts if fact["at"] > strike.at]
    if ledger.ended:
        return [max(ledger.facts[-1]["at"], strike.at)]
    match strike.until:
        case "launch":
            begun = next((fact["at"] for fact in after if fact["fact"] == "launched"), None)
            after = [fact for fact in after if begun is not None and fact["at"] > begun]
        case "job":
            lost = {fact["job"]: fact["at"] for fact in after if fact["fact"] == "lost"}
            if not lost and time.time() < strike.at + strike.patience:
                return []
            back = {f["job"]: f["at"] for f in reversed(after) if f["fact"] in ("reported", "ended", "failed") and f["at"] >= lost.get(f["job"], 0)}
            if not lost.keys() <= back.keys():
                return []
            if lost:
                return [max(back[job] for job in lost)]
    return [fact["at"] for fact in after if fact["fact"] == "reported"][:1]
