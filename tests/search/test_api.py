"""The search from Python: what `import search` gives a script or a notebook."""

import inspect
import subprocess
import sys
import time
import typing

import pytest
import yaml

import search
from search.record.history import load
from search.record.home import Home
from search.record.journal import OpenedTest, read
from search.space.file import read_space
from search.space.objects import as_yaml, space_of, values_of
from search.space.parameter import Condition
from tests.lab import SPACE, Lab


@pytest.fixture(scope="module")
def lab(tmp_path_factory) -> Lab:
    lab = Lab(tmp_path_factory.mktemp("api")).share()
    (lab.folder / "fgsearch-home").rename(lab.folder / "home")
    return lab


@pytest.fixture(scope="module")
def found(lab) -> search.Search:
    """A search of three trials, launched from Python."""
    return search.launch(lab.folder / "tiny.yaml", home=lab.folder / "home", trials=3, settings={"optim.weight_decay": 1e-5}, inline=True)


@pytest.fixture
def objects():
    """The space of the lab, from Python objects."""
    given = yaml.safe_load(SPACE)
    tune = {
        "loss.lambda_rank": (0.0, 2.0), "loss.lambda_local": (0.5, 2.0),
        "loss.margin": search.Range(0.0, 1.0, when={"loss.lambda_rank": "> 0"}), "model.time_steps": (1, 4),
        "optim.lr_global": search.Range(1e-3, 0.1, log=True), "optim.lr_local": search.Range(1e-2, 0.3, log=True),
    }
    return lambda **changed: space_of(**{"name": "tiny", "fixed": given["fixed"], "tune": tune, **given["search"], **changed})


def test_a_space_of_objects_is_the_space_of_the_file(objects, tmp_path) -> None:
    (tmp_path / "tiny.yaml").write_text(SPACE)
    assert objects().digest() == read_space(tmp_path / "tiny.yaml").digest()
    assert [p.when for p in objects().tune if p.name == "loss.margin"] == [(Condition("loss.lambda_rank", ">", 0.0),)]


def test_a_space_of_objects_is_written_as_the_file_that_reads_as_it(objects, tmp_path) -> None:
    space = objects(question="Which one?\nReally?")
    (tmp_path / "tiny.yaml").write_text(as_yaml(space))
    again = read_space(tmp_path / "tiny.yaml")
    assert (again.digest(), again.question, values_of(again)) == (space.digest(), space.question, values_of(space))


@pytest.mark.parametrize(("changed", "said"), [
    pytest.param({"fixed": {"optim.lrr": 1}}, "space 'tiny': 'optim.lrr' is not a setting; did you mean 'optim.lr_local'?", id="a setting misspelt"),
    pytest.param({"tune": {"loss.margin": (1.0, 0.0)}}, "space 'tiny': 'loss.margin': the range 1.0 … 0.0 is reversed", id="a range reversed"),
    pytest.param({"tune": {"model.attention": ["per_step", "loud"]}}, "space 'tiny': 'model.attention': 'loud'", id="a choice that is none"),
    pytest.param({"trials": 0}, "space 'tiny': 'search.trials': 0 is wrong", id="no trials"),
    pytest.param({"trails": 3}, "space 'tiny': 'search.trails' is not a setting; did you mean 'trials'?", id="a key misspelt"),
])  # fmt: skip
def test_a_mistake_in_objects_is_told_as_in_a_file(changed, said, objects) -> None:
    with pytest.raises(search.InputError) as error:
        objects(**changed)
    assert said in str(error.value)


def test_trials_and_curves_are_tables_of_what_the_journal_says(found) -> None:
    history, trials, curves = load(Home(found.home).journal(found.name)), found.trials(), found.curves()
    assert list(trials.index) == [0, 1, 2]
    assert trials["by"].tolist() == ["reference", "tpe", "tpe"]
    assert trials.loc[1, "optim.lr_local"] == history.trials[1].settings["optim.lr_local"]
    for number, trial in history.trials.items():
        assert trials.loc[number, "val/accuracy"] == trial.reports[trial.epoch]["val/accuracy"]
        assert curves.loc[number]["val/nll"].tolist() == [trial.reports[e]["val/nll"] for e in sorted(trial.reports)]


def test_the_best_has_every_setting_and_what_was_given_is_fixed(found) -> None:
    best = found.best()
    assert best.value == found.status()["best"]["value"]
    assert best.tuned.items() <= best.settings.items()
    assert best.settings["optim.weight_decay"] == 1e-5
    assert found.state == "complete"


@pytest.mark.slow
def test_a_search_that_another_process_began_is_opened_extended_exported_and_retrained(lab, found, fgsearch) -> None:
    opened = search.open("tiny", home=lab.folder / "home")
    assert opened == found
    assert len(opened.extend(1, inline=True).trials()) == 4
    assert yaml.safe_load(opened.export(lab.folder / "best.yaml").read_text())["origin"]["trial"] == opened.best().trial
    tested = opened.retrain(seeds=2, inline=True)
    assert tested.index.tolist() == [0, 1]
    assert list(tested.columns) == ["test/accuracy", "test/accuracy_global", "test/accuracy_local", "test/nll"]
    (opening,) = [fact for fact in read(Home(found.home).journal("tiny")) if isinstance(fact, OpenedTest)]
    assert opening.seeds == (0, 1)


def test_a_search_that_is_nowhere_is_told_with_the_nearest(lab, found) -> None:
    with pytest.raises(search.InputError, match=r"holds no search 'tini'; did you mean 'tiny'\?"):
        search.open("tini", home=lab.folder / "home")


@pytest.mark.slow
def test_a_launch_that_does_not_block_runs_in_a_process_of_its_own_and_is_stopped_and_resumed(lab, found, objects, request) -> None:
    slow = objects(name="slow", trials=200)
    running = search.launch(slow, home=lab.folder / "home", inline=True, blocking=False)
    request.addfinalizer(running.stop)
    assert running.state == "running"
    patience = time.monotonic() + 60
    while running.curves().empty and time.monotonic() < patience:
        time.sleep(0.1)
    running.best()
    assert running.stop()
    assert (running.state, running.stop()) == ("stopped", False)
    assert running.resume(inline=True, blocking=False).state == "running"
    assert running.stop()
    running.wait()
    assert 0 < len(running.trials()) < 200


@pytest.mark.slow
def test_a_launch_that_cannot_begin_says_why(lab, found, objects) -> None:
    with pytest.raises(search.InputError, match="belongs to another space"):
        search.launch(objects(trials=3), home=lab.folder / "home", inline=True, blocking=False)


def test_the_door_is_light_and_shows_nothing_of_what_stands_behind_it() -> None:
    code = "import sys, search; print([m for m in ('torch', 'ray', 'mlflow', 'pandas', 'typer', 'rich') if m in sys.modules], sorted(search.__all__))"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert said.startswith("[] ['Best', 'InputError', 'Range', 'Search', 'Space', 'launch', 'open', 'space_of']")
    for each in (search.launch, search.open, *(m for _, m in inspect.getmembers(search.Search, inspect.isfunction))):
        hints = " ".join(map(str, getattr(each, "__annotations__", {}).values()))
        assert not any(word in hints for word in ("rich", "typer", "mlflow", "Console", "Store"))
        assert each.__doc__ or each.__name__.startswith("_")
    assert typing.get_type_hints(search.launch, {"Search": search.Search})["return"] is search.Search
