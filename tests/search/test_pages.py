"""MLflow's pages and the report of a real small search in a real browser: each path a person takes."""

import subprocess
from collections.abc import Iterator

import pytest

from fgmodel.prepare import prepare
from search.decide.dispatch import Dispatcher
from search.record.history import History, load
from search.record.home import Home
from search.record.journal import Journal, Launched, Opened
from search.report.write import attach_report
from search.run.worker import Room, Worker
from search.show.screen import ranked
from search.space.file import read_space
from search.tracking.address import default_uri
from search.tracking.pages import BY_EPOCH, BY_STEP, CURVES, HEATMAPS, list_path, run_path
from search.tracking.rows import search_id
from search.tracking.store import Store
from search.tracking.tracker import replay
from tests.lab import FGSEARCH, SPACE
from tests.search.browsed import browsed

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> Home:
    """A finished search, its trials trained for real in this process, and in MLflow."""
    place = Home(tmp_path_factory.mktemp("pages") / "home")
    (place.path / "searches").mkdir(parents=True)
    (place.path / "tiny.yaml").write_text(SPACE)
    space = read_space(place.path / "tiny.yaml", ["search.trials=13"])
    reference = space.config(space.reference())
    data = prepare(reference, place.cache)
    with Journal(place.journal("tiny")) as journal:
        dispatcher = Dispatcher(space, journal, History(), place.checkpoints("tiny"))
        dispatcher.record(Opened(search="tiny", question=space.question, space=space.document(), digest=space.digest()))
        facts = {"fingerprint": data.fingerprint, "split": data.split, "patches": data.patches}
        dispatcher.record(Launched(trials=13, workers=1, version="0", commit=None, reference=dict(reference.settings()), data=facts))
        while order := dispatcher.next():
            train(dispatcher, order, place.cache)
        dispatcher.finish("stopped")
    replay(place.journal("tiny"), space, Store(default_uri(place.path), place.path / "artifacts"))
    return place


def train(dispatcher, order, cache) -> None:
    worker = Worker()
    worker.take(order, Room(dispatcher.checkpoints, cache, 1))
    while not dispatcher.take(worker.epoch()):
        pass


@pytest.fixture(scope="module")
def address(home) -> Iterator[str]:
    """Where `fgsearch browse` serves them."""
    with browsed(home, "tiny") as where:
        yield where


@pytest.fixture
def told(home):
    """What the journal says, and where its runs are."""
    store, history = Store(default_uri(home.path), home.path / "artifacts"), load(home.journal("tiny"))
    key = search_id(history.opened)
    space = read_space(home.path / "tiny.yaml", ["search.trials=13"])
    return {"experiment": store.experiment(), "key": key, "runs": store.runs(key), "trials": ranked(space, history)}


def all_pictures_are_there(page, least: int) -> None:
    """Wait until so many images of artifacts are shown, each of some size."""
    page.wait_for_function(
        "least => { const all = [...document.images].filter(i => /get-artifact/.test(i.src)); "
        "return all.length >= least && all.every(i => i.complete && i.naturalWidth > 50) }", arg=least,
    )


def test_a_searchs_page_answers_its_question_and_shows_its_figures(page, address, told) -> None:
    page.goto(f"{address}/{run_path(told['experiment'], told['runs'][None].id)}")
    page.get_by_text("Which loss weights suit a dozen drawn finches at a glance?").wait_for()
    best = told["trials"][0].number
    page.locator("p", has_text=f"Best: trial #{best}, validation accuracy").first.wait_for()
    page.get_by_text("Show more").first.click()
    all_pictures_are_there(page, 3)
    assert page.get_by_text("13 of 13 trials").is_visible()


@pytest.mark.parametrize("width", [1280, 1600])
def test_whoever_opens_it_for_the_first_time_has_the_search_at_a_glance(page, address, told, width) -> None:
    page.set_viewport_size({"width": width, "height": 800})
    page.goto(f"{address}/{run_path(told['experiment'], told['runs'][None].id)}")
    more = page.get_by_text("Show more").first
    more.wait_for()
    page.wait_for_function("Object.keys(localStorage).some(key => key.startsWith('mlflow.assistant.chat'))")  # it is there
    assert page.get_by_label("Send message").count() == 0, "MLflow's assistant is shut"
    for said in ("Which loss weights", "Best: trial", "13 of 13 trials"):
        shown = page.get_by_text(said).first.bounding_box()
        assert shown["y"] + shown["height"] <= more.bounding_box()["y"], said
    for link in ("trials, best first", "curves and heatmaps", "best, #", "the thesis' values, #0"):
        page.get_by_role("link", name=link).click(trial=True)  # nothing lies over it


def test_the_link_on_it_lists_the_trials_best_first(page, address, told) -> None:
    page.goto(f"{address}/{run_path(told['experiment'], told['runs'][None].id)}")
    page.goto(f"{address}/{page.get_by_role('link', name='trials, best first').get_attribute('href')}")
    rows = page.locator(".ag-pinned-left-cols-container .ag-row")
    rows.nth(12).wait_for()
    shown = sorted((int(row.get_attribute("row-index")), row.get_by_role("link").first.inner_text()) for row in rows.all())
    places = {f"#{t.number}": (t.rung, t.at(t.rung, "val/accuracy")) for t in told["trials"]}
    assert {name for _, name in shown} == places.keys()
    assert [places[name] for _, name in shown] == sorted(places.values(), reverse=True), "those of one value in any order"


