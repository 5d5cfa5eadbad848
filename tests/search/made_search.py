"""A finished search that trained nothing: its journal, written through the real Journal, with effects that are known."""

import math
from itertools import pairwise
from pathlib import Path
from random import Random

from search.decide.asha import REFERENCE
from search.record.journal import (
    Asked,
    Ended,
    Failed,
    Finished,
    Journal,
    Launched,
    Lost,
    Opened,
    Promoted,
    Reissued,
    Repeated,
    Reported,
)
from search.space.space import Space

DATA = {"dataset": "finches", "fingerprint": "sha256:1", "split": "sha256:2", "patches": "sha256:3"}


def accuracy(settings: dict, epoch: int, chance: float = 0.0) -> float:
    """Return a made-up accuracy: lr_local decides nearly everything, λ something, λ' and the margin nothing."""
    rate = math.log10(settings["optim.lr_local"])
    top = 0.9 - 0.25 * (rate + 1) ** 2 - 0.05 * (settings["loss.lambda_rank"] - 1) ** 2
    return max(0.01, min(0.999, top * (1 - 0.6 ** (epoch + 1)) + chance))


def metrics_of(settings: dict, epoch: int, random: Random) -> dict[str, float]:
    T = settings["model.time_steps"]
    alpha = [1 + 0.1 * t * epoch / 27 for t in range(T)]
    value = accuracy(settings, epoch, random.gauss(0, 0.01))
    steps = {f"attention/alpha/{t:02d}": a / sum(alpha) for t, a in enumerate(alpha, 1)}
    steps |= {f"attention/state_cosine/{t:02d}": min(1.0, 0.5 + t / T / 2) for t in range(1, T + 1)}
    steps |= {f"val/accuracy_step/{t:02d}": value * (0.8 + 0.2 * t / T) for t in range(1, T + 1)}
    return {"val/accuracy": value, "val/accuracy_local": value * 0.95, "val/nll": 2 - value, "attention/entropy": 0.9, **steps}


class MadeSearch:
    """Writes a search's journal line by line: every trial to the first rung, then the best third further, then a race."""

    def __init__(self, path: Path, space: Space, name: str = "made") -> None:
        self.space, self.journal, self.random = space, Journal(path), Random(0)
        self.settings: dict[int, dict] = {}
        self.jobs = 0
        reference = dict(space.config(space.reference()).settings())
        self.journal.append(Opened(search=name, question=space.question, space=space.document(), digest=space.digest()))
        self.journal.append(Launched(trials=space.search.trials, workers=2, finalists=space.search.finalists, seeds=space.search.seeds, version="0.1.0", commit=None, reference=reference, data=DATA))

    def ask(self, trial: int) -> None:
        first = self.space.search.rungs[0]
        self.settings[trial] = self.space.reference() if trial == REFERENCE else self.space.draw(self.random)
        by = "reference" if trial == REFERENCE else "tpe"
        self.journal.append(Asked(trial=trial, settings=self.settings[trial], by=by, job=self.jobs, to=first))

    def train(self, trial: int, start: int, to: int) -> float:
        for epoch in range(start + 1, to + 1):
            metrics = metrics_of(self.settings[trial], epoch, self.random)
            self.journal.append(Reported(trial=trial, epoch=epoch, job=self.jobs, attempt=1, metrics=metrics, seconds=0.5, checkpoint=f"{trial}/epoch{epoch}.safetensors"))
        self.journal.append(Ended(trial=trial, job=self.jobs))
        self.jobs += 1
        return metrics["val/accuracy"]

    def fail(self, trial: int, why: str = "the loss is not finite at epoch 0; lower learning rates or a warm-up may help") -> None:
        self.journal.append(Failed(trial=trial, job=self.jobs, reason="divergence", why=why))
        self.jobs += 1

    def finish(self) -> None:
        self.journal.append(Finished(how="complete"))
        self.journal.close()

    def whole(self, failing: int = 17) -> None:
        """Run it all; every `failing`-th trial diverges, and the worker of trial 3 vanishes once."""
        search, values = self.space.search, {}
        for trial in range(search.trials):
            self.ask(trial)
            if trial == 3:
                self.journal.append(Lost(trial=3, job=self.jobs, attempt=1, why="its node died", blame="node"))
                self.journal.append(Reissued(trial=3, job=self.jobs, attempt=2))
            if trial and trial % failing == 0:
                self.fail(trial)
            else:
                values[trial] = self.train(trial, 0, search.rungs[0])
        for rung, to in pairwise(search.rungs):
            best = sorted(values, key=values.__getitem__, reverse=True)[: max(1, len(values) // search.reduction)]
            values = {t: self._climb(t, rung, to) for t in {REFERENCE, *best}}
        finalists = sorted(values, key=values.__getitem__, reverse=True)[: search.finalists]
        for seed in range(1, search.seeds + 1):
            for of in finalists:
                self._repeat(of, seed)
        self.finish()

    def _climb(self, trial: int, rung: int, to: int) -> float:
        self.journal.append(Promoted(trial=trial, rung=rung, job=self.jobs, to=to))
        return self.train(trial, rung, to)

    def _repeat(self, of: int, seed: int) -> None:
        trial = len(self.settings)
        self.settings[trial] = {**self.settings[of], "seed": seed, "data.validation_seed": seed}
        to = self.space.search.epochs
        self.journal.append(Repeated(trial=trial, of=of, settings=self.settings[trial], job=self.jobs, to=to))
        self.train(trial, 0, to)
