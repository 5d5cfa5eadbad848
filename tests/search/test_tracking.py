import json
import os
import re
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import yaml

from fgmodel.analysis.probe_images import Looks
from fgmodel.config import DEFAULTS
from search.decide.asha import Ladder
from search.errors import InputError
from search.record.history import load
from search.record.journal import (
    Asked,
    Ended,
    Failed,
    Finished,
    Journal,
    Launched,
    Opened,
    OpenedTest,
    Promoted,
    Reported,
)
from search.space.parameter import Parameter
from search.space.space import Plan, Space
from search.tracking.address import default_uri
from search.tracking.entry import AwayError, StoreError
from search.tracking.pages import BY_EPOCH, BY_STEP
from search.tracking.projection import Projection
from search.tracking.store import Store
from search.tracking.tracker import Tracker, log_retrain, replay

START = datetime(2026, 11, 22, 8, 0, 0, 120_000, tzinfo=UTC)
SPACE = Space(
    "finches-1",
    "Which margin serves best?",
    {"data.dataset": "finches", "optim.schedule": "cosine"},
    (Parameter("loss.margin", low=0.0, high=1.0),),
    Plan(trials=4, epochs=3, rungs=(1, 3)),
)


def metrics(accuracy, steps=2):
    by_step = {f"{name}/{t:02d}": 1 / steps for name in ("attention/alpha", "val/accuracy_step", "attention/state_cosine")
               for t in range(1, steps + 1)}
    return {"val/accuracy": accuracy, "val/nll": 1 - accuracy, **by_step}


class Book:
    """A journal written by hand, one second a fact."""

    def __init__(self, path: Path, seconds: int = 0) -> None:
        self.path = path
        self.seconds = seconds

    def write(self, *facts):
        with Journal(self.path) as journal:
            for fact in facts:
                at = START + timedelta(seconds=self.seconds)
                journal.append(fact.model_copy(update={"at": at}))
                self.seconds += 1
        return self

    def launch(self):
        first = [] if self.seconds else [Opened(search="finches-1", space=SPACE.document(), digest=SPACE.digest())]
        return self.write(*first, Launched(trials=4, workers=1, version="0", commit="1a2b3c4", reference={}, data={}))


def job(trial, number, epochs, accuracy):
    """A trial's epochs, to the end of its job."""
    reports = [Reported(trial=trial, epoch=e, job=number, attempt=1, metrics=metrics(accuracy + e / 100), seconds=1, checkpoint=None)
               for e in epochs]
    return [*reports, Ended(trial=trial, job=number)]


def asked(trial, number):
    return Asked(trial=trial, settings={"loss.margin": trial / 4}, by="tpe", job=number, to=1)


def a_whole_search():
    return [
        asked(0, 0), *job(0, 0, [1], 0.5),
        asked(1, 1), *job(1, 1, [1], 0.7),
        Promoted(trial=1, rung=1, job=2, to=3), *job(1, 2, [2, 3], 0.7),
        asked(2, 3), Failed(trial=2, job=3, reason="divergence", why="loss is not finite at epoch 1"),
        Finished(how="complete"),
    ]


@pytest.fixture(scope="session")
def opened_twice(tmp_path_factory):
    """A new home, and what two processes said that opened it at once; making the database takes MLflow seconds."""
    home = tmp_path_factory.mktemp("mlflow")
    code = ("import pathlib; from search.tracking.address import default_uri; from search.tracking.store import Store\n"
            f"home = pathlib.Path({str(home)!r}); Store(default_uri(home), home / 'artifacts')\n"
            "import mlflow.telemetry.client as telemetry; assert telemetry.get_telemetry_client() is None")
    quiet = {key: value for key, value in os.environ.items() if key not in ("CI", "PYTEST_CURRENT_TEST", "GITHUB_ACTIONS")}
    both = [subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=quiet)
            for _ in range(2)]
    return home, [(*process.communicate(), process.returncode) for process in both]


@pytest.fixture(scope="session")
def empty(opened_twice):
    return opened_twice[0]


@pytest.fixture(scope="session")
def shown(empty, tmp_path_factory):
    """A whole search as it was written to MLflow, once for all tests that look at it or go on from there."""
    folder = tmp_path_factory.mktemp("shown")
    shutil.copy(empty / "mlflow.db", folder)
    book = Book(folder / "journal.jsonl").launch().write(*a_whole_search())
    replay(book.path, SPACE, Store(default_uri(folder), empty / "artifacts"))
    return book


