"""How settings and measures are called and written wherever a person reads them: terminal, MLflow, report."""

import math
from typing import Any

from search.space.space import Space

SHORT = {
    "loss.lambda_rank": "λ",
    "loss.lambda_local": "λ'",
    "loss.margin": "margin",
    "model.time_steps": "T",
    "optim.lr_global": "lr glob",
    "optim.lr_local": "lr loc",
}
SPOKEN = {
    "val/accuracy": "validation accuracy",
    "val/accuracy_global": "validation accuracy of the global stream",
    "val/accuracy_local": "validation accuracy of the local stream",
    "val/nll": "validation nll",
    "test/accuracy": "test accuracy",
}


def sign(name: str) -> str:
    """Return a setting's short sign, or its name where it has none."""
    return SHORT.get(name, name)


def label(name: str, mark: str = "") -> str:
    """Return a setting's sign and its name, which stands between two of `mark`."""
    whole = f"{mark}{name}{mark}"
    return f"{SHORT[name]} ({whole})" if name in SHORT else whole


def number(value: object) -> str:
    """Return a setting or a measure as a person writes it."""
    if isinstance(value, bool) or value is None:
        return str(value).lower() if value is not None else "–"
    if isinstance(value, float):
        return "–" if math.isnan(value) else f"{value:.3g}"
    return str(value)


def configuration(space: Space, settings: dict[str, Any]) -> str:
    """Return what is tuned in a line, as λ 1.26, T 9."""
    names = [p.name for p in space.tune] or list(settings)
    return ", ".join(f"{sign(name)} {number(settings[name])}" for name in names if name in settings)
