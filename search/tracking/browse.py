"""Opens MLflow's pages on a home's store, on this machine only, where one wants to look: one search, or all."""

import errno
import os
import signal
import socket
import subprocess
import sys
import time
import webbrowser
from pathlib import Path
from threading import Thread

from rich.console import Console

from search.errors import InputError
from search.record.history import space_of
from search.record.home import Home
from search.tracking.pages import SEARCHES, list_path, run_path, searches_view, view
from search.tracking.rows import search_id
from search.tracking.store import Store

HOST = "127.0.0.1"
START_SECONDS = 120.0   # that a server may take on a busy machine


def landing(home: Home, store: Store, name: str | None) -> dict[str, str]:
    """Return the pages to begin with, by what they show, as links below MLflow's address; the first is opened.

    Raises InputError: where there is no such search, or MLflow does not have it; StoreError.
    """
    experiment = store.experiment()
    store.keep_view(SEARCHES, searches_view())
    every = {"searches": list_path(experiment, SEARCHES)}
    if name is None:
        return every
    history = home.history(name)
    assert history.opened is not None
    key = search_id(history.opened)
    run = store.search_run(key)
    if run is None:
        why = f"MLflow at {store.where}: does not have search '{name}' yet; launching the same name again writes it"
        raise InputError(why)
    store.keep_view(key, view(space_of(history), key))  # of a search from before there was one, too
    trials, charts = list_path(experiment, key), list_path(experiment, key, charts=True)
    return {name: run_path(experiment, run.id), "trials": trials, "charts": charts, **every}


def serve(uri: str, artifacts: Path, port: int, console: Console, pages: dict[str, str], *, show: bool) -> None:
    """Serve the pages until interrupted, and show the first; raises InputError when the port is taken."""
    _require_free(port)
    command = [sys.executable, "-m", "mlflow", "server", "--app-name", "fgsearch", "--host", HOST, "--port", str(port)]
    command += ["--workers", "1", "--default-artifact-root", str(artifacts)]
    quiet = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
    quiet["MLFLOW_BACKEND_STORE_URI"] = uri  # it may hold a password, and a command line is everyone's to read
    server = subprocess.Popen(  # noqa: S603 our own interpreter
        command, env={**os.environ, **quiet}, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ended either way, the server ends with us
    address = f"http://{HOST}:{port}"
    console.print(f"MLflow on {address} in a few seconds (Ctrl-C ends it)")
    Thread(target=_once_up, args=(server, port, console, address, pages), kwargs={"show": show}, daemon=True).start()
    try:
        _, said = server.communicate()
    except KeyboardInterrupt:
        server.terminate()
        server.wait()
        return
    last = said.strip().splitlines()[-1:] or ["it gave no reason"]
    raise InputError(f"MLflow's server ended: {last[0]}")


def show_pages(address: str, console: Console, pages: dict[str, str], *, show: bool) -> None:
    """Say where the pages are and open the first in a browser, or say that there is none."""
    width = max(map(len, pages))
    for what, path in pages.items():
        console.print(f"  {what:<{width}}  {address}/{path}", soft_wrap=True)
    if not show:
        return
    if not _has_screen() or not webbrowser.open(f"{address}/{next(iter(pages.values()))}"):
        port = address.rpartition(":")[2]
        console.print(
            f"no browser can be opened here; from another machine: ssh -L {port}:{HOST}:{port} {socket.gethostname()}",
            soft_wrap=True,
        )


def _once_up(
    server: subprocess.Popen[str], port: int, console: Console, address: str, pages: dict[str, str], *, show: bool,
) -> None:
    patience = time.monotonic() + START_SECONDS
    while server.poll() is None and time.monotonic() < patience:
        with socket.socket() as client:
            if client.connect_ex((HOST, port)) == 0:
                show_pages(address, console, pages, show=show)
                return
        time.sleep(0.2)


def _has_screen() -> bool:
    """Whether a browser would have somewhere to appear; one in the terminal would be in the way."""
    return sys.platform == "darwin" or any(os.environ.get(name) for name in ("BROWSER", "DISPLAY", "WAYLAND_DISPLAY"))


def _require_free(port: int) -> None:
    if (error := _refusal(port)) is None:
        return
    free = next((p for p in (*range(port + 1, min(port + 50, 65536)), *range(5001, 5050)) if _refusal(p) is None), 0)
    what = "is in use" if error.errno == errno.EADDRINUSE else f"cannot be used: {error.strerror}"
    raise InputError(f"port {port} {what}; try: fgsearch browse --port {free or 'ANOTHER'}") from None


def _refusal(port: int) -> OSError | None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError as error:
            return error
    return None
