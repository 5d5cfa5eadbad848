"""Real searches of the real model on drawn birds, through the command line: Ray, Optuna, MLflow, the disk and signals.

`lab.run` trains in this process, `lab.program` and `lab.start` on Ray as a user's command does: where Ray, a start or a
kill is what is tested. The undisturbed search, `whole`, ran on Ray.
"""

import contextlib
import json
import signal
import socket
import sqlite3
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from random import Random

import psutil
import pytest
from safetensors import safe_open

from search.record.history import load
from search.record.journal import OpenedTest, read
from tests.lab import Lab
from tests.search.test_dispatch import decisions, reports

pytestmark = pytest.mark.slow


@pytest.fixture(scope="session")
def whole(tmp_path_factory) -> Lab:
    """An undisturbed search."""
    lab = Lab(tmp_path_factory.mktemp("whole"))
    lab.said = lab.program("launch", "tiny.yaml")
    return lab


@pytest.fixture
def lab(tmp_path, whole) -> Iterator[Lab]:
    """A fresh home that shares nothing with the undisturbed search but what is computed once."""
    lab = Lab(tmp_path / "lab")
    lab.share()
    yield lab
    lab.end()


def require_mlflow_shows_the_journal(lab: Lab) -> None:
    """Every (trial, epoch, metric) of the journal is in MLflow exactly once, and nothing else at these steps."""
    told = {(t.number, epoch, key): value for t in load(lab.journal).trials.values() for epoch, metrics in t.reports.items() for key, value in metrics.items()}
    shown: dict[tuple, list[float]] = {}
    for trial, key, step, _, value in lab.rows():
        if not key.startswith(("best/", "confirmed/", "rung.value", "by time step/")):
            shown.setdefault((int(trial), step, key), []).append(value)
    assert {key: [value] for key, value in told.items()} == shown


def test_a_search_ends_with_the_best_trials_and_the_next_commands(whole) -> None:
    for words in ("complete: best #", "*#0", "MLflow   sqlite:", "fgsearch browse", "fgsearch export tiny --out best.yaml", "fgsearch retrain best.yaml"):
        assert words in whole.said
    history = load(whole.journal)
    assert history.finished.how == "complete"
    assert len(history.trials) == 6
    assert max(t.rung for t in history.trials.values()) == 4


def test_mlflow_shows_one_parent_and_a_child_a_trial_with_true_states(whole) -> None:
    assert sorted(kind for _, kind in whole.runs() if kind != "retrain") == ["search"] + ["trial"] * 6
    assert {status for status, _ in whole.runs()} == {"FINISHED"}
    require_mlflow_shows_the_journal(whole)


def test_a_second_launch_says_the_search_is_complete_and_duplicates_nothing(whole) -> None:
    before, rows = whole.journal.read_bytes(), sorted(whole.rows())
    assert "complete" in whole.run("launch", "tiny.yaml")
    assert whole.journal.read_bytes() == before
    assert sorted(whole.rows()) == rows


def test_list_and_status_tell_a_script_where_a_search_stands(whole) -> None:
    (listed,) = json.loads(whole.run("list", "--json"))
    status = json.loads(whole.run("status", "tiny", "--json"))
    assert listed == status
    assert (status["state"], status["started"], status["trials"], status["rungs"]["1"]) == ("complete", 6, 6, 6)
    assert "best: #" in whole.run("status", "tiny")


def test_the_best_is_exported_and_retrained_and_the_test_split_opened_once(whole) -> None:
    said = whole.run("export", "tiny", "--out", "best.yaml")
    assert "fgsearch retrain best.yaml" in said
    said = whole.run("retrain", "best.yaml", "--seeds", "2")
    assert "test/accuracy " in said
    assert "±" in said
    (opening,) = [fact for fact in read(whole.journal) if isinstance(fact, OpenedTest)]
    assert (opening.seeds, opening.images) == ((0, 1), 24)  # a quarter of 12 x 8
    (folder,) = (whole.folder / "fgsearch-home" / "models").iterdir()
    with safe_open(folder / "seed1.safetensors", framework="pt") as weights:
        assert list(weights.keys())
    assert ("FINISHED", "retrain") in whole.runs()


def test_browse_serves_the_runs_on_this_machine_only_and_ends_with_its_server(whole) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = whole.start("browse", "--port", str(port))
    patience = time.monotonic() + 120
    while time.monotonic() < patience:
        with contextlib.suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}/") as page:
            assert page.status == 200
            break
        time.sleep(0.5)
    family = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
    listening = {c.laddr.ip for p in family for c in p.net_connections() if c.status == psutil.CONN_LISTEN}
    assert listening == {"127.0.0.1"}
    process.terminate()
    process.communicate(timeout=60)
    assert not [p for p in family if p.is_running() and p.status() != psutil.STATUS_ZOMBIE]