@pytest.fixture
def replayed(shown, tmp_path):
    """The journal of the whole search that the store of this test shows."""
    for name in ("mlflow.db", "journal.jsonl"):
        shutil.copy(shown.path.with_name(name), tmp_path)
    return Book(tmp_path / "journal.jsonl", shown.seconds)


@pytest.fixture
def store(empty, tmp_path):
    if not (tmp_path / "mlflow.db").exists():   # else what `replayed` put there
        shutil.copy(empty / "mlflow.db", tmp_path)
    return Store(default_uri(tmp_path), empty / "artifacts")


@pytest.fixture
def book(tmp_path):
    return Book(tmp_path / "journal.jsonl")


def dump(folder):
    """Everything MLflow shows, with runs called by their names."""
    with closing(sqlite3.connect(folder / "mlflow.db")) as database:
        names = dict(database.execute("select run_uuid, name from runs where lifecycle_stage = 'active'"))
        tables = {
            "runs": "select run_uuid, status, start_time, end_time from runs where lifecycle_stage = 'active'",
            "metrics": "select run_uuid, key, value, step, timestamp from metrics",
            "latest": "select run_uuid, key, value, step from latest_metrics",
            "params": "select run_uuid, key, value from params",
            "tags": "select run_uuid, key, value from tags",
        }
        rows = {table: database.execute(query).fetchall() for table, query in tables.items()}

    def called(value):
        for run, name in names.items() if isinstance(value, str) else ():
            value = value.replace(run, name)
        return value

    return {table: sorted((names[i], *map(called, rest)) for i, *rest in found if i in names) for table, found in rows.items()}


def tags(folder, name):
    return {key: value for run, key, value in dump(folder)["tags"] if run == name}


def statuses(folder):
    return {name: status for name, status, *_ in dump(folder)["runs"]}


def test_an_epoch_whose_line_was_torn_after_mlflow_had_it_is_there_once_when_it_is_told_again(store, book, tmp_path):
    book.launch().write(asked(0, 0), *job(0, 0, [1, 2], 0.5)[:2])
    replay(book.path, SPACE, store)
    whole = book.path.read_bytes()
    book.path.write_bytes(whole[:-9])
    book.launch()
    replay(book.path, SPACE, store)
    book.write(*job(0, 0, [2, 3], 0.5))
    replay(book.path, SPACE, store)
    steps = [step for run, key, _, step, _ in dump(tmp_path)["metrics"] if (run, key) == ("#0", "val/accuracy")]
    assert sorted(steps) == [1, 2, 3]


@pytest.mark.slow
def test_an_end_whose_line_was_torn_leaves_one_row_of_the_searchs_best_when_it_is_told_again(store, book, tmp_path):
    book.launch().write(asked(0, 0), *job(0, 0, [1], 0.5))
    replay(book.path, SPACE, store)
    book.path.write_bytes(book.path.read_bytes()[:-9])
    book.launch().write(Ended(trial=0, job=0))
    replay(book.path, SPACE, store)
    assert [value for run, key, value, *_ in dump(tmp_path)["metrics"] if (run, key) == ("finches-1", "best/val/accuracy")] == [0.51]


@pytest.mark.slow
def test_a_trial_whose_line_was_torn_and_that_was_asked_anew_shows_its_new_settings(store, book, tmp_path):
    book.launch().write(asked(0, 0), *job(0, 0, [1], 0.5), Asked(trial=1, settings={"loss.margin": 0.9}, by="tpe", job=1, to=1))
    replay(book.path, SPACE, store)
    book.path.write_bytes(book.path.read_bytes()[:-9])
    book.launch().write(asked(1, 1), *job(1, 1, [1], 0.7))
    replay(book.path, SPACE, store)
    shown = dump(tmp_path)
    assert [value for run, key, value in shown["params"] if (run, key) == ("#1", "loss.margin")] == ["0.25"]
    assert [run[0] for run in shown["runs"]] == ["#0", "#1", "finches-1"]


def milliseconds(seconds):
    return int(START.timestamp() * 1000) + 1000 * seconds


