"""A stranger knocks at every port of a running search's Ray and of a cluster's head: without the token nobody answers."""

import os
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from urllib.error import HTTPError

import grpc
import psutil
import pytest
import ray
from ray.core.generated import (
    autoscaler_pb2,
    core_worker_pb2,
    gcs_service_pb2,
    instance_manager_pb2,
    logging_pb2,
    node_manager_pb2,
    ray_client_pb2,
    reporter_pb2,
)

from tests.cluster.conftest import free_port

pytestmark = pytest.mark.slow
CALLS = [
    f"/{service.full_name}/{method.name}"
    for file in (autoscaler_pb2, core_worker_pb2, gcs_service_pb2, instance_manager_pb2, logging_pb2, node_manager_pb2, ray_client_pb2, reporter_pb2)
    for service in file.DESCRIPTOR.services_by_name.values() for method in service.methods
] + [f"/ray.rpc.ObjectManagerService/{name}" for name in ("Push", "Pull", "FreeObjects")]
PAGES = ("/", "/metrics", "/api/jobs/", "/api/version", "/api/job_agent/jobs/", "/api/v0/nodes", "/nodes?view=summary", "/logs", "/get_or_create_runtime_env",
         "/api/cluster_status", "/api/packages/gcs/x.zip", "/api/actors/kill?actor_id=1", "/worker/traceback?pid=1", "/api/serve/applications/")
FRAME = (Path(ray.__file__).parent / "dashboard" / "client" / "build" / "index.html").read_bytes()  # asks for the token; tells nothing
HOLD = """
import sys
from cluster.connect import Connection
with Connection(1, 1) as connection:
    connection.wait()
    import ray
    ray.get(ray.remote(lambda: 1).remote())
    print("up", flush=True)
    sys.stdin.read()
"""


@pytest.fixture(scope="module")
def private_home(tmp_path_factory):
    """Return an environment whose home holds no token yet."""
    home = tmp_path_factory.mktemp("token")
    kept = {key: value for key, value in os.environ.items() if not key.startswith("RAY_")}
    return {**kept, "HOME": str(home), "PYTHONPATH": str(Path(__file__).parents[2])}


def listening(processes):
    """Return the ports these processes listen at, with an address to call them by."""
    found = set()
    for process in processes:
        for connection in process.net_connections("inet"):
            if connection.status == psutil.CONN_LISTEN:
                ip = connection.laddr.ip
                found.add(("127.0.0.1" if ip in ("0.0.0.0", "::") else ip, connection.laddr.port))
    return sorted(found)


def require_nobody_gets_in(ports):
    assert len(ports) > 4
    let_in, refused = [], 0
    for ip, port in ports:
        told, asked = pages(ip, port) or calls(ip, port)
        let_in += [(port, *what) for what in told]
        refused += asked
    assert let_in == []
    assert refused > 50


def pages(ip, port):
    """Return the pages a stranger gets, and how many are refused for want of the token; None where no HTTP is spoken."""
    told, refused = [], 0
    for page in PAGES:
        try:
            with urllib.request.urlopen(f"http://{ip}:{port}{page}", timeout=5) as answer:
                if (said := answer.read()) != FRAME:
                    told.append((page, answer.status, said[:80]))
        except HTTPError as error:
            refused += error.code == 401
            if error.code != 401:
                told.append((page, error.code))
            error.close()
        except (OSError, ValueError, urllib.request.http.client.HTTPException):
            return None
    return told, refused


def calls(ip, port):
    """Return the calls of Ray's that answer a stranger, and how many are refused for want of the token."""
    told, refused = [], 0
    with grpc.insecure_channel(f"{ip}:{port}") as channel:
        for call in CALLS:
            try:
                channel.unary_unary(call)(b"", timeout=5)
                told.append((call,))
            except grpc.RpcError as error:
                refused += error.code() is grpc.StatusCode.UNAUTHENTICATED
                if error.code() is grpc.StatusCode.UNAVAILABLE:
                    break  # nor gRPC
                if error.code() not in (grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.UNIMPLEMENTED):
                    told.append((call, error.code().name, error.details()))
    return told, refused


HEAD = """
import os, subprocess, sys
from cluster.private import ensure_ray_token
ensure_ray_token()
os.environ["RAY_AUTH_MODE"] = "token"
os.execvp(sys.executable, [sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block", "--port", "0", "--num-cpus", "1",
          "--include-dashboard", "true", "--dashboard-port", sys.argv[1], "--object-store-memory", "100000000", "--disable-usage-stats"])
"""


def test_every_port_of_a_heads_processes_asks_for_the_token_its_dashboard_and_jobs_too(private_home):
    port = free_port()
    closed = {"RAY_enable_metrics_collection": "0", "DASHBOARD_METRIC_PORT": "65536", "AUTOSCALER_METRIC_PORT": "65536"}
    with subprocess.Popen([sys.executable, "-W", "ignore", "-c", HEAD, str(port)], env=private_home | closed, start_new_session=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        try:
            while "Ray runtime started" not in process.stdout.readline():
                assert process.poll() is None
            deadline = time.monotonic() + 60
            while len(family_ports(process.pid)) < 8 and time.monotonic() < deadline:  # the node's agents come a little later
                time.sleep(0.5)
            assert ("127.0.0.1", port) in family_ports(process.pid)
            require_nobody_gets_in(family_ports(process.pid))
        finally:
            os.killpg(process.pid, signal.SIGTERM)
            said, _ = process.communicate()
    assert (Path(private_home["HOME"]) / ".ray" / "auth_token").read_text() not in said


def family_ports(pid):
    family = psutil.Process(pid)
    return listening([family, *family.children(recursive=True)])


def test_every_port_of_a_searchs_own_ray_asks_for_the_token(private_home):
    with subprocess.Popen([sys.executable, "-W", "ignore", "-c", HOLD], env=private_home, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert "up" in process.stdout.readline()
        family = psutil.Process(process.pid)
        ports = family_ports(process.pid)
        lines = " ".join(" ".join(p.cmdline()) for p in [family, *family.children(recursive=True)])
        require_nobody_gets_in(ports)
        _, said = process.communicate("")
    token = Path(private_home["HOME"]) / ".ray" / "auth_token"
    assert token.stat().st_mode & 0o777 == 0o600
    assert token.read_text() not in lines + said
