"""A search as an outsider counts it: from the lines of its journal, and from what a witness saw its workers train.

No code of the search's own reads them here, so none can hide a fault.
"""

import json
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any

DECISIONS = ("asked", "promoted", "repeated", "stopped", "failed")


@dataclass(frozen=True)
class Ledger:
    """The whole lines of a journal at one moment."""

    raw: bytes

    @classmethod
    def of(cls, path: Path) -> "Ledger":
        """Return what a journal holds now; nothing where there is none yet."""
        raw = path.read_bytes() if path.exists() else b""
        return cls(raw[: raw.rfind(b"\n") + 1])

    @cached_property
    def facts(self) -> list[dict[str, Any]]:
        """Every line, `at` in seconds."""
        told = [json.loads(line) for line in self.raw.splitlines()]
        return [fact | {"at": datetime.fromisoformat(fact["at"]).timestamp()} for fact in told]

    def named(self, *kinds: str) -> list[dict[str, Any]]:
        """Return the facts of some kinds."""
        return [fact for fact in self.facts if fact["fact"] in kinds]

    @property
    def ended(self) -> bool:
        """Whether the last driver ended in order, with all done."""
        return bool(self.facts) and self.facts[-1]["fact"] == "finished" and self.facts[-1]["how"] == "complete"

    @cached_property
    def reports(self) -> dict[tuple[int, int], dict[str, float]]:
        """The metrics by trial and epoch; the first line of an epoch counts."""
        found: dict[tuple[int, int], dict[str, float]] = {}
        for fact in self.named("reported"):
            found.setdefault((fact["trial"], fact["epoch"]), fact["metrics"])
        return found

    def decisions(self) -> list[dict[str, Any]]:
        """Return what the search decided, in order."""
        return [{k: v for k, v in fact.items() if k != "at"} for fact in self.named(*DECISIONS)]

    def contradictions(self) -> int:
        """Return how many lines tell other metrics of an epoch than the line before them that told of it."""
        return sum(self.reports[f["trial"], f["epoch"]] != f["metrics"] for f in self.named("reported"))


@dataclass(frozen=True)
class Again:
    """Epochs that were begun a second time."""

    epochs: int = 0    # all of them
    most: int = 0      # after one interruption
    too_many: int = 0  # of these, the ones that a checkpoint had already covered


def trained_again(ledger: Ledger, witness: Path, deleted: frozenset[str] = frozenset()) -> Again:
    """Return what was trained again: an attempt may begin after the newest checkpoint told of and not `deleted`."""
    facts, last = Again(), dict[int, int]()  # the last epoch that was begun, by trial
    for seen in _seen(ledger, witness):
        trial, epoch = seen["trial"], seen["epoch"]
        repeated = max(0, last.get(trial, 0) - epoch + 1)
        if repeated:
            may = _covered(ledger, trial, seen["at"], deleted)
            facts = Again(
                facts.epochs + repeated, max(facts.most, repeated), facts.too_many + max(0, may + 1 - epoch)
            )
        last[trial] = epoch
    return facts


def _seen(ledger: Ledger, witness: Path) -> list[dict[str, Any]]:
    """Return what the witness saw of this search's trials."""
    lines = [json.loads(line) for line in witness.read_text().splitlines()] if witness.exists() else []
    asked = {fact["trial"]: fact for fact in ledger.named("asked")}
    return [
        {"at": line["at"], "epoch": line["epoch"], "trial": trial} for line in lines for trial, fact in asked.items()
        if line["at"] > fact["at"] - 1 and fact["settings"].items() <= line["settings"].items()
    ]


def _covered(ledger: Ledger, trial: int, at: float, deleted: frozenset[str]) -> int:
    """Return the epoch of a trial's newest checkpoint at a moment."""
    return max((
        fact["epoch"] for fact in ledger.named("reported")
        if fact["trial"] == trial and fact["at"] < at and fact["checkpoint"] and fact["checkpoint"] not in deleted
    ), default=0)