def test_a_search_is_one_parent_run_with_a_child_a_trial(replayed, store, tmp_path):
    parent, child = tags(tmp_path, "finches-1"), tags(tmp_path, "#1")
    assert parent["fgsearch.kind"] == "search"
    assert parent["fgsearch.best"] == "#1"
    assert child["mlflow.parentRunId"] == "finches-1"
    assert (child["fgsearch.kind"], child["fgsearch.search"], child["fgsearch.trial"]) == ("trial", "finches-1", "1")
    assert child["fgsearch.id"] == parent["fgsearch.id"]
    assert sorted(statuses(tmp_path)) == ["#0", "#1", "#2", "finches-1"]


def test_the_searchs_description_asks_answers_and_leads_on(replayed, store, tmp_path):
    note = tags(tmp_path, "finches-1")["mlflow.note.content"]
    assert note.startswith("**Which margin serves best?** [trials, best first](#/experiments/")
    assert re.search(r"\[best, #1\]\(#/experiments/\d+/runs/#1\?", note), "dump calls runs by their names"
    for said in ("  \n**Best: trial #1**, ", "validation accuracy **0.730** after 3 epochs", "**Complete**: 3 of 4 trials, 1 failed.", "Trained: 1 of the trials to the last rung (3 epochs).",
                 "| margin (`loss.margin`) | &emsp; 0.25 | &emsp; 0 |", "[curves and heatmaps](", "![Values from rung to rung. Each line is a trial, as far as it came: 2 finished rung 1, 1 finished rung 3.](get-artifact?path=figures%2Frungs.png"):
        assert said in note


@pytest.mark.slow
def test_trials_at_the_last_rung_are_drawn_in_colours_every_eye_tells_apart(book, store, tmp_path):
    facts = a_whole_search()
    replay(book.launch().write(*facts[:-1], Promoted(trial=0, rung=1, job=4, to=3), *job(0, 4, [2, 3], 0.6), facts[-1]).path, SPACE, store)
    colours = [tags(tmp_path, name).get("mlflow.runColor") for name in ("#1", "#0", "#2")]
    assert colours == ["#0072B2", "#D55E00", None], "in the order they came there"


def test_a_question_is_shown_as_text_whatever_it_holds(book, store, tmp_path):
    space = replace(SPACE, question="Is <b>5</b> * 3 [bold](http://x)?")
    replay(book.launch().write(*a_whole_search()).path, space, store)
    assert tags(tmp_path, "finches-1")["mlflow.note.content"].startswith("**Is &lt;b>5&lt;/b> \\* 3 \\[bold\\](http://x)?**")


def test_the_searchs_figures_are_pictures_beside_its_run(replayed, store, tmp_path):
    assert {name: file.read_bytes()[:4] for name, file in artifacts(tmp_path, "finches-1").items()} == {
        f"figures/{name}.png": b"\x89PNG" for name in ("history", "rungs", "parallel")}  # three trials tell no importance


@pytest.mark.slow
def test_a_running_search_is_not_drawn_at_every_pass(book, store, tmp_path):
    facts = a_whole_search()
    projection = Projection(book.launch().write(*facts[:4]).path, SPACE, store)
    drawn = []
    for more in ([], facts[4:8], facts[8:]):
        book.write(*more)
        projection.read()
        projection.write()
        drawn.append(tags(tmp_path, "finches-1")["fgsearch.drawn"])
    assert drawn == ["6 facts", "6 facts", f"{2 + len(facts)} facts"], "at first, not a moment later, and at the end"


@pytest.mark.slow
def test_an_artifact_store_that_refuses_leaves_the_description(book, store, tmp_path):
    with closing(sqlite3.connect(tmp_path / "mlflow.db")) as database:
        database.execute("update experiments set artifact_location = '/proc/nowhere'")
        database.commit()
    with pytest.raises(StoreError, match="artifact"):
        replay(book.launch().write(*a_whole_search()).path, SPACE, store)
    note = tags(tmp_path, "finches-1")["mlflow.note.content"]
    assert "Best: trial" in note
    assert "get-artifact" not in note, "no picture that is not there"


def test_the_list_of_trials_opens_best_first(replayed, store, tmp_path):
    with closing(sqlite3.connect(tmp_path / "mlflow.db")) as database:
        key = tags(tmp_path, "finches-1")["fgsearch.id"]
        (state,) = database.execute("select value from experiment_tags where key = ?", (f"mlflow.sharedViewState.{key}",)).fetchone()
    assert (json.loads(state)["orderByKey"], json.loads(state)["orderByAsc"]) == ("metrics.`rung.value`", False)
    place = {run: value for run, key, value, _ in dump(tmp_path)["latest"] if key == "rung.value"}
    assert place == {"#0": pytest.approx(1.51), "#1": pytest.approx(3.73)}, "the rung, then the value: whoever came further is ahead"


