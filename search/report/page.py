"""The report as one HTML file: sections of charts, tables and pictures, plotly within, nothing from elsewhere.

Whatever comes from a file (names, questions, failures) is escaped by the template; the labels that plotly itself reads
as markup go through `plots.plain`. A policy in the page forbids it the network.
"""

import base64
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from jinja2 import Environment, FileSystemLoader
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from search.report.plots import drawn
from search.show.charts.chart import Chart


@dataclass(frozen=True)
class Plots:
    """Charts to look into, one below the other; small ones side by side, as many as fit."""

    charts: Sequence[Chart]
    small: bool = False
    kind: str = field(default="plots", init=False)


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


Part = Plots | Grid | Picture | Gallery | Words


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
        places.filters["drawn"] = _drawn
        plotly = Markup(get_plotlyjs())  # noqa: S704 the library itself
        return places.get_template("page.html").render(page=self, plotly=plotly)


def _drawn(chart: Chart) -> Markup:
    """Return a chart's figure as JSON that may stand in a script element."""
    return Markup(str(drawn(chart).to_json()).replace("<", "\\u003c"))  # noqa: S704 no tag can open in it
