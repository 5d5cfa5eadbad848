"""What `fgsearch check --json` says of a shipped space, but for what depends on the machine, the hour, or data that are not here."""

import json
from difflib import unified_diff
from pathlib import Path
from typing import Any

from fgmodel.config import DataConfig
from fgmodel.data.datasets import cut_validation, open_dataset
from fgmodel.data.splits import split_hash
from search.decide.forecast import expected_epochs
from search.run.check import Report
from search.space.file import read_space
from search.space.shipped import shipped
from search.space.space import Space

FOLDER = Path(__file__).parent


def resolved(name: str, cache: Path) -> dict[str, Any]:
    """Return the settings of trial 0, what is tuned and how the search runs; of drawn data their part; of a list its rows."""
    space = read_space(shipped()[name])
    config = space.config(space.reference())
    drawn = config.data.dataset == "finches"   # whose split is the same everywhere
    images, classes, split = _data(config.data, cache) if drawn else (0, 0, "")
    epochs = expected_epochs(space.search)
    report = Report(space, config, images, classes, split, to_prepare=(), epoch_seconds=0.0, epochs=epochs)
    said = {key: part for key, part in report.document().items() if key != "data" or drawn}
    return {**said, "forecast": {"epochs": epochs}, **({"rows": _rows(space)} if space.rows else {})}


def as_text(document: dict[str, Any]) -> str:
    return json.dumps(document, indent=1, ensure_ascii=False) + "\n"


def difference(name: str, was: str, now: str) -> str:
    """Return, for a person, what a space no longer comes to and what it comes to now."""
    lines = unified_diff(was.splitlines(), now.splitlines(), f"tests/golden/{name}.json", "what it comes to now", n=1, lineterm="")
    return "\n".join([f"the shipped space '{name}' no longer means what it meant:", *lines, "if that is meant: make golden, and commit what it writes"])


def _data(data: DataConfig, cache: Path) -> tuple[int, int, str]:
    dataset = open_dataset(data, cache)
    return dataset.rows("train").size, len(dataset.classes), split_hash(dataset.names_of("train"), cut_validation(dataset, data))


def _rows(space: Space) -> dict[str, dict[str, Any]]:
    """Return in what each row differs from the first."""
    first = space.config(space.reference()).settings()
    configs = {name: space.config(space.listed(number)[1]).settings() for number, name in enumerate(space.rows)}
    return {name: {key: value for key, value in config.items() if value != first[key]} for name, config in configs.items()}
