"""What charts show, in numbers worked out by hand on a search of four trials; and that both renderers draw all of it."""

import math
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from fgmodel import palette
from search.record.history import History, Trial
from search.record.history import load as history_of
from search.report import plots
from search.report.page import Plots
from search.show.charts.chart import Bars, Chart, Trace, Upright, fitted, thinned
from search.show.charts.listed import CHARTS
from search.show.charts.scale import Scale
from search.show.charts.seen import Seen
from search.space.file import read_space
from search.space.parameter import Parameter
from search.space.space import Plan, Space
from search.tracking import figures
from tests.search.made_search import MadeSearch

START = datetime(2026, 11, 22, tzinfo=UTC)
SPACES = Path(__file__).parents[2] / "spaces"
LR = Parameter("optim.lr_local", 0.01, 1.0, log=True)
MARGIN = Parameter("loss.margin", 0.0, 1.0)


def trial(number: int, minutes: dict[int, int], values: dict[int, float], **settings: object) -> Trial:
    """Return a trial with its objective by epoch, each reported so many minutes after the start."""
    alphas = {"attention/alpha/01": 0.25, "attention/alpha/02": 0.75, "attention/state_cosine/01": 0.5, "attention/state_cosine/02": 1.0,
              "val/accuracy_step/01": 0.4, "val/accuracy_step/02": 0.6, "val/accuracy_local": 0.55, "val/nll": 1.0}
    reports = {epoch: {"val/accuracy": value, **alphas} for epoch, value in values.items()}
    times = {epoch: START + timedelta(minutes=m) for epoch, m in minutes.items()}
    given = {name.replace("__", "."): value for name, value in settings.items()}
    return Trial(number, given, "reference" if number == 0 else "tpe", START, reports=reports, reported=times, rung=max(values))


@pytest.fixture
def seen() -> Seen:
    """Four trials at rungs 1 and 2: #0, the thesis' values, lies outside the tuned margin; #3 has none."""
    trials = [
        trial(0, {1: 1, 2: 5}, {1: 0.2, 2: 0.3}, optim__lr_local=0.1, loss__margin=-1.0),
        trial(1, {1: 2, 2: 6}, {1: 0.5, 2: 0.7}, optim__lr_local=0.01, loss__margin=0.5),
        trial(2, {1: 3}, {1: 0.4}, optim__lr_local=1.0, loss__margin=1.0),
        trial(3, {1: 4}, {1: 0.1}, optim__lr_local=0.1),
    ]
    search = Plan(trials=4, epochs=2, rungs=(1, 2), finalists=0)
    return Seen(Space("tiny", "Which?", {}, (LR, MARGIN), search), History(trials={t.number: t for t in trials}))


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Seen:
    """A made search of 40 trials, of which every chart can be drawn."""
    space, path = read_space(SPACES / "finches.yaml", ["search.trials=40"]), tmp_path_factory.mktemp("made") / "journal.jsonl"
    MadeSearch(path, space).whole()
    return Seen(space, history_of(path))


def named(chart: Chart) -> dict[str, Trace | Bars]:
    return {layer.name: layer for layer in chart.layers if isinstance(layer, Trace | Bars)}


def points(layer: Trace) -> list[tuple[float, float]]:
    return list(zip(layer.xs, layer.ys, strict=True))


def split(layer: Trace) -> list[list[float]]:
    """Return the heights of a trace's lines, one by one."""
    parts: list[list[float]] = [[]]
    for x, y in points(layer):
        parts[-1:] = [parts[-1], []] if math.isnan(x) else [[*parts[-1], y]]
    return parts[:-1]


def test_history_has_a_mark_a_trial_and_rung_at_the_epochs_spent_until_then(seen) -> None:
    (chart,) = CHARTS["history"](seen)
    layers = named(chart)
    assert points(layers["after 1 epoch"]) == [(1, 0.2), (2, 0.5), (3, 0.4), (4, 0.1)]
    assert points(layers["after 2 epochs"]) == [(5, 0.3), (6, 0.7)]
    assert layers["after 2 epochs"].said[1] == "#1, 0.7000 after 2: lr loc 0.01, margin 0.5"
    assert chart.said == ("6 epochs of 4 trials. A mark is a trial at a rung, its shape the rung; "
                          "the line is the best so far after 2 epochs, 0.700 in the end.")


def test_the_best_so_far_is_a_stair_at_the_highest_rung_and_ends_where_the_epochs_do(seen) -> None:
    (chart,) = CHARTS["history"](seen)
    assert points(named(chart)["best after 2 epochs"]) == [(5, 0.3), (6, 0.3), (6, 0.7), (6, 0.7), (6, 0.7)]


