"""What a search is, checked: what is fixed, what is tuned and how it runs. `space.file` reads one."""

import hashlib
import json
from dataclasses import dataclass, field
from random import Random
from typing import Any, Literal, Self

from pydantic import Field

from fgmodel.config import DEFAULTS, TrialConfig
from fgmodel.frozen import Strict
from search.space.parameter import Parameter


class Sampler(Strict):
    """Who proposes configurations."""

    name: Literal["tpe", "random", "gp", "cmaes"] = "tpe"  # Optuna's
    seed: int = Field(0, ge=0)  # of what is proposed and drawn


class Resources(Strict):
    """What one trial holds while it trains."""

    cpu: float = Field(1, gt=0)  # cores
    gpu: float = Field(0, ge=0)  # a fraction shares a GPU between trials


class Plan(Strict):
    """How a search runs."""

    objective: Literal["val/accuracy", "val/accuracy_global", "val/accuracy_local", "val/nll", "test/accuracy"] = (
        "val/accuracy"
    )  # what trials compete by; test/accuracy is for studies
    trials: int = Field(32, ge=1, le=100_000)  # how many configurations are tried
    epochs: int = Field(27, ge=1, le=10_000)  # of a trial that reaches the last rung; what the schedule spans
    rungs: tuple[int, ...] = ()  # epochs at which trials compete; 1, 3, 9, … epochs unless given
    reduction: int = Field(3, ge=2, le=16)  # one in so many goes on (η of the ASHA paper)
    promote: bool = True  # false: trials run on and the weak are stopped
    sampler: Sampler = Sampler()  # who proposes configurations
    start: tuple[dict[str, Any], ...] = ()  # configurations tried right after trial 0
    workers: int = Field(1, ge=1, le=10_000)  # trials at a time
    resources: Resources = Resources()  # what one trial holds
    hours: float | None = Field(None, gt=0)  # budget of one launch
    retries: int = Field(3, ge=0, le=100)  # of a job whose worker vanished
    finalists: int = Field(0, ge=0, le=100)  # the best few, trained again over `seeds` to find the one that lasts
    seeds: int = Field(3, ge=1, le=100)  # of a finalist, fresh and each with a validation cut of its own; of a row

    @property
    def maximize(self) -> bool:
        """Whether a larger objective is better."""
        return self.objective != "val/nll"

    @property
    def final(self) -> bool:
        """Whether trials train on train and validation and open the test split at their end: a study's rows."""
        return self.objective == "test/accuracy"

    def with_rungs(self) -> Self:
        """Return this plan with its rungs written out; they end at `epochs`."""
        rungs = self.rungs
        if not rungs:
            steps = (self.reduction**k for k in range(64))
            rungs = tuple(r for r in steps if r < self.epochs)
        return self.model_copy(update={"rungs": (*(r for r in rungs if r < self.epochs), self.epochs)})


@dataclass(frozen=True)
class Space:
    """A checked space file."""

    name: str
    question: str
    fixed: dict[str, Any]
    tune: tuple[Parameter, ...]
    search: Plan
    rows: dict[str, dict[str, Any]] = field(default_factory=dict)  # the list that is tried, in place of `tune`

    def config(self, tuned: dict[str, Any]) -> TrialConfig:
        """Return the whole configuration of a trial; raises SettingError when it cannot be trained.

        A row leaves out what is fixed for all rows and its own variant does not have.
        """
        settings = {**self.fixed, **tuned, "optim.epochs": self.search.epochs}
        left_out = TrialConfig.ignored_in(settings) - tuned.keys() if self.rows else set()
        return TrialConfig.from_settings({name: v for name, v in settings.items() if name not in left_out})

    def reference(self) -> dict[str, Any]:
        """Return trial 0: the thesis' values of what is tuned, or the first choice where theirs is not among them.

        Of a list, its first row.
        """
        if self.rows:
            return self.listed(0)[1]
        values: dict[str, Any] = {}
        for parameter in self.tune:
            thesis = DEFAULTS[parameter.name]
            values[parameter.name] = (
                parameter.choices[0] if parameter.choices and thesis not in parameter.choices else thesis
            )
        return self.active(values)

    def listed(self, number: int) -> tuple[str, dict[str, Any]]:
        """Return the row and the settings of a list's trial: all rows with the first seed, then with the next."""
        name = list(self.rows)[number % len(self.rows)]
        first = self.config(self.rows[name]).seed
        return name, {**self.rows[name], "seed": first + number // len(self.rows)}

    def active(self, values: dict[str, Any]) -> dict[str, Any]:
        """Return `values` without the parameters whose conditions do not hold."""
        kept: dict[str, Any] = {}
        for parameter in self.tune:
            if parameter.name in values and parameter.holds({**DEFAULTS, **self.fixed, **kept}):
                kept[parameter.name] = values[parameter.name]
        return kept

    def draw(self, random: Random) -> dict[str, Any]:
        """Return one configuration at random."""
        return self.active({parameter.name: parameter.draw(random) for parameter in self.tune})

    def document(self) -> dict[str, Any]:
        """Return what makes this search this search: launches may change only trials, workers and their like."""
        loose = {"trials", "workers", "resources", "hours", "retries", "finalists", "seeds"}
        search = self.search.model_dump(mode="json", exclude=loose)
        tune = {p.name: p.document() for p in self.tune}
        return {"fixed": self.fixed, "tune": tune, **({"rows": self.rows} if self.rows else {}), "search": search}

    def digest(self) -> str:
        """Return the hash of `document`."""
        return "sha256:" + hashlib.sha256(json.dumps(self.document(), sort_keys=True).encode()).hexdigest()


def starting_point(space: Space, point: dict[str, Any]) -> dict[str, Any]:
    """Return a start point completed by the reference's values."""
    return space.active({**space.reference(), **point})
