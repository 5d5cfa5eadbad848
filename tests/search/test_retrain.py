"""The retrain on a small folder of pictures, without a search: what it refuses, what it records."""

import json
from datetime import date
from pathlib import Path

import pytest
from PIL import Image
from rich.console import Console

from fgmodel.config import TrialConfig
from fgmodel.prepare import prepare
from search.bundle import Bundle, Code, Data, Origin, Validation, read_bundle, write_bundle
from search.errors import InputError
from search.home import Home
from search.manifest import write_manifest
from search.mlflow_store import Store
from search.retrain import retrain
from search.tracking import default_uri

pytestmark = pytest.mark.slow


@pytest.fixture
def home(tmp_path) -> Home:
    home = Home(tmp_path / "home")
    home.path.mkdir()
    return home


@pytest.fixture
def config(folders) -> TrialConfig:
    return TrialConfig.from_settings({
        "data.dataset": "folders", "data.root": str(folders), "data.patches": "peaks", "data.frame_size": 64, "data.image_size": 64,
        "data.patch_size": 64, "data.patches_per_image": 2, "data.validation": 0.25, "model.global_backbone": "efficientnet_lite0",
        "model.local_backbone": "efficientnet_lite0", "model.freeze_backbones": True, "model.hidden_size": 16, "model.time_steps": 2,
        "optim.epochs": 2, "optim.schedule": "cosine",
    })  # fmt: skip


@pytest.fixture
def bundle(config, home, tmp_path) -> Path:
    """Return the file an export of a search on these pictures would be."""
    data = prepare(config, home.cache)
    write_manifest(home, "pets", config)
    origin = Origin(
        search="pets", trial=3, by="tpe", exported=date(2026, 11, 22), seeds={"sampler": 0, "data": 0, "trial": 0},
        validation=Validation(objective="val/accuracy", value=0.5, nll=0.7, epochs=2, kind="single cut", trials=4),
        data=Data(fingerprint=data.fingerprint, split=data.split, patches=data.patches),
        code=Code(version="0.1.0", commit=None, dirty=False), packages={"torch": "2"},
    )  # fmt: skip
    path = tmp_path / "best.yaml"
    write_bundle(Bundle(settings=config.settings(), origin=origin), path)
    return path


def run(bundle: Path, home: Home, seeds: int = 2, root: str | None = None):
    store = Store(default_uri(home.path), home.path / "artifacts")
    return retrain(bundle, range(seeds), root, home, store, Console(quiet=True))


def test_a_bundle_is_read_as_it_was_written(bundle, config) -> None:
    assert read_bundle(bundle).config() == config


def test_every_seed_is_trained_and_tested_and_the_opening_recorded(bundle, home) -> None:
    result = run(bundle, home)
    assert result.images == 4  # a fifth of 2 x 10
    assert len(result.values("accuracy")) == 2
    assert json.loads((result.folder / "test.json").read_text())["test/accuracy"].keys() == {"0", "1"}
    (line,) = (result.folder / "test-opened.jsonl").read_text().splitlines()
    assert json.loads(line)["seeds"] == [0, 1]


def test_a_global_stream_alone_reports_nothing_local(bundle, home) -> None:
    held = read_bundle(bundle)
    alone = {**held.settings, "model.local_stream": "none", "model.hidden_size": 512, "model.time_steps": 10}
    write_bundle(held.model_copy(update={"settings": alone}), bundle)
    result = run(bundle, home)
    assert set(json.loads((result.folder / "test.json").read_text())) == {"test/accuracy", "test/accuracy_global", "test/nll"}


def test_the_same_bundle_gives_the_same_numbers(bundle, home) -> None:
    assert run(bundle, home).values("nll") == run(bundle, home).values("nll")


def test_an_image_that_changed_is_named(bundle, home, folders) -> None:
    Image.new("RGB", (24, 20), (1, 2, 3)).save(folders / "cat" / "4.png")
    with pytest.raises(InputError, match=r"the images are not those of the search: cat/4\.png changed$"):
        run(bundle, home)


def test_a_missing_and_a_new_image_are_named(bundle, home, folders) -> None:
    (folders / "dog" / "1.png").rename(folders / "dog" / "x.png")
    with pytest.raises(InputError, match=r"dog/1\.png is missing, dog/x\.png is new$"):
        run(bundle, home)


def test_pictures_that_moved_are_found_by_root(bundle, home, folders, tmp_path) -> None:
    moved = folders.rename(tmp_path / "elsewhere")
    assert run(bundle, home, seeds=1, root=str(moved)).images == 4


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        pytest.param("trial: 3", "trial: three", "'origin.trial'", id="a word for a number"),
        pytest.param("origin:", "orign:", "'origin' is missing; is this a file of fgsearch export?", id="a part misspelt"),
        pytest.param("loss.margin: 0.5", "loss.margin: 5.0", "'loss.margin': 5.0 is wrong", id="a value out of range"),
        pytest.param("  loss.margin: 0.5\n", "", "'loss.margin' is missing", id="a setting taken out"),
    ],
)
def test_a_bundle_changed_by_hand_is_refused_with_its_line(before, after, said, bundle) -> None:
    text = bundle.read_text()
    assert before in text
    bundle.write_text(text.replace(before, after, 1))
    with pytest.raises(InputError) as error:
        read_bundle(bundle)
    assert said in str(error.value)
    assert str(error.value).startswith(f"{bundle}:")
