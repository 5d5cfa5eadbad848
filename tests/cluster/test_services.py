"""MLflow with a password on PostgreSQL, real ones: started, found again, killed, restarted, ended, and knocked at."""

import os
import re
import socket
import stat
import subprocess
import sys
import time
from pathlib import Path

import psutil
import psycopg
import pytest
import sqlalchemy

from cluster.mlflow_service import Services
from cluster.private import ensure_ray_token, read_private, secret, without_password, write_private
from cluster.server import Away, Server
from cluster.service_settings import Settings
from search.errors import InputError
from search.tracking.store import EXPERIMENT, Store
from tests.cluster.conftest import free_port

FGSEARCH = str(Path(sys.executable).with_name("fgsearch"))
slow = pytest.mark.slow


def fgsearch(services: Services, *words: str, status: int = 0) -> str:
    done = subprocess.run([FGSEARCH, "services", *words, "--home", str(services.folder.parent)], capture_output=True, text=True, check=False)
    assert done.returncode == status, done.stderr + done.stdout
    assert "Traceback" not in done.stderr
    return done.stdout + done.stderr


def passwords(services: Services) -> list[str]:
    """Return every secret the services have."""
    texts = [services.credentials.read_text(), (services.folder / "pgpass").read_text(), *(f.read_text() for f in (services.folder / "users").glob("*"))]
    found = [word for text in texts for word in re.findall(r"[0-9a-f]{64}", text)]
    assert len(found) >= 3
    return found


def experiments(services: Services) -> int:
    return services.server().status(f"/api/2.0/mlflow/experiments/get-by-name?experiment_name={EXPERIMENT}")


@slow
def test_up_twice_is_one(services):
    before = services.status()
    assert not services.up({})
    assert services.status() == before
    assert [service.state for service in before] == ["up", "up"]


@slow
def test_the_schema_and_the_experiment_are_there_before_the_first_client(services):
    assert experiments(services) == 200
    engine = sqlalchemy.create_engine(f"{services._postgres.url}?passfile={services.folder / 'pgpass'}")
    assert {"runs", "experiments", "users"} <= set(sqlalchemy.inspect(engine).get_table_names())
    engine.dispose()


@slow
@pytest.mark.parametrize("victim", ["MLflow", "PostgreSQL"])
def test_what_was_killed_is_noticed_and_started_again_with_all_it_held(services, victim):
    services.server().ensure_experiment("kept")
    process = services._mlflow.leader() if victim == "MLflow" else psutil.Process(services._postgres.process())
    process.kill()
    psutil.wait_procs([process], 10)
    deadline = time.monotonic() + 10
    while all(service.state == "up" for service in services.status()) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert "down" in {service.state for service in services.status()}
    assert services.up({})
    assert {service.state for service in services.status()} == {"up"}
    assert services.server().status("/api/2.0/mlflow/experiments/get-by-name?experiment_name=kept") == 200


@slow
def test_down_ends_every_process_and_up_brings_everything_back(services):
    services.server().ensure_experiment("kept")
    port, database = services.settings().port, services._postgres.port()
    assert "MLflow and PostgreSQL ended" in fgsearch(services, "down")
    assert services._mlflow.processes() == []
    for closed in (port, database):
        with socket.socket() as client:
            assert client.connect_ex(("127.0.0.1", closed)) != 0
    assert "nothing ran" in fgsearch(services, "down")
    assert "down" in fgsearch(services, "status", status=1)
    said = fgsearch(services, "up")
    assert f"MLflow on http://127.0.0.1:{port}, started" in said
    assert services.server().status("/api/2.0/mlflow/experiments/get-by-name?experiment_name=kept") == 200


