"""The one look at the test split, with everything a study reads from it: a look is not repeated for another table.

n  images of the test split      T  time steps
"""

from dataclasses import dataclass
from pathlib import Path
from typing import IO, get_args

import numpy as np

from fgmodel.arrays import read_npz
from fgmodel.model import fusion_weight
from fgmodel.posthoc import How, by_step
from fgmodel.training import Run
from fgmodel.trial_data import TrialData


@dataclass(frozen=True)
class Look:
    """Metrics by name; predictions (n,) or (n,T) by the metric's name without `test/accuracy`, e.g. "" or "_sum"."""

    metrics: dict[str, float]
    predictions: dict[str, np.ndarray]
    labels: np.ndarray                  # (n,)

    def write(self, file: IO[bytes]) -> None:
        """Write the predictions as npz, for paired tests."""
        named = {f"predictions{name}": held for name, held in self.predictions.items()}
        np.savez(file, allow_pickle=False, labels=self.labels, **named)


def right(path: Path, metric: str) -> np.ndarray:
    """Return of each image whether a look told it right, in the reading that `metric` names, e.g. test/accuracy_sum/03.

    Raises OSError; ValueError: where the file is none of a look, or has no such reading.
    """
    name, _, step = metric.removeprefix("test/accuracy").partition("/")
    held = read_npz(path)
    labels, predictions = held.get("labels"), held.get(f"predictions{name}")
    if labels is None or predictions is None or labels.ndim != 1:
        raise ValueError(f"it has no '{metric}'")
    if step:
        steps = predictions.shape[1] if predictions.ndim > 1 else 0
        if not (step.isdecimal() and 1 <= int(step) <= steps):
            raise ValueError(f"it has no '{metric}', only {steps} steps")
        predictions = predictions[:, int(step) - 1]
    if predictions.shape != labels.shape:
        raise ValueError(f"its '{metric}' is not of its images")
    return np.asarray(predictions == labels)


def look(run: Run, test: TrialData) -> Look:
    """Return what a run trained on a single fold says of the test split, also read by time step (posthoc)."""
    result = run.test(test)
    metrics = result.measures("test")
    predictions = {"": result.predictions, "_global": result.predictions_global}
    if result.predictions_local is not None:
        predictions["_local"] = result.predictions_local
    if run.config.model.local_stream == "lstm":
        states = run.states(test)
        for how in get_args(How):
            found = by_step(how, states, fusion_weight(run.config), run.config.model.fusion)
            for name, values in ((f"_{how}", found.fused), (f"_{how}_local", found.local)):
                metrics |= {f"test/accuracy{name}/{t:02d}": float(v) for t, v in enumerate(values, start=1)}
            predictions |= {f"_{how}": found.predictions_fused[:, 0], f"_{how}_local": found.predictions_local[:, 0]}
    return Look(metrics, predictions, result.labels)
