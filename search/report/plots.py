"""The charts of `search.show.charts` as figures to look into, with plotly."""

import html
import math
from typing import Any, assert_never

import plotly.graph_objects as go

from fgmodel.palette import BLUE, GREY
from search.show.charts.chart import Axis, Band, Bars, Chart, Heat, Layer, Pen, Trace, Upright

SYMBOLS = {"triangle": "triangle-up"}   # where plotly calls a mark otherwise
CLEAR = "rgba(0,0,0,0)"


def drawn(chart: Chart) -> go.Figure:
    """Return a chart as plotly draws it, on paper of any colour."""
    figure = go.Figure()
    for layer in chart.layers:
        _add(figure, layer)
    framed = chart.y.shown
    return figure.update_layout(
        template="none", height=chart.height, margin={"l": 62, "r": 16, "t": 34, "b": 52}, hovermode="closest",
        paper_bgcolor=CLEAR, plot_bgcolor=CLEAR, font={"family": "system-ui, sans-serif", "size": 13},
        modebar={"bgcolor": CLEAR, "color": GREY, "activecolor": BLUE}, barmode="overlay",
        showlegend=any(trace.name for trace in figure.data),
        legend={"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom", "bgcolor": CLEAR},
        xaxis=_axis(chart.x, framed), yaxis=_axis(chart.y, framed),
    )


def plain(text: object) -> str:
    """Return text that plotly shows as it is, where it would read tags."""
    return html.escape(str(text), quote=False).replace("\n", "<br>")


def _axis(given: Axis, framed: bool) -> dict[str, Any]:
    ends = (math.log10(given.low), math.log10(given.high)) if given.log else (given.low, given.high)
    look = {
        "title": {"text": plain(given.title)}, "range": ends, "type": "log" if given.log else "linear",
        "visible": given.shown, "showgrid": framed, "zeroline": False, "automargin": True,
    }
    if given.ticks:
        return {**look, "tickvals": [at for at, _ in given.ticks], "ticktext": [plain(text) for _, text in given.ticks]}
    few = given.whole and given.high - given.low <= 12
    return {**look, "dtick": 1 if few else None, "tickformat": ",d" if given.whole else None}


def _add(figure: go.Figure, layer: Layer) -> None:
    match layer:
        case Trace():
            mode = "+".join(["lines"] * bool(layer.pen.dash) + ["markers"] * bool(layer.pen.mark))
            figure.add_scatter(
                x=layer.xs, y=layer.ys, mode=mode, text=[plain(text) for text in layer.said], **_named(layer.name),
                hoverinfo="text" if layer.said else "x+y+name", opacity=layer.pen.opacity, **_pen(layer.pen),
            )
        case Bars():
            along, across = ("x", "y") if layer.sideways else ("y", "x")
            shape = {"shape": "/" if layer.hatched else "", "fgcolor": layer.colour, "bgcolor": CLEAR}
            figure.add_bar(
                **{along: layer.lengths, across: layer.at}, width=layer.thick, **_named(layer.name),
                orientation="h" if layer.sideways else "v", hoverinfo=f"{along}+name",
                marker={"color": layer.colour, "pattern": shape},
            )
        case Band():
            for edge, fill in ((layer.low, None), (layer.high, "tonexty")):
                colour = "rgba({},{},{},0.3)".format(*bytes.fromhex(layer.colour[1:]))
                hidden = {"line": {"width": 0}, "hoverinfo": "skip", "showlegend": False}
                figure.add_scatter(x=layer.xs, y=edge, mode="lines", fill=fill, fillcolor=colour, **hidden)
        case Heat():
            bar = {"title": {"text": plain(layer.name)}, "thickness": 14}
            figure.add_heatmap(
                x=layer.xs, y=layer.ys, z=layer.values, colorscale="Viridis", zmin=0, zmax=max(map(max, layer.values)),
                colorbar=bar, hovertemplate="%{x}, %{y}: %{z:.3f}<extra></extra>",
            )
        case Upright():
            line = {"color": GREY, "width": 1}
            figure.add_shape(type="line", x0=layer.x, x1=layer.x, y0=0, y1=1, line=line, layer="below")
            for at, text in layer.ticks:
                where = {0.0: ("center", "top"), 1.0: ("center", "bottom")}.get(at, ("right", "middle"))
                figure.add_annotation(
                    x=layer.x, y=at, text=plain(text), xanchor=where[0], yanchor=where[1], showarrow=False,
                    xshift=-5 * (where[1] == "middle"), yshift=5 * round(at * 2 - 1), font={"size": 12}, bgcolor="#fff",
                )
        case _:
            assert_never(layer)


def _named(name: str) -> dict[str, Any]:
    return {"name": plain(name), "showlegend": bool(name)}


def _pen(pen: Pen) -> dict[str, Any]:
    line = {"color": pen.colour, "dash": pen.dash, "width": pen.width}
    symbol = SYMBOLS.get(pen.mark or "", pen.mark)
    return {"line": line, "marker": {"symbol": symbol, "color": pen.colour, "size": pen.size}}
