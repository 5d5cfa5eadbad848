"""A space file: what is fixed, what is tuned and how the search runs; or the file, line, key and remedy.

fixed:  {data.dataset: finches, model.freeze_backbones: true}
tune:   {loss.margin: {low: 0.0, high: 1.0, when: {loss.lambda_rank: "> 0"}}}
search: {objective: val/accuracy, trials: 32, epochs: 27}

In place of `tune`, `rows` lists configurations by name, each tried with every seed: {one step: {model.time_steps: 1}}.
"""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from itertools import pairwise
from pathlib import Path
from random import Random
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from fgmodel.config import DEFAULTS, TrialConfig, require_setting
from search.errors import Problems, SettingError
from search.parameter import Parameter, read_parameter
from search.yaml_file import Document, read_document, read_set

PARTS = ("fixed", "tune", "rows", "search", "study")
DRAWS = 256  # configurations drawn by `check` to find combinations that cannot be trained


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class Sampler(_Frozen):
    """Who proposes configurations."""

    name: Literal["tpe", "random", "gp", "cmaes"] = "tpe"  # Optuna's
    seed: int = Field(0, ge=0)  # of what is proposed and drawn


class Resources(_Frozen):
    """What one trial holds while it trains."""

    cpu: float = Field(1, gt=0)  # cores
    gpu: float = Field(0, ge=0)  # a fraction shares a GPU between trials


class Search(_Frozen):
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
    search: Search
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


def read_space(path: Path, overrides: Iterable[str] = ()) -> Space:
    """Return the search a file describes with `overrides` ("key=value"); raises Problems naming every wrong line."""
    document = _override(read_document(path), overrides)
    space = _assemble(path.stem, document)
    _try_out(space, document)
    return space


def stored_space(name: str, question: str, values: dict[str, Any]) -> Space:
    """Return the space that `Space.document` was taken of."""
    return _assemble(name, Document(f"journal of search '{name}'", values, {}, question))  # of which it is line 1


def _assemble(name: str, document: Document) -> Space:
    problems = [
        f"{document.where(key)}: '{key}' is not a part of a space file; it has {', '.join(PARTS)}{_near(key, PARTS)}"
        for key in document.values
        if key not in PARTS
    ]
    problems += [
        f"{document.where(part)}: '{part}' must hold settings"
        for part in PARTS
        if not isinstance(document.values.get(part, {}), dict)
    ]
    if problems:
        raise Problems(problems)
    search = _search(document, problems)
    fixed = _fixed(document, problems)
    tune = _tune(document, problems)
    rows = _rows(document, problems)
    if problems or search is None:
        raise Problems(problems)
    if rows:
        search = search.model_copy(update={"trials": len(rows) * search.seeds, "rungs": (search.epochs,)})
    return Space(name, document.remark, fixed, tune, search, rows)


def _rows(document: Document, problems: list[str]) -> dict[str, dict[str, Any]]:
    rows: dict[str, dict[str, Any]] = document.values.get("rows", {})
    if rows and document.values.get("tune"):
        problems.append(f"{document.where('rows')}: 'rows' lists configurations and 'tune' draws them; leave one out")
    for name, settings in rows.items():
        where = document.where("rows", name)
        if not isinstance(settings, dict):
            problems.append(f"{where}: 'rows': '{name}' must hold settings, {{}} for none")
            continue
        for key, value in settings.items():
            problems.extend(_refusal(document.where("rows", name, key), key, value))
    return rows


def _override(document: Document, overrides: Iterable[str]) -> Document:
    values = {**{part: {} for part in PARTS}, **document.values}
    lines = dict(document.lines)
    for text in overrides:
        name, value = read_set(text)
        part, keys = ("search", tuple(name.split(".")[1:])) if name.startswith("search.") else ("fixed", (name,))
        values[part] = _put(values[part], keys, value)
        lines[part, *keys] = 0
        if part == "fixed":
            values = _untuned(values, name)
    return replace(document, values=values, lines=lines)


def _untuned(values: dict[str, Any], name: str) -> dict[str, Any]:
    """Return the file's values with `name` taken from what is tuned and from the start points."""
    tune, search = values["tune"], values["search"]
    if isinstance(tune, dict):
        values = {**values, "tune": {k: v for k, v in tune.items() if k != name}}
    if isinstance(search, dict) and isinstance(search.get("start"), list):
        points = [{k: v for k, v in p.items() if k != name} if isinstance(p, dict) else p for p in search["start"]]
        values = {**values, "search": {**search, "start": points}}
    return values


def _put(tree: Any, keys: tuple[str, ...], value: object) -> dict[str, Any]:  # noqa: ANN401 YAML
    copy: dict[str, Any] = dict(tree) if isinstance(tree, dict) else {}
    copy[keys[0]] = _put(copy.get(keys[0]), keys[1:], value) if keys[1:] else value
    return copy


