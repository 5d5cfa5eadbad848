"""What is disturbed, and the commands by which an operator puts it right: a cluster with services, or this machine alone.

    FOLDER/  space.yaml   commands.log    home/  searches/  on a small disk of its own, where one may be mounted
                                                 services/  likewise
                                                 cluster/, cache/
"""

import os
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any, Self

import psutil
import psycopg

from cluster.mlflow_service import Services
from cluster.raylets import status
from search.tracking.store import EXPERIMENT
from tests.chaos.ledger import Ledger
from tests.chaos.proxy import Proxy

FGSEARCH = str(Path(sys.executable).with_name("fgsearch"))
WITNESS = Path(__file__).with_name("witness")
DISKS = {"searches": "1g", "services": "768m"}
COMMAND_SECONDS = 400.0
SPACE = """\
# Does a search survive whatever happens to what it runs on?
fixed:
  data.dataset: finches
  data.finches_per_species: 8
  data.frame_size: 96
  data.image_size: 64
  data.patch_size: 64
  data.patches: parts
  data.patches_per_image: 2
  data.validation: 0.34
  model.global_backbone: efficientnet_lite0
  model.local_backbone: efficientnet_lite0
  model.freeze_backbones: true
  model.hidden_size: 64
  optim.batch_size: 2
  optim.schedule: cosine
tune:
  loss.lambda_rank: {low: 0.0, high: 2.0}
  loss.lambda_local: {low: 0.5, high: 2.0}
  loss.margin: {low: 0.0, high: 1.0, when: {loss.lambda_rank: "> 0"}}
  model.time_steps: {low: 1, high: 4}
  optim.lr_global: {low: 1.0e-3, high: 0.1, log: true}
  optim.lr_local: {low: 1.0e-2, high: 0.3, log: true}
search: {trials: 40, epochs: 27, rungs: [1, 3, 9, 27], workers: 1, retries: 20, sampler: {name: tpe, seed: 3}}
"""


class CommandError(Exception):
    """A command of the operator's failed."""


