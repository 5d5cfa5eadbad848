"""Figures of what each time step sees and is worth, each with a text that says the same to who cannot see it.

Heatmaps over the patch with right and wrong by step (Fig. 5.1, 6.2), how fine they are beside streams that learned
nothing (specification §6.7), and the accuracy of each step alone (Fig. 6.1). Colours and marks tell the same thing
twice, so that no eye depends on the colour.

n  images      T  time steps      P  pixels of a patch      h, w  cells of a map
"""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from jaxtyping import Bool, Float, UInt8
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from torch import Tensor

from fgmodel.analysis.gradcam import min_max, upsampled
from fgmodel.analysis.intervals import Interval, mean_interval
from fgmodel.palette import BLUE, GREEN, GREY, VERMILION

STEPS = (1, 2, 5, 6, 9)
"""Of Fig. 6.2; those that a model has are shown."""

Curves = Mapping[str, Interval]
"""By name ("trained", then the nulls), the mean of a measure at each step with its 95 % interval: arrays of T."""

_MEASURES = {                                  # name of `Fineness` -> axis name, factor
    "entropy": ("entropy of the map\n(1 = even)", 1.0),
    "half_max_area": ("half-max area\n(% of the patch)", 100.0),
    "area90": ("area of 90 % of the map\n(% of the patch)", 100.0),
    "iou_with_first": ("overlap with step 1\n(IoU of half-max areas)", 1.0),
}
_LINES = ((BLUE, "-", "o"), (VERMILION, "--", "s"), (GREEN, ":", "^"))


def heatmap_figure(
    patches: UInt8[np.ndarray, "n P P 3"],
    maps: Float[Tensor, "n T h w"],
    correct: Bool[np.ndarray, "n T"],
    names: Sequence[str],
    label: str = "Grad-CAM of the true class",
    truth: Float[np.ndarray, "n 4"] | None = None,
) -> Figure:
    """Return a grid, images by steps: each step's map over its patch, scaled to 0..1 by itself, with ✓ or ✗.

    `truth` is a box x1 y1 x2 y2 in pixels of the patch, dashed: the part that tells drawn birds apart, or the bird.
    """
    steps = _shown(maps.shape[1])
    size = patches.shape[1]
    heat = min_max(upsampled(maps.float().cpu(), size)).numpy()                        # n T P P  NaN: all zero
    figure, grid, beside = _grid(len(patches), 1 + len(steps))
    for number, (row, patch, of_image, right, name) in enumerate(zip(grid, patches, heat, correct, names, strict=True)):
        _bare(row[0]).imshow(patch)
        if truth is not None:
            _draw_box(row[0], truth[number], size)
        row[0].set_title(name, fontsize="small", loc="left", y=1)
        for axes, step in zip(row[1:], steps, strict=True):
            draw_heat(_bare(axes), patch, of_image[step - 1])
            _mark(axes, step, right=bool(right[step - 1]))
    colours = figure.axes[1].images[-1]
    figure.colorbar(colours, cax=beside, label=f"{label},\neach map scaled to 0..1")
    return figure


def heatmap_text(correct: Bool[np.ndarray, "n T"], names: Sequence[str]) -> str:
    """Return what the grid of heatmaps shows, in words."""
    steps = _shown(correct.shape[1])
    rows = [
        f"{name}: right at {_listed(step for step in steps if right[step - 1])}"
        for name, right in zip(names, correct, strict=True)
    ]
    return (
        f"Heatmaps of {len(names)} patches at time steps {_listed(steps)}, each with whether that step alone names the "
        f"class. {'; '.join(rows)}."
    )


def fineness_figure(panels: Mapping[str, Curves]) -> Figure:
    """Return a panel for each measure of `Fineness`: the trained stream and its nulls over time, with 95 % bands."""
    figure = new_figure(4.6 * len(panels), 3.6)
    for axes, (measure, curves) in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels.items(), strict=True):
        label, factor = _MEASURES[measure]
        for (name, interval), (colour, line, marker) in zip(curves.items(), _LINES, strict=False):
            mean, low, high = (factor * np.asarray(values) for values in interval)
            axes.plot(of_steps(mean), mean, color=colour, linestyle=line, marker=marker, markersize=4, label=name)
            axes.fill_between(of_steps(mean), low, high, color=colour, alpha=0.2, linewidth=0)
        time_axis(axes)
        axes.set_ylabel(label)
    figure.axes[0].legend(frameon=False, fontsize="small", title="mean and 95 % band", title_fontsize="small")
    return figure


def fineness_text(panels: Mapping[str, Curves]) -> str:
    """Return what the fineness figure shows, in words."""
    told = []
    for measure, curves in panels.items():
        label, factor = _MEASURES[measure]
        ends = "; ".join(f"{name} {_ends(interval, factor)}" for name, interval in curves.items())
        told.append(f"{label.replace(chr(10), ' ')}: {ends}.")
    return f"Fineness from the first to the last time step, mean and 95 % interval. {' '.join(told)}"


