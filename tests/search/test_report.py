"""The page itself: what is on it, what it escapes, what it needs, and what it says where it cannot be written."""

import json
import re
from dataclasses import replace
from datetime import UTC, datetime
from html.parser import HTMLParser
from pathlib import Path

import pytest
from plotly.offline import get_plotlyjs

from search.record.home import Home
from search.record.journal import Asked, Finished, Journal, Launched, Opened, OpenedTest
from search.report import page as report_page
from search.report.tables import elapsed
from search.report.write import attach_report, watch, write_report
from search.space.file import read_space
from search.tracking.address import default_uri
from search.tracking.store import Store
from search.tracking.tracker import replay
from tests.search import made_search
from tests.search.made_search import MadeSearch

SPACES = Path(__file__).parents[2] / "spaces"
HOSTILE = "</script><script>alert(1)</script><b>&amp; \"x\" '</b>"


class Page(HTMLParser):
    """What a browser would see: texts, tables' cells, charts and every address."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.texts: list[str] = []
        self.scripts: list[str] = []
        self.addresses: list[str] = []
        self.charts: list[str | None] = []      # what is said of each
        self.images: list[str | None] = []
        self.ids: list[str] = []
        self.feed(path.read_text(encoding="utf-8"))
        self.text = " ".join(self.texts)

    def handle_starttag(self, tag, attrs) -> None:
        given = dict(attrs)
        self.tags.append(tag)
        self.addresses += [given[key] for key in ("src", "href") if key in given]
        self.charts += [given.get("aria-label")] if given.get("class") == "plot" else []
        self.images += [given.get("alt")] if tag == "img" else []
        self.ids += [given["id"]] if "id" in given else []

    def handle_data(self, data) -> None:
        (self.scripts if self.tags[-1:] == ["script"] else self.texts).append(data)

    def handle_endtag(self, tag) -> None:
        self.tags.append(f"/{tag}")


@pytest.fixture(scope="module", autouse=True)
def light() -> None:
    """Leave plotly's five megabytes out of the pages: reading them takes longer than all else."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(report_page, "get_plotlyjs", lambda: "/* plotly */")
        yield


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> Home:
    """Return a home with a finished search of 40 trials."""
    home = Home(tmp_path_factory.mktemp("home"))
    MadeSearch(home.journal("made"), read_space(SPACES / "finches.yaml", ["search.trials=40"])).whole()
    return home


@pytest.fixture(scope="module")
def page(home) -> Page:
    return Page(write_report(home, "made"))


def test_it_says_what_was_asked_and_answered_and_how_sure_that_is(page) -> None:
    assert "Which loss weights, time steps and learning rates tell twelve drawn finches apart" in page.text
    assert re.search(r"Trial #\d+ \(λ .*\) is best: validation accuracy 0\.\d{3} on average over 3 fresh seeds", page.text)
    assert "95 % interval" in page.text
    assert "the odds that it is truly better are" in page.text


def test_every_section_is_there(page) -> None:
    wanted = {"best", "history", "rungs", "parallel", "importance", "sampler", "failures", "attention", "heatmaps", "confusions", "cost"}
    assert wanted <= set(page.ids)


def test_it_loads_nothing_from_elsewhere(page) -> None:
    assert all(address.startswith(("#", "data:")) for address in page.addresses)


@pytest.mark.slow
def test_plotly_is_within_the_page_and_the_page_forbids_itself_the_network(home, monkeypatch) -> None:
    monkeypatch.setattr(report_page, "get_plotlyjs", get_plotlyjs)
    text = write_report(home, "made").read_text()
    assert "* plotly.js v" in text
    assert len(text) > 4_000_000
    assert "default-src 'none'; img-src data: blob:; style-src 'unsafe-inline'; script-src 'unsafe-inline'" in text


def test_every_chart_says_in_words_what_it_shows(page, home) -> None:
    assert len(page.charts) == 1 + 1 + 1 + 1 + 6 + 6 + 4   # history, rungs, parallel, importance, effects, sampler, attention
    assert all(said and len(said) > 40 for said in page.charts)
    drawn = [json.loads(script) for script in page.scripts if script.startswith('{"data"')]
    assert len(drawn) == len(page.charts)
    for figure in drawn:
        axes = [figure["layout"][axis].get("title", {}).get("text") for axis in ("xaxis", "yaxis")]
        assert all(axes) or figure["data"][0].get("orientation") == "h" or figure["layout"]["yaxis"].get("visible") is False


