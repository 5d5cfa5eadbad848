"""The border to MLflow: runs found by their tags, written in batches; what goes wrong is `AwayError` or `RefusedError`.

MLflow is imported when a store is opened: it takes two seconds, and phones home unless told not to beforehand.
"""

import json
import os
import sqlite3
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, nullcontext, suppress
from datetime import datetime
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import sqlalchemy

from cluster.private import without_password
from fgmodel.lock import hold
from search.errors import InputError
from search.tracking.address import SERVERS, enter, password, require_address
from search.tracking.entry import (
    AwayError,
    Point,
    RefusedError,
    Status,
    StoreError,
    TrackedData,
    TrackedRun,
    fitting,
    milliseconds,
)
from search.tracking.pages import VIEW, run_path

if TYPE_CHECKING:
    from matplotlib.figure import Figure

EXPERIMENT = "fgsearch"
ABOUT = {
    "mlflow.experimentKind": "custom_model_development",  # else its pages offer what is for language models
    "mlflow.note.content": "Each search is a run, its trials are beneath it; `fgsearch browse NAME` opens one.",
}
DIGEST = 36                # characters of a data set's digest that MLflow takes
BATCH = 800                # metrics a call: MLflow takes 1,000 of everything together, 100 params and 100 tags
SECONDS_A_CALL = 20


