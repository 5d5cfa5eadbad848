"""A PostgreSQL of our own: a data directory in the home, on loopback, with a password, as an unprivileged user.

In its folder `data/` and `postgres.log`, beside it `pgpass` (0600), by which clients log in: no password is ever in a
URL or on a command line. Two roles: `postgres`, who may all, and `fgsearch`, who owns the one database.
"""

import os
import pwd
import shutil
import socket
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from cluster.private import secret, write_private
from fgmodel.errors import InputError

HOST = "127.0.0.1"
USER = DATABASE = "fgsearch"
UNPRIVILEGED = ("postgres", "nobody")  # PostgreSQL refuses to run as root
SECONDS_TO_START = 60
_CONFIGURATION = """
listen_addresses = '{host}'
port = {port}
unix_socket_directories = ''         # a socket would let in whoever reaches it
"""


@dataclass(frozen=True)
class Postgres:
    """The PostgreSQL of a folder."""

    folder: Path

    @property
    def data(self) -> Path:
        """Its data directory."""
        return self.folder / "data"

    @property
    def passwords(self) -> Path:
        """The file of its passwords, in libpq's format."""
        return self.folder.with_name("pgpass")

    @property
    def url(self) -> str:
        """The database's address; the password is in `passwords`."""
        return f"postgresql+psycopg://{USER}@{HOST}:{self.port()}/{DATABASE}"

    def why_not(self) -> str | None:
        """Return what keeps it from running here, or None."""
        if self._programs() is None:
            return "PostgreSQL is not installed (Debian: apt-get install postgresql)"
        if os.getuid() == 0:
            user = self._user()
            if user is None:
                return f"PostgreSQL refuses to run as root, and there is no user {' or '.join(UNPRIVILEGED)}"
            reach = ["test", "-x", str(_first_existing(self.folder))]
            if subprocess.run(reach, user=user.pw_uid, group=user.pw_gid, extra_groups=[], check=False).returncode:  # noqa: S603 our words
                return f"PostgreSQL refuses to run as root, and user {user.pw_name} cannot reach {self.folder}"
        return None

    def start(self) -> None:
        """Make its data directory where there is none, and have it accept connections."""
        if not (self.data / "PG_VERSION").exists():
            self._create()
        if not self.running():
            self._start()
        if not (self.folder / "ready").exists():
            self._create_database()

    def running(self) -> bool:
        """Whether its first process lives."""
        return self.data.exists() and self._control("status") == 0

    def stop(self) -> bool:
        """End it, rolling back what is under way; returns whether it ran."""
        ran = self.running()
        if ran:
            self._control("stop", "-m", "fast", "-w")
        return ran

    def process(self) -> int | None:
        """Return the id of its first process."""
        file = self.data / "postmaster.pid"
        return int(file.read_text().splitlines()[0]) if self.running() and file.exists() else None

    def port(self) -> int:
        """Return the port it was given when it was made."""
        lines = (self.data / "postgresql.conf").read_text().splitlines()
        return next(int(line.split("=")[1]) for line in reversed(lines) if line.startswith("port = "))

    def _create(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)  # half made
        self.folder.mkdir(parents=True)
        password, ours = secret(), secret()
        given = self.folder / "given"
        write_private(given, password)
        self._own(self.folder, given)
        self._call(["initdb", "-D", str(self.data), "-U", "postgres", "--auth=scram-sha-256", f"--pwfile={given}",
                    "--encoding=UTF8", "--no-locale"])
        given.unlink()
        port = _free_port()
        with (self.data / "postgresql.conf").open("a") as file:
            file.write(_CONFIGURATION.format(host=HOST, port=port))
        lines = [f"{HOST}:{port}:*:{user}:{word}\n" for user, word in (("postgres", password), (USER, ours))]
        write_private(self.passwords, "".join(lines))

    def _start(self) -> None:
        until = time.monotonic() + SECONDS_TO_START
        while self._control("start", "-w", "-t", str(SECONDS_TO_START), "-l", str(self.folder / "postgres.log")):
            if time.monotonic() > until or not self._left_over():
                raise InputError(f"PostgreSQL in {self.folder}: does not start: {self._last_words()}")
            time.sleep(0.3)  # killed with -9, its children take a moment to notice

    def _left_over(self) -> bool:
        return any(sign in self._last_words(3) for sign in ("still in use", "another server", "is the data directory"))

    def _last_words(self, count: int = 1) -> str:
        log = self.folder / "postgres.log"
        lines = log.read_text(errors="replace").splitlines() if log.exists() else []
        return " ".join(lines[-count:]) or "it gave no reason"

    def _create_database(self) -> None:
        import psycopg  # noqa: PLC0415 needed once, when a database is made
        from psycopg import sql  # noqa: PLC0415

        words = dict(line.split(":")[3:] for line in self.passwords.read_text().splitlines())
        with psycopg.connect(
            host=HOST, port=self.port(), dbname="postgres", user="postgres", password=words["postgres"], autocommit=True
        ) as admin:
            if not admin.execute("SELECT FROM pg_roles WHERE rolname = %s", [USER]).fetchone():
                role = sql.SQL("CREATE ROLE {} LOGIN PASSWORD {}")
                admin.execute(role.format(sql.Identifier(USER), sql.Literal(words[USER])))
            if not admin.execute("SELECT FROM pg_database WHERE datname = %s", [DATABASE]).fetchone():
                made = sql.SQL("CREATE DATABASE {} OWNER {}")
                admin.execute(made.format(sql.Identifier(DATABASE), sql.Identifier(USER)))
        (self.folder / "ready").touch()

    def _control(self, what: str, *options: str) -> int:
        return self._run(["pg_ctl", what, "-D", str(self.data), *options]).returncode

    def _call(self, words: list[str]) -> None:
        done = self._run(words)
        if done.returncode:
            last = (done.stderr.strip() or done.stdout.strip() or "it gave no reason").splitlines()[-1]
            raise InputError(f"PostgreSQL in {self.folder}: {words[0]} failed: {last}")

    def _run(self, words: list[str]) -> subprocess.CompletedProcess[str]:
        programs = self._programs()
        if programs is None:
            raise InputError(str(self.why_not()))
        user, kept = self._user(), {"PATH": os.environ["PATH"], "LC_ALL": "C", "TZ": "UTC"}  # none of our secrets
        uid, gid = (user.pw_uid, user.pw_gid) if user else (None, None)
        said = self.folder / ".said"
        with said.open("w+") as file:  # not a pipe: the server would hold it open
            done = subprocess.run(  # noqa: S603 their programs, our words
                [str(programs / words[0]), *words[1:]], cwd=self.folder, env=kept, check=False,
                stdin=subprocess.DEVNULL, stdout=file, stderr=file,
                user=uid, group=gid, extra_groups=[] if user else None,
            )
            file.seek(0)
            return subprocess.CompletedProcess(words, done.returncode, file.read(), "")

    def _programs(self) -> Path | None:
        """Return the folder of the programs: of the version that made the data, else the newest."""
        made = self.data / "PG_VERSION"
        try:
            version = made.read_text().strip()
        except OSError:
            version = "*"
        return programs(version)

    def _user(self) -> pwd.struct_passwd | None:
        if os.getuid():
            return None
        known = {entry.pw_name: entry for entry in pwd.getpwall()}
        return next((known[name] for name in UNPRIVILEGED if name in known), None)

    def _own(self, *paths: Path) -> None:
        if user := self._user():
            for path in paths:
                os.chown(path, user.pw_uid, user.pw_gid)


def programs(version: str = "*") -> Path | None:
    """Return where PostgreSQL's programs are: on the path, or where Debian puts those of a version."""
    versions = sorted(Path("/usr/lib/postgresql").glob(f"{version}/bin/initdb"), key=lambda p: int(p.parts[-3]))
    if versions:
        return versions[-1].parent
    found = shutil.which("initdb")
    return Path(found).resolve().parent if found else None


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind((HOST, 0))
        port: int = listener.getsockname()[1]
        return port


def _first_existing(path: Path) -> Path:
    return next(p for p in (path, *path.parents) if p.exists())