def test_a_finished_trial_has_its_curves_over_time_steps(replayed, store, tmp_path):
    curves = {(run, key, step): value for run, key, value, step, _ in dump(tmp_path)["metrics"] if key.startswith("by time step/")}
    assert curves == {("#1", f"by time step/{name}", t): 0.5 for name in ("attention", "accuracy", "likeness") for t in (1, 2)}


@pytest.mark.slow
def test_runs_are_linked_to_the_images_they_were_trained_on_once(book, store, tmp_path):
    data = {"fingerprint": "sha256:" + "a" * 64, "split": "sha256:b", "patches": "sha256:c"}
    opened = Opened(search="finches-1", space=SPACE.document(), digest=SPACE.digest())
    book.write(opened, Launched(trials=4, workers=1, version="0", commit=None, reference={}, data=data), *a_whole_search())
    for _ in range(2):
        replay(book.path, SPACE, store)
        with closing(sqlite3.connect(tmp_path / "mlflow.db")) as database:
            database.execute("delete from tags where key = 'fgsearch.epochs'")  # as if killed before it was written
            database.commit()
    with closing(sqlite3.connect(tmp_path / "mlflow.db")) as database:
        links = database.execute("select r.name, d.name, d.digest, d.dataset_profile from inputs i join datasets d on d.dataset_uuid = i.source_id join runs r on r.run_uuid = i.destination_id").fetchall()
    assert sorted(run for run, *_ in links) == ["#0", "#1", "#2", "finches-1"]
    assert {(name, digest, json.loads(profile)["split"]) for _, name, digest, profile in links} == {("finches", "a" * 36, "sha256:b")}


@pytest.mark.slow
def test_heatmaps_of_trials_at_the_last_rung_are_there_by_epoch_and_by_time_step(book, store, tmp_path):
    replay(book.launch().write(*with_looks(a_whole_search(), tmp_path / "looks")).path, SPACE, store)
    once = set(artifacts(tmp_path, "#1"))
    images = sorted(name.removeprefix("images/").split("+")[0:3:2] for name in once if name.endswith(".png") and "images/" in name)
    assert images == [[BY_EPOCH, "1"], [BY_EPOCH, "3"], [BY_STEP, "1"], [BY_STEP, "2"]]
    assert tags(tmp_path, "#1")["mlflow.loggedImages"] == "True"
    assert "mlflow.loggedImages" not in tags(tmp_path, "#0")
    with closing(sqlite3.connect(tmp_path / "mlflow.db")) as database:
        database.execute("delete from tags where key = 'mlflow.loggedImages'")  # as if killed before it was written
        database.commit()
    replay(book.path, SPACE, store)
    assert set(artifacts(tmp_path, "#1")) == once, "the same files again"


def test_heatmaps_that_were_deleted_or_damaged_are_left_out(book, store, tmp_path):
    facts = with_looks(a_whole_search(), tmp_path / "looks")
    (tmp_path / "looks" / "1" / "1.npz").unlink()
    (tmp_path / "looks" / "1" / "3.npz").write_bytes(b"PK nothing")
    replay(book.launch().write(*facts).path, SPACE, store)
    assert not [name for name in artifacts(tmp_path, "#1") if name.startswith("images/")]
    assert tags(tmp_path, "#1")["fgsearch.figure"] == "attention.png"


def with_looks(facts, folder):
    """The same facts, their rungs' reports with a file of heatmaps."""
    random = np.random.default_rng(0)
    seen = Looks(random.integers(0, 255, (2, 8, 8, 3), np.uint8), random.random((2, 2, 4, 4)), np.eye(2) > 0, ("wren", "robin"))
    named = []
    for fact in facts:
        if isinstance(fact, Reported) and fact.epoch in SPACE.search.rungs:
            name = f"{fact.trial}/{fact.epoch}.npz"
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            with (folder / name).open("wb") as file:
                seen.write(file)
            named.append(fact.model_copy(update={"looks": name}))
        else:
            named.append(fact)
    return named


def artifacts(folder, name):
    """A run's artifacts by their paths."""
    with closing(sqlite3.connect(folder / "mlflow.db")) as database:
        (where,) = database.execute("select artifact_uri from runs where name = ?", (name,)).fetchone()
    root = Path(where.removeprefix("file://"))
    return {str(file.relative_to(root)): file for file in root.rglob("*") if file.is_file()}