def test_marks_differ_in_shape_and_lines_in_dash_not_in_colour_alone(page) -> None:
    drawn = [json.loads(script) for script in page.scripts if script.startswith('{"data"')]
    for figure in drawn:
        if figure["layout"].get("showlegend") is False:
            continue
        ways = [
            (t["type"], t.get("mode"), t.get("marker", {}).get("symbol"), t.get("line", {}).get("dash"),
             t.get("line", {}).get("width"), str(t.get("marker", {}).get("pattern")))
            for t in figure["data"] if t.get("name")
        ]
        assert len(set(ways)) == len(ways), [t["name"] for t in figure["data"]]


def test_failures_and_lost_workers_are_told_with_their_reasons(page) -> None:
    assert page.text.count("the loss is not finite at epoch 0") == 2      # of 40 trials, #17 and #34
    assert "lost its worker once and was given to another" in page.text


def test_the_setting_that_decides_comes_first(page) -> None:
    bars = next(json.loads(s) for s in page.scripts if s.startswith('{"data"') and '"bar"' in s)
    assert bars["layout"]["yaxis"]["ticktext"][-1] == "lr loc (optim.lr_local)"          # beside the topmost bar
    assert bars["layout"]["yaxis"]["tickvals"][-1] == max(bars["data"][0]["y"])


def test_without_the_checkpoint_the_maps_say_so_in_a_line(page) -> None:
    assert len(re.findall(r"Not drawn: the checkpoint of trial #\d+ is no longer there\.", page.text)) == 2


@pytest.mark.slow
def test_what_comes_from_files_is_text_on_the_page(tmp_path) -> None:
    home = Home(tmp_path)
    space = replace(read_space(SPACES / "finches.yaml", ["search.trials=6", "search.finalists=0"]), question=HOSTILE)
    made = MadeSearch(home.journal("made"), space)
    for trial in range(5):
        made.ask(trial)
        made.train(trial, 0, 1)
    made.ask(5)
    made.fail(5, HOSTILE)
    made.finish()
    page = Page(write_report(home, "made"))
    assert page.text.count(HOSTILE) == 2
    assert not any("alert(1)" in script for script in page.scripts)
    assert page.tags.count("b") == 0


@pytest.mark.slow
def test_plotly_is_given_no_markup_of_a_file(tmp_path) -> None:
    home = Home(tmp_path)
    space = read_space(SPACES / "finches.yaml", ["search.trials=3", "search.finalists=0"])
    made = MadeSearch(home.journal("made"), space)
    made.settings[0] = space.reference()
    made.journal.append(Asked(trial=0, settings=space.reference(), by="<b>x</b>", job=0, to=1))
    made.train(0, 0, 1)
    made.finish()
    drawn = [json.loads(s) for s in Page(write_report(home, "made")).scripts if s.startswith('{"data"')]
    names = {trace.get("name") for figure in drawn for trace in figure["data"]}
    assert "&lt;b&gt;x&lt;/b&gt;" in names
    assert "<b>x</b>" not in names


def test_a_search_ran_from_each_launch_to_its_last_line_whatever_was_retrained_later() -> None:
    def at(minute: int) -> datetime:
        return datetime(2026, 11, 26, 16, minute, tzinfo=UTC)

    def launched(minute: int) -> Launched:
        return Launched(trials=6, workers=1, version="0.1.0", commit=None, reference={}, data={}, at=at(minute))

    test = OpenedTest(trial=0, seeds=(0,), images=9, at=at(40))
    facts = [launched(0), Finished(how="stopped", at=at(2)), launched(10), test.model_copy(update={"at": at(12)}),
             Finished(how="complete", at=at(15)), test]
    assert elapsed(facts) == 60 * (2 + 5)


@pytest.mark.slow
def test_a_list_of_rows_is_reported_without_what_only_a_search_has(tmp_path) -> None:
    (tmp_path / "rows.yaml").write_text("rows:\n  one step: {model.time_steps: 1}\n  ten: {model.time_steps: 10}\nsearch: {epochs: 2, seeds: 1}\n")
    space = read_space(tmp_path / "rows.yaml")
    home = Home(tmp_path)
    made = MadeSearch(home.journal("rows"), space, "rows")
    for trial in range(2):
        row, settings = space.listed(trial)
        made.settings[trial] = {**settings, "optim.lr_local": 0.1, "loss.lambda_rank": 1.0}
        made.journal.append(Asked(trial=trial, settings=settings, by=row, job=trial, to=2))
        made.train(trial, 0, 2)
    made.finish()
    page = Page(write_report(home, "rows"))
    assert "importance" not in page.ids
    assert "best" in page.ids


