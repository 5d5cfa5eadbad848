"""MLflow's pages of a search with many trials: how long each takes until it shows what it is for, in a real Chromium.

    python -m tests.bench.bench_pages HOME SEARCH [--trials 10000]

The store is a copy of HOME's, in which the trials of SEARCH are repeated as they are: same parameters, metrics, tags.
"""

import argparse
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import time
import urllib.request
from contextlib import closing, suppress
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

from search.record.history import load
from search.record.home import Home
from search.tracking.pages import list_path, run_path
from search.tracking.rows import search_id

COPIED = {
    "metrics": "key, value, timestamp, {run}, step, is_nan",
    "latest_metrics": "key, value, timestamp, step, is_nan, {run}",
    "params": "key, value, {run}",
    "tags": "key, value, {run}",
}


def multiply(database: Path, key: str, trials: int) -> None:
    """Repeat a search's trials in an MLflow database until there are so many."""
    with closing(sqlite3.connect(database)) as store:
        of = "select run_uuid from tags where key = 'fgsearch.id' and value = ? intersect select run_uuid from tags where key = 'fgsearch.kind' and value = 'trial'"
        store.execute("create temp table first as " + of, (key,))
        (held,) = store.execute("select count(*) from first").fetchone()
        for copy in range(1, -(-trials // held)):
            run = f"substr(run_uuid, 1, 27) || '{copy:05x}'"
            store.execute(
                f"insert into runs select {run}, name || '.{copy}', source_type, source_name, entry_point_name, user_id, status, "
                "start_time, end_time, source_version, lifecycle_stage, artifact_uri, experiment_id, deleted_time "
                "from runs where run_uuid in first",
            )
            for table, columns in COPIED.items():
                named = columns.format(run="run_uuid")
                store.execute(f"insert into {table} ({named}) select {columns.format(run=run)} from {table} where run_uuid in first")
        store.commit()
        store.execute("analyze")


def serve(database: Path) -> tuple[subprocess.Popen, str]:
    """Start MLflow on a database and return it with its address, once it answers."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    quiet = {"MLFLOW_BACKEND_STORE_URI": f"sqlite:///{database}", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    server = subprocess.Popen(command, env={**os.environ, **quiet}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    while server.poll() is None:
        with suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}/health"):
            break
        time.sleep(0.2)
    return server, f"http://127.0.0.1:{port}"


def timed(page: Page, what: str, path: str, shows: str) -> None:
    """Open a page and say how long it took until `shows` was there."""
    page.goto("about:blank")
    began = time.monotonic()
    page.goto(path)
    page.locator(shows).first.wait_for(timeout=180_000)
    print(f"{what:<24} {time.monotonic() - began:6.1f} s")


def main() -> None:
    """Copy, multiply, serve, open."""
    parser = argparse.ArgumentParser()
    parser.add_argument("home", type=Path)
    parser.add_argument("search")
    parser.add_argument("--trials", type=int, default=10_000)
    given = parser.parse_args()
    home = Home(given.home.absolute())
    opened = load(home.journal(given.search)).opened
    assert opened
    key = search_id(opened)
    with tempfile.TemporaryDirectory() as folder:
        database = Path(shutil.copy(home.path / "mlflow.db", folder))
        multiply(database, key, given.trials)
        with closing(sqlite3.connect(database)) as store:
            (run,) = store.execute("select run_uuid from tags where key = 'fgsearch.id' and value = ? intersect select run_uuid from tags where key = 'fgsearch.kind' and value = 'search'", (key,)).fetchone()
            (experiment,) = store.execute("select experiment_id from runs where run_uuid = ?", (run,)).fetchone()
        server, address = serve(database)
        try:
            with sync_playwright() as running:
                chromium = running.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
                page = chromium.new_page(viewport={"width": 1600, "height": 1100})
                for _ in range(2):  # the second time the pages' own scripts are in the browser
                    timed(page, "the search's page", f"{address}/{run_path(experiment, run)}", "text=Best: trial")
                    timed(page, "trials, best first", f"{address}/{list_path(experiment, key)}", ".ag-center-cols-container .ag-row")
                    timed(page, "their charts", f"{address}/{list_path(experiment, key, charts=True)}", ".js-plotly-plot .trace")
                chromium.close()
        finally:
            os.killpg(server.pid, signal.SIGKILL)
            server.wait()


if __name__ == "__main__":
    main()