def test_a_retrain_refuses_a_bundle_changed_by_hand(whole) -> None:
    whole.run("export", "tiny", "--out", "mine.yaml")
    text = (whole.folder / "mine.yaml").read_text()
    (whole.folder / "mine.yaml").write_text(text.replace("loss.margin: ", "loss.margn: "))
    assert "'loss.margn' is not a setting; did you mean 'loss.margin'?" in whole.run("retrain", "mine.yaml", status=2)


def test_the_same_seed_gives_the_same_numbers_in_this_process_as_on_ray_with_one_worker(lab, whole) -> None:
    lab.run("launch", "tiny.yaml")
    assert decisions(lab.journal) == decisions(whole.journal)
    assert reports(load(lab.journal)) == reports(load(whole.journal))


@pytest.mark.parametrize(("seed", "executor"), [pytest.param(0, [], id="on Ray"), pytest.param(1, ["--inline"], id="in process")])
def test_a_search_killed_at_a_random_moment_and_relaunched_ends_as_the_undisturbed_one(seed, executor, lab, whole) -> None:
    process = lab.start("launch", "tiny.yaml", *executor)
    lab.wait_for_reports(process, Random(seed).randint(1, 12))
    family = psutil.Process(process.pid).children(recursive=True)
    for member in [psutil.Process(process.pid), *family]:
        if member.is_running():
            member.send_signal(signal.SIGKILL)
    process.communicate()
    lab.run("launch", "tiny.yaml")
    assert decisions(lab.journal) == decisions(whole.journal)
    assert reports(load(lab.journal)) == reports(load(whole.journal))
    require_mlflow_shows_the_journal(lab)
    assert "RUNNING" not in {status for status, _ in lab.runs()}


def test_a_search_goes_on_when_its_worker_is_killed(lab, whole) -> None:
    process = lab.start("launch", "tiny.yaml")
    lab.wait_for_reports(process, 3)
    family = psutil.Process(process.pid).children(recursive=True)
    workers = [p for p in family if p.cmdline()[:1] and p.cmdline()[0].startswith("ray::") and "Agent" not in p.cmdline()[0]]
    assert workers
    for worker in workers:
        worker.kill()
    said, _ = process.communicate()
    assert process.returncode == 0, said
    assert reports(load(lab.journal)) == reports(load(whole.journal))
    assert '"lost"' in lab.journal.read_text()


def test_ctrl_c_stops_cleanly_and_the_same_command_goes_on(lab, whole) -> None:
    process = lab.start("launch", "tiny.yaml", "--set", "search.hours=2")
    lab.wait_for_reports(process, 2)
    process.send_signal(signal.SIGINT)
    said, _ = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "stopped; everything reported is kept" in said
    assert "go on    fgsearch launch tiny.yaml --name tiny --set search.hours=2" in said
    assert "Traceback" not in said
    lab.run("launch", "tiny.yaml", "--name", "tiny", "--set", "search.hours=2")
    assert reports(load(lab.journal)) == reports(load(whole.journal))


def test_a_running_search_refuses_a_second_driver_and_obeys_stop(lab) -> None:
    process = lab.start("launch", "tiny.yaml", "--trials", "200", "--inline")
    lab.wait_for_reports(process, 1)
    assert "another process is running this search" in lab.run("launch", "tiny.yaml", status=2)
    assert json.loads(lab.run("status", "tiny", "--json"))["state"] == "running"
    assert "stopped" in lab.run("stop", "tiny")
    said, _ = process.communicate()
    assert process.returncode == 130, said


def test_more_trials_extend_a_finished_search(lab, whole) -> None:
    lab.run("launch", "tiny.yaml")
    lab.run("launch", "tiny.yaml", "--trials", "8")
    history = load(lab.journal)
    assert len(history.trials) == 8
    assert history.finished.how == "complete"
    first = reports(load(whole.journal))
    assert all(reports(history)[number].items() >= epochs.items() for number, epochs in first.items())
    require_mlflow_shows_the_journal(lab)


def test_a_name_taken_by_another_space_is_refused(whole) -> None:
    said = whole.run("launch", "tiny.yaml", "--set", "optim.batch_size=8", status=2)
    assert said.strip() == "search 'tiny' belongs to another space: fixed.optim.batch_size was absent, is 8; choose another --name"