def test_what_is_to_be_made_small_has_its_lowest_as_the_best_so_far(seen) -> None:
    small = Seen(replace(seen.space, search=seen.space.search.model_copy(update={"objective": "val/nll"})), seen.history)
    assert set(named(CHARTS["history"](small)[0])["best after 2 epochs"].ys) == {1.0}
    assert small.objective([1.0, 1.1, 1.2, 1.3, 90.0])[0].high < 2, "a loss that exploded does not press the rest together"


def test_from_rung_to_rung_the_best_and_the_thesis_values_are_told_from_the_others(seen) -> None:
    (chart,) = CHARTS["rungs"](seen)
    layers = named(chart)
    assert list(layers) == ["other trials", "the thesis' values, #0 (0.300)", "best, #1 (0.700)"], "the best in front"
    assert split(layers["other trials"]) == [[0.4], [0.1]]
    assert split(layers["best, #1 (0.700)"]) == [[0.5, 0.7]]
    assert chart.x.ticks == ((1.0, "1"), (2.0, "2"))
    assert chart.y.low == pytest.approx(0.1 - 0.05 * 0.6)    # from 0.1 to 0.7, and a twentieth beyond
    assert chart.y.high == pytest.approx(0.7 + 0.05 * 0.6)


def test_parallel_lines_lie_inside_their_axes_the_thesis_values_too_and_have_gaps(seen) -> None:
    (chart,) = CHARTS["parallel"](seen)
    layers, uprights = named(chart), [layer for layer in chart.layers if isinstance(layer, Upright)]
    # margins from -1, which is #0's, to 1; standing: #1, #0, #2, #3 in thirds; lr_local 0.1 is halfway from 0.01 to 1
    assert split(layers["the thesis' values, #0 (0.300)"]) == [pytest.approx([0.5, 0.0, 2 / 3])]
    assert split(layers["best, #1 (0.700)"]) == [pytest.approx([0.0, 0.75, 1.0])]
    lower = split(layers["lower half (2 trials)"])
    assert lower[0] == pytest.approx([1.0, 1.0, 1 / 3])
    assert math.isnan(lower[1][1]), "#3 has no margin"
    assert uprights[1].ticks[-2:] == ((0.0, "-1"), (1.0, "1"))
    assert [text for _, text in uprights[0].ticks] == ["0.1", "0.01", "1"]


def test_a_setting_may_be_nought_on_a_logarithmic_axis_or_a_choice_that_was_not_offered() -> None:
    decay = Parameter("optim.weight_decay", 1e-4, 1e-2, log=True)
    scale = Scale.of(decay, [trial(0, {1: 1}, {1: 0.5}, optim__weight_decay=0.0)])
    assert (scale.at(0.0), scale.share(scale.at(0.0))) == (pytest.approx(1e-4 / 3), 0.0)
    assert [text for _, text in scale.axis().ticks] == ["0", "0.0001", "0.001", "0.01"]
    batch = Scale.of(Parameter("optim.batch_size", choices=(16, 32)), [trial(0, {1: 1}, {1: 0.5}, optim__batch_size=8)])
    assert [scale_share(batch, size) for size in (16, 32, 8)] == [0, 0.5, 1]
    assert batch.axis().ticks == ((0.0, "16"), (1.0, "32"), (2.0, "8"))


def scale_share(scale: Scale, value: object) -> float:
    return scale.share(scale.at(value))


@pytest.mark.slow
def test_importance_and_effects_are_those_of_the_forest(whole) -> None:
    (chart,), curves, found = CHARTS["importance"](whole), CHARTS["effects"](whole), whole.importance
    assert [text for _, text in chart.y.ticks][-1] == "lr loc (optim.lr_local)", "the most important on top"
    assert named(chart)["alone"].lengths[-1] == 100 * found.effects[0].alone
    assert curves[0].name == "effect-optim.lr_local"
    assert curves[0].layers[2].ys == tuple(100 * found.effects[0].mean)


def test_the_sampler_is_seen_by_who_asked(seen) -> None:
    rates, margins = CHARTS["sampler"](seen)
    assert points(named(rates)["reference"]) == [(0, 0.1)]
    assert points(named(margins)["tpe"]) == [(1, 0.5), (2, 1.0)]
    assert named(margins)["tpe"].pen == named(rates)["tpe"].pen, "whoever asked looks the same on all"
    assert margins.y.low < -1, "the thesis' margin lies inside the axis"
    assert "in the second half of the search: 0.625 to 0.875." in margins.said   # of 0.5 and 1, the second half of three


