"""A folder with a space file and a home, and the command line on it: in this process, or as a program of its own."""

import atexit
import io
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import chdir, redirect_stderr, redirect_stdout
from functools import cache
from pathlib import Path
from tempfile import mkdtemp
from unittest import mock

from fgmodel.prepare import prepare
from search.cli import main
from search.space.file import read_space
from search.tracking.address import default_uri
from search.tracking.store import Store

FGSEARCH = str(Path(sys.executable).with_name("fgsearch"))
TRAINS = ("launch", "resume", "extend", "retrain", "study")
SPACE = """\
# Which loss weights suit a dozen drawn finches at a glance?
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
  model.hidden_size: 32
  optim.schedule: cosine
tune:
  loss.lambda_rank: {low: 0.0, high: 2.0}
  loss.lambda_local: {low: 0.5, high: 2.0}
  loss.margin: {low: 0.0, high: 1.0, when: {loss.lambda_rank: "> 0"}}
  model.time_steps: {low: 1, high: 4}
  optim.lr_global: {low: 1.0e-3, high: 0.1, log: true}
  optim.lr_local: {low: 1.0e-2, high: 0.3, log: true}
search: {trials: 6, epochs: 4, rungs: [1, 2, 4], workers: 1, sampler: {name: tpe, seed: 3}}
"""


def typed(*words: object) -> tuple[int, str]:
    """Return the status and the output of a command, run in this process, which it leaves as it was."""
    said = io.StringIO()
    with (
        mock.patch.object(sys, "argv", ["fgsearch", *map(str, words)]), mock.patch.dict(os.environ),
        redirect_stdout(said), redirect_stderr(said),
    ):
        try:
            main()
        except SystemExit as ended:
            return int(ended.code or 0), said.getvalue()
    return 0, said.getvalue()


@cache
def empty_store() -> Path:
    """Return an MLflow database without a run, made once: its tables take MLflow more than a second."""
    folder = Path(mkdtemp())
    atexit.register(shutil.rmtree, folder)
    Store(default_uri(folder), folder / "artifacts")
    return folder / "mlflow.db"


@cache
def prepared() -> Path:
    """Return a cache with all that is computed of the finches of SPACE, made once."""
    folder = Path(mkdtemp())
    atexit.register(shutil.rmtree, folder)
    (folder / "tiny.yaml").write_text(SPACE)
    space = read_space(folder / "tiny.yaml")
    for split in ("train", "test"):
        prepare(space.config(space.reference()), folder / "cache", split)
    return folder / "cache"


class Lab:
    """A folder with a space file and a home."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.processes: list[subprocess.Popen] = []
        folder.mkdir(exist_ok=True)
        (folder / "tiny.yaml").write_text(SPACE)
        self.journal = folder / "fgsearch-home" / "searches" / "tiny" / "journal.jsonl"
        self.database = folder / "fgsearch-home" / "mlflow.db"

    def share(self) -> "Lab":
        """Take over what is the same for every search: what is computed of the data, and MLflow's empty tables."""
        home = self.folder / "fgsearch-home"
        shutil.copytree(prepared(), home / "cache")
        shutil.copy(empty_store(), home / "mlflow.db")
        return self

    def run(self, *words: str, status: int = 0) -> str:
        """Run a command in this process; what trains does so without Ray."""
        with chdir(self.folder):
            code, said = typed(*words, *(["--inline"] if words[0] in TRAINS else []))
        assert code == status, said
        assert "Traceback" not in said
        return said

    def program(self, *words: str, status: int = 0) -> str:
        """Run a command as the program that a user starts; a search trains on Ray."""
        process = self.start(*words)
        said, _ = process.communicate()
        assert process.returncode == status, said
        assert "Traceback" not in said
        return said

    def start(self, *words: str) -> subprocess.Popen:
        """Start the program."""
        process = subprocess.Popen(
            [FGSEARCH, *words], cwd=self.folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            env={**os.environ, "COLUMNS": "160"}, start_new_session=True,
        )
        self.processes.append(process)
        return process

    def end(self) -> None:
        """Leave no process of a failed test behind."""
        for process in self.processes:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.communicate()

    def wait_for_reports(self, process: subprocess.Popen, count: int) -> None:
        while process.poll() is None and (not self.journal.exists() or self.journal.read_text().count('"reported"') < count):
            time.sleep(0.02)

    def rows(self) -> list[tuple]:
        """Return every metric row of MLflow with its run's trial."""
        with sqlite3.connect(self.database) as database:
            query = (
                "select t.value, m.key, m.step, m.timestamp, m.value from metrics m join tags t on t.run_uuid = m.run_uuid "
                "and t.key = 'fgsearch.trial'"
            )
            return database.execute(query).fetchall()

    def runs(self) -> list[tuple]:
        with sqlite3.connect(self.database) as database:
            return database.execute("select r.status, t.value from runs r join tags t on t.run_uuid = r.run_uuid and t.key = 'fgsearch.kind'").fetchall()
