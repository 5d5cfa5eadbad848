"""A real MLflow server with a password on a real PostgreSQL, as `fgsearch services up` starts them."""

import os
import shutil
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from cluster.mlflow_service import Services
from cluster.postgres import programs


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


@pytest.fixture(scope="session")
def room() -> Iterator[Path]:
    """Return a folder that an unprivileged user can reach: pytest's own are for root alone, PostgreSQL refuses root."""
    if programs() is None:
        absent = pytest.fail if os.environ.get("CI") else pytest.skip  # CI skips nothing
        absent("PostgreSQL is not installed: apt-get install postgresql")
    folder = Path(tempfile.mkdtemp(prefix="fgsearch-"))
    folder.chmod(0o755)
    yield folder
    for home in folder.iterdir():
        Services(home, "fgsearch").down()
    shutil.rmtree(folder)


@pytest.fixture(scope="session")
def running(room: Path) -> Services:
    """Return services that were started on a PostgreSQL of their own."""
    services = Services(room / "home", "fgsearch")
    assert services.up({"port": free_port(), "workers": 1, "database": "postgresql"})
    return services


@pytest.fixture
def services(running: Services) -> Services:
    """Return running services, whatever the test before did to them."""
    running.up({})
    return running


@pytest.fixture(autouse=True)
def nobody() -> Iterator[None]:
    """Let no login of the test's surroundings through."""
    before = {key: os.environ.pop(key) for key in list(os.environ) if key.startswith("MLFLOW_TRACKING")}
    yield
    for key in [key for key in os.environ if key.startswith("MLFLOW_TRACKING")]:
        del os.environ[key]
    os.environ.update(before)