def test_a_trial_shows_every_setting_tuned_and_fixed(replayed, store, tmp_path):
    params = {key: value for run, key, value in dump(tmp_path)["params"] if run == "#1"}
    assert set(params) == set(DEFAULTS)
    given = {"loss.margin": "0.25", "data.dataset": "finches", "optim.epochs": "3", "model.fusion_weight": "null", "data.augmentation": "none"}
    assert given.items() <= params.items()


def test_every_metric_of_every_epoch_is_there_at_its_recorded_time(replayed, store, tmp_path):
    rows = [(step, value, at) for run, key, value, step, at in dump(tmp_path)["metrics"] if (run, key) == ("#1", "val/accuracy")]
    assert sorted(rows) == [(1, 0.71, milliseconds(6)), (2, 0.72, milliseconds(9)), (3, 0.73, milliseconds(10))]
    assert len([1 for run, *_ in dump(tmp_path)["metrics"] if run == "#1"]) == 3 * (8 + 1) + 2 + 3 * 2
    # the best so far with each, its place in the list at rungs 1 and 3, and three curves over both time steps at the last one


def test_statuses_and_reasons_are_true_at_a_complete_end(replayed, store, tmp_path):
    shown = {name: (status, tags(tmp_path, name)["fgsearch.state"], tags(tmp_path, name)["fgsearch.reason"])
             for name, status in statuses(tmp_path).items()}
    assert shown == {
        "#0": ("FINISHED", "stopped", "stopped at rung 1"),
        "#1": ("FINISHED", "completed", ""),
        "#2": ("FAILED", "failed", "divergence: loss is not finite at epoch 1"),
        "finches-1": ("FINISHED", "completed", ""),
    }


def test_runs_begin_and_end_when_the_journal_says(replayed, store, tmp_path):
    times = {name: (start, end) for name, _, start, end in dump(tmp_path)["runs"]}
    assert times["#1"] == (milliseconds(5), milliseconds(11))
    assert times["finches-1"] == (milliseconds(0), milliseconds(14))


@pytest.mark.slow
@pytest.mark.parametrize(("how", "reason"), [("stopped", "the search was stopped"), ("budget", "the search's hours were over")])
def test_a_search_that_was_ended_is_killed_and_runs_again_when_it_goes_on(book, store, tmp_path, how, reason):
    book.launch().write(asked(0, 0), *job(0, 0, [1], 0.5), asked(1, 1), Finished(how=how))
    replay(book.path, SPACE, store)
    assert set(statuses(tmp_path).values()) == {"KILLED"}
    assert tags(tmp_path, "#0")["fgsearch.reason"] == f"{reason} at epoch 1"
    replay(book.launch().path, SPACE, store)
    assert set(statuses(tmp_path).values()) == {"RUNNING"}
    assert tags(tmp_path, "#0")["fgsearch.reason"] == "waiting at rung 1"


@pytest.mark.slow
def test_an_extended_search_ends_its_trials_anew(book, store, tmp_path):
    book.launch().write(asked(0, 0), *job(0, 0, [1], 0.5), Finished(how="complete"))
    replay(book.path, SPACE, store)
    book.launch().write(Promoted(trial=0, rung=1, job=1, to=3), *job(0, 1, [2, 3], 0.5), Finished(how="complete"))
    replay(book.path, SPACE, store)
    assert tags(tmp_path, "#0")["fgsearch.state"] == "completed"
    assert next(end for name, _, _, end in dump(tmp_path)["runs"] if name == "#0") == milliseconds(10)


def test_a_second_replay_changes_nothing(replayed, store, tmp_path):
    once = dump(tmp_path)
    replay(replayed.path, SPACE, store)
    assert dump(tmp_path) == once


@pytest.mark.slow
def test_what_mlflow_shows_already_is_not_written_again(book, store, tmp_path):
    long = Failed(trial=2, job=3, reason="error", why="a fault\n" * 2000)
    book.launch().write(*[long if isinstance(fact, Failed) else fact for fact in a_whole_search()])
    replay(book.path, replace(SPACE, question=""), store)
    counting = Counting(default_uri(tmp_path))
    replay(book.path, replace(SPACE, question=""), counting)
    assert counting.calls == []


