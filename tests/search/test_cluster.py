"""Real searches on a real cluster of three Ray nodes on this machine: submitted, watched, killed, stopped, taken up again.

The tests tell one story on one cluster, in the order they are written.
"""

import json
import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import psutil
import pytest

from search.record.history import load
from search.record.journal import Lost, Reissued, read
from tests.lab import Lab

pytestmark = pytest.mark.slow
SECRET = "kiwi-under-the-fern"
SLOW = ("optim.batch_size=1", "model.hidden_size=512")  # half a second an epoch


class Cluster(Lab):
    """A home with a cluster of three nodes, two of which have a GPU as Ray counts them."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.home = folder / "fgsearch-home"
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.address = f"http://127.0.0.1:{self.port}"

    run = Lab.program  # Ray keeps the first token that a process shows it

    def up(self) -> str:
        return self.run("cluster", "up", "--nodes", "3", "--gpus-per-node", "0,1,1", "--port", str(self.port))

    def state(self) -> dict:
        return json.loads(self.run("cluster", "status", "--json"))

    def submit(self, name: str, *words: str, status: int = 0) -> str:
        return self.run("launch", "tiny.yaml", "--name", name, "--address", self.address, *words, status=status)

    def path(self, name: str) -> Path:
        return self.home / "searches" / name / "journal.jsonl"

    def wait(self, name: str) -> None:
        """Return once the search has ended."""
        self.run("logs", name, "--follow")

    def reported(self, name: str, count: int) -> None:
        patience = time.monotonic() + 120
        while not self.path(name).exists() or self.path(name).read_text().count('"reported"') < count:
            assert time.monotonic() < patience
            time.sleep(0.05)

    def raylet(self, number: int) -> psutil.Process:
        block = psutil.Process(self.state()["members"][number]["pid"])
        return next(p for p in block.children(recursive=True) if p.name() == "raylet")


@pytest.fixture(scope="module")
def cluster(tmp_path_factory) -> Cluster:
    there = Cluster(tmp_path_factory.mktemp("cluster"))
    os.environ["MLFLOW_TRACKING_PASSWORD"] = SECRET
    try:
        there.said = there.up()
        there.first = there.submit("tiny", "--set", "search.workers=2")
        yield there
    finally:
        del os.environ["MLFLOW_TRACKING_PASSWORD"]
        there.run("cluster", "down")
        there.end()


def test_a_cluster_of_three_nodes_comes_up_and_says_how_to_use_it(cluster) -> None:
    assert f"fgsearch launch finches --address {cluster.address}" in cluster.said
    state = cluster.state()
    assert [(m["name"], m["gpus"], m["alive"]) for m in state["members"]] == [("node-1", 0, True), ("node-2", 1, True), ("node-3", 1, True)]
    assert cluster.up() == cluster.said  # starting it again changes nothing


def test_a_stranger_is_refused_and_the_token_is_its_owners_alone(cluster) -> None:
    token = cluster.home / "cluster" / "token"
    assert stat.S_IMODE(token.stat().st_mode) == 0o600
    for path in ("api/version", "api/jobs/", "nodes?view=summary"):
        with pytest.raises(urllib.error.HTTPError) as refusal:
            urllib.request.urlopen(f"{cluster.address}/{path}")
        refusal.value.close()
        assert refusal.value.code == 401
    listening = {c.laddr.ip for c in psutil.net_connections("tcp") if c.status == psutil.CONN_LISTEN and c.laddr.port == cluster.port}
    assert listening == {"127.0.0.1"}
    commands = [word for process in psutil.process_iter() for word in _command(process)]
    assert not [word for word in commands if token.read_text() in word]


def test_a_search_runs_without_the_machine_that_launched_it(cluster) -> None:
    assert "it goes on without this machine" in cluster.first
    assert "fgsearch logs tiny --follow" in cluster.first
    cluster.wait("tiny")
    status = json.loads(cluster.run("status", "tiny", "--json"))
    assert (status["state"], status["started"], status["job"]["state"]) == ("complete", 6, "SUCCEEDED")
    assert "every node sees" in cluster.run("logs", "tiny", "--driver")
    assert "the driver ended: complete" in cluster.run("logs", "tiny")
    assert "trial #" in cluster.run("export", "tiny", "--out", "best.yaml")


def test_a_retrain_runs_as_a_job_and_says_its_result_here(cluster) -> None:
    cluster.run("export", "tiny", "--bundle", "best.zip")
    said = cluster.run("retrain", "best.zip", "--seeds", "1", "--address", cluster.address)
    assert "fgsearch-retrain-tiny-" in said
    assert "test/accuracy " in said
    (model,) = (cluster.home / "models").iterdir()
    assert json.loads((model / "test.json").read_text())["test/accuracy"].keys() == {"0"}
    status = json.loads(cluster.run("status", "tiny", "--json"))
    assert status["test_opened"] == 1


def test_neither_the_token_nor_a_password_is_kept_anywhere_but_in_the_tokens_file(cluster) -> None:
    token = (cluster.home / "cluster" / "token").read_text()
    folders = (cluster.home, Path(cluster.state()["temporary"]))
    kept = [file for folder in folders for file in folder.rglob("*") if file.is_file() and file.suffix != ".npy"]
    assert [file.name for file in kept if token.encode() in file.read_bytes()] == ["token"]
    assert not [file for file in kept if SECRET.encode() in file.read_bytes()]


def test_a_finished_search_is_extended_and_followed_and_launching_it_twice_is_one_search(cluster) -> None:
    extension = cluster.start("extend", "tiny", "--trials", "+2", "--follow")
    while "fgsearch-tiny" not in (cluster.home / "searches" / "tiny" / "job.json").read_text():
        time.sleep(0.05)
    again = cluster.start("extend", "tiny", "--trials", "8")
    said, (second, _) = extension.communicate()[0], again.communicate()
    assert extension.returncode == again.returncode == 0, said + second
    assert "complete: best #" in said
    history = load(cluster.path("tiny"))
    assert (len(history.trials), history.finished.how) == (8, "complete")
    assert sum('"launched"' in line for line in cluster.path("tiny").read_text().splitlines()) == 2
    assert "complete" in cluster.submit("tiny", "--trials", "8")  # nothing is left to submit
    assert len(cluster.runs()) == 10  # eight trials, the search, the retrained model


@pytest.mark.parametrize("command", ["check", "launch"])
def test_a_trial_that_needs_more_than_any_node_has_is_refused(command, cluster) -> None:
    shutil.copy(cluster.folder / "tiny.yaml", cluster.folder / "wide.yaml")
    said = cluster.run(command, "wide.yaml", "--address", cluster.address, "--set", "search.resources.gpu=2", status=2)
    assert said.startswith("search.resources: a trial needs 1 CPU and 2 GPU, and no node has that: node-")
    assert len(said.splitlines()) == 1


def test_a_killed_node_costs_no_retry_and_the_search_finishes_on_the_others(cluster) -> None:
    plan = (*SLOW, "search.workers=2", "search.resources.gpu=1", "search.retries=0")
    raylet = cluster.raylet(2)
    cluster.submit("lossy", "--trials", "8", *(w for s in plan for w in ("--set", s)))
    cluster.reported("lossy", 4)  # both workers are there
    raylet.kill()
    assert "runs already" in cluster.run("extend", "lossy", "--trials", "+50", status=2)
    cluster.wait("lossy")
    history, facts = load(cluster.path("lossy")), read(cluster.path("lossy"))
    assert history.finished.how == "complete"
    assert not [trial for trial in history.trials.values() if trial.reason]
    assert {fact.blame for fact in facts if isinstance(fact, Lost)} == {"node"}
    assert [fact for fact in facts if isinstance(fact, Reissued)]
    assert [m["alive"] for m in cluster.state()["members"]] == [True, True, False]
    assert "node-3  1 CPU  1 GPU  up" in cluster.up()  # brings back what was lost


@pytest.mark.parametrize("wrong", ["its own home", "other code"])
def test_a_node_that_cannot_take_part_is_named_before_anything_is_launched(wrong, cluster, tmp_path) -> None:
    with _Stray(wrong, cluster, tmp_path):
        said = cluster.submit("odd", status=2).strip()
    if wrong == "its own home":
        assert said.endswith(f"stray: does not see {cluster.home}/searches/odd/probe; the home must be a folder that every node shares, at the same path")
    else:
        assert said.rpartition("\n")[2].startswith("stray: runs fgsearch code ")
        assert not cluster.path("odd").read_bytes()
        assert "it goes on without this machine" in cluster.submit("odd", "--trials", "1", "--ship")  # the code travels
        cluster.wait("odd")
        assert load(cluster.path("odd")).finished.how == "complete"


def test_a_search_is_stopped_by_its_name_and_goes_on_here_when_the_cluster_is_gone(cluster) -> None:
    cluster.submit("later", "--trials", "6", *(w for s in SLOW for w in ("--set", s)))
    cluster.reported("later", 1)
    assert json.loads(cluster.run("status", "later", "--json"))["state"] == "running"
    watched = cluster.start("resume", "later", "--follow")  # it runs already: its job is joined
    while "goes on without this machine" not in watched.stdout.readline():
        assert watched.poll() is None
    assert "stopped; everything reported is kept" in cluster.run("stop", "later")
    assert "stopped; everything reported is kept" in watched.communicate()[0]
    assert watched.returncode == 130
    assert load(cluster.path("later")).finished.how == "stopped"
    temporary = cluster.state()["temporary"]
    assert "the cluster is down" in cluster.run("cluster", "down")
    patience = time.monotonic() + 20
    while any(temporary in word for process in psutil.process_iter() for word in _command(process)):
        assert time.monotonic() < patience
        time.sleep(0.5)
    said = cluster.run("resume", "later", status=2)
    assert "does not answer" in said or "refuses without its token" in said, "another test's Ray may have taken the port"
    assert "complete: best #" in cluster.run("resume", "later", "--inline")


def _command(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []


class _Stray:
    """One more node that is not like the others: with a folder of its own where the home is, or with changed code."""

    def __init__(self, wrong: str, cluster: Cluster, tmp: Path) -> None:
        token, state = tmp / "token", cluster.state()
        shutil.copy(cluster.home / "cluster" / "token", token)
        ray = f"{sys.executable} -m ray.scripts.scripts start --block --address={state['gcs']} --node-name=stray --num-cpus=1"
        ray += f" --node-ip-address=127.0.0.1 --temp-dir={state['temporary']} --object-store-memory=100000000 --include-log-monitor=false"
        self.environment = {**os.environ, "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(token)}
        if wrong == "other code":
            for part in ("search", "fgmodel", "cluster"):
                shutil.copytree(Path(__file__).parents[2] / part, tmp / "code" / part)
            (tmp / "code" / "search" / "asha.py").write_text("# changed\n")
            self.environment["PYTHONPATH"] = str(tmp / "code")
            self.words = ray.split()
        else:
            if subprocess.run(["unshare", "-m", "true"], capture_output=True, check=False).returncode:
                pytest.skip("needs the right to mount")
            self.words = ["unshare", "-m", "sh", "-c", f"mount -t tmpfs tmpfs {cluster.home} && exec {ray}"]
        self.log = tmp / "stray.log"

    def __enter__(self) -> None:
        with self.log.open("w") as log:
            self.process = subprocess.Popen(self.words, env=self.environment, stdout=log, stderr=log, start_new_session=True)
        while "Ray runtime started" not in self.log.read_text():
            assert self.process.poll() is None, self.log.read_text()
            time.sleep(0.1)

    def __exit__(self, *error: object) -> None:
        os.killpg(self.process.pid, signal.SIGTERM)
        self.process.wait()
