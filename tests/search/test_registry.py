"""A retrained model in MLflow's registry, and what MLflow's own server answers with it."""

import base64
import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from datetime import date
from pathlib import Path

import pytest
from rich.console import Console

from fgmodel.config import TrialConfig
from fgmodel.prepare import prepare
from search.errors import InputError
from search.export.bundle import Bundle, Code, Confirmation, DataIdentity, Origin, Validation, write_bundle
from search.models.folder import open_model
from search.models.predict import predictions
from search.models.registry import _rank, fetched
from search.record.home import Home
from search.retrain.retrain import retrain
from search.tracking.address import default_uri
from search.tracking.store import Store
from tests.models import SMALL, pets
from tests.search.browsed import browsed

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(("worse", "better"), [
    pytest.param(("no", "val/accuracy", 0.7), ("no", "val/accuracy", 0.8), id="more is better"),
    pytest.param(("no", "val/nll", 0.8), ("no", "val/nll", 0.7), id="of a loss, less"),
    pytest.param(("no", "val/accuracy", 0.9), ("yes", "val/accuracy", 0.8), id="what was confirmed over seeds goes first"),
])
def test_validation_ranks_versions(worse, better) -> None:
    def tags(confirmed, objective, value):
        return {"fgsearch.confirmed": confirmed, "fgsearch.objective": objective, "fgsearch.validation": str(value)}

    assert _rank(tags(*worse)) < _rank(tags(*better))


def test_a_version_of_someone_else_s_ranks_last() -> None:
    assert _rank({}) < _rank({"fgsearch.objective": "val/nll", "fgsearch.validation": "99"})


class Retrained:
    """A home in which trials of a search of pets are retrained."""

    def __init__(self, base: Path) -> None:
        self.base = base
        self.home = Home(base / "home")
        self.home.path.mkdir()
        self.pets = pets(base / "pets")
        self.store = Store(default_uri(self.home.path), self.home.path / "artifacts")

    def opens(self) -> Store:
        return self.store

    def trial(self, number: int, value: float, confirmed: Confirmation | None = None):
        config = TrialConfig.from_settings(SMALL | {"data.root": str(self.pets)})
        data = prepare(config, self.home.cache)
        origin = Origin(
            search="pets", trial=number, by="tpe", exported=date(2026, 11, 25), seeds={"sampler": 0, "data": 0, "trial": 0},
            validation=Validation(objective="val/accuracy", value=value, nll=0.7, epochs=2, kind="single cut", trials=4, confirmed=confirmed),
            data=DataIdentity(fingerprint=data.fingerprint, split=data.split, patches=data.patches),
            code=Code(version="0.1.0", commit=None, dirty=False), packages={"torch": "2"},
        )  # fmt: skip
        path = self.base / f"{number}.yaml"
        write_bundle(Bundle(settings=config.settings(), origin=origin), path)
        return retrain(path, 2, None, self.home, self.store, Console(quiet=True), inline=True)


@pytest.fixture(scope="module")
def pets_home(tmp_path_factory) -> Retrained:
    """Return a home whose first retraining, of trial 3, is registered."""
    held = Retrained(tmp_path_factory.mktemp("registry"))
    held.trial(3, 0.75)
    return held


@pytest.mark.slow
def test_the_winner_is_registered_with_all_that_belongs_to_it(pets_home) -> None:
    with pets_home.store.client() as client:
        version = client.get_model_version_by_alias("fgsearch-pets", "best")
        folder = Path(client.download_artifacts(version.run_id, "model"))
    assert version.tags["fgsearch.trial"] == "3"
    assert float(version.tags["test/accuracy"]) == pytest.approx(open_model("pets-3", pets_home.home, pets_home.opens).about.test["test/accuracy"], abs=1e-4)
    assert "Trial #3 of search `pets`" in version.description
    assert (folder / "artifacts" / "bundle.yaml").read_text().startswith("# bundle.yaml: trial 3 of search pets")
    assert json.loads((folder / "artifacts" / "test.json").read_text())["test/accuracy"].keys() == {"0", "1"}
    described = (folder / "MLmodel").read_text()
    assert '"name": "image"' in described
    assert '"name": "local_probability"' in described
    assert (folder / "input_example.json").exists()


@pytest.mark.slow
def test_nothing_that_is_registered_is_pickled(pets_home) -> None:
    kept = [path for path in (pets_home.home.path / "artifacts").rglob("*") if path.is_file()]
    assert {path.suffix for path in kept if "model" in path.parts} <= {".safetensors", ".yaml", ".json", ".py", ".txt", ""}
    others = [path for path in kept if path.suffix != ".safetensors"]    # which begins with its header's length
    assert not [path for path in others if path.read_bytes()[:1] == b"\x80"]   # how a pickle begins