class Counting(Store):
    """A store that knows what was written through it."""

    def __init__(self, uri):
        self.calls = []
        super().__init__(uri)

    def write(self, run, *what):
        self.calls.append(run.tags)
        super().write(run, *what)

    def set_status(self, run, *what):
        self.calls.append(run.tags)
        super().set_status(run, *what)


def test_points_written_without_their_tag_are_not_doubled(replayed, store, tmp_path):
    once = dump(tmp_path)
    with closing(sqlite3.connect(tmp_path / "mlflow.db")) as database:
        database.execute("delete from tags where key = 'fgsearch.epochs'")
        database.commit()
    replay(replayed.path, SPACE, store)
    assert dump(tmp_path) == once


@pytest.mark.slow
@pytest.mark.parametrize("cut", [1, 8, 12])
def test_part_of_a_journal_and_then_the_rest_show_what_the_whole_does(empty, tmp_path, cut):
    dumps = []
    for cuts in ([cut, None], [None]):
        folder = tmp_path / str(len(cuts))
        folder.mkdir()
        shutil.copy(empty / "mlflow.db", folder)
        store = Store(default_uri(folder), empty / "artifacts")
        whole = Book(folder / "whole.jsonl").launch().write(*a_whole_search()).path.read_bytes().splitlines(keepends=True)
        for upto in cuts:
            torn = b'{"at":"20' if upto else b""
            (folder / "journal.jsonl").write_bytes(b"".join(whole[:upto]) + torn)
            replay(folder / "journal.jsonl", SPACE, store)
        dumps.append(dump(folder))
    assert dumps[0] == dumps[1]


def test_the_first_report_of_an_epoch_counts(book, store, tmp_path):
    again = Reported(trial=0, epoch=1, job=0, attempt=2, metrics=metrics(0.9), seconds=1, checkpoint=None)
    replay(book.launch().write(asked(0, 0), *job(0, 0, [1], 0.5), again).path, SPACE, store)
    values = [value for run, key, value, *_ in dump(tmp_path)["metrics"] if (run, key) == ("#0", "val/accuracy")]
    assert values == [0.51]


def test_a_trials_best_is_its_best_so_far(book, store, tmp_path):
    worse = Reported(trial=0, epoch=2, job=0, attempt=1, metrics=metrics(0.3), seconds=1, checkpoint=None)
    replay(book.launch().write(asked(0, 0), *job(0, 0, [1], 0.5), worse).path, SPACE, store)
    best = {step: value for run, key, value, step, _ in dump(tmp_path)["metrics"] if (run, key) == ("#0", "best/val/accuracy")}
    assert best == {1: 0.51, 2: 0.51}


@pytest.mark.slow
def test_the_searchs_best_is_the_ladders(book, store, tmp_path):
    facts = a_whole_search()[:-1]
    facts += [asked(3, 4), *job(3, 4, [1], 0.9), Failed(trial=1, job=2, reason="error", why="a fault")]
    replay(book.launch().write(*facts).path, SPACE, store)
    best = Ladder(SPACE.search).leader(load(book.path))
    assert best.number == 3
    assert tags(tmp_path, "finches-1")["fgsearch.best"] == "#3"
    assert ("finches-1", "best/val/accuracy", 0.91, 5) in dump(tmp_path)["latest"]


def test_only_a_trial_at_the_last_rung_has_the_attention_figure(replayed, store, tmp_path):
    assert [run for run, key, _ in dump(tmp_path)["tags"] if key == "fgsearch.figure"] == ["#1"]
    with closing(sqlite3.connect(tmp_path / "mlflow.db")) as database:
        (where,) = database.execute("select artifact_uri from runs where name = '#1'").fetchone()
    artifacts = Path(where.removeprefix("file://"))
    assert (artifacts / "attention.png").read_bytes().startswith(b"\x89PNG")
    assert yaml.safe_load((artifacts / "settings.yaml").read_text())["loss.margin"] == 0.25


@pytest.mark.slow
def test_an_artifact_store_that_refuses_costs_the_figure_not_the_statuses(book, store, tmp_path):
    with closing(sqlite3.connect(tmp_path / "mlflow.db")) as database:
        database.execute("update experiments set artifact_location = '/proc/nowhere'")
        database.commit()
    with Tracker(book.launch().write(*a_whole_search()).path, SPACE, store) as tracker:
        assert not tracker.drain(30)
        assert "attention.png" in tracker.remark
        assert statuses(tmp_path) == {"#0": "FINISHED", "#1": "FINISHED", "#2": "FAILED", "finches-1": "FINISHED"}


