"""MLflow and its database as services of a home: started once, found again, restarted when killed, ended.

    HOME/services/  settings.json   what was asked for          credentials   the administrator's login (0600)
                    pgpass          PostgreSQL's passwords       users/        a login a user (0600)
                    postgres/       a PostgreSQL of our own      artifacts/    files of runs
                    mlflow.db, users.db where SQLite serves      mlflow.log

Clients reach the database and the files of runs only through the server, which asks for a password. No secret is on a
command line, which everyone on a machine can read; servers get theirs by environment.
"""

import json
import os
import socket
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

import sqlalchemy
from pydantic import ValidationError

from cluster.daemon import Daemon
from cluster.postgres import Postgres
from cluster.private import read_private, secret, without_password, write_private
from cluster.server import Away, Server
from cluster.service_settings import Settings, login_lines
from fgmodel.errors import InputError, require_packages, writing
from fgmodel.frozen import mistakes
from fgmodel.lock import Held, hold

ADMINISTRATOR = "admin"
SECONDS_TO_START = 300.0  # 12 s on two quiet cores; minutes on busy ones
DEFAULT_PERMISSION = "READ"  # of whoever has a login; writing is granted by experiment
SECONDS_KNOWN = 60           # checking a password costs 0.1 s of a core, each call anew; who is removed stays a minute
_AUTH = """\
[mlflow]
default_permission = {permission}
database_uri = {uri}
authorization_function = mlflow.server.auth:authenticate_request_basic_auth
auth_cache_ttl_seconds = {seconds}
"""


@dataclass(frozen=True)
class Service:
    """How one of the services stands."""

    name: str
    state: Literal["up", "down", "elsewhere"]
    address: str
    process: int | None = None