ROUTES = """
from cluster.mlflow_app import with_login
app = with_login()
flask = app
for route in getattr(app, "routes", []):
    inner = getattr(route, "app", None)
    if hasattr(route, "methods") and route.methods:
        for method in route.methods:
            print(method, route.path)
from mlflow.server import app as flask
for rule in flask.url_map.iter_rules():
    for method in rule.methods - {"HEAD", "OPTIONS"}:
        print(method, rule.rule)
"""
OPEN = ("/health", "/version", "/static-files/", "/static", "/favicon.ico", "/server-info")


@slow
def test_a_stranger_is_turned_away_at_every_route_of_mlflow(services, tmp_path):
    environment = services._environment(services.settings())
    listed = subprocess.run([sys.executable, "-W", "ignore", "-c", ROUTES], env={**os.environ, **environment}, cwd=tmp_path, capture_output=True, text=True, check=True)
    routes = {tuple(line.split(" ", 1)) for line in listed.stdout.splitlines()}
    assert len(routes) > 300
    url, let_in = services.url, []
    for method, path in sorted(routes):
        concrete = re.sub(r"<[^>]*>|\\{[^}]*\\}", "1", path)
        status, _ = Server(url)._call(method, concrete)
        if status not in (401, 404, 405):
            let_in.append((method, path, status))
    assert [entry for entry in let_in if not any(part in entry[1] for part in OPEN)] == []


@slow
@pytest.mark.parametrize(("user", "password"), [("admin", "password1234"), ("admin", ""), ("root", "x"), ("fgsearch", "fgsearch")])
def test_a_wrong_password_is_turned_away(services, user, password):
    assert Server(services.url, user, password).status("/api/2.0/mlflow/users/list") == 401


@slow
def test_a_name_that_was_not_allowed_is_turned_away(services):
    with socket.create_connection(("127.0.0.1", services.settings().port)) as client:
        client.sendall(b"GET /api/2.0/mlflow/users/list HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n")
        assert client.recv(100).split()[1] == b"403"


@slow
def test_whoever_logs_in_for_the_first_time_finds_no_assistant_over_the_page(services, browser):
    admin = services.server()
    page = browser.new_page(http_credentials={"username": admin.user, "password": admin.password})
    page.goto(f"{services.url}/#/experiments")
    page.get_by_text(EXPERIMENT).first.wait_for()
    page.wait_for_function("Object.keys(localStorage).some(key => key.startsWith('mlflow.assistant.chat'))")  # it is there
    assert page.get_by_label("Send message").count() == 0
    page.close()


@slow
@pytest.mark.parametrize("login", [{}, {"password": "fgsearch"}, {"user": "postgres"}, {"user": "postgres", "password": "postgres"}])
def test_the_database_asks_strangers_for_a_password(services, login, tmp_path):
    words = {"user": "fgsearch", "dbname": "fgsearch", **login, "passfile": str(tmp_path / "none")}
    with pytest.raises(psycopg.OperationalError, match="password"):
        psycopg.connect(host="127.0.0.1", port=services._postgres.port(), **words)


@slow
def test_nothing_listens_beyond_loopback(services):
    mine = [*services._mlflow.processes(), psutil.Process(services._postgres.process())]
    heard = {c.laddr.ip for p in mine for c in p.net_connections("inet") if c.status == psutil.CONN_LISTEN}
    assert heard == {"127.0.0.1"}


@slow
def test_no_secret_is_on_a_command_line_in_a_log_or_on_the_screen(services):
    said = fgsearch(services, "user", "anna") + fgsearch(services, "up") + fgsearch(services, "status") + fgsearch(services, "status", "--json")
    lines = "\n".join(" ".join(p.info["cmdline"] or []) for p in psutil.process_iter(["cmdline"]))
    logs = services._mlflow.log.read_text() + (services._postgres.folder / "postgres.log").read_text()
    kept = (services.folder / "settings.json").read_text()
    assert [word for word in passwords(services) if word in said + lines + logs + kept] == []


