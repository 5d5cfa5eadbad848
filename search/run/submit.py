"""A search on a cluster as a job of Ray Jobs: submitted once, whoever asks how often, and found again by its name.

What the driver on the head needs lies in the search's folder of the home, which all nodes share: the space, and for the
moment until the driver reads it the login to MLflow, in a file that only its owner can read. Neither a command line nor
Ray's own records hold more than the name.
"""

import json
import os
import secrets
import shlex
import time
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

from pydantic import Field, ValidationError
from rich.console import Console

from cluster.connect import Connection
from cluster.jobs import Jobs
from cluster.private import without_password, write_private
from cluster.probe import Question, ask, differences, versions
from fgmodel import atomic
from fgmodel.config import TrialConfig
from fgmodel.extraction import EXTRACTORS
from fgmodel.frozen import Frozen, mistakes
from fgmodel.lock import lock
from search.errors import InputError, writing
from search.record.home import Home
from search.record.journal import now
from search.run.resources import require_fit
from search.show.status import running
from search.space.file import stored_space
from search.space.objects import values_of
from search.space.space import Space

BEGIN_SECONDS = 300.0  # a head may have to start, and its nodes to answer
END_SECONDS = 30.0  # until Ray notices that a driver has ended
POLL_SECONDS = 0.5
BEGAN = "every node sees"  # the driver says so once nothing of the cluster can stop it any more
LOGIN = ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN")
Record = TypeVar("Record", bound=Frozen)


class JobRecord(Frozen):
    """A job that was submitted, as the folder of what it is for keeps it."""

    id: str
    address: str
    code: str  # of the machine it was submitted from

    def start(self, jobs: Jobs, folder: Path, words: list[str], tracking_uri: str | None, *, ship: bool) -> None:
        """Keep it in `folder`, then submit it as this program with `words`; a submission whose answer is lost is known.

        The login to MLflow lies there too until the job takes it.
        """
        keep(folder / "job.json", self.model_dump_json(indent=1))
        keep_login(folder, tracking_uri)
        jobs.submit(self.id, shlex.join([*program(ship=ship), *words]), packages() if ship else [])

    def require_same_code(self, who: str) -> None:
        """Raise InputError when this place runs other code than the machine that submitted the job."""
        if differs := differences({"fgsearch": self.code}, {"fgsearch": versions()["fgsearch"]}):
            raise InputError(f"the machine that {who} {differs.replace(', here ', ', the head ')}, or use --ship")


class Submission(JobRecord):
    """A search's last job, as its folder keeps it."""

    name: str
    question: str
    space: dict[str, Any]
    tracking: str | None  # MLflow's address, without a password
    at: datetime = Field(default_factory=now)

    def restored(self) -> Space:
        """Return the space."""
        return stored_space(self.name, self.question, self.space)


def submission(home: Home, name: str) -> Submission | None:
    """Return the last job of a search; None when it never ran on a cluster."""
    return record_of(_record(home, name), Submission)


def record_of(path: Path, kind: type[Record]) -> Record | None:
    """Return what was kept of a job; None when there was none. Raises InputError: when it is something else."""
    try:
        return kind.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return None
    except ValidationError as error:
        raise InputError(f"{path}: is not the record of a job: {mistakes(error)[0].said}; delete it") from None


def submit(space: Space, name: str, home: Home, address: str, tracking_uri: str | None, *, ship: bool) -> Submission:
    """Start the search as a job and return it; a job of the search that waits or runs already is returned instead.

    Raises InputError or ClusterError: when no node can hold a trial, the data is named by a path that only this place
    knows, the cluster does not answer, or another driver has the search.
    """
    jobs = Jobs(address)
    home.search(name).mkdir(parents=True, exist_ok=True)
    with lock(home.search(name) / "submit"):
        before = submission(home, name)
        if before and before.address == jobs.address and _goes_on(jobs, before.id, home.journal(name)):
            _require_the_same(before, space, name)
            return before
        if running(home.journal(name)):
            raise InputError(f"{home.journal(name)}: another process is running this search; stop it first")
        require_fit(space, jobs.nodes())
        shared_paths(space.config(space.reference()))
        made = Submission(
            id=f"fgsearch-{name}-{secrets.token_hex(4)}", address=jobs.address, name=space.name,
            question=space.question, space=values_of(space), code=versions()["fgsearch"],
            tracking=tracking_uri and without_password(tracking_uri),
        )
        words = ["cluster", "drive", name, "--home", str(home.path)]
        made.start(jobs, home.search(name), words, tracking_uri, ship=ship)
    return made


