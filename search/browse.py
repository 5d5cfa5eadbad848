"""Opens the MLflow UI on a home's store, on this machine only."""

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

from rich.console import Console

from search.errors import InputError

HOST = "127.0.0.1"


def serve(uri: str, artifacts: Path, port: int, console: Console) -> None:
    """Serve the UI until interrupted; raises InputError when the port is taken."""
    _require_free(port)
    command = [sys.executable, "-m", "mlflow", "server", "--host", HOST, "--port", str(port), "--workers", "1"]
    command += ["--default-artifact-root", str(artifacts)]
    quiet = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
    quiet["MLFLOW_BACKEND_STORE_URI"] = uri  # it may hold a password, and a command line is everyone's to read
    server = subprocess.Popen(  # noqa: S603 our own interpreter
        command, env={**os.environ, **quiet}, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ended either way, the server ends with us
    console.print(f"MLflow on http://{HOST}:{port} in a few seconds (Ctrl-C ends it)")
    try:
        _, said = server.communicate()
    except KeyboardInterrupt:
        server.terminate()
        server.wait()
        return
    last = said.strip().splitlines()[-1:] or ["it gave no reason"]
    raise InputError(f"MLflow's server ended: {last[0]}")


def _require_free(port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            raise InputError(f"port {port} is in use; try: fgsearch browse --port {port + 1}") from None