def test_the_list_shows_what_is_tuned_beside_what_came_of_it(page, address, told) -> None:
    page.goto(f"{address}/{list_path(told['experiment'], told['key'])}")
    page.get_by_text("val/accuracy", exact=True).first.wait_for()
    page.locator(".ag-header-cell", has_text="rung.value").first.wait_for()
    columns = page.evaluate("""[...document.querySelectorAll('.ag-header-cell')].sort(
        (a, b) => a.getBoundingClientRect().left - b.getBoundingClientRect().left).map(cell => cell.innerText.trim())""")
    wanted = ["rung.value", "val/accuracy", "val/nll", "attention/entropy", "fgsearch.rung", "fgsearch.state"]
    assert [c for c in columns if c in wanted] == wanted
    assert {"loss.lambda_rank", "model.time_steps"} & set(columns)


def test_comparing_trials_shows_curves_under_names_a_person_understands(page, address, told) -> None:
    page.goto(f"{address}/{list_path(told['experiment'], told['key'], charts=True)}")
    for title in CURVES:
        card = page.get_by_text(title).first
        card.scroll_into_view_if_needed()
        card.wait_for()
    page.locator(".js-plotly-plot .scatterlayer .trace").first.wait_for(state="attached")


def test_the_image_grid_steps_through_heatmaps_by_epoch_and_by_time_step(page, address, told) -> None:
    page.goto(f"{address}/{list_path(told['experiment'], told['key'], charts=True)}")
    for key in (HEATMAPS, BY_EPOCH, BY_STEP):  # a card is in the page once its section is in sight
        card = page.get_by_text(key).first
        card.scroll_into_view_if_needed()
        card.wait_for()
    all_pictures_are_there(page, 2)
    assert page.get_by_role("slider").count() >= 2


def test_a_trials_page_names_its_data_and_draws_its_attention(page, address, told) -> None:
    run = told["runs"][told["trials"][0].number]
    page.goto(f"{address}/{run_path(told['experiment'], run.id)}")
    page.get_by_text("finches (").first.wait_for()
    page.get_by_text("Artifacts", exact=True).first.click()
    page.get_by_text("attention.png").first.click()
    page.wait_for_function("[...document.images].some(image => image.complete && image.naturalWidth === 1000)")  # 10 inches


def test_the_list_of_all_searches_says_how_each_stands(page, address, told) -> None:
    page.goto(f"{address}/{list_path(told['experiment'], 'searches')}")
    page.locator(".ag-row", has_text="tiny").first.wait_for()
    page.locator(".ag-row", has_text="completed").first.wait_for()


@pytest.fixture(scope="module")
def report(home) -> str:
    """The page that `fgsearch report` writes of it, with its pictures of images."""
    subprocess.run([FGSEARCH, "report", "tiny", "--home", str(home.path), "--no-log"], check=True, stdout=subprocess.DEVNULL)
    return (home.search("tiny") / "report.html").as_uri()


@pytest.mark.parametrize(("width", "scheme"), [
    pytest.param(1400, "light", id="light"), pytest.param(1400, "dark", id="dark"), pytest.param(390, "light", id="phone"),
])  # fmt: skip
def test_the_report_draws_itself_without_a_network_on_paper_of_any_width(page, report, width, scheme) -> None:
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url) if not request.url.startswith(("data:", "blob:")) else None)
    page.set_viewport_size({"width": width, "height": 1000})
    page.emulate_media(color_scheme=scheme)
    page.goto(report)
    drawn = "[...document.querySelectorAll('.plot')].every(plot => plot.querySelector('.main-svg'))"
    page.evaluate("document.querySelectorAll('.plot').forEach(plot => plot.scrollIntoView())")
    page.wait_for_function(drawn)
    assert asked == [report]
    assert page.locator(".plot").count() >= 10
    assert page.locator("#heatmaps img").count() == 2, "images told right, and images told wrong"
    assert page.locator("#confusions img").count() >= 3
    assert page.evaluate("[...document.images].every(image => image.naturalWidth > 50 && image.alt.length > 10)")
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth"), "nothing sticks out sideways"
    paper = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (paper == "rgb(255, 255, 255)") == (scheme == "light")
    page.evaluate("window.scrollTo(0, 0)")


def test_the_report_is_printed_on_few_pages(page, report, tmp_path) -> None:
    page.goto(report)
    printed = page.pdf(format="A4", print_background=True)
    assert 3 <= printed.count(b"/Type /Page\n") <= 14


def test_the_link_to_the_report_on_the_searchs_page_opens_it(page, address, home, told) -> None:
    attach_report(home, "tiny", home.search("tiny") / "report.html", Store(default_uri(home.path), home.path / "artifacts"))
    page.goto(f"{address}/{run_path(told['experiment'], told['runs'][None].id)}")
    page.get_by_text("Artifacts", exact=True).first.click()
    page.get_by_text("report.html").first.click()
    page.frame_locator("iframe").locator("h1", has_text="tiny").wait_for()