class Services:
    """The services of a home; `experiment` is made at their start: two clients would race to make it."""

    def __init__(self, home: Path, experiment: str) -> None:
        self.folder = home / "services"
        self.credentials = self.folder / "credentials"
        self._experiment = experiment
        self._postgres = Postgres(self.folder / "postgres")
        self._mlflow = Daemon(self.folder, self.folder / "mlflow.log")

    @property
    def url(self) -> str:
        """The server's address, as it is called from this machine."""
        return self.settings().url

    def settings(self) -> Settings:
        """Return what was last asked for; raises InputError where there is nothing yet."""
        file = self.folder / "settings.json"
        try:
            return Settings.model_validate_json(read_private(file))
        except FileNotFoundError:
            raise InputError(f"{self.folder}: no services yet; begin with: fgsearch services up") from None
        except ValidationError as error:
            raise InputError(f"{file}: {mistakes(error)[0].said}; delete it and run: fgsearch services up") from None

    def up(self, given: Mapping[str, Any]) -> bool:
        """Have the services run as asked, started or restarted where needed; returns whether anything had to be.

        Raises InputError where they cannot, run already in another way, or would answer a stranger.
        """
        require_packages("fgsearch services", "services", "flask_wtf", "psycopg")
        with self._alone():
            settings = self._settle(given)
            started = self._start_postgres(settings)
            if self._mlflow.leader() is None or not self._answers(settings):
                self._mlflow.stop()  # what is left of it holds the port
                self._start_mlflow(settings)
                started = True
            return started

    def down(self) -> list[str]:
        """End the services and return which ran; their data stays."""
        with self._alone():
            ran = ["MLflow"] if self._mlflow.stop() else []
            return [*ran, *(["PostgreSQL"] if self._postgres.stop() else [])]

    def status(self) -> list[Service]:
        """Return how each service stands."""
        settings, leader = self.settings(), self._mlflow.leader()
        up = leader is not None and self._answers(settings)
        mlflow = Service("MLflow", "up" if up else "down", settings.url, leader.pid if leader else None)
        if settings.database == "postgresql":
            process = self._postgres.process()
            where = self._postgres.url.rpartition("@")[2]
            return [mlflow, Service("PostgreSQL", "up" if process else "down", where, process)]
        return [mlflow, Service("database", "elsewhere", without_password(self._database(settings)))]

    def server(self) -> Server:
        """Return the running server, entered as its administrator."""
        return Server(self.url, ADMINISTRATOR, self._words()["MLFLOW_TRACKING_PASSWORD"])

    def login(self, uri: str) -> dict[str, str]:
        """Return what to set in the environment to be let in at `uri`: nothing when it is no address of our server."""
        if not self.credentials.exists() or not (self.folder / "settings.json").exists():
            return {}
        settings, asked = self.settings(), urlsplit(uri)
        if asked.hostname not in settings.names() or asked.port != settings.port or asked.username:
            return {}
        return {key: value for key, value in self._words().items() if key != "MLFLOW_TRACKING_URI"}

    def _words(self) -> dict[str, str]:
        return dict(line.split("=", 1) for line in read_private(self.credentials).splitlines() if "=" in line)

    def _alone(self) -> Held:
        with writing(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            self.folder.chmod(0o700 if os.getuid() else 0o711)  # root's PostgreSQL runs as another user, who must pass
        refusal = InputError(f"{self.folder}: another process is starting or ending the services")
        return hold(self.folder / "services", refusal, SECONDS_TO_START)

    def _settle(self, given: Mapping[str, Any]) -> Settings:
        """Return what to run: what is given over what ran last, over the defaults."""
        kept = self.settings() if (self.folder / "settings.json").exists() else None
        if kept is None and "database" not in given and self._postgres.why_not():
            given = {**given, "database": "sqlite"}
        settings = (kept or Settings()).model_copy(update=dict(given))
        if settings.database == "postgresql" and (why_not := self._postgres.why_not()):
            raise InputError(f"--database postgresql: {why_not}; or give another: sqlite, or an address")
        if kept and settings != kept and self._mlflow.leader():
            differs = next(name for name in Settings.model_fields if getattr(kept, name) != getattr(settings, name))
            option = differs.replace("_", "-")
            raise InputError(f"--{option}: the services run with another; first: fgsearch services down")
        write_private(self.folder / "settings.json", json.dumps(settings.model_dump(), indent=1))
        return settings

    def _start_postgres(self, settings: Settings) -> bool:
        if settings.database != "postgresql" or self._postgres.running():
            return False
        self._postgres.start()
        return True

    def _start_mlflow(self, settings: Settings) -> None:
        _require_free(settings.host, settings.port)
        self._require_database(settings)
        if not self.credentials.exists():
            write_private(self.credentials, login_lines(settings.url, ADMINISTRATOR, secret()))
        users = self._database(settings, users=True).replace("%", "%%")
        auth = _AUTH.format(permission=DEFAULT_PERMISSION, uri=users, seconds=SECONDS_KNOWN)
        write_private(self.folder / "basic_auth.ini", auth)
        self._mlflow.start(self._command(settings), self._environment(settings))
        try:
            self._wait(settings)
            self._require_closed(settings)
            self.server().ensure_experiment(self._experiment)
        except BaseException:
            self._mlflow.stop()
            raise

    def _command(self, settings: Settings) -> list[str]:
        files = settings.artifacts or str(self.folder / "artifacts")
        return [sys.executable, "-m", "mlflow", "server", "--app-name", "fgsearch-login", "--host",
                settings.host, "--port", str(settings.port), "--workers", str(settings.workers), "--serve-artifacts",
                "--artifacts-destination", files, "--uvicorn-opts=--no-access-log"]

    def _environment(self, settings: Settings) -> dict[str, str]:
        hosts = [form for name in settings.names() for form in (name, f"{name}:*")]  # whatever the port: a tunnel's
        words = {
            "MLFLOW_BACKEND_STORE_URI": self._database(settings),
            "MLFLOW_AUTH_CONFIG_PATH": str(self.folder / "basic_auth.ini"),
            "MLFLOW_AUTH_ADMIN_USERNAME": ADMINISTRATOR,
            "MLFLOW_AUTH_ADMIN_PASSWORD": self._words()["MLFLOW_TRACKING_PASSWORD"],
            "MLFLOW_FLASK_SERVER_SECRET_KEY": secret(),
            "MLFLOW_SERVER_ALLOWED_HOSTS": ",".join(hosts),
            "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
            "MLFLOW_DISABLE_TELEMETRY": "true",
            "DO_NOT_TRACK": "true",
        }
        return words | ({"PGPASSFILE": str(self._postgres.passwords)} if settings.database == "postgresql" else {})

    def _database(self, settings: Settings, *, users: bool = False) -> str:
        match settings.database:
            case "postgresql":
                return self._postgres.url
            case "sqlite":
                return f"sqlite:///{self.folder / ('users.db' if users else 'mlflow.db')}"
            case address:
                return address

    def _require_database(self, settings: Settings) -> None:
        uri = self._database(settings)
        if settings.database == "postgresql":
            uri = f"{uri}?passfile={self._postgres.passwords}"
        try:
            engine = sqlalchemy.create_engine(uri)
            engine.connect().close()  # MLflow itself would try for 100 s before it says no
            engine.dispose()
        except ImportError as error:
            raise InputError(f"--database: its driver is not installed: pip install {error.name}") from None
        except sqlalchemy.exc.SQLAlchemyError as error:
            said = str(error).strip().splitlines()[0].replace(sqlalchemy.make_url(uri).password or uri, "***")
            raise InputError(f"--database {without_password(uri)}: cannot be opened: {said[:300]}") from None

    def _answers(self, settings: Settings) -> bool:
        try:
            return Server(settings.url).status("/health") == 200
        except Away:
            return False

    def _wait(self, settings: Settings) -> None:
        until = time.monotonic() + SECONDS_TO_START
        while not self._answers(settings):
            if self._mlflow.leader() is None:
                raise InputError(f"MLflow's server ended: {self._mlflow.last_words()} ({self._mlflow.log})")
            if time.monotonic() > until:
                raise InputError(f"MLflow's server does not answer after {SECONDS_TO_START:.0f} s ({self._mlflow.log})")
            time.sleep(0.2)

    def _require_closed(self, settings: Settings) -> None:
        url = settings.url
        if Server(url).status("/api/2.0/mlflow/users/list") != 401:
            raise InputError(f"MLflow at {url}: answers without a password; it was ended")
        if self.server().status("/api/2.0/mlflow/users/list") != 200:
            raise InputError(
                f"MLflow at {url}: its database has another password for '{ADMINISTRATOR}' than {self.credentials}; "
                f"write that one there, or give a database of its own"
            )


def _require_free(host: str, port: int) -> None:
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise InputError(f"--host {host} --port {port}: {error.strerror}; try: --port {port + 1}") from None