@slow
def test_files_with_secrets_are_for_their_owner_alone(services):
    fgsearch(services, "user", "anna")
    private = [services.credentials, services.folder / "pgpass", services.folder / "basic_auth.ini", services.folder / "settings.json", services.folder / "users" / "anna"]
    assert [stat.S_IMODE(path.stat().st_mode) for path in private] == [0o600] * 5
    assert stat.S_IMODE(services._postgres.data.stat().st_mode) == 0o700


@slow
def test_who_may_read_reads_and_who_may_write_writes_and_who_is_removed_does_neither(services):
    assert "anna: may read and write" in fgsearch(services, "user", "anna")
    assert "bob: may read;" in fgsearch(services, "user", "bob", "--read-only")

    def create(name):
        words = dict(line.split("=", 1) for line in (services.folder / "users" / name).read_text().splitlines())
        server = Server(words["MLFLOW_TRACKING_URI"], name, words["MLFLOW_TRACKING_PASSWORD"])
        looked, experiment = server.status("/api/2.0/mlflow/experiments/get?experiment_id=1"), services.server().ensure_experiment(EXPERIMENT)
        return looked, server._call("POST", "/api/2.0/mlflow/runs/create", experiment_id=experiment)[0]

    assert create("anna") == (200, 200)
    assert create("bob") == (200, 403)
    assert "anna: may read;" in fgsearch(services, "user", "anna", "--read-only")
    assert create("anna") == (200, 403)
    fgsearch(services, "user", "carl")
    login = dict(line.split("=", 1) for line in (services.folder / "users" / "carl").read_text().splitlines())
    assert "carl: removed" in fgsearch(services, "user", "carl", "--remove")
    assert Server(services.url, "carl", login["MLFLOW_TRACKING_PASSWORD"]).status("/api/2.0/mlflow/users/current") == 401


@slow
def test_other_options_than_those_it_runs_with_are_one_line(services):
    assert fgsearch(services, "up", "--workers", "3", status=2).strip() == "--workers: the services run with another; first: fgsearch services down"


@slow
def test_a_store_is_let_in_by_the_file_in_the_home_only_at_our_server(services, monkeypatch):
    login = services.login(services.url)
    assert login == services.login(services.url.replace("127.0.0.1", "localhost"))
    for other in ("http://127.0.0.1:1", "http://example.org:" + services.url.rpartition(":")[2], services.url.replace("//", "//me:mine@")):
        assert services.login(other) == {}
    with pytest.raises(InputError, match=r"refuses the login \(401\)"):
        Store(services.url)
    for key, word in login.items():
        monkeypatch.setenv(key, word)
    assert Store(services.url).away is None


