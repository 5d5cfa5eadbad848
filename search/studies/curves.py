"""Figure 6.1 and the like: a study's accuracies by time step, ours with their spread over seeds beside the published.

T  time steps      S  seeds
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from matplotlib.figure import Figure

from fgmodel.analysis.step_figures import new_figure, time_axis
from fgmodel.palette import BLUE, GREEN, GREY, VERMILION
from search.studies.study import Row, Study

_LINES = ((BLUE, "-", "o"), (VERMILION, "--", "s"), (GREEN, "-.", "^"), (GREY, ":", "D"))
_HOW = {"sum": "sum of steps 1 to t", "mean": "mean of steps 1 to t", "alone": "step t alone"}


@dataclass
class _Curve:
    steps: list[int] = field(default_factory=list)
    ours: list[tuple[float, ...]] = field(default_factory=list)        # T S  percent
    published: list[float | None] = field(default_factory=list)        # T


def curves_figure(study: Study, rows: Sequence[Row]) -> Figure | None:
    """Return accuracy over time steps, a curve a trained row and way to read it; None where there are no such rows."""
    curves = _curves(study, rows)
    if not curves:
        return None
    figure = new_figure(7.2, 4.4)
    axes = figure.subplots()
    for (name, curve), (colour, line, marker) in zip(curves.items(), 2 * _LINES, strict=False):
        mean = np.array([np.mean(values) for values in curve.ours])
        axes.plot(curve.steps, mean, color=colour, linestyle=line, marker=marker, markersize=4, label=f"{name}, ours")
        if all(len(values) > 1 for values in curve.ours):
            sd = np.array([np.std(values, ddof=1) for values in curve.ours])
            axes.fill_between(curve.steps, mean - sd, mean + sd, color=colour, alpha=0.15, linewidth=0)
    for how, (steps, published) in _published(curves).items():
        axes.plot(steps, published, color="black", linestyle=":", marker="x", label=f"{how}, thesis")
    time_axis(axes)
    axes.set_ylabel(f"test accuracy (%, {rows[0].images} images)\nmean and sd over seeds")
    axes.legend(frameon=False, fontsize="small")
    return figure


def _published(curves: dict[str, _Curve]) -> dict[str, tuple[list[int], list[float]]]:
    """Return the published curves by how they read a model: once, though several of ours stand beside one."""
    known = {
        name.partition(": ")[2]: (curve.steps, [value for value in curve.published if value is not None])
        for name, curve in curves.items()
    }
    return {how: (steps, values) for how, (steps, values) in known.items() if len(values) == len(steps)}


def _curves(study: Study, rows: Sequence[Row]) -> dict[str, _Curve]:
    """Return the rows that read a trained row at a time step, by that row and how they read it."""
    curves: dict[str, _Curve] = {}
    for row in rows:
        said = study.rows[row.name]
        reading, _, step = said.metric.removeprefix("test/accuracy_").partition("/")
        if not (said.of and step.isdecimal() and row.values):
            continue
        how = _HOW[reading.removesuffix("_local")] + (" (local stream)" if reading.endswith("_local") else "")
        curve = curves.setdefault(f"{said.of}: {how}", _Curve())
        curve.steps.append(int(step))
        curve.ours.append(row.values)
        curve.published.append(row.published)
    return {name: curve for name, curve in curves.items() if len(curve.steps) > 1}
