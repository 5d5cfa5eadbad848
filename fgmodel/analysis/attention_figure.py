"""How a trial attended over time, as a figure: α, what the states say beside it, and how α came about.

α alone misleads: the patch is the same at every step, so the LSTM's state settles, and once h_t is nearly h_T it no
longer matters which of them is weighted. So the cosine of the states stands beneath α, and beneath that how well each
step classifies alone (thesis.md §6.4, §6.5, §9 "Attention").

T  time steps
"""

from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from fgmodel.palette import BLUE, GREEN, GREY, VERMILION

Metrics = Mapping[int, Mapping[str, float]]


def attention_figure(metrics_by_epoch: Metrics, title: str) -> Figure:
    """Return α over time steps with the state cosine and each step's accuracy beneath, and α over epochs beside them.

    `metrics_by_epoch` holds `fgmodel.metrics.measures` by epoch; the left column shows the last one.
    Raises ValueError when the last epoch has no `attention/alpha/01`.
    """
    epochs = sorted(metrics_by_epoch)
    last = metrics_by_epoch[epochs[-1]] if epochs else {}
    alpha = _by_step(last, "attention/alpha")                                # T
    if not len(alpha):
        raise ValueError("the last epoch has no metric 'attention/alpha/01'")
    figure = Figure(figsize=(10, 6.5), dpi=100)
    FigureCanvasAgg(figure)                                                  # not pyplot: it keeps every figure
    figure.suptitle(title)
    axes = figure.subplot_mosaic([["alpha", "epochs"], ["cosine", "epochs"], ["accuracy", "epochs"]],
                                 height_ratios=(2, 1, 1), width_ratios=(1, 1.1))
    # Placed by hand: matplotlib's own layouts take as long again, and a search draws many of these.
    figure.subplots_adjust(left=0.1, right=0.96, bottom=0.08, top=0.89, wspace=0.17, hspace=0.12)
    for name in ("alpha", "cosine"):
        axes[name].sharex(axes["accuracy"])
        axes[name].tick_params(labelbottom=False)
    _draw_alpha(axes["alpha"], alpha, epochs[-1])
    _draw_cosine(axes["cosine"], _by_step(last, "attention/state_cosine"))
    _draw_accuracy(axes["accuracy"], _by_step(last, "val/accuracy_step"), last.get("val/accuracy_local"))
    _draw_epochs(axes["epochs"], metrics_by_epoch, len(alpha))
    return figure


def _by_step(metrics: Mapping[str, float], name: str) -> np.ndarray:
    steps = sorted(key for key in metrics if key.startswith(f"{name}/"))     # 01, 02, …: two digits sort as numbers do
    return np.array([metrics[key] for key in steps])                        # T


def _draw_alpha(axes: Axes, alpha: np.ndarray, epoch: int) -> None:
    axes.bar(_steps(alpha), alpha, width=0.7, color=BLUE)
    axes.axhline(1 / len(alpha), color=GREY, linestyle="--", linewidth=1, label="uniform, 1/T")
    axes.set(title=f"epoch {epoch}", ylabel="attention α", ylim=(0, 1.25 * max(*alpha, 1 / len(alpha))))
    axes.legend(frameon=False, loc="upper left", fontsize="small")


def _draw_cosine(axes: Axes, cosine: np.ndarray) -> None:
    axes.plot(_steps(cosine), cosine, color=VERMILION, marker="o", markersize=4)
    axes.axhline(1, color=GREY, linestyle="--", linewidth=1)
    axes.set(ylabel="cos(h$_t$, h$_T$)")
    axes.margins(y=0.25)


def _draw_accuracy(axes: Axes, accuracy: np.ndarray, local: float | None) -> None:
    axes.plot(_steps(accuracy), accuracy, color=GREEN, marker="s", markersize=4)
    if local is not None:
        axes.axhline(local, color=GREY, linestyle="--", linewidth=1, label="all steps, by α")
        axes.legend(frameon=False, fontsize="small")
    axes.set(xlabel="time step t", ylabel="accuracy of\nstep t alone")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.margins(y=0.25)


def _draw_epochs(axes: Axes, metrics_by_epoch: Metrics, count: int) -> None:
    curves = {epoch: _by_step(metrics_by_epoch[epoch], "attention/alpha") for epoch in sorted(metrics_by_epoch)}
    epochs = [epoch for epoch, alpha in curves.items() if len(alpha) == count]
    weights = np.stack([curves[epoch] for epoch in epochs], axis=1)          # T epochs
    edges = np.append(np.array(epochs) - 0.5, epochs[-1] + 0.5)
    colours = axes.pcolormesh(edges, np.arange(count + 1) + 0.5, weights, cmap="viridis", vmin=0)
    axes.set(title="over training", xlabel="epoch", ylabel="time step t")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.yaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.figure.colorbar(colours, ax=axes, label="attention α")


def _steps(values: np.ndarray) -> np.ndarray:
    return np.arange(1, len(values) + 1)
