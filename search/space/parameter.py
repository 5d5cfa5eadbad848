"""One tuned setting: its range or choices, and the conditions under which it is tuned at all."""

import math
import operator
from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Any

from fgmodel.config import require_setting, setting_type
from search.errors import SettingError
from search.space.yaml_lines import Document

_COMPARE: dict[str, Callable[[Any, Any], bool]] = {
    ">=": operator.ge,
    "<=": operator.le,
    "==": operator.eq,
    "!=": operator.ne,
    ">": operator.gt,
    "<": operator.lt,
}
_KEYS = ("low", "high", "log", "step", "choices", "when")
_FINEST = 1_000_000  # steps in a range


@dataclass(frozen=True)
class Condition:
    """A comparison of another setting with a constant, e.g. `loss.lambda_rank > 0`."""

    name: str
    compare: str
    value: Any

    def holds(self, settings: dict[str, Any]) -> bool:
        """Whether the comparison is true in `settings`; a setting that is null is neither above nor below anything."""
        given = settings[self.name]
        if self.compare not in ("==", "!=") and not isinstance(given, (int, float)):
            return False
        return _COMPARE[self.compare](given, self.value)

    def __str__(self) -> str:
        return f"{self.name} {self.compare} {_written(self.value)}"


@dataclass(frozen=True)
class Parameter:
    """A range (`low`, `high`, perhaps `log` or `step`) or a list of choices."""

    name: str
    low: float | int = 0
    high: float | int = 0
    log: bool = False
    step: float | int | None = None
    choices: tuple[Any, ...] = ()
    when: tuple[Condition, ...] = ()

    @property
    def whole(self) -> bool:
        """Whether the range holds whole numbers, both ends included."""
        return setting_type(self.name) is int

    def holds(self, settings: dict[str, Any]) -> bool:
        """Whether every condition is true in `settings`."""
        return all(condition.holds(settings) for condition in self.when)

    def ends(self) -> tuple[Any, ...]:
        """Return the values that must be allowed for all between them to be."""
        return self.choices or (self.low, self.high)

    def contains(self, value: Any) -> bool:  # noqa: ANN401 any setting
        """Whether the parameter can take `value`."""
        if self.choices:
            return value in self.choices
        return isinstance(value, (int, float)) and self.low <= value <= self.high

    def can(self, condition: Condition) -> bool:
        """Whether some value of this parameter meets `condition`."""
        if condition.compare == "==" and not self.choices:
            return self.contains(condition.value)
        return any(condition.holds({self.name: value}) for value in self.ends())

    def draw(self, random: Random) -> Any:  # noqa: ANN401 any setting
        """Return a value at random, uniform in the range or in its logarithm."""
        if self.choices:
            return random.choice(self.choices)
        if self.whole and not self.log:
            return random.randrange(int(self.low), int(self.high) + 1, int(self.step or 1))
        if self.step:
            return self.low + self.step * random.randint(0, math.floor((self.high - self.low) / self.step + 1e-9))
        if self.log:
            value = math.exp(random.uniform(math.log(self.low), math.log(self.high)))
            return min(max(round(value) if self.whole else value, self.low), self.high)
        return random.uniform(self.low, self.high)

    def document(self) -> dict[str, Any]:
        """Return the parameter as the space file gives it."""
        shape: dict[str, Any] = (
            {"choices": list(self.choices)} if self.choices else {"low": self.low, "high": self.high}
        )
        shape |= {"log": True} if self.log else {}
        shape |= {"step": self.step} if self.step else {}
        return shape | ({"when": {c.name: f"{c.compare} {_written(c.value)}" for c in self.when}} if self.when else {})


def read_parameter(document: Document, name: str, problems: list[str]) -> Parameter | None:
    """Return the parameter under `tune`, or None with its mistakes added to `problems`."""
    given, mistakes = document.values["tune"][name], []
    try:
        require_setting(name)
    except SettingError as error:
        mistakes.append(str(error))
    else:
        mistakes = [f"'{name}': use search.epochs"] if name == "optim.epochs" else _mistakes(name, given)
    where = document.where("tune", name)
    problems.extend(f"{where}: {mistake}" for mistake in mistakes)
    when = _conditions(document, name, given, problems) if isinstance(given, dict) else ()
    if mistakes:
        return None
    if "choices" in given:
        return Parameter(name, choices=tuple(given["choices"]), when=when)
    return Parameter(name, given["low"], given["high"], given.get("log", False), given.get("step"), when=when)