class Stage:
    """A home on this machine; searches of it run here."""

    def __init__(self, folder: Path, trials: int) -> None:
        self.folder, self.home, self.trials = folder, folder / "home", trials
        self.name = ""  # of the search that runs now
        self.workers = 1
        self.tracking = ""  # MLflow's address; else the home's own store
        self._started: list[subprocess.Popen[str]] = []
        self.witness = folder / "epochs.jsonl"
        self._said = folder / "commands.log"
        self.home.mkdir(parents=True, exist_ok=True)
        (folder / "space.yaml").write_text(SPACE)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        for process in self._started:
            process.kill()  # nothing where it has ended
            process.wait()
            if process.stdout:
                process.stdout.close()

    @property
    def journal(self) -> Path:
        """The running search's journal."""
        return self.home / "searches" / self.name / "journal.jsonl"

    def ledger(self) -> Ledger:
        """Return what the journal says now."""
        return Ledger.of(self.journal)

    def begin(self, name: str, workers: int) -> None:
        """Launch a search; returns once it runs, or soon will."""
        self.name, self.workers = name, workers
        self.start(*self.words())

    def words(self) -> tuple[str, ...]:
        """Return the command that launched the running search."""
        plan = ("--trials", str(self.trials), "--set", f"search.workers={self.workers}")
        return ("launch", "space.yaml", "--name", self.name, *plan, *(("--tracking-uri", self.tracking) * bool(self.tracking)))

    def resume(self) -> None:
        """Go on with the search by its name, once."""
        self.start("resume", self.name, *(("--tracking-uri", self.tracking) * bool(self.tracking)))

    def drivers(self) -> list[psutil.Process]:
        """Return the processes that drive the search."""
        return [p for p in psutil.process_iter() if self._drives(words(p)) and _of(p, self.home)]

    def actors(self) -> list[psutil.Process]:
        """Return the processes that train."""
        return [p for driver in self.drivers() for p in family(driver) if words(p)[:1] and "Trainable" in words(p)[0]]

    def run(self, *words: str) -> str:
        """Run `fgsearch` and return what it said; raises CommandError."""
        done = self.tried(*words)
        if done.returncode:
            raise CommandError(f"fgsearch {' '.join(words)}: status {done.returncode}: {done.stdout[-600:]}")
        return done.stdout

    def tried(self, *words: str) -> "subprocess.CompletedProcess[str]":
        """Run `fgsearch`, whatever comes of it."""
        process = self.start(*words, heard=True)
        try:
            said, _ = process.communicate(timeout=COMMAND_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            raise CommandError(f"fgsearch {' '.join(words)}: nothing after {COMMAND_SECONDS:.0f} s") from None
        with self._said.open("a") as file:
            file.write(f"{time.strftime('%H:%M:%S')} fgsearch {' '.join(words)}: {process.returncode}\n{said}\n")
        return subprocess.CompletedProcess(words, process.returncode, said)

    def start(self, *words: str, heard: bool = False) -> "subprocess.Popen[str]":
        """Start `fgsearch` without waiting for it."""
        with self._said.open("a") as file:
            to = subprocess.PIPE if heard else file
            self._started.append(subprocess.Popen(
                [FGSEARCH, *words], cwd=self.folder, env=self.environment(), stdin=subprocess.DEVNULL, stdout=to,
                stderr=subprocess.STDOUT, text=True, start_new_session=True,
            ))
        return self._started[-1]

    def environment(self) -> dict[str, str]:
        """Return what the operator's shell has set."""
        path = os.pathsep.join([str(WITNESS), str(WITNESS.parents[2]), *filter(None, [os.environ.get("PYTHONPATH")])])
        ours = {"FGSEARCH_HOME": str(self.home), "COLUMNS": "160", "PYTHONPATH": path}
        return {**os.environ, **ours, "FGSEARCH_CHAOS_WITNESS": str(self.witness)}

    def query(self, words: str, given: str) -> list[tuple[Any, ...]]:
        """Ask MLflow's database."""
        with closing(sqlite3.connect(self.home / "mlflow.db")) as database:
            return database.execute(words, [given]).fetchall()

    def _drives(self, said: list[str]) -> bool:
        return self.name in said and any(word.endswith("fgsearch") for word in said) and bool({"launch", "resume"} & set(said))


class ClusterStage(Stage):
    """A home with a cluster of three nodes, and MLflow on PostgreSQL behind a proxy."""

    def __init__(self, folder: Path, trials: int, port: int) -> None:
        super().__init__(folder, trials)
        self.port, self.address = port, f"http://127.0.0.1:{port}"
        self.services = Services(self.home, EXPERIMENT)
        self.mounted: set[str] = set()

    def __enter__(self) -> Self:
        """Start the services and the cluster, with disks of their own where that may be."""
        self.folder.chmod(0o755)  # PostgreSQL runs as another user
        for name, size in DISKS.items():
            (self.home / name).mkdir(exist_ok=True)
            mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(self.home / name)]
            there = (self.home / name).is_mount()  # left by a harness that was killed
            if there or subprocess.run(mount, capture_output=True, check=False).returncode == 0:
                self.mounted.add(name)
        self.run("services", "up", "--port", str(self.port + 1), "--workers", "1", "--database", "postgresql")
        self.proxy = Proxy(self.services.settings().port)
        self.proxy.__enter__()
        self.tracking = f"http://127.0.0.1:{self.proxy.port}"
        self.cluster_up()
        return self

    def __exit__(self, *error: object) -> None:
        for what in ("cluster", "services"):
            self.tried(what, "down")
        super().__exit__(*error)
        self.proxy.__exit__(*error)
        for name in self.mounted:
            subprocess.run(["umount", "-l", str(self.home / name)], check=False)

    def cluster_up(self) -> None:
        """Start the cluster, or what of it is lost."""
        self.run("cluster", "up", "--nodes", "3", "--port", str(self.port))

    def begin(self, name: str, workers: int) -> None:
        """Submit a search; returns once it runs."""
        self.name, self.workers = name, workers
        self.run(*self.words())

    def words(self) -> tuple[str, ...]:
        """Return the command that launched the running search."""
        return (*super().words(), "--address", self.address)

    def resume(self) -> None:
        """Go on with the search by its name, once: where it last ran, and with the MLflow it had."""
        self.run("resume", self.name)

    def node(self, number: int) -> list[psutil.Process]:
        """Return the processes of a node, the head being 0."""
        there = status(self.home)
        assert there
        member = there.members[number]
        return family(psutil.Process(member.pid)) if member.alive and psutil.pid_exists(member.pid) else []

    def actors(self) -> list[psutil.Process]:
        """Return the processes that train."""
        return [p for number in range(3) for p in self.node(number) if words(p)[:1] and "Trainable" in words(p)[0]]

    def environment(self) -> dict[str, str]:
        """Return what the operator's shell has set: a login, too, which the proxy's address alone would not give."""
        login = self.services.login(self.services.url) if self.services.credentials.exists() else {}
        return super().environment() | login

    def query(self, words: str, given: str) -> list[tuple[Any, ...]]:
        """Ask MLflow's database."""
        there = self.services._postgres
        with psycopg.connect(
            host="127.0.0.1", port=there.port(), user="fgsearch", dbname="fgsearch", passfile=str(there.passwords),
            connect_timeout=5,
        ) as database:
            return database.execute(words.replace("?", "%s"), [given]).fetchall()

    @contextmanager
    def full(self, disk: str) -> Iterator[None]:
        """Leave no byte free on a disk for a while."""
        filler = self.home / disk / "filler"
        for size in (2**20, 512):
            with suppress(OSError), filler.open("ab", buffering=0) as file:
                while file.write(b"\0" * size) == size:
                    pass
        try:
            yield
        finally:
            filler.unlink()

    def _drives(self, said: list[str]) -> bool:
        return said[-5:-2] == ["cluster", "drive", self.name] and "python" in said[0]


def words(process: psutil.Process) -> list[str]:
    """Return a process' command line; nothing where it is gone."""
    try:
        return process.cmdline()
    except psutil.Error:
        return []


def family(process: psutil.Process) -> list[psutil.Process]:
    """Return a process and all that come from it."""
    with suppress(psutil.Error):
        return [process, *process.children(recursive=True)]
    return []


def named(processes: list[psutil.Process], name: str) -> list[psutil.Process]:
    """Return those of this name."""
    found = []
    for process in processes:
        with suppress(psutil.Error):
            if process.name() == name:
                found.append(process)
    return found


def _of(process: psutil.Process, home: Path) -> bool:
    with suppress(psutil.Error):
        return process.environ().get("FGSEARCH_HOME") == str(home) and process.status() != psutil.STATUS_ZOMBIE
    return False