@pytest.mark.slow
def test_a_run_the_user_deleted_is_written_again(replayed, store, tmp_path):
    whole = dump(tmp_path)
    with closing(sqlite3.connect(tmp_path / "mlflow.db")) as database:
        database.execute("update runs set lifecycle_stage = 'deleted' where name = '#1'")
        database.commit()
    replay(replayed.path, SPACE, store)
    assert dump(tmp_path) == whole


def test_a_run_created_twice_is_deleted_once(replayed, store, tmp_path):
    whole = dump(tmp_path)
    identity = {key: tags(tmp_path, "#1")[key] for key in ("fgsearch.id", "fgsearch.kind", "fgsearch.trial")}
    store.create("#1", START, identity)
    replay(replayed.path, SPACE, store)
    assert dump(tmp_path) == whole


def test_two_searches_of_one_name_are_kept_apart(book, store, tmp_path):
    replay(book.launch().path, SPACE, store)
    other = Opened(at=START + timedelta(days=1), search="finches-1", space=SPACE.document(), digest=SPACE.digest())
    with Journal(tmp_path / "other" / "journal.jsonl") as journal:
        journal.append(other)
    replay(tmp_path / "other" / "journal.jsonl", SPACE, store)
    assert len(dump(tmp_path)["runs"]) == 2


@pytest.mark.slow
def test_each_opening_of_the_test_split_is_a_tag(book, store, tmp_path):
    book.launch().write(*a_whole_search(), OpenedTest(trial=1, seeds=(0, 1), images=210))
    replay(book.path, SPACE, store)
    assert tags(tmp_path, "finches-1")["fgsearch.test_opened"] == "trial 1, seeds 0 1, 210 images, 2026-11-22 08:00 UTC"


def test_a_second_writer_waits_for_the_first(book, store):
    with Tracker(book.launch().path, SPACE, store) as tracker:
        assert tracker.drain(30)
        with pytest.raises(AwayError, match="another process"):
            replay(book.path, SPACE, store)
    replay(book.path, SPACE, store)


@pytest.mark.slow
def test_a_tracker_follows_a_growing_journal(book, store, tmp_path):
    with Tracker(book.launch().path, SPACE, store) as tracker:
        assert tracker.drain(30)
        assert statuses(tmp_path) == {"finches-1": "RUNNING"}
        book.write(*a_whole_search())
        assert tracker.drain(30)
        assert statuses(tmp_path)["#1"] == "FINISHED"
        assert tracker.remark == ""


def test_a_broken_journal_ends_the_tracker_with_a_remark(book, store):
    book.launch()
    book.path.write_bytes(book.path.read_bytes() + b"{}\n")
    with Tracker(book.path, SPACE, store) as tracker:
        assert not tracker.drain(30)
        assert "journal.jsonl:3" in tracker.remark


def test_a_retraining_is_a_run_under_its_search(replayed, store, empty, tmp_path):
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "seed0.txt").write_text("weights")
    run = log_retrain(store, replayed.path, name="retrain #1", settings={"loss.margin": 0.25}, metrics={"test/accuracy": 0.786},
                      times=(START, START + timedelta(minutes=1)), tags={"fgsearch.trial": "1"}, artifacts=tmp_path / "model")
    kept = tags(tmp_path, "retrain #1")
    assert (kept["fgsearch.kind"], kept["mlflow.parentRunId"]) == ("retrain", "finches-1")
    assert statuses(tmp_path)["retrain #1"] == "FINISHED"
    assert ("retrain #1", "test/accuracy", 0.786, 0) in dump(tmp_path)["latest"]
    assert list((empty / "artifacts").glob(f"{run}/artifacts/seed0.txt"))
    before = dump(tmp_path)
    replay(replayed.path, SPACE, store)  # and is none of its trials
    assert dump(tmp_path) == before