def accuracy_figure(correct: Bool[np.ndarray, "n T"]) -> Figure:
    """Return the accuracy of each step alone; the band is of the difference to step 1 on the same images."""
    accuracy, low, high = _accuracies(correct)
    figure = new_figure(5.2, 3.6)
    axes = figure.subplots()
    axes.axhline(accuracy[0], color=GREY, linestyle="--", linewidth=1, label="step 1")
    axes.plot(of_steps(accuracy), accuracy, color=BLUE, marker="o", markersize=4, label="step t alone")
    axes.fill_between(
        of_steps(accuracy), low, high, color=BLUE, alpha=0.2, linewidth=0, label="95 % of the difference to step 1",
    )
    time_axis(axes)
    axes.set_ylabel(f"accuracy of step t alone\n(% of {len(correct)} images)")
    axes.margins(y=0.3)
    axes.legend(frameon=False, fontsize="small")
    return figure


def accuracy_text(correct: Bool[np.ndarray, "n T"]) -> str:
    """Return what the accuracy figure shows, in words."""
    accuracy, low, high = _accuracies(correct)
    each = ", ".join(f"{value:.1f} % at t = {step}" for step, value in enumerate(accuracy, start=1))
    return (
        f"Accuracy of each time step alone on {len(correct)} images: {each}. The last step less the first: "
        f"{accuracy[-1] - accuracy[0]:+.1f} points ({low[-1] - accuracy[0]:+.1f} to {high[-1] - accuracy[0]:+.1f})."
    )


def new_figure(width: float, height: float) -> Figure:
    """Return an empty figure of so many inches."""
    figure = Figure(figsize=(width, height), dpi=100, layout="constrained")
    FigureCanvasAgg(figure)                                                            # not pyplot: it keeps every one
    return figure


def time_axis(axes: Axes) -> None:
    """Name the axis of time steps and count in whole ones."""
    axes.set_xlabel("time step t")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))


def of_steps(values: np.ndarray) -> np.ndarray:
    """Return 1..T."""
    return np.arange(1, len(values) + 1)


def _accuracies(correct: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the accuracies in %, and the accuracy of step 1 with the ends of each step's difference to it: T each."""
    right = 100 * correct.astype(float)                                                # n T
    first = right[:, 0].mean()
    difference = mean_interval(right - right[:, :1])                                   # paired: the same images
    return right.mean(axis=0), first + difference.low, first + difference.high


def draw_heat(axes: Axes, patch: np.ndarray, heat: np.ndarray) -> None:
    """Draw a map of 0..1 over a patch in grey; where it is NaN, that no cell speaks for the class."""
    grey = patch.mean(axis=2)
    axes.imshow(grey, cmap="gray", vmin=0, vmax=255)
    axes.imshow(heat, cmap="viridis", vmin=0, vmax=1, alpha=0.6)
    if np.isnan(heat).all():
        axes.text(0.5, 0.5, "all zero", transform=axes.transAxes, ha="center", va="center", backgroundcolor="white")


def _draw_box(axes: Axes, box: np.ndarray, size: int) -> None:
    x1, y1, x2, y2 = np.clip(box, 1, size - 2)   # a side outside the patch is drawn at its edge
    for colour, style in (("black", "-"), ("white", "--")):
        axes.plot([x1, x2, x2, x1, x1], [y1, y1, y2, y2, y1], color=colour, linestyle=style, linewidth=1.5)


def _mark(axes: Axes, step: int, *, right: bool) -> None:
    axes.set_title(f"t = {step} {'✓' if right else '✗'}", fontsize="medium", color=BLUE if right else VERMILION, y=1)


def _grid(rows: int, columns: int) -> tuple[Figure, np.ndarray, Axes]:
    """Return a figure, its axes for pictures under titles of two lines, and one for the colours beside them.

    Placed by hand: a layout that measures dozens of axes takes longer than what is drawn in them.
    """
    width, height = 1.5 * columns + 1.1, 1.68 * rows + 0.55                             # inches
    figure = new_figure(width, height)
    figure.set_layout_engine("none")
    edges = {"left": 0.1 / width, "right": 1.5 * columns / width, "bottom": 0.12 / height, "top": 1 - 0.42 / height}
    bare, gaps = {"xticks": (), "yticks": ()}, {"wspace": 0.07, "hspace": 0.29}
    grid = figure.subplots(rows, columns, squeeze=False, subplot_kw=bare, gridspec_kw={**edges, **gaps})
    return figure, grid, figure.add_axes(((1.5 * columns + 0.15) / width, 0.2, 0.15 / width, 0.6))


def _bare(axes: Axes) -> Axes:
    axes.set_axis_off()
    return axes


def _shown(count: int) -> tuple[int, ...]:
    """Return the thesis' steps, the last one where they stop before it, or all of a few."""
    if count <= len(STEPS):
        return tuple(range(1, count + 1))
    shown = tuple(step for step in STEPS if step <= count)
    return shown if len(shown) == len(STEPS) or shown[-1] == count else (*shown, count)


def _ends(interval: Interval, factor: float) -> str:
    first, last = ([factor * np.asarray(values)[k] for values in interval] for k in (0, -1))
    return " to ".join("{:.3g} ({:.3g} to {:.3g})".format(*end) for end in (first, last))


def _listed(steps: Iterable[int]) -> str:
    return ", ".join(map(str, steps)) or "none"
