"""A search as an Optuna study: what optuna.load_study reads is what the journal says."""

import socket
import subprocess
import sys
from pathlib import Path

import optuna
import pytest
from optuna.distributions import FloatDistribution, IntDistribution
from optuna.trial import TrialState

from search.decide.dispatch import Outcome
from search.errors import InputError
from search.export.optuna_storage import export_optuna
from search.record.home import Home
from search.record.journal import Journal, Launched
from search.space.file import read_space
from tests.search.browsed import wait_for
from tests.search.conftest import SPACES, run_to_end, train

RACE = ["search.finalists=2", "search.seeds=2", "search.trials=9"]


@pytest.fixture
def home(tmp_path) -> Home:
    return Home(tmp_path)


@pytest.fixture
def searched(dispatching, tmp_path, home):
    """Return a function that runs a made-up search to its end and gives its history."""

    def run(space, until=run_to_end):
        dispatcher = dispatching(space, name="searches/s")
        dispatcher.record(Launched(trials=space.search.trials, workers=1, finalists=space.search.finalists, seeds=space.search.seeds,
                                   version="0", commit=None, reference={}, data={}))  # fmt: skip
        until(dispatcher)
        return dispatcher.history

    return run


def loaded(path: Path, name: str = "s") -> optuna.Study:
    return optuna.load_study(study_name=name, storage=f"sqlite:///{path}")


@pytest.mark.slow
def test_optuna_loads_every_trial_with_its_values_and_states(space, searched, home, tmp_path):
    history = searched(space)
    assert export_optuna(home, "s", tmp_path / "search.db") == 24
    study = loaded(tmp_path / "search.db")
    assert study.direction == optuna.study.StudyDirection.MAXIMIZE
    assert study.user_attrs["question"] == space.question
    for ours, theirs in zip(history.trials.values(), study.trials, strict=True):
        assert theirs.number == theirs.user_attrs["trial"] == ours.number
        assert theirs.params == ours.settings
        assert theirs.intermediate_values == {epoch: told["val/accuracy"] for epoch, told in ours.reports.items()}
        assert theirs.state == (TrialState.COMPLETE if ours.rung == 27 else TrialState.PRUNED)
        assert theirs.value == ours.at(ours.rung, "val/accuracy")
        assert theirs.user_attrs["by"] == ours.by
        assert theirs.datetime_start.timestamp() == ours.asked.timestamp()
    assert study.best_trial.number == max((t for t in history.trials.values() if t.rung == 27), key=lambda t: t.at(27, "val/accuracy")).number


@pytest.mark.slow
def test_distributions_are_those_of_the_space_widened_for_the_thesis_values_only(space, searched, home, tmp_path):
    searched(space)
    export_optuna(home, "s", tmp_path / "search.db")
    trials = loaded(tmp_path / "search.db").trials
    assert trials[5].distributions["optim.lr_local"] == FloatDistribution(0.01, 0.3, log=True)
    assert trials[5].distributions["model.time_steps"] == IntDistribution(1, 10)
    narrow = read_space(SPACES / "finches.yaml", ["search.finalists=0", "search.trials=3"])
    low = next(p for p in narrow.tune if p.name == "optim.lr_global")
    assert low.contains(0.001)  # the thesis' value, here; in cub-frozen.yaml it is not


def test_the_thesis_values_outside_the_ranges_are_kept(searched, home, tmp_path):
    space = read_space(SPACES / "cub-frozen.yaml", ["search.finalists=0", "search.trials=5"])
    searched(space)
    export_optuna(home, "s", tmp_path / "search.db")
    first, *others = loaded(tmp_path / "search.db").trials
    assert (first.params["optim.lr_global"], first.params["model.time_steps"]) == (0.001, 10)
    assert first.distributions["optim.lr_global"] == FloatDistribution(0.001, 0.1, log=True)  # the space has 0.003
    assert first.distributions["model.time_steps"] == IntDistribution(1, 10)                  # the space has 6
    assert {trial.distributions["optim.lr_global"] for trial in others} == {FloatDistribution(0.003, 0.1, log=True)}