def _mistakes(name: str, given: object) -> list[str]:
    if not isinstance(given, dict):
        return [
            f"'{name}': {given!r} is no range; write {{low: …, high: …}} or {{choices: […]}}, or move it to 'fixed'"
        ]
    unknown = [
        f"'{name}': '{key}' is not part of a range; it has {', '.join(_KEYS)}" for key in given if key not in _KEYS
    ]
    if unknown:
        return unknown
    if "choices" in given:
        return _choice_mistakes(name, given)
    return _range_mistakes(name, given)


def _choice_mistakes(name: str, given: dict[str, Any]) -> list[str]:
    choices = given["choices"]
    if not isinstance(choices, list) or not choices:
        return [f"'{name}': 'choices' must be a list that is not empty"]
    if extra := [key for key in ("low", "high", "log", "step") if key in given]:
        return [f"'{name}': has 'choices' and '{extra[0]}'; keep one of them"]
    if any(isinstance(c, (list, dict)) for c in choices):
        return [f"'{name}': a choice must be a plain value"]
    return [f"'{name}': a choice is listed twice"] if len(set(choices)) < len(choices) else []


def _range_mistakes(name: str, given: dict[str, Any]) -> list[str]:
    kind = setting_type(name)
    if kind not in (int, float):
        return [f"'{name}' is not a number; give 'choices'"]
    for key in ("low", "high", *(["step"] if "step" in given else [])):
        if key not in given:
            return [f"'{name}': '{key}' is missing; a range has low and high"]
        if mistake := _number_mistake(name, key, given[key], kind):
            return [mistake]
    low, high, log = given["low"], given["high"], given.get("log", False)
    if low >= high:
        return [
            f"'{name}': the range {low} … {high} is {'empty' if low == high else 'reversed'}; low must be below high"
        ]
    if not isinstance(log, bool):
        return [f"'{name}': 'log' is {log!r}; write true or false"]
    if log and low <= 0:
        return [f"'{name}': a logarithmic range must start above 0, not at {low}"]
    return _step_mistakes(name, given) if "step" in given else []


def _step_mistakes(name: str, given: dict[str, Any]) -> list[str]:
    low, high, step = given["low"], given["high"], given["step"]
    if given.get("log", False):
        return [f"'{name}': a logarithmic range has no step"]
    if not 0 < step <= high - low:
        return [f"'{name}': the step {step} does not fit in {low} … {high}"]
    if (high - low) / step > _FINEST:
        return [f"'{name}': the step {step} cuts {low} … {high} into more than {_FINEST:,} parts; leave it out"]
    return []


def _number_mistake(name: str, key: str, value: object, kind: type) -> str | None:
    if isinstance(value, str):
        try:
            return f"'{name}': '{key}': {value!r} is text to YAML; write {float(value)!r}"
        except ValueError:
            return f"'{name}': '{key}': {value!r} is text; write a number"
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        return f"'{name}': '{key}': {value!r} is not a number"
    if kind is int and not isinstance(value, int):
        return f"'{name}': '{key}': {value!r} must be a whole number"
    return None


def _written(value: object) -> str:
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def _conditions(document: Document, name: str, given: dict[str, Any], problems: list[str]) -> tuple[Condition, ...]:
    when = given.get("when", {})
    if not isinstance(when, dict):
        where = document.where("tune", name, "when")
        problems.append(f"{where}: '{name}': 'when' must be a mapping, as {{loss.lambda_rank: \"> 0\"}}")
        return ()
    conditions = []
    for other, text in when.items():
        where = document.where("tune", name, "when", other)
        try:
            require_setting(other)
            conditions.append(_condition(other, text))
        except SettingError as error:
            problems.append(f"{where}: {error}")
    return tuple(conditions)


def _condition(name: str, given: object) -> Condition:
    """Return the comparison that a text says, as '> 0', or a plain value, which is compared by ==."""
    text = given if isinstance(given, str) else _written(given)
    compare = next((c for c in _COMPARE if text.startswith(c)), "==")
    value, kind = text.removeprefix(compare).strip(), setting_type(name)
    if kind in (str, bool) or value == "null":
        if compare not in ("==", "!="):
            raise SettingError(name, f"'{name}' is not a number; '{text}' must use == or !=")
        if kind is bool and value not in ("true", "false"):
            raise SettingError(name, f"'{name}' is true or false, not '{value}'")
        return Condition(name, compare, None if value == "null" else value == "true" if kind is bool else value)
    try:
        number = float(value)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise SettingError(name, f"'{name}': '{text}' is not a comparison with a number, as '> 0'")
    return Condition(name, compare, number)