@pytest.mark.slow
def test_trials_without_time_steps_have_no_attention(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(made_search, "metrics_of", lambda settings, epoch, random: {"val/accuracy": random.random(), "val/nll": 1.0})
    home = Home(tmp_path)
    MadeSearch(home.journal("made"), read_space(SPACES / "finches.yaml", ["search.trials=4"])).whole()
    assert "no time steps, so there is no attention" in Page(write_report(home, "made")).text


@pytest.fixture
def begun(tmp_path) -> Home:
    """Return a home with a search that has begun and finished nothing."""
    home, space = Home(tmp_path / "begun"), read_space(SPACES / "finches.yaml")
    with Journal(home.journal("early")) as journal:
        journal.append(Opened(search="early", space=space.document(), digest=space.digest()))
    return home


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "line"),
    [
        pytest.param(["mad"], "holds no search 'mad'; did you mean 'made'?", id="unknown name"),
        pytest.param(["made", "--out", "/proc/fgsearch/report.html"], "/proc/fgsearch/report.html: cannot be written: ", id="folder that cannot be made"),
        pytest.param(["made", "--out", "/proc/report.html"], "/proc/report.html: cannot be written: ", id="folder nobody may write to"),
    ],
)
def test_what_cannot_be_reported_is_one_line(home, fgsearch, words, line) -> None:
    status, _, said = fgsearch("report", *words, "--no-log", "--home", str(home.path))
    assert status == 2
    assert line in said
    assert len(said.strip().splitlines()) == 1


def test_a_search_without_a_finished_trial_says_so(begun, fgsearch) -> None:
    status, _, said = fgsearch("report", "early", "--no-log", "--home", str(begun.path))
    assert status == 2
    assert said == "search 'early': no trial has finished a rung yet, so there is nothing to report\n"


@pytest.mark.slow
def test_the_report_is_kept_with_the_searchs_run_in_mlflow(home) -> None:
    space = read_space(SPACES / "finches.yaml", ["search.trials=40"])
    store = Store(default_uri(home.path), home.path / "artifacts")
    replay(home.journal("made"), space, store)
    path = write_report(home, "made", images=False)
    attach_report(home, "made", path, store)
    kept = list((home.path / "artifacts").glob("**/report.html"))
    assert [file.read_bytes() for file in kept] == [path.read_bytes()]


@pytest.mark.slow
def test_while_a_search_runs_the_page_is_rewritten_and_loads_itself_again(tmp_path, monkeypatch) -> None:
    home, space = Home(tmp_path), read_space(SPACES / "finches.yaml", ["search.trials=6", "search.finalists=0"])
    made, said = MadeSearch(home.journal("made"), space), []

    def later(_: float) -> None:
        if len(said) > 2:
            made.finish()
        else:
            made.ask(len(said))
            made.train(len(said), 0, 1)

    watch(home, "made", None, 10, said.append, later)
    assert said[0] == "search 'made': no trial has finished a rung yet; waiting"
    assert [line.partition(": ")[0] for line in said[1:]] == [str(home.search("made") / "report.html")] * 2
    assert "setTimeout(() => location.reload(), 10000)" in (home.search("made") / "report.html").read_text()
    assert "location.reload" not in write_report(home, "made").read_text()


def test_watching_waits_for_a_stopped_search_to_be_launched_again(tmp_path) -> None:
    home, space = Home(tmp_path), read_space(SPACES / "finches.yaml", ["search.trials=6", "search.finalists=0"])
    made = MadeSearch(home.journal("made"), space)
    made.ask(0)
    made.train(0, 0, 1)
    made.journal.append(Finished(how="stopped"))
    made.journal.close()
    slept: list[float] = []
    said: list[str] = []

    def later(seconds: float) -> None:
        slept.append(seconds)
        if len(slept) == 3:
            again.append(Journal(home.journal("made")))  # which holds its lock from now on
        if len(slept) == 4:
            again.pop().close()

    again: list[Journal] = []
    watch(home, "made", None, 10, said.append, later)
    assert slept == [1, 1, 1, 10]
    assert said[0] == "search 'made' does not run now; waiting up to 60 s for its launch"
    assert said[1].startswith(f"{home.search('made') / 'report.html'}: written, ")
    assert len(said) == 2
