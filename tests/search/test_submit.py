"""Without a cluster: what is refused before anything is submitted, what a lost worker is blamed for, where caches lie."""

import socket
from pathlib import Path
from types import SimpleNamespace

import pytest

from fgmodel.config import TrialConfig
from search.commands.searches import begin_and_tell
from search.errors import InputError
from search.record.history import History, space_of
from search.record.home import Home, cache_here
from search.record.journal import Failed, Journal, Launched, Lost, Opened
from search.run.follow import line
from search.run.submit import BEGAN, Submission, _goes_on, shared_paths, submission
from search.run.tune_hooks import verdict
from search.run.way import Way
from search.space.file import read_space
from tests.search.conftest import SPACES

CRASHED = """\
The actor died unexpectedly before finishing this task.
\tclass_name: TrialActor
The actor is dead because its worker process has died. Worker exit type: SYSTEM_ERROR Worker exit detail: Worker unexpectedly exits \
with a connection error code 2. End of file. Some common causes include: (1) the process was killed by the OOM killer due to high memory \
usage, consider enabling resource isolation via --enable-resource-isolation to prevent node deaths by resource contention"""
CUT_OFF = """\
The actor f4f75a29c1c8dbbbd0f8cbb903000000 is unavailable: The actor is temporarily unavailable: RpcError: RPC error: Socket closed \
rpc_code: 14. The task may or may not have been executed on the actor."""
NODE_DIED = """\
The actor died unexpectedly before finishing this task.
The actor died because its node has died. Node Id: f60350a3eb7ab51e166eb552bce617bba7f735b556c33acc75a96a43
\tthe actor's node was terminated unexpectedly: health check failed due to missing too many heartbeats"""


@pytest.mark.parametrize(
    ("said", "blame"),
    [  # Ray 2.60's own words: of a worker killed with -9, of one whose raylet was, and of the same 15 s later
        pytest.param(CRASHED, "worker", id="killed worker"),
        pytest.param(CUT_OFF, "node", id="killed raylet"),
        pytest.param(NODE_DIED, "node", id="node marked dead"),
        pytest.param("", "worker", id="silence"),
    ],
)
def test_a_lost_worker_is_told_from_a_lost_node_by_what_ray_says(said, blame) -> None:
    assert verdict(said)[1] == blame


def test_nodes_that_are_lost_cost_a_trial_no_retry_and_its_own_crashes_do(space, dispatching) -> None:
    dispatcher = dispatching(space)  # 3 retries
    order = dispatcher.next()
    for _ in range(10):
        dispatcher.lose(order.job, order.attempt, "its node was lost", "node")
        order = dispatcher.next()
    assert dispatcher.history.trials[0].reason is None
    for _ in range(4):
        assert dispatcher.history.trials[0].reason is None
        dispatcher.lose(order.job, order.attempt, "the worker process died")
        order = dispatcher.next()
    assert dispatcher.history.trials[0].reason == "lost"


def test_a_job_that_loses_node_after_node_is_given_up_at_last(space, dispatching) -> None:
    dispatcher = dispatching(space)
    order = dispatcher.next()
    for _ in range(26):
        dispatcher.lose(order.job, order.attempt, "its node was lost", "node")
        order = dispatcher.next()
    assert dispatcher.history.trials[0].reason == "lost"


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        pytest.param({"data.root": "data/cub"}, "data.root: 'data/cub' starts from this folder; on a cluster write the whole path", id="data"),
        pytest.param({"data.root": "/data/cub", "data.patches": "boxes"}, "data.patches: 'boxes' starts from this folder; on a cluster write the whole path", id="patches"),
    ],
)
def test_a_path_that_only_this_folder_knows_is_refused_on_a_cluster(settings, said) -> None:
    with pytest.raises(InputError) as refusal:
        shared_paths(TrialConfig.from_settings(settings))
    assert str(refusal.value) == said


def test_whole_paths_are_asked_of_every_node() -> None:
    settings = {"data.root": "/data/cub", "data.patches": "/data/boxes"}
    assert shared_paths(TrialConfig.from_settings(settings)) == ("/data/cub", "/data/boxes")
    assert shared_paths(TrialConfig.from_settings({"data.dataset": "finches"})) == ()