@pytest.mark.parametrize(("uri", "remedy"), [
    pytest.param("ftp://machine/path", "is no tracking address", id="unknown scheme"),
    pytest.param("file:///tmp/mlruns", "is no tracking address", id="file store"),
    pytest.param("", "is no tracking address", id="empty"),
    pytest.param("http://", "is no tracking address", id="no host"),
    pytest.param("sqlite://", "is no tracking address", id="database in memory"),
    pytest.param("http://bad host:5000", "is no MLflow server", id="a space in the host"),
    pytest.param("http://no-such-machine.invalid:5000", "no machine of this name", id="unknown host"),
    pytest.param("mysql://me:secret@localhost/x", "driver is not installed", id="no driver"),
    pytest.param("sqlite:////proc/nowhere/mlflow.db", "cannot be opened", id="folder that cannot be made"),
    pytest.param("sqlite:////dev", "cannot be opened", id="a folder"),
])
def test_an_address_that_cannot_be_right_is_one_line(uri, remedy):
    with pytest.raises(InputError, match=remedy) as refusal:
        Store(uri)
    assert "\n" not in str(refusal.value)
    assert "secret" not in str(refusal.value)


def test_a_file_that_is_no_database_is_one_line(tmp_path):
    (tmp_path / "mlflow.db").write_text("not a database, " * 1000)
    with pytest.raises(InputError, match="cannot be opened"):
        Store(default_uri(tmp_path))


@pytest.mark.parametrize(("status", "remedy"), [
    pytest.param(401, "MLFLOW_TRACKING_USERNAME", id="no login"),
    pytest.param(403, "MLFLOW_TRACKING_USERNAME", id="wrong login"),
    pytest.param(404, "is no MLflow server", id="another server"),
    pytest.param(200, "is no MLflow server", id="a web page"),
])
def test_a_server_that_will_never_do_is_one_line(status, remedy):
    class Page(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(status)
            self.end_headers()
            self.wfile.write(b"<html>")

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Page) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        with pytest.raises(InputError, match=remedy):
            Store(f"http://127.0.0.1:{server.server_port}")
        server.shutdown()
        thread.join()


@pytest.mark.slow
def test_a_server_that_is_away_holds_nothing_up(book):
    store = Store(f"http://127.0.0.1:{free_port()}")
    assert store.away
    with Tracker(book.launch().write(*a_whole_search()).path, SPACE, store) as tracker:
        began = time.monotonic()
        assert not tracker.drain(1.5)
        assert time.monotonic() - began < 3
        assert "launching the same name again writes the rest" in tracker.remark
        assert "\n" not in tracker.remark


@pytest.mark.slow
def test_a_server_killed_midway_and_restarted_loses_and_doubles_nothing(book, empty, tmp_path):
    """Against the same journal replayed at once into a database."""
    shutil.copy(empty / "mlflow.db", tmp_path)
    (tmp_path / "direct").mkdir()
    shutil.copy(empty / "mlflow.db", tmp_path / "direct")
    port = free_port()
    server = serve(tmp_path, port)
    store = Store(f"http://127.0.0.1:{port}")
    facts = a_whole_search()
    with Tracker(book.launch().write(*facts[:4]).path, SPACE, store) as tracker:
        assert tracker.drain(30), tracker.remark
        book.write(*facts[4:8])
        tracker.drain(0.1)  # the writing may be anywhere when the server goes
        kill(server)
        book.write(*facts[8:])
        assert not tracker.drain(1)
        server = serve(tmp_path, port)
        assert tracker.drain(30), tracker.remark
    kill(server)
    replay(book.path, SPACE, Store(default_uri(tmp_path / "direct"), empty / "artifacts"))
    assert dump(tmp_path) == dump(tmp_path / "direct")


def test_two_processes_open_a_new_home_at_once_and_nothing_of_mlflow_reaches_the_terminal(opened_twice):
    home, said = opened_twice
    assert said == [("", "", 0), ("", "", 0)]
    with closing(sqlite3.connect(home / "mlflow.db")) as database:
        assert database.execute("select count(*) from experiments where name = 'fgsearch'").fetchone() == (1,)


@pytest.mark.slow
def test_writing_and_ending_runs_prints_nothing(book, store, capfd, caplog):
    replay(book.launch().write(*a_whole_search()).path, SPACE, store)
    assert capfd.readouterr() == ("", "")
    assert caplog.records == []


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def serve(folder, port):
    """A real MLflow server on a database, once it answers."""
    command = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", default_uri(folder), "--workers", "1",
               "--artifacts-destination", str(folder / "served"), "--host", "127.0.0.1", "--port", str(port)]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
                              env={**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"})  # starts in half the time
    for _ in range(600):
        with socket.socket() as client:
            if client.connect_ex(("127.0.0.1", port)) == 0:
                return server
        time.sleep(0.1)
    raise AssertionError("the server did not start")


def kill(server):
    os.killpg(server.pid, signal.SIGKILL)
    server.wait()
