"""MLflow's pages as `fgsearch browse` serves them, for a test that opens them."""

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from search.record.home import Home


@contextmanager
def browsed(home: Home, *words: str) -> Iterator[str]:
    """Serve a home on a free port; yield the address once it answers."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [str(Path(sys.executable).with_name("fgsearch")), "browse", *words, "--home", str(home.path), "--port", str(port), "--no-open"]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    try:
        wait_for(f"http://127.0.0.1:{port}/health")
        yield f"http://127.0.0.1:{port}"
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        server.wait()


def wait_for(address: str) -> None:
    """Return once the address answers; it has two minutes."""
    patience = time.monotonic() + 120
    while time.monotonic() < patience:
        with suppress(OSError), urllib.request.urlopen(address):
            return
        time.sleep(0.3)
    raise AssertionError(f"{address} does not answer")
