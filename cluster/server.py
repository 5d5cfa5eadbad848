"""MLflow's server over HTTP, as far as its administrator needs it: users, and what they may do.

Standard library only: MLflow's own client takes two seconds to import, and retries for minutes.
"""

import base64
import json
from dataclasses import dataclass
from http.client import HTTPException
from typing import Any
from urllib.error import HTTPError
from urllib.parse import quote
from urllib.request import ProxyHandler, Request, build_opener

from fgmodel.errors import InputError

SECONDS_A_CALL = 20
WRITER = "MANAGE"  # a run made twice by a lost answer is deleted, which EDIT may not


class Away(InputError):
    """The server does not answer."""


@dataclass(frozen=True)
class Server:
    """A server, entered as a user, or as a stranger."""

    url: str
    user: str = ""
    password: str = ""

    def status(self, path: str) -> int:
        """Return how it answers a GET; raises Away when it does not."""
        return self._call("GET", path)[0]

    def ensure_experiment(self, name: str) -> str:
        """Return the id of an experiment, made where it is missing."""
        found, said = self._call("GET", f"/api/2.0/mlflow/experiments/get-by-name?experiment_name={quote(name)}")
        if found == 200:
            return str(said["experiment"]["experiment_id"])
        return str(self._done("POST", "/api/2.0/mlflow/experiments/create", name=name)["experiment_id"])

    def has_user(self, name: str) -> bool:
        """Whether there is such a user."""
        return self._call("GET", f"/api/2.0/mlflow/users/get?username={quote(name)}")[0] == 200

    def create_user(self, name: str, password: str) -> None:
        """Let a user in; reading is all they may."""
        self._done("POST", "/api/2.0/mlflow/users/create", username=name, password=password)

    def set_password(self, name: str, password: str) -> None:
        """Change a user's password."""
        self._done("PATCH", "/api/2.0/mlflow/users/update-password", username=name, password=password)

    def delete_user(self, name: str) -> None:
        """Let a user in no more."""
        self._done("DELETE", "/api/2.0/mlflow/users/delete", username=name)

    def set_writer(self, name: str, experiment: str, *, writes: bool) -> None:
        """Say whether a user may write to an experiment."""
        what = {"username": name, "resource_type": "experiment", "resource_id": experiment}
        path = "/api/3.0/mlflow/users/permissions"
        self._call("POST", f"{path}/revoke", **what)  # of one who had none: nothing to do
        if writes:
            self._done("POST", f"{path}/grant", **what, permission=WRITER)

    def _done(self, method: str, path: str, **body: str) -> dict[str, Any]:
        status, said = self._call(method, path, **body)
        if status != 200:
            raise InputError(f"MLflow at {self.url}: {said.get('message', f'answers {status}')}")
        return said

    def _call(self, method: str, path: str, **body: str) -> tuple[int, dict[str, Any]]:
        headers = {"Content-Type": "application/json"}
        if self.user:
            login = base64.b64encode(f"{self.user}:{self.password}".encode()).decode()
            headers["Authorization"] = f"Basic {login}"
        request = Request(self.url + path, json.dumps(body).encode() if body else None, headers, method=method)  # noqa: S310 an address of ours
        try:
            direct = build_opener(ProxyHandler({}))  # no proxy sees a password
            with direct.open(request, timeout=SECONDS_A_CALL) as answer:
                return answer.status, _document(answer.read())
        except HTTPError as error:
            with error:
                return error.code, _document(error.read())
        except (OSError, HTTPException) as error:
            raise Away(f"MLflow at {self.url}: does not answer ({error}); start it: fgsearch services up") from None


def _document(said: bytes) -> dict[str, Any]:
    try:
        found = json.loads(said)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