def test_attention_is_of_the_best_and_the_next_at_its_rung(seen) -> None:
    alpha, cosine, steps, training = CHARTS["attention"](seen)
    assert list(named(alpha)) == ["#0", "#1", "even, 1/T"]
    assert points(named(alpha)["#1"]) == [(1, 0.25), (2, 0.75)]
    assert named(alpha)["even, 1/T"].ys == (0.5, 0.5)
    assert named(cosine)["#1"].ys == (0.5, 1.0)
    assert named(steps)["all steps, by α"].ys == (0.55, 0.55)
    assert training.layers[0].values == ((0.25, 0.25), (0.75, 0.75))


def test_a_trial_keeps_its_colour_on_every_chart(seen) -> None:
    looks = {}
    for name in ("rungs", "parallel", "attention"):
        for layer in CHARTS[name](seen)[0].layers:
            if isinstance(layer, Trace) and "#" in layer.name:
                looks.setdefault(layer.name.partition("#")[2][0], set()).add(layer.pen)
    assert {number: len(pens) for number, pens in looks.items()} == {"0": 1, "1": 1}


@pytest.mark.parametrize("paper", [pytest.param("#ffffff", id="light"), pytest.param("#14171b", id="dark")])
def test_every_colour_of_a_line_is_seen_on_light_and_on_dark_paper(paper) -> None:
    for colour in (palette.BLUE, palette.VERMILION, palette.GREEN, palette.GREY, palette.PINK):
        darker, lighter = sorted(map(luminance, (colour, paper)))
        assert (lighter + 0.05) / (darker + 0.05) >= 3, colour      # WCAG 2.2, 1.4.11


def luminance(colour: str) -> float:
    shares = [byte / 255 for byte in bytes.fromhex(colour[1:])]
    red, green, blue = (s / 12.92 if s <= 0.04045 else ((s + 0.055) / 1.055) ** 2.4 for s in shares)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def test_an_axis_fits_its_values() -> None:
    axis = fitted("", [0.93, 0.94, math.nan])
    assert (axis.low, axis.high) == (pytest.approx(0.9295), pytest.approx(0.9405))
    assert fitted("", [0.5]).low < 0.5 < fitted("", [0.5]).high
    assert fitted("", []).high > 0


def test_a_far_outlier_lies_at_the_edge_and_is_told(seen) -> None:
    axis, beyond = seen.objective([0.01, 0.90, 0.91, 0.92, 0.93, 0.94])
    assert axis.low > 0.8
    assert axis.within(0.01) == axis.low
    assert beyond == " 1 at the edge lie beyond it."


def test_many_trials_are_thinned_evenly() -> None:
    assert thinned(list(range(101)), 3) == [0, 50, 100]


@pytest.mark.parametrize("name", CHARTS)
def test_both_renderers_draw_every_chart(whole, name) -> None:
    charts = CHARTS[name](whole)
    assert charts, "the made search has something to draw for each"
    for chart in charts:
        figure, drawn = plots.drawn(chart), figures.drawn(chart)
        axes, layout, wanted = drawn.axes[0], figure.layout, [name for name in named(chart) if name]
        assert [trace.name for trace in figure.data if trace.showlegend] == [plots.plain(name) for name in wanted]
        assert sorted(axes.get_legend_handles_labels()[1]) == sorted(wanted), "matplotlib lists bars after lines"
        assert (axes.get_xlabel(), axes.get_ylabel()) == (chart.x.title, chart.y.title)
        assert layout.xaxis.title.text == plots.plain(chart.x.title)
        assert axes.get_xlim() == pytest.approx((chart.x.low, chart.x.high))
        ends = [10**end for end in layout.xaxis.range] if chart.x.log else list(layout.xaxis.range)
        assert ends == pytest.approx([chart.x.low, chart.x.high])
        drawn.savefig("/dev/null", format="png")


@pytest.mark.slow
def test_the_report_shows_every_chart_and_mlflow_those_of_a_static_picture(whole) -> None:
    from search.report.sections import Told, page
    from search.show.verdict import verdict

    told = Told(whole.space, whole.history, "made", [], verdict(whole.space, whole.history))
    shown = page(told, told.verdict)
    parts = [part for section in shown.sections for part in section.parts if isinstance(part, Plots)]
    assert [c.name for part in parts for c in part.charts] == [c.name for charts in CHARTS.values() for c in charts(whole)]
    pictures = [chart.name for chart, _ in figures.figures(whole.space, whole.history)]
    to_look_into, of_a_trial = {"effects", "sampler"}, {"attention"}
    assert {*pictures} | to_look_into | of_a_trial == set(CHARTS)