def _search(document: Document, problems: list[str]) -> Search | None:
    given = dict(document.values.get("search", {}))
    for key in ("rungs", "start"):
        if isinstance(given.get(key), list):
            given[key] = tuple(given[key])
    try:
        search = Search(**given)
    except ValidationError as error:
        problems.extend(_search_problem(document, detail) for detail in error.errors())
        return None
    rungs = search.rungs
    trimmed = document.lines.get(("search", "epochs")) == 0
    if any(a >= b for a, b in pairwise(rungs)) or (rungs and rungs[0] < 1):
        problems.append(f"{document.where('search', 'rungs')}: 'search.rungs' must rise from 1 or more, as 1, 3, 9, 27")
    elif rungs and rungs[-1] != search.epochs and not trimmed:
        problems.append(
            f"{document.where('search', 'rungs')}: 'search.rungs' must end at search.epochs, {search.epochs}"
        )
    return search.with_rungs()


def _search_problem(document: Document, detail: Any) -> str:  # noqa: ANN401 pydantic's mapping
    keys = tuple(str(key) for key in detail["loc"])
    name, where = ".".join(("search", *keys)), document.where("search", *keys)
    if detail["type"] == "extra_forbidden":
        known = Sampler if keys[0] == "sampler" else Resources if keys[0] == "resources" else Search
        return f"{where}: '{name}' is not a setting{_near(keys[-1], known.model_fields)}"
    must = detail["msg"].removeprefix("Input ").replace("should", "must").replace("a valid tuple", "a list")
    return f"{where}: '{name}': {detail['input']!r} is wrong: {must}"


def _fixed(document: Document, problems: list[str]) -> dict[str, Any]:
    fixed = dict(document.values.get("fixed", {}))
    for name, value in fixed.items():
        where = document.where("fixed", name)
        if name == "optim.epochs":
            problems.append(f"{where}: 'optim.epochs' is 'search.epochs' in a space file; set that")
        elif name in document.values.get("tune", {}):
            problems.append(f"{where}: '{name}' is both fixed and tuned; leave one of them out")
        else:
            problems.extend(_refusal(where, name, value))
    return fixed


def _tune(document: Document, problems: list[str]) -> tuple[Parameter, ...]:
    given = document.values.get("tune", {})
    parameters = [read_parameter(document, name, problems) for name in given]
    tune = tuple(p for p in parameters if p)
    for parameter in tune:
        for value in parameter.ends():
            problems.extend(_refusal(document.where("tune", parameter.name), parameter.name, value))
    return _ordered(tune, document, problems)


def _ordered(tune: tuple[Parameter, ...], document: Document, problems: list[str]) -> tuple[Parameter, ...]:
    """Put parameters after those their conditions read; report conditions that can never hold."""
    known = {p.name: p for p in tune}
    fixed = {**DEFAULTS, **document.values.get("fixed", {})}
    ordered: list[Parameter] = []
    waiting = list(tune)
    while waiting:
        done = {p.name for p in ordered}
        ready = [p for p in waiting if all(c.name not in known or c.name in done for c in p.when)]
        if not ready:
            where = document.where("tune", waiting[0].name, "when")
            problems.append(
                f"{where}: the conditions of {' and '.join(repr(p.name) for p in waiting)} wait for each other"
            )
            return tuple(tune)
        ordered += ready
        waiting = [p for p in waiting if p not in ready]
    for parameter in ordered:
        for condition in parameter.when:
            reachable = known[condition.name].can(condition) if condition.name in known else condition.holds(fixed)
            if not reachable:
                where = document.where("tune", parameter.name, "when", condition.name)
                problems.append(
                    f"{where}: 'when {condition}' can never hold, so '{parameter.name}' would never be tuned"
                )
    return tuple(ordered)


def _refusal(where: str, name: str, value: object) -> list[str]:
    try:
        require_setting(name)
        TrialConfig.from_settings({name: value})
    except SettingError as error:
        return [] if "would be ignored" in str(error) else [f"{where}: {error}"]  # judged with the rest, in _try_out
    return []


def _try_out(space: Space, document: Document) -> None:
    """Build the reference, the start points and some draws, so that no trial fails for its settings later."""
    random = Random(0)  # noqa: S311 not a secret
    for point in space.search.start:
        unknown = [name for name in point if name not in {p.name for p in space.tune}]
        if unknown:
            where = document.where("search", "start")
            raise Problems([f"{where}: '{unknown[0]}' is not tuned here; start points give tuned settings"])
    for number, name in enumerate(space.rows):
        try:
            space.config(space.listed(number)[1])
        except SettingError as error:
            raise Problems([f"{document.where('rows', name, error.name)}: {error}"]) from None
    points = [space.reference(), *(starting_point(space, p) for p in space.search.start)]
    for values in [*points, *(space.draw(random) for _ in range(DRAWS))]:
        try:
            config = space.config(values)
        except SettingError as error:
            part = "tune" if error.name in values else "fixed"
            raise Problems([f"{document.where(part, error.name)}: {error}"]) from None
        if space.search.objective == "val/accuracy_local" and config.model.local_stream == "none":
            where = document.where("search", "objective")
            raise Problems([f"{where}: 'val/accuracy_local' is not measured where model.local_stream is none"])


def starting_point(space: Space, point: dict[str, Any]) -> dict[str, Any]:
    """Return a start point completed by the reference's values."""
    return space.active({**space.reference(), **point})


def _near(key: str, known: Iterable[str]) -> str:
    near = get_close_matches(key, list(known), n=1)
    return f"; did you mean '{near[0]}'?" if near else ""
