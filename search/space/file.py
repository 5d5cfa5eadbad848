"""A space file: what is fixed, what is tuned and how the search runs; or the file, line, key and remedy.

fixed:  {data.dataset: finches, model.freeze_backbones: true}
tune:   {loss.margin: {low: 0.0, high: 1.0, when: {loss.lambda_rank: "> 0"}}}
search: {objective: val/accuracy, trials: 32, epochs: 27}

In place of `tune`, `rows` lists configurations by name, each tried with every seed: {one step: {model.time_steps: 1}}.
"""

from collections.abc import Iterable
from dataclasses import replace
from difflib import get_close_matches
from itertools import pairwise
from pathlib import Path
from random import Random
from typing import Any

from pydantic import ValidationError

from fgmodel.config import DEFAULTS, TrialConfig, require_setting
from fgmodel.frozen import Wrong, mistakes
from search.errors import Problems, SettingError
from search.space.parameter import Parameter, read_parameter
from search.space.space import Plan, Resources, Sampler, Space, starting_point
from search.space.yaml_lines import Document, read_document, read_set

PARTS = ("fixed", "tune", "rows", "search", "study")
DRAWS = 256  # configurations drawn by `check` to find combinations that cannot be trained


def read_space(path: Path, overrides: Iterable[str] = ()) -> Space:
    """Return the search a file describes with `overrides` ("key=value"); raises Problems naming every wrong line."""
    document = override(read_document(path), map(read_set, overrides))
    space = assemble(path.stem, document)
    try_out(space, document)
    return space


def stored_space(name: str, question: str, values: dict[str, Any]) -> Space:
    """Return the space that `Space.document` was taken of."""
    return assemble(name, Document(f"journal of search '{name}'", values, {(): 1}, question))


def assemble(name: str, document: Document) -> Space:
    """Return the space that a document describes; raises Problems naming every mistake."""
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


def override(document: Document, settings: Iterable[tuple[str, Any]]) -> Document:
    """Return a document with settings put in place of its own: fixed ones, or `search.` ones."""
    values = {**{part: {} for part in PARTS}, **document.values}
    lines = dict(document.lines)
    for name, value in settings:
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


def _search(document: Document, problems: list[str]) -> Plan | None:
    given = dict(document.values.get("search", {}))
    for key in ("rungs", "start"):
        if isinstance(given.get(key), list):
            given[key] = tuple(given[key])
    try:
        search = Plan(**given)
    except ValidationError as error:
        problems.extend(_search_problem(document, wrong) for wrong in mistakes(error))
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


def _search_problem(document: Document, wrong: Wrong) -> str:
    named = document.named("search", *wrong.keys)
    if wrong.kind == "extra_forbidden":
        known = Sampler if wrong.keys[0] == "sampler" else Resources if wrong.keys[0] == "resources" else Plan
        return f"{named} is not a setting{_near(wrong.keys[-1], known.model_fields)}"
    return f"{named}: {wrong.given!r} is wrong: {wrong.must}"


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
        return [] if "would be ignored" in str(error) else [f"{where}: {error}"]  # judged with the rest, in try_out
    return []


def try_out(space: Space, document: Document) -> None:
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


def _near(key: str, known: Iterable[str]) -> str:
    near = get_close_matches(key, list(known), n=1)
    return f"; did you mean '{near[0]}'?" if near else ""
