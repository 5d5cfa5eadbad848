"""The charts of `search.show.charts` as pictures, with matplotlib: what MLflow's pages of a search and a trial show."""

from collections.abc import Iterator
from typing import Any, assert_never, get_args

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, NullLocator

from fgmodel.palette import GREY
from search.record.history import History, Trial
from search.show.charts.chart import Band, Bars, Chart, Heat, Layer, Mark, Pen, Trace, Upright
from search.show.charts.listed import CHARTS
from search.show.charts.seen import Seen
from search.show.charts.time_steps import attention_of
from search.space.space import Space

PICTURED = ("history", "rungs", "parallel", "importance")   # on a search's page; the others are to be looked into
WIDTH = 7.2          # inches of 100 pixels: what MLflow's page has room for
MARKS = dict(zip(get_args(Mark), "os^DPX*p", strict=True))
DASHES = {None: "", "solid": "-", "dash": "--", "dot": ":", "dashdot": "-."}
POINT = 0.72         # of a pixel, at 100 an inch


def figures(space: Space, history: History) -> Iterator[tuple[Chart, Figure]]:
    """Yield the pictures of a search's page, those there is something to draw of."""
    seen = Seen(space, history)
    for name in PICTURED if any(t.rung for t in history.candidates) else ():
        if name != "importance" or history.finished:   # a forest takes a second or two
            yield from ((chart, drawn(chart)) for chart in CHARTS[name](seen))


def trial_figure(trial: Trial, title: str) -> Figure:
    """Return a trial's α over the time steps, the cosine and accuracy beneath on the same axis, α over epochs beside.

    Raises ValueError when its last epoch has no `attention/alpha/01`.
    """
    charts = attention_of([trial])
    if not charts:
        raise ValueError("the last epoch has no metric 'attention/alpha/01'")
    figure = Figure(figsize=(10, 6.5), dpi=100)
    FigureCanvasAgg(figure)   # not pyplot: it keeps every figure
    figure.suptitle(_plain(title))
    *left, right = (chart.name for chart in charts)
    axes = figure.subplot_mosaic([[name, right] for name in left], height_ratios=(2, 1, 1), width_ratios=(1, 1.1))
    # Placed by hand: matplotlib's own layouts take as long again, and a search draws many of these.
    figure.subplots_adjust(left=0.1, right=0.96, bottom=0.08, top=0.89, wspace=0.17, hspace=0.12)
    for chart in charts:
        _draw(axes[chart.name], chart)
    for name in left[:-1]:
        axes[name].sharex(axes[left[-1]])
        axes[name].tick_params(labelbottom=False)
        axes[name].set_xlabel("")
    for name in (left[0], right):
        axes[name].set_title(_plain(next(c.title for c in charts if c.name == name)), fontsize="medium")
    return figure


def drawn(chart: Chart) -> Figure:
    """Return a chart as a picture."""
    figure = Figure(figsize=(WIDTH, chart.height / 100), dpi=100, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    axes.spines[["top", "right"]].set_visible(False)
    _draw(axes, chart, loc="lower left", bbox_to_anchor=(0, 1), ncols=3)
    return figure


def _draw(axes: Axes, chart: Chart, **legend: Any) -> None:  # noqa: ANN401 matplotlib's own settings
    for order, layer in enumerate(chart.layers, start=2):
        _add(axes, layer, order)
    for side, given in (("x", chart.x), ("y", chart.y)):
        axis, scale = getattr(axes, f"{side}axis"), "log" if given.log else "linear"
        ends = {f"{side}scale": scale, f"{side}lim": (given.low, given.high), f"{side}label": _plain(given.title)}
        axes.set(**ends)
        axis.set_visible(given.shown)
        if given.ticks:
            axis.set_ticks([at for at, _ in given.ticks], [_plain(text) for _, text in given.ticks])
            axis.set_minor_locator(NullLocator())
        elif given.whole:
            axis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    if not chart.y.shown:
        axes.spines[:].set_visible(False)
        axes.tick_params(length=0)
    if axes.get_legend_handles_labels()[1]:
        axes.legend(frameon=False, fontsize="small", **legend)


def _add(axes: Axes, layer: Layer, order: int) -> None:
    match layer:
        case Trace():
            axes.plot(layer.xs, layer.ys, label=_named(layer.name), zorder=order, **_pen(layer.pen))
        case Bars():
            draw, thick = (axes.barh, "height") if layer.sideways else (axes.bar, "width")
            filled = {"color": "white", "edgecolor": layer.colour, "hatch": "///"} if layer.hatched else {}
            look: dict[str, Any] = {"color": layer.colour, thick: layer.thick, **filled}
            draw(layer.at, layer.lengths, label=_named(layer.name), zorder=order, **look)
        case Band():
            axes.fill_between(layer.xs, layer.low, layer.high, color=layer.colour, alpha=0.3, linewidth=0, zorder=order)
        case Heat():
            edges = [np.append(np.array(at) - 0.5, at[-1] + 0.5) for at in (layer.xs, layer.ys)]
            mesh = axes.pcolormesh(*edges, layer.values, cmap="viridis", vmin=0)
            axes.figure.colorbar(mesh, ax=axes, label=layer.name)
        case Upright():
            axes.plot([layer.x, layer.x], [0, 1], zorder=1, **_pen(Pen(GREY, dash="solid")))
            for at, text in layer.ticks:
                where: Any = {0.0: ("center", "top"), 1.0: ("center", "bottom")}.get(at, ("right", "center"))
                axes.annotate(
                    _plain(text), (layer.x, at), (-4 * (where[1] == "center"), 4 * round(at * 2 - 1)),
                    textcoords="offset points", ha=where[0], va=where[1], fontsize="small", zorder=99,
                    bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 0.5},
                )
        case _:
            assert_never(layer)


def _pen(pen: Pen) -> dict[str, Any]:
    return {
        "color": pen.colour, "linestyle": DASHES[pen.dash], "linewidth": POINT * pen.width, "alpha": pen.opacity,
        "marker": MARKS[pen.mark] if pen.mark else "", "markersize": POINT * pen.size, "markeredgewidth": 0,
    }


def _named(name: str) -> str:
    return _plain(name) or "_"   # which is not in the legend


def _plain(text: str) -> str:
    return text.replace("$", r"\$")   # not a formula