@pytest.mark.slow
def test_a_served_model_answers_over_http_with_the_numbers_of_predict(pets_home) -> None:
    files = sorted(pets_home.pets.rglob("*.png"))[::5]
    saved = open_model("models:/fgsearch-pets@best", pets_home.home, pets_home.opens)
    expected = [each.row() for each in predictions(saved.classifier, files)]
    with served(pets_home) as address:
        rows = [{"image": base64.b64encode(file.read_bytes()).decode()} for file in files]
        found = asked(address, {"dataframe_records": rows})["predictions"]
        assert [list(row) for row in found] == [list(row) for row in expected]
        for row, wanted in zip(found, expected, strict=True):
            assert row == pytest.approx(wanted, abs=1e-6)
        with pytest.raises(urllib.error.HTTPError) as error:
            asked(address, {"dataframe_records": [{"image": base64.b64encode(b"no image").decode()}]})
        assert error.value.code == 400
        assert "row 1 is not an image" in error.value.read().decode()
        error.value.close()


@pytest.mark.slow
def test_its_page_shows_the_alias_what_it_takes_and_gives_and_what_test_said(pets_home, page) -> None:
    with browsed(pets_home.home) as address:
        page.goto(f"{address}/#/models/fgsearch-pets/versions/1?workflowType=machine_learning")
        for shown in ("best", "Trial #3 of search", "test/accuracy"):
            page.get_by_text(shown).first.wait_for()
        page.get_by_text("Outputs (").click()
        page.get_by_text("local_probability").first.wait_for()


@pytest.mark.slow
def test_the_alias_stays_with_the_trial_that_validation_prefers(pets_home) -> None:
    pets_home.trial(5, 0.5)
    with pets_home.store.client() as client:
        assert client.get_model_version_by_alias("fgsearch-pets", "best").tags["fgsearch.trial"] == "3"
    pets_home.trial(7, 0.9)
    with pets_home.store.client() as client:
        assert client.get_model_version_by_alias("fgsearch-pets", "best").tags["fgsearch.trial"] == "7"


@pytest.mark.slow
def test_a_version_is_found_by_its_number(pets_home) -> None:
    first, best = (fetched(pets_home.opens, f"models:/fgsearch-pets{which}").read_bytes() for which in ("/1", "@best"))
    kept = (pets_home.home.path / "models" / "pets-3" / "model.safetensors").read_bytes()
    assert first == kept
    assert best != kept   # since trial 7 was registered


@pytest.mark.slow
def test_a_model_that_someone_else_registered_is_refused(pets_home) -> None:
    with pets_home.store.client() as client:
        run = client.create_run("0")
        client.create_registered_model("foreign")
        client.create_model_version("foreign", f"{run.info.artifact_uri}/model", run.info.run_id)
    with pytest.raises(InputError, match=r"^models:/foreign/1: is not a model that fgsearch retrain registered$"):
        fetched(pets_home.opens, "models:/foreign/1")


@pytest.mark.slow
@pytest.mark.parametrize(("address", "said"), [
    pytest.param("models:/fgsearch-pts@best", "has no model 'fgsearch-pts'; did you mean 'models:/fgsearch-pets@best'?", id="name"),
    pytest.param("models:/fgsearch-pets@bset", "has no alias 'bset'; it has best", id="alias"),
    pytest.param("models:/fgsearch-pets/99", "has no version 99; it has 1", id="version"),
    pytest.param("models:/fgsearch-pets", "write it as models:/fgsearch-NAME@best", id="neither alias nor version"),
])  # fmt: skip
def test_what_is_not_registered_is_told_with_the_nearest(address, said, pets_home) -> None:
    with pytest.raises(InputError) as error:
        fetched(pets_home.opens, address)
    assert said in str(error.value)


class served:  # noqa: N801  it reads as a verb
    """MLflow's own server on the model, on a free port."""

    def __init__(self, home: Retrained) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        command = [sys.executable, "-m", "mlflow", "models", "serve", "-m", "models:/fgsearch-pets@best"]
        command += ["--env-manager", "local", "--host", "127.0.0.1", "--port", str(self.port)]
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"   # MLflow calls uvicorn by its name
        env = {**os.environ, "MLFLOW_TRACKING_URI": default_uri(home.home.path), "PYTHONPATH": str(ROOT), "PATH": path}
        self.log = home.base / "served.log"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(command, env=env, stdout=log, stderr=log, start_new_session=True)

    def __enter__(self) -> str:
        address, end = f"http://127.0.0.1:{self.port}", time.monotonic() + 240
        while time.monotonic() < end:
            try:
                with urllib.request.urlopen(f"{address}/ping", timeout=5):
                    return address
            except OSError:
                assert self.process.poll() is None, self.log.read_text()
                time.sleep(0.5)
        raise AssertionError(self.log.read_text())

    def __exit__(self, *error: object) -> None:
        import signal

        os.killpg(self.process.pid, signal.SIGTERM)
        self.process.wait(30)


def asked(address: str, question: dict) -> dict:
    request = urllib.request.Request(
        f"{address}/invocations", json.dumps(question).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=120) as answer:
        return json.loads(answer.read())