@pytest.mark.parametrize("run", [pytest.param(Lab.program, id="on Ray"), pytest.param(Lab.run, id="in process")])
def test_a_trial_that_diverges_is_a_failed_trial_with_its_reason(run, lab) -> None:
    sets = ("--set", "optim.lr_global=10.0", "--set", "optim.lr_local=10.0", "--set", "optim.weight_decay=1.0", "--set", "optim.schedule=constant")  # w becomes -9 w a step
    run(lab, "launch", "tiny.yaml", "--name", "wild", "--trials", "2", "--set", "search.epochs=30", *sets)
    status = json.loads(lab.run("status", "wild", "--json"))
    assert all("not finite at epoch" in why for why in status["failures"].values())
    assert status["failures"]


def test_a_full_disk_ends_a_search_with_one_line(tmp_path, whole) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=12m", "tmpfs", str(disk)], capture_output=True, check=False).returncode:
        pytest.skip("needs the right to mount a small disk")
    try:
        lab = Lab(disk / "lab")
        lab.share()
        said = lab.run("launch", "tiny.yaml", "--trials", "60", "--tracking-uri", f"sqlite:///{tmp_path}/mlflow.db", status=2)
        assert "No space left on device" in said.splitlines()[-1]
        read(lab.journal)
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)


def test_end_to_end_training_runs_too(lab) -> None:
    sets = ["model.freeze_backbones=false", "search.epochs=2", "optim.batch_size=16", "optim.lr_local=0.01", "optim.lr_global=0.01"]
    said = lab.run("launch", "tiny.yaml", "--name", "deep", "--trials", "1", *(w for s in sets for w in ("--set", s)))
    assert "complete: best #0" in said


def test_a_search_ends_with_a_race_whose_winner_is_exported(lab) -> None:
    race = ("--set", "search.finalists=2", "--set", "search.seeds=2")
    said = lab.run("launch", "tiny.yaml", *race)
    assert "finalists, trained again:" in said
    history = load(lab.journal)
    repeats = [t for t in history.trials.values() if t.repeats is not None]
    assert len(repeats) == 4
    assert len({(t.settings["seed"], t.settings["data.validation_seed"]) for t in repeats}) == 2
    status = json.loads(lab.run("status", "tiny", "--json"))
    assert [f["seeds"] for f in status["finalists"]] == [2, 2]
    assert status["best"]["trial"] == status["finalists"][0]["trial"]
    lab.run("export", "tiny", "--out", "best.yaml")
    assert "confirmed:" in (lab.folder / "best.yaml").read_text()
    require_mlflow_shows_the_journal(lab)
    with sqlite3.connect(lab.database) as database:
        shown = dict(database.execute("select t.value, m.value from metrics m join tags t on t.run_uuid = m.run_uuid and t.key = 'fgsearch.trial' where m.key = 'confirmed/val/accuracy'"))
    assert shown == {str(f["trial"]): f["mean"] for f in status["finalists"]}


def test_a_budget_ends_a_launch_and_the_next_one_goes_on(lab, whole) -> None:
    said = lab.run("launch", "tiny.yaml", "--set", "search.hours=0.00001")
    assert "the budget is spent; everything reported is kept" in said
    lab.run("launch", "tiny.yaml")
    assert decisions(lab.journal) == decisions(whole.journal)


@pytest.mark.parametrize("sampler", ["gp", "cmaes", "random"])
def test_every_sampler_runs_a_whole_search(sampler, lab) -> None:
    lab.run("launch", "tiny.yaml", "--name", sampler, "--trials", "4", "--set", f"search.sampler.name={sampler}", "--set", "search.epochs=2")
    journal = load(lab.folder / "fgsearch-home" / "searches" / sampler / "journal.jsonl")
    assert [t.by for t in journal.trials.values()] == ["reference", sampler, sampler, sampler]
    assert journal.finished.how == "complete"


def test_a_search_that_trains_end_to_end_stops_when_asked_and_goes_on(lab) -> None:
    sets = ["model.freeze_backbones=false", "search.epochs=4", "search.rungs=[2]", "optim.batch_size=16", "optim.lr_local=0.01", "optim.lr_global=0.01"]
    words = ("launch", "tiny.yaml", "--trials", "2", *(w for s in sets for w in ("--set", s)))
    process = lab.start(*words, "--inline")
    lab.wait_for_reports(process, 1)
    assert "stopped" in lab.run("stop", "tiny")
    said, _ = process.communicate()
    assert process.returncode == 130, said
    lab.run(*words)
    assert load(lab.journal).finished.how == "complete"