class Store:
    """One MLflow, behind a server or in a database; raises InputError when the address cannot be right.

    A server that only does not answer is no error: `away` says so in one line, and writing will raise `AwayError`.
    """

    def __init__(self, tracking_uri: str, artifacts: Path | None = None) -> None:
        self.where = without_password(tracking_uri)
        self.away: str | None = None
        self.remote = require_address(tracking_uri) in SERVERS
        self._uri, self._password = enter(tracking_uri) if self.remote else (tracking_uri, password(tracking_uri))
        self._artifacts = None if self.remote or artifacts is None else artifacts.resolve().as_uri()
        self._experiment: str | None = None
        self._mlflow = _quiet_mlflow()
        self._client: Any = None
        if self.remote:
            self._knock()
        else:
            self._open_database()

    def runs(self, search: str) -> dict[int | None, TrackedRun]:
        """Return a search's runs by trial, its own under None; a run created twice by a lost answer is deleted."""
        found: dict[int | None, TrackedRun] = {}
        for run in self._tagged(search):
            number = int(run.tags["fgsearch.trial"]) if run.tags["fgsearch.kind"] == "trial" else None
            first = found.setdefault(number, run)
            if first is not run:
                found[number], extra = sorted((first, run), key=lambda r: -int(r.tags.get("fgsearch.epochs", 0)))
                self.delete(extra)
        return found

    def delete(self, run: TrackedRun) -> None:
        """Take a run off the pages; MLflow keeps it as deleted."""
        with self._calls():
            self._client.delete_run(run.id)

    def search_run(self, search: str) -> TrackedRun | None:
        """Return a search's own run, without looking through its trials'; None where it has none."""
        return next(self._tagged(search, "search"), None)

    def create(self, name: str, started: datetime, tags: Mapping[str, str]) -> TrackedRun:
        """Start a run."""
        kept = fitting(tags)
        with self._calls():
            run = self._client.create_run(self.experiment(), milliseconds(started), kept, run_name=name)
        return TrackedRun(run.info.run_id, run.info.status, kept, milliseconds(started))

    def write(
        self, run: TrackedRun, points: Sequence[Point], params: Mapping[str, str], tags: Mapping[str, str],
    ) -> None:
        """Add points, parameters and tags in as few calls as MLflow allows; the tags come after all the rest."""
        entities = self._mlflow.entities
        metrics = [entities.Metric(p.name, p.value, milliseconds(p.at), p.step) for p in points]
        given = [entities.Param(key, value) for key, value in fitting(params).items()]
        kept = [entities.RunTag(key, value) for key, value in fitting(tags).items()]
        starts = range(0, max(len(metrics), 1), BATCH)
        for start in starts:
            first, last = start == starts[0], start == starts[-1]
            batch = metrics[start:start + BATCH], given if first else (), kept if last else ()
            with self._calls():
                self._client.log_batch(run.id, *batch, synchronous=True)
        run.tags.update(fitting(tags))

    def set_status(self, run: TrackedRun, status: Status, ended: datetime) -> None:
        """Say how a run stands; `ended` counts once it is over (MLflow keeps it when the run goes on)."""
        with self._calls():
            if status == "RUNNING":
                self._client.update_run(run.id, status)
            else:
                self._client.set_terminated(run.id, status, milliseconds(ended))
        run.status = status

    def attach(self, run: TrackedRun, name: str, what: "Figure | str") -> None:
        """Keep a figure or a text with a run; raises RefusedError when the artifact store does not take it."""
        log = self._client.log_text if isinstance(what, str) else self._client.log_figure
        try:
            with self._calls():
                log(run.id, what, name)
        except AwayError as error:
            raise RefusedError(f"artifact {name}: {error}") from None

    def attach_folder(self, run: TrackedRun, folder: Path, without: str = "") -> None:
        """Keep what a folder holds with a run, but for the file that is kept elsewhere.

        Raises RefusedError: when the artifact store does not take it.
        """
        try:
            with self._calls():
                for path in sorted(folder.iterdir()):
                    if path.is_dir():
                        self._client.log_artifacts(run.id, str(path), path.name)
                    elif path.name != without and not path.name.startswith("."):
                        self._client.log_artifact(run.id, str(path))
        except AwayError as error:
            raise RefusedError(f"artifacts: {error}") from None

    @property
    def mlflow(self) -> Any:  # noqa: ANN401 MLflow's types are partial
        """MLflow itself."""
        return self._mlflow

    @contextmanager
    def client(self) -> Iterator[Any]:
        """Give MLflow's client to who asks it for more, the registry's; what goes wrong is told as everywhere here."""
        with self._calls():
            yield self._client

    def link(self, run: TrackedRun, dataset: TrackedData) -> None:
        """Show that a run was trained on `dataset`; said twice it is one link."""
        source = import_module("mlflow.data.code_dataset_source").CodeDatasetSource({"source": dataset.source})
        meta = import_module("mlflow.data.meta_dataset").MetaDataset(source, dataset.name, dataset.digest[-DIGEST:])
        entities = self._mlflow.entities
        held = entities.Dataset(**{**meta.to_dict(), "profile": json.dumps(dataset.profile)})
        context = entities.InputTag("mlflow.data.context", "train and validation")
        with self._calls():
            self._client.log_inputs(run.id, [entities.DatasetInput(held, [context])])

    def keep_view(self, name: str, state: str) -> None:
        """Keep a state of the page that lists runs; a link with `name` opens it."""
        with self._calls():
            self._client.set_experiment_tag(self.experiment(), f"{VIEW}{name}", state)

    def settle(self) -> None:
        """Let SQLite count its rows: ordering 10,000 runs by a metric then takes 0.1 s, not 8."""
        if database := self._sqlite():
            with suppress(sqlite3.Error), closing(sqlite3.connect(database, timeout=1)) as connection:
                connection.execute("ANALYZE")  # someone else may be writing: what is lost is only speed

    def address(self, run: TrackedRun) -> str:
        """Return where a run is looked at: its page on a server, its id in a database."""
        return f"{self._uri.rstrip('/')}/{run_path(self.experiment(), run.id)}" if self.remote else run.id

    def experiment(self) -> str:
        """Return the id of the one experiment all searches share; create it where it is missing."""
        if self._experiment is None:
            with self._calls():
                found = self._client.get_experiment_by_name(EXPERIMENT)
                if found and found.lifecycle_stage == "deleted":
                    self._client.restore_experiment(found.experiment_id)
                new = None if found else self._client.create_experiment(EXPERIMENT, self._artifacts, ABOUT)
                self._experiment = str(found.experiment_id if found else new)
        return self._experiment

    def _tagged(self, search: str, kind: str | None = None) -> Iterator[TrackedRun]:
        page, wanted = None, f"tags.`fgsearch.id` = '{search}'"
        wanted += f" AND tags.`fgsearch.kind` = '{kind}'" if kind else ""
        while page != "":
            with self._calls():
                runs = self._client.search_runs([self.experiment()], wanted, max_results=1000, page_token=page)
            page = runs.token or ""
            for run in runs:
                if run.data.tags.get("fgsearch.kind") in ("search", "trial"):
                    yield TrackedRun(run.info.run_id, run.info.status, dict(run.data.tags), run.info.start_time)

    def _open_database(self) -> None:
        database = self._sqlite()
        try:
            if database:
                Path(database).resolve().parent.mkdir(parents=True, exist_ok=True)
            busy = self._wrong("another process has been opening it for a minute")
            with warnings.catch_warnings(), hold(Path(database), busy, 60.0) if database else nullcontext():
                warnings.simplefilter("ignore")  # SQLAlchemy 2.1 about MLflow's mappers
                engine = sqlalchemy.create_engine(self._uri)
                sqlalchemy.inspect(engine).get_table_names()  # MLflow itself would try for 100 s before it says no
                engine.dispose()
                self._client = self._mlflow.MlflowClient(self._uri)
                self.experiment()  # makes the tables too; two clients at once would race their migrations
        except ImportError as error:
            raise self._wrong(f"its driver is not installed: pip install {error.name}") from None
        except (StoreError, OSError, sqlalchemy.exc.SQLAlchemyError, self._mlflow.MlflowException) as error:
            raise self._wrong(f"cannot be opened: {self._line(error)}") from None

    def _knock(self) -> None:
        try:
            self._client = self._mlflow.MlflowClient(self._uri)
            self._client.get_experiment_by_name(EXPERIMENT)
        except self._mlflow.MlflowException as error:
            text, status = str(error), error.get_http_status_code()
            if status in (401, 403):
                login = "MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN"
                raise self._wrong(f"refuses the login ({status}); set {login}") from None
            if status < 500 or "valid JSON" in text or "Invalid url" in text:
                raise self._wrong(f"is no MLflow server: {self._line(error)}") from None
            if "NameResolutionError" in text:
                raise self._wrong("there is no machine of this name") from None
            if "SSLError" in text:
                raise self._wrong("its certificate is not accepted; is it http or https?") from None
            self.away = f"MLflow at {self.where}: does not answer; the search goes on and is written there once it does"

    def _wrong(self, why: str) -> InputError:
        return InputError(f"MLflow at {self.where}: {why}")

    @contextmanager
    def _calls(self) -> Iterator[None]:
        try:
            yield
        except self._mlflow.MlflowException as error:
            status = error.get_http_status_code()
            passing = status >= 500 or status in (401, 403, 429)  # a login can expire: no fault of this one run
            raise (AwayError if passing else RefusedError)(f"MLflow at {self.where}: {self._line(error)}") from None
        except OSError as error:  # the network's among them
            raise AwayError(f"MLflow at {self.where}: {self._line(error)}") from None

    def _line(self, error: Exception) -> str:
        said = (str(error).strip() or type(error).__name__).splitlines()[0]
        return (said.replace(self._password, "***") if self._password else said)[:200]

    def _sqlite(self) -> str | None:
        return sqlalchemy.make_url(self._uri).database if self._uri.startswith("sqlite") else None


def _quiet_mlflow() -> Any:  # noqa: ANN401 MLflow's types are partial
    os.environ.update({
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "DO_NOT_TRACK": "true",
        "MLFLOW_LOGGING_LEVEL": "CRITICAL",                # else a locked database is a traceback on the user's screen
        "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
        "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",            # retrying is ours: theirs takes 4 minutes, and doubles runs
    })
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", str(SECONDS_A_CALL))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return import_module("mlflow")
