"""Real searches while what they are written to is killed, stopped or hangs: nothing is lost, nothing doubled."""

import shutil
import signal
import subprocess
import time

import psutil
import psycopg
import pytest

from cluster.private import ensure_ray_token
from search.record.history import load
from tests.chaos.proxy import Proxy
from tests.lab import Lab

PLANTED = "planted-secret-4711"
pytestmark = pytest.mark.slow


class ServedLab(Lab):
    """A lab whose searches are written to a server."""

    def __init__(self, folder, services) -> None:
        super().__init__(folder)
        self.services = services
        self.uri = services.url
        self.words: tuple[str, ...] = ()
        self.environment = {"MLFLOW_HTTP_REQUEST_TIMEOUT": "3"}  # ours is 20: a test that waits for less

    def launch(self, *words: str) -> subprocess.Popen:
        self.words = words or self.words
        login = {} if "@" in self.uri else self.services.login(self.services.url)
        with pytest.MonkeyPatch.context() as patch:
            for name, word in (login | self.environment).items():
                patch.setenv(name, word)
            return self.start("launch", "tiny.yaml", "--inline", "--tracking-uri", self.uri, *self.words)

    def finish(self, process: subprocess.Popen) -> None:
        """Wait for a search, and launch it again where it says that MLflow was away for too long after its end."""
        said, _ = process.communicate()
        assert process.returncode == 0, said
        assert "Traceback" not in said
        if "launching the same name again writes the rest" in said:
            again, _ = self.launch().communicate()
            assert "writes the rest" not in again

    def query(self, words: str) -> list[tuple]:
        """Ask PostgreSQL about the runs of this lab's search alone: others share the server."""
        passwords = str(self.services.folder / "pgpass")
        with psycopg.connect(host="127.0.0.1", port=self.services._postgres.port(), user="fgsearch", dbname="fgsearch", passfile=passwords) as database:
            return database.execute(words.replace("MINE", f"r.run_uuid in (select run_uuid from tags where key = 'fgsearch.id' and value = '{self.identity()}')")).fetchall()

    def identity(self) -> str:
        from search.tracking.rows import search_id

        return search_id(load(self.journal).opened)

    def rows(self) -> list[tuple]:
        return self.query("select t.value, m.key, m.step, m.timestamp, m.value from metrics m join runs r on r.run_uuid = m.run_uuid join tags t on t.run_uuid = m.run_uuid and t.key = 'fgsearch.trial' where r.lifecycle_stage = 'active' and MINE")

    def runs(self) -> list[tuple]:
        return self.query("select r.status, t.value from runs r join tags t on t.run_uuid = r.run_uuid and t.key = 'fgsearch.kind' where r.lifecycle_stage = 'active' and MINE")

    def require_everything_exactly_once(self) -> None:
        """Every (trial, epoch, metric) of the journal is in MLflow once, and nothing else; no run runs on."""
        trials = load(self.journal).trials.values()
        told = sorted((t.number, epoch, key, value) for t in trials for epoch, metrics in t.reports.items() for key, value in metrics.items())
        shown = sorted((int(trial), step, key, value) for trial, key, step, _, value in self.rows() if not key.startswith(("best/", "rung.value", "by time step/")))
        assert shown == told
        assert sorted(self.runs()) == sorted([("FINISHED", "search")] + [("FINISHED", "trial")] * len(trials))


def require_held(proxy: Proxy) -> None:
    deadline = time.monotonic() + 30  # the projection speaks every few seconds
    while not proxy.held and time.monotonic() < deadline:
        time.sleep(0.05)
    assert proxy.held


@pytest.fixture(scope="session")
def peace(running, tmp_path_factory) -> ServedLab:
    """Return a search that was left in peace; its login came in the address, and there were secrets all around it."""
    lab = ServedLab(tmp_path_factory.mktemp("peace"), running)
    password = running.login(running.url)["MLFLOW_TRACKING_PASSWORD"]
    lab.uri = running.url.replace("//", f"//admin:{password}@")
    lab.environment |= {"AWS_SECRET_ACCESS_KEY": PLANTED, "MY_TOKEN": PLANTED, "PGPASSWORD": PLANTED}
    process = lab.launch()
    said, _ = process.communicate()
    assert process.returncode == 0, said
    lab.said = said + lab.run("export", "tiny", "--out", "best.yaml")
    return lab


@pytest.fixture
def lab(peace, services, tmp_path):
    lab = ServedLab(tmp_path / "lab", services)
    shutil.copytree(peace.folder / "fgsearch-home" / "cache", lab.folder / "fgsearch-home" / "cache")
    yield lab
    lab.end()


def test_a_search_in_peace_has_everything_once(peace) -> None:
    peace.require_everything_exactly_once()


def test_no_secret_reaches_the_journal_mlflow_a_bundle_or_the_screen(peace, services) -> None:
    words = [PLANTED, services.login(services.url)["MLFLOW_TRACKING_PASSWORD"], ensure_ray_token().read_text()]
    files = [path for path in peace.folder.rglob("*") if path.is_file()] + list((services.folder / "artifacts").rglob("*.yaml"))
    assert {"journal.jsonl", "best.yaml", "settings.yaml"} <= {path.name for path in files}
    texts = {str(path): path.read_bytes() for path in files}
    tables = [name for (name,) in peace.query("select tablename from pg_tables where schemaname = 'public'")]
    texts |= {name: repr(peace.query(f'select t::text from "{name}" t')).encode() for name in tables}
    assert {"params", "tags", "runs", "metrics"} <= texts.keys()
    texts["the screen"] = peace.said.encode()
    assert [(word, where) for word in words for where, text in texts.items() if word.encode() in text] == []


def reports(lab: Lab) -> int:
    return lab.journal.read_text().count('"reported"') if lab.journal.exists() else 0


def require_it_goes_on(lab: Lab, process: subprocess.Popen, more: int) -> None:
    before = reports(lab)
    lab.wait_for_reports(process, before + more)
    assert reports(lab) >= before + more


def test_a_server_killed_midway_and_started_again_has_everything_once(lab, services) -> None:
    process = lab.launch("--trials", "24")
    lab.wait_for_reports(process, 8)
    for server in services._mlflow.processes():
        server.kill()
    require_it_goes_on(lab, process, 8)
    assert services.up({})
    lab.finish(process)
    lab.require_everything_exactly_once()


def test_a_database_killed_then_stopped_and_started_again_has_everything_once(lab, services) -> None:
    process = lab.launch("--trials", "24")
    lab.wait_for_reports(process, 6)
    psutil.Process(services._postgres.process()).send_signal(signal.SIGKILL)
    require_it_goes_on(lab, process, 4)
    services.up({})
    services._postgres.stop()
    time.sleep(1)
    services.up({})
    lab.finish(process)
    lab.require_everything_exactly_once()


def test_a_server_that_hangs_holds_nothing_up_and_has_everything_once(lab, services) -> None:
    with Proxy(services.settings().port) as proxy:
        lab.uri = f"http://127.0.0.1:{proxy.port}"
        process = lab.launch("--trials", "24")
        lab.wait_for_reports(process, 6)
        before = reports(lab)
        proxy.hang()
        require_held(proxy)
        lab.wait_for_reports(process, before + 20)
        assert reports(lab) >= before + 20
        proxy.resume()
        lab.finish(process)
    lab.require_everything_exactly_once()
