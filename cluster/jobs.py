"""The border to Ray Jobs: submit a command to a cluster over HTTP, see how it stands, read what it says, end it."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

import requests
from ray.exceptions import AuthenticationError, RayError
from ray.job_submission import JobStatus, JobSubmissionClient
from ray.util.state import list_nodes
from ray.util.state.exception import RayStateApiException

from cluster.errors import ClusterError
from cluster.nodes import Node, node
from cluster.token import HOLDERS

OVER = {"STOPPED", "SUCCEEDED", "FAILED"}
STOP_SECONDS = "30"  # between the SIGINT that ends a driver in order and the SIGKILL
MOST_NODES = 10_000


class Jobs:
    """The jobs of the cluster at `address`, e.g. http://head:8265.

    Raises ClusterError, in every call: when nothing answers there, or it does not accept the token.
    """

    def __init__(self, address: str) -> None:
        self.address = address.rstrip("/")
        if urlsplit(self.address).scheme not in ("http", "https") or not urlsplit(self.address).hostname:
            raise ClusterError(f"--address {address!r}: is no address of Ray Jobs; write it as http://head:8265")
        with self._calls():
            self._client = JobSubmissionClient(self.address)
            self._client.get_version()

    def submit(self, id_: str, entrypoint: str, modules: list[str]) -> None:
        """Start a command on the head; it is stopped by SIGINT. `modules` are packages that travel with it."""
        stop = {"RAY_JOB_STOP_SIGNAL": "SIGINT", "RAY_JOB_STOP_WAIT_TIME_S": STOP_SECONDS}
        environment: dict[str, Any] = {"env_vars": stop, **({"py_modules": modules} if modules else {})}
        with self._calls():
            self._client.submit_job(entrypoint=entrypoint, submission_id=id_, runtime_env=environment)

    def status(self, id_: str) -> str | None:
        """Return PENDING, RUNNING, STOPPED, SUCCEEDED or FAILED; None where the cluster knows no such job."""
        try:
            with self._calls():
                return str(JobStatus(self._client.get_job_status(id_)).value)
        except _UnknownJob:
            return None

    def active(self, id_: str) -> bool:
        """Whether the job waits or runs."""
        return (self.status(id_) or "STOPPED") not in OVER

    def logs(self, id_: str) -> str:
        """Return all that the job's driver said so far."""
        try:
            with self._calls():
                return str(self._client.get_job_logs(id_))
        except _UnknownJob:
            return ""

    def follow(self, id_: str) -> Iterator[str]:
        """Yield what the job's driver said and says until it ends."""
        lines = self._client.tail_job_logs(id_)

        async def following() -> str | None:
            return await anext(lines, None)

        with asyncio.Runner() as runner, self._calls():
            while (said := runner.run(following())) is not None:
                yield said

    def stop(self, id_: str) -> None:
        """Ask the job to end; returns at once."""
        with self._calls():
            self._client.stop_job(id_)

    def nodes(self) -> list[Node]:
        """Return the nodes that are alive."""
        with self._calls():
            found = list_nodes(
                address=self.address, filters=[("state", "=", "ALIVE")], limit=MOST_NODES,
                raise_on_missing_output=False,  # it takes the dead that the filter leaves out for missing
            )
        return [node(n.node_id, n.node_name or "", n.node_ip, n.resources_total or {}) for n in found]

    @contextmanager
    def _calls(self) -> Iterator[None]:
        try:
            yield
        except AuthenticationError:
            raise self._locked() from None
        except (ConnectionError, requests.RequestException) as error:
            if "401" in str(error) or "403" in str(error):
                raise self._locked() from None
            raise ClusterError(f"Ray at {self.address}: does not answer; is the cluster up?") from None
        except (RuntimeError, RayError, RayStateApiException) as error:
            if "status code 404" in str(error):
                raise _UnknownJob(f"Ray at {self.address}: has no such job") from None
            if "status code 401" in str(error) or "status code 403" in str(error):
                raise self._locked() from None
            raise ClusterError(f"Ray at {self.address}: {_line(error)}") from None

    def _locked(self) -> ClusterError:
        return ClusterError(f"Ray at {self.address}: refuses without its token; set {' or '.join(HOLDERS[::-1])}")


class _UnknownJob(ClusterError):
    pass


def _line(error: Exception) -> str:
    """Return the first and the last line: Ray puts a traceback in between."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    return ": ".join(dict.fromkeys((lines[0][:100], lines[-1][:200])))