def test_a_submission_gives_back_the_space_it_was_made_of() -> None:
    settings = ["search.resources.gpu=0.5", "search.workers=7", "search.hours=2", "search.retries=1", "loss.margin=0.3"]
    space = read_space(SPACES / "finches.yaml", settings)
    whole = {**space.document(), "search": space.search.model_dump(mode="json")}
    made = Submission(id="a", address="http://h:1", name=space.name, question=space.question, space=whole, code="code 0123", tracking=None)
    assert Submission.model_validate_json(made.model_dump_json()).restored() == space


def test_a_broken_record_of_a_job_is_one_line(tmp_path) -> None:
    record = Home(tmp_path).search("s") / "job.json"
    record.parent.mkdir(parents=True)
    record.write_text("{")
    with pytest.raises(InputError, match=r"job\.json: is not the record of a job: .*; delete it"):
        submission(Home(tmp_path), "s")


def test_a_journal_tells_what_a_launch_may_change_so_that_a_search_goes_on_by_its_name() -> None:
    space = read_space(SPACES / "finches.yaml", ["search.resources.gpu=0.5", "search.workers=7", "search.retries=1"])
    opened = Opened(search=space.name, question=space.question, space=space.document(), digest=space.digest())
    search = space.search
    launched = Launched(
        trials=search.trials, workers=7, finalists=search.finalists, seeds=search.seeds, version="0.1.0", commit=None, reference={}, data={},
        resources=search.resources.model_dump(), retries=1,
    )
    assert space_of(History.of([opened, launched])) == space


def test_caches_lie_where_a_node_says_else_on_the_drivers_machine_with_it_else_with_the_user(monkeypatch) -> None:
    monkeypatch.delenv("FGSEARCH_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", "/home/me/.cache")
    assert cache_here(Path("/shared/cache"), socket.gethostname()) == Path("/shared/cache")
    assert cache_here(Path("/shared/cache"), "another-machine") == Path("/home/me/.cache/fgsearch")
    assert Home(Path("/shared")).cache == Path("/shared/cache")
    monkeypatch.setenv("FGSEARCH_CACHE", "/local/ssd")
    assert cache_here(Path("/shared/cache"), socket.gethostname()) == Path("/local/ssd")
    assert Home(Path("/shared")).cache == Path("/local/ssd")


def test_what_went_wrong_reads_as_one_line_of_the_logs() -> None:
    lost = Lost(trial=3, job=5, attempt=1, why="its node was lost", blame="node")
    failed = Failed(trial=3, job=5, reason="error", why="ValueError: no such bird (mine.py:7)")
    assert line(lost, "val/accuracy").endswith("  #3 lost its worker: its node was lost")
    assert line(failed, "val/accuracy").endswith("  #3 failed (error): ValueError: no such bird (mine.py:7)")


@pytest.mark.parametrize(
    ("said", "driven", "goes_on"),
    [
        pytest.param("", False, True, id="its driver has not opened the journal yet"),
        pytest.param(BEGAN, True, True, id="its driver runs"),
        pytest.param(BEGAN, False, False, id="its driver was just killed, and Ray has not noticed"),
    ],
)
def test_a_job_whose_driver_is_gone_is_not_taken_for_one_that_runs(said, driven, goes_on, tmp_path, monkeypatch) -> None:
    asked = iter([True, True, False])
    jobs = SimpleNamespace(active=lambda id_: next(asked), logs=lambda id_: said)
    monkeypatch.setattr("search.run.submit.POLL_SECONDS", 0)
    journal = Journal(tmp_path / "journal.jsonl")
    if not driven:
        journal.close()
    assert _goes_on(jobs, "fgsearch-tiny-1", journal.path) is goes_on
    journal.close()


@pytest.mark.parametrize("driven", [pytest.param(True, id="its job still writes to MLflow"), pytest.param(False, id="its job is over")])
def test_a_search_launched_again_while_its_finished_job_ends_is_that_job(driven, space, tmp_path, monkeypatch) -> None:
    home, done = Home(tmp_path), []
    monkeypatch.setattr("search.run.launch.finished_already", lambda *_: True)
    monkeypatch.setattr("search.run.begin.run", lambda *_: done.append("projected here"))
    monkeypatch.setattr("search.run.submit.submit", lambda *_, **__: done.append("found") or SimpleNamespace(id="fgsearch-s-1", address="http://head:8265"))
    monkeypatch.setattr("search.run.submit.wait_until_begun", lambda *_: None)
    journal = Journal(home.journal("s"))
    if not driven:
        journal.close()
    begin_and_tell(space, "s", home, Way("http://head:8265"), "")
    journal.close()
    assert done == ["found" if driven else "projected here"]
