"""The report as one HTML file: sections of charts, tables and pictures, plotly within, nothing from elsewhere.

Whatever comes from a file (names, questions, failures) is escaped by the template; the labels that plotly itself reads
as markup go through `plain`. A policy in the page forbids it the network.
"""

import base64
import html
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import plotly.graph_objects as go
from jinja2 import Environment, FileSystemLoader
from markupsafe import Markup
from plotly.offline import get_plotlyjs

BLUE, VERMILION, GREEN, GREY = "#2a86c8", "#d55e00", "#009e73", "#80868d"
"""Okabe and Ito's, told apart by every eye; blue and grey lighter, so that they stand out from white and from black."""
SYMBOLS = ("circle", "square", "diamond", "triangle-up", "cross", "x", "star", "pentagon")
DASHES = ("solid", "dash", "dot", "dashdot", "longdash")
HEIGHT, SMALL = 400, 250


@dataclass(frozen=True)
class Chart:
    """A figure with its title and what it shows in words: for who cannot see it, and under it for everyone."""

    title: str
    said: str
    figure: go.Figure
    wide: int = 0               # px below which it scrolls sideways rather than shrink
    kind: str = field(default="chart", init=False)

    @property
    def drawn(self) -> Markup:
        """The figure as JSON that may stand in a script element."""
        return Markup(str(self.figure.to_json()).replace("<", "\\u003c"))  # noqa: S704 no tag can open in it

    @property
    def height(self) -> int:
        """Pixels."""
        return int(self.figure.layout.height)


@dataclass(frozen=True)
class Charts:
    """Small charts side by side, as many as fit."""

    charts: Sequence[Chart]
    kind: str = field(default="charts", init=False)


@dataclass(frozen=True)
class Grid:
    """A table: the first column names the row."""

    title: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    note: str = ""
    kind: str = field(default="table", init=False)


@dataclass(frozen=True)
class Picture:
    """An image within the page."""

    said: str
    data: bytes
    mime: str = "image/png"
    caption: str = ""
    kind: str = field(default="picture", init=False)

    @property
    def source(self) -> str:
        """The image as an address that holds it."""
        return f"data:{self.mime};base64,{base64.b64encode(self.data).decode()}"


@dataclass(frozen=True)
class Gallery:
    """Pictures side by side under one heading."""

    title: str
    pictures: Sequence[Picture]
    kind: str = field(default="gallery", init=False)


@dataclass(frozen=True)
class Words:
    """A paragraph."""

    text: str
    kind: str = field(default="words", init=False)


Part = Chart | Charts | Grid | Picture | Gallery | Words


@dataclass(frozen=True)
class Section:
    """A heading, a sentence or two, and what follows."""

    id: str
    title: str
    lead: str
    parts: Sequence[Part] = ()


@dataclass(frozen=True)
class Page:
    """The whole report."""

    name: str
    asked: str
    answer: str
    sure: str
    facts: Sequence[tuple[str, str]]    # a name and a value: the search at a glance
    sections: Sequence[Section]
    written: str
    refresh: int | None = None          # seconds, of a page that is rewritten

    def html(self) -> str:
        """Return the file."""
        places = Environment(
            loader=FileSystemLoader(Path(__file__).parent), autoescape=True, trim_blocks=True, lstrip_blocks=True,
        )
        plotly = Markup(get_plotlyjs())  # noqa: S704 the library itself
        return places.get_template("page.html").render(page=self, plotly=plotly)


def plain(text: object) -> str:
    """Return text that plotly shows as it is, where it would read tags."""
    return html.escape(str(text), quote=False)


def figure(x: str, y: str, height: int = HEIGHT, **axes: Any) -> go.Figure:  # noqa: ANN401 plotly's own settings
    """Return an empty figure with both axes named; `axes` holds `xaxis_…`, `yaxis_…` and other layout settings."""
    drawn = go.Figure()
    drawn.update_layout(
        template="none", height=height, margin={"l": 62, "r": 16, "t": 34, "b": 52}, hovermode="closest",
        paper_bgcolor="rgba(0,0,0,0)", plot_bgcolor="rgba(0,0,0,0)",
        font={"family": "system-ui, sans-serif", "size": 13},
        modebar={"bgcolor": "rgba(0,0,0,0)", "color": GREY, "activecolor": BLUE},
        legend={"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom", "bgcolor": "rgba(0,0,0,0)"},
        xaxis={"title": {"text": x}, "automargin": True}, yaxis={"title": {"text": y}, "automargin": True},
    )
    return drawn.update_layout(**axes)