@slow
def test_sqlite_serves_where_no_database_is_and_beyond_loopback_when_told(room, tmp_path):
    services = Services(room / "small", EXPERIMENT)
    services.up({"port": free_port(), "workers": 1, "database": "sqlite", "host": "0.0.0.0", "allowed_hosts": ("mlflow.example",)})
    assert [s.state for s in services.status()] == ["up", "elsewhere"]
    address = next((a.address for nic in psutil.net_if_addrs().values() for a in nic if a.family == socket.AF_INET and a.address != "127.0.0.1"), "127.0.0.1")
    for host, status in (("mlflow.example", b"401"), ("other.example", b"403")):
        with socket.create_connection((address, services.settings().port)) as client:
            client.sendall(f"GET /api/2.0/mlflow/users/list HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
            assert client.recv(100).split()[1] == status
    assert experiments(services) == 200
    assert services.down() == ["MLflow"]
    with pytest.raises(Away):
        experiments(services)


def test_a_port_that_is_taken_is_one_line(tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(InputError, match=f"--port {port}: Address already in use; try: --port {port + 1}"):
            Services(tmp_path, EXPERIMENT).up({"port": port, "database": "sqlite"})


@pytest.mark.parametrize(("database", "said"), [
    pytest.param("postgresql+psycopg://me:hunter2@127.0.0.1:1/x", r"--database postgresql\+psycopg://127.0.0.1:1/x: cannot be opened: .*refused", id="nobody there"),
    pytest.param("mysql://me:hunter2@127.0.0.1:1/x", "its driver is not installed: pip install MySQLdb", id="no driver"),
    pytest.param("nonsense://me:hunter2@127.0.0.1:1/x", r"--database nonsense://127.0.0.1:1/x: cannot be opened", id="no such kind"),
])
def test_a_database_that_cannot_be_opened_is_one_line_without_its_password(database, said, tmp_path):
    with pytest.raises(InputError, match=said) as refusal:
        Services(tmp_path, EXPERIMENT).up({"port": free_port(), "database": database})
    assert "hunter2" not in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_a_home_that_cannot_be_is_one_line(tmp_path):
    (tmp_path / "home").write_text("a file")
    with pytest.raises(InputError, match="home/services: cannot be written: Not a directory"):
        Services(tmp_path / "home", EXPERIMENT).up({"database": "sqlite"})


def test_a_server_that_is_down_is_one_line():
    with pytest.raises(InputError, match=r"does not answer .* start it: fgsearch services up"):
        Server(f"http://127.0.0.1:{free_port()}").has_user("anna")


def test_services_that_never_were_are_one_line(tmp_path):
    with pytest.raises(InputError, match="no services yet; begin with: fgsearch services up"):
        Services(tmp_path, EXPERIMENT).status()


@pytest.mark.parametrize(("host", "names"), [
    ("127.0.0.1", ["127.0.0.1", "localhost"]),
    ("0.0.0.0", ["127.0.0.1", "localhost", socket.gethostname(), socket.getfqdn()]),
    ("10.0.0.5", ["127.0.0.1", "localhost", "10.0.0.5"]),
])
def test_clients_may_call_the_server_by_the_names_it_listens_under(host, names):
    assert Settings(host=host).names() == list(dict.fromkeys(names))


@pytest.mark.parametrize(("address", "shown"), [
    ("http://me:secret@host:5000/x", "http://host:5000/x"),
    ("http://me:s@cret@host:5000", "http://host:5000"),
    ("postgresql://me:secret@host/name", "postgresql://host/name"),
    ("postgresql://host/name?password=secret&connect_timeout=3", "postgresql://host/name?password=***&connect_timeout=3"),
    ("postgresql://host/name?sslpassword=secret", "postgresql://host/name?sslpassword=***"),
    ("me:secret@host:5000", "host:5000"),
    ("sqlite:////home/a@b/mlflow.db", "sqlite:////home/a@b/mlflow.db"),
    ("http://host:5000", "http://host:5000"),
])
def test_an_address_is_shown_without_its_password(address, shown):
    assert without_password(address) == shown


def test_a_private_file_is_never_readable_by_others_and_refused_when_it_is(tmp_path):
    os.umask(before := os.umask(0))
    write_private(tmp_path / "a" / "word", secret())
    os.umask(before)
    assert stat.S_IMODE((tmp_path / "a" / "word").stat().st_mode) == 0o600
    assert list((tmp_path / "a").iterdir()) == [tmp_path / "a" / "word"]
    (tmp_path / "a" / "word").chmod(0o640)
    with pytest.raises(InputError, match="others can read this password"):
        read_private(tmp_path / "a" / "word")


def test_rays_token_is_made_for_its_owner_alone_and_closed_where_ray_left_it_open(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("RAY_AUTH_TOKEN_PATH", raising=False)
    monkeypatch.delenv("RAY_AUTH_TOKEN", raising=False)
    file = ensure_ray_token()
    assert (file, stat.S_IMODE(file.stat().st_mode)) == (tmp_path / ".ray" / "auth_token", 0o600)
    token = file.read_text()
    assert re.fullmatch("[0-9a-f]{64}", token)
    file.chmod(0o644)
    ensure_ray_token()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert file.read_text() == token