def test_failed_and_running_trials_say_so(space, searched, home, tmp_path):
    def halfway(dispatcher):
        first, order, _ = (dispatcher.next() for _ in range(3))
        train(dispatcher, first)
        dispatcher.take(Outcome(job=order.job, attempt=1, trial=order.trial, epoch=0, failure="the loss is not finite", reason="divergence"))

    searched(space, halfway)
    export_optuna(home, "s", tmp_path / "search.db")
    trials = loaded(tmp_path / "search.db").trials
    assert [t.state for t in trials] == [TrialState.PRUNED, TrialState.FAIL, TrialState.RUNNING]
    assert trials[1].user_attrs["failure"] == "the loss is not finite"
    assert trials[2].datetime_complete is None


def test_repeats_of_finalists_are_a_study_of_their_own(searched, home, tmp_path):
    history = searched(read_space(SPACES / "finches.yaml", RACE))
    export_optuna(home, "s", tmp_path / "search.db")
    assert len(loaded(tmp_path / "search.db").trials) == 9
    again = loaded(tmp_path / "search.db", "s: finalists again").trials
    repeats = [t for t in history.trials.values() if t.repeats is not None]
    assert [(t.user_attrs["trial"], t.user_attrs["repeats"], t.user_attrs["seed"]) for t in again] == [(t.number, t.repeats, t.settings["seed"]) for t in repeats]
    assert len(again) == 4


def test_rows_of_a_list_are_its_parameter(searched, home, tmp_path):
    searched(read_space(SPACES / "thesis" / "table-6.1.yaml", ["search.seeds=1", "search.objective=val/accuracy", "search.epochs=3"]))
    export_optuna(home, "s", tmp_path / "search.db")
    trials = loaded(tmp_path / "search.db").trials
    assert trials[0].params == {"row": trials[0].user_attrs["by"], "seed": 0}


@pytest.mark.slow
def test_writing_again_replaces_the_study_and_nothing_else_is_replaced(space, searched, home, tmp_path):
    searched(space)
    export_optuna(home, "s", tmp_path / "search.db")
    export_optuna(home, "s", tmp_path / "search.db")
    assert len(loaded(tmp_path / "search.db").trials) == 24
    (tmp_path / "notes.db").write_text("mine")
    with pytest.raises(InputError, match=r"notes.db: is there and is no Optuna storage; name another file$"):
        export_optuna(home, "s", tmp_path / "notes.db")
    assert (tmp_path / "notes.db").read_text() == "mine"
    assert [file.name for file in tmp_path.iterdir() if file.name.startswith(".search")] == []


def test_mistakes_are_one_line(space, searched, home, tmp_path):
    searched(space)
    with pytest.raises(InputError, match="holds no search 'ss'; did you mean 's'"):
        export_optuna(home, "ss", tmp_path / "search.db")
    with pytest.raises(InputError, match=r"none/search.db: cannot be written: No such file"):
        export_optuna(home, "s", tmp_path / "none" / "search.db")


def test_the_journal_is_not_touched(space, searched, home, tmp_path):
    searched(space)
    before = home.journal("s").read_bytes()
    export_optuna(home, "s", tmp_path / "search.db")
    assert home.journal("s").read_bytes() == before
    assert Journal  # its one writer is still open, and was not asked


@pytest.mark.slow
def test_optuna_dashboard_opens_on_it(space, searched, home, tmp_path, page):
    searched(space)
    export_optuna(home, "s", tmp_path / "search.db")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [str(Path(sys.executable).with_name("optuna-dashboard")), f"sqlite:///{tmp_path / 'search.db'}", "--port", str(port)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            wait_for(f"http://127.0.0.1:{port}/api/studies")
            page.goto(f"http://127.0.0.1:{port}/dashboard")
            page.get_by_role("link").filter(has_text="s").first.wait_for()
            page.goto(f"http://127.0.0.1:{port}/dashboard/studies/1")
            page.get_by_text("Hyperparameter Importance").first.wait_for()
            page.locator(".js-plotly-plot .trace").first.wait_for(state="attached")
        finally:
            process.kill()