def wait_until_begun(made: Submission, console: Console) -> None:
    """Return once the driver runs and every node has passed its probe; raises InputError with what stopped it."""
    jobs, patience = Jobs(made.address), time.monotonic() + BEGIN_SECONDS
    with console.status(f"{made.id}: the head asks every node …"):
        while time.monotonic() < patience:
            state, said = jobs.status(made.id), jobs.logs(made.id)
            if BEGAN in said or state in ("SUCCEEDED", "STOPPED"):
                return
            if state in (None, "FAILED"):
                raise InputError(last_line(said) or f"{made.id}: {made.address} no longer knows this job")
            time.sleep(POLL_SECONDS)
    raise InputError(f"{made.id}: has not begun after {BEGIN_SECONDS:.0f} s; see fgsearch logs --driver, or stop it")


def last_line(said: str) -> str:
    """Return the last line of a driver's output: where it failed, its reason."""
    lines = [line for line in said.splitlines() if line.strip()]
    if lines and "fgsearch: not found" in lines[-1]:
        return "the head has no fgsearch on its PATH; install it there, or let the code travel: --ship"
    return lines[-1] if lines else ""


def received(home: Home, name: str) -> tuple[Space, str | None]:
    """Return, on the head, the space and the MLflow address of the job that runs here; sets the login to MLflow.

    Raises InputError: when the head does not see the home, or runs other code than what submitted the job.
    """
    found = submission(home, name)
    if found is None:
        where = home.search(name)
        raise InputError(f"the head does not see {where}; the home must be a folder that every node shares")
    found.require_same_code("launched")
    return found.restored(), take_login(home.search(name))


def keep_login(folder: Path, tracking_uri: str | None) -> None:
    """Keep the address of MLflow and the login to it until the driver takes them."""
    keep(folder / "login.json", json.dumps({"uri": tracking_uri, **_environment_login()}))


def take_login(folder: Path) -> str | None:
    """Return the address of MLflow that was kept, if any; its login is set, and the file is gone."""
    login: dict[str, str | None] = {}
    with suppress(FileNotFoundError):
        login = json.loads((folder / "login.json").read_text())
        (folder / "login.json").unlink()
    os.environ.update({key: value for key, value in login.items() if key in LOGIN and value})
    return login.get("uri")


def program(*, ship: bool) -> list[str]:
    """Return how a job calls this program: as it is installed there, or as it travels with the job."""
    return ["python", "-m", "search.cli"] if ship else ["fgsearch"]


def require_cluster(space: Space, name: str, home: Home, ray: Connection, console: Console) -> None:
    """Raise ClusterError or InputError, naming the node, unless the cluster can run the search from this driver."""
    nodes, nonce, folder = ray.nodes(), secrets.token_hex(8), home.search(name) / "probe"
    require_fit(space, nodes)
    atomic.write(folder / "nonce", nonce.encode())
    try:
        ask(nodes, Question(str(folder), nonce, shared_paths(space.config(space.reference()))))
    finally:
        (folder / "nonce").unlink(missing_ok=True)
    there = ", ".join(str(node) for node in nodes[:8]) + (f" and {len(nodes) - 8} more" if len(nodes) > 8 else "")
    console.print(f"{BEGAN} {home.path}: {there}", soft_wrap=True)
    each = space.search.resources
    if (held := ray.places(each.cpu, each.gpu)) < space.search.workers:
        console.print(f"note: {space.search.workers} workers asked for; the nodes hold {held} now", soft_wrap=True)


def _goes_on(jobs: Jobs, id_: str, journal: Path) -> bool:
    """Whether a search's job waits or runs; of a driver that was just killed Ray says for a while that it does."""
    patience = time.monotonic() + END_SECONDS
    while jobs.active(id_):
        if BEGAN not in jobs.logs(id_) or running(journal):
            return True
        if time.monotonic() > patience:
            return False
        time.sleep(POLL_SECONDS)
    return False


def _require_the_same(before: Submission, space: Space, name: str) -> None:
    if before.space != json.loads(json.dumps(values_of(space))):
        said = f"search '{name}' runs already, as {before.id}, with other settings or another number of trials"
        raise InputError(f"{said}; wait for its end, or: fgsearch stop {name}")


def shared_paths(config: TrialConfig) -> tuple[str, ...]:
    """Return the paths of data that every node must see; raises InputError for one that starts from a folder."""
    boxes = config.data.patches
    named = {"data.root": config.data.root, "data.patches": "" if boxes in EXTRACTORS else boxes}
    for setting, path in named.items():
        if path and not Path(path).is_absolute():
            raise InputError(f"{setting}: {path!r} starts from this folder; on a cluster write the whole path")
    return tuple(path for path in named.values() if path)


def _environment_login() -> dict[str, str]:
    return {key: os.environ[key] for key in LOGIN if key in os.environ}


def packages() -> list[str]:
    """Return the folders of the code that travels with a job."""
    here = Path(__file__).parents[2]
    return [str(here / part) for part in ("search", "fgmodel", "cluster")]


def keep(path: Path, text: str) -> None:
    """Write a file whole, for its owner's eyes only."""
    with writing(path):
        write_private(path, text)


def _record(home: Home, name: str) -> Path:
    return home.search(name) / "job.json"

