"""The retrain on a small folder of pictures, without a search: what it refuses, what it records."""

import io
import json
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from datetime import date
from pathlib import Path

import numpy as np
import pytest
from filelock import FileLock
from PIL import Image
from rich.console import Console

from fgmodel.config import TrialConfig
from fgmodel.data.boxes_file import read_any_patches, write_patches
from fgmodel.prepare import prepare
from search.errors import InputError
from search.export import full_bundle as exporting
from search.export.bundle import Bundle, Code, DataIdentity, Origin, Validation, read_bundle, write_bundle
from search.export.environment import here
from search.export.packing import BOXES, pack, unpack
from search.record.home import Home
from search.record.manifest import write_manifest
from search.retrain.retrain import retrain
from search.tracking.address import default_uri
from search.tracking.store import Store
from tests.lab import empty_store

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def prepared(tmp_path_factory) -> Path:
    """Return a cache with what is computed of the pictures, which are the same in every test."""
    folder = tmp_path_factory.mktemp("prepared")
    config = configured(painted(folder / "pets"))
    for split in ("train", "test"):
        prepare(config, folder / "cache", split)
    return folder / "cache"


@pytest.fixture
def folders(tmp_path) -> Path:
    """Return two class folders of ten pictures each."""
    return painted(tmp_path / "pets")


@pytest.fixture
def home(tmp_path, prepared) -> Home:
    home = Home(tmp_path / "home")
    shutil.copytree(prepared, home.cache)
    shutil.copy(empty_store(), home.path)
    return home


def painted(root: Path) -> Path:
    for name in ("cat", "dog"):
        (root / name).mkdir(parents=True)
        for number in range(10):
            chance = np.random.default_rng([number, len(name), ord(name[0])])
            Image.fromarray(chance.integers(0, 255, (20, 24, 3), np.uint8)).save(root / name / f"{number}.png")
    return root


def configured(root: Path) -> TrialConfig:
    return TrialConfig.from_settings({
        "data.dataset": "folders", "data.root": str(root), "data.patches": "peaks", "data.frame_size": 64, "data.image_size": 64,
        "data.patch_size": 64, "data.patches_per_image": 2, "data.validation": 0.25, "model.global_backbone": "efficientnet_lite0",
        "model.local_backbone": "efficientnet_lite0", "model.freeze_backbones": True, "model.hidden_size": 16, "model.time_steps": 2,
        "optim.epochs": 2, "optim.schedule": "cosine",
    })  # fmt: skip


@pytest.fixture
def config(folders) -> TrialConfig:
    return configured(folders)


@pytest.fixture
def bundle(config, home, tmp_path) -> Path:
    """Return the file an export of a search on these pictures would be."""
    data = prepare(config, home.cache)
    write_manifest(home, "pets", config)
    origin = Origin(
        search="pets", trial=3, by="tpe", exported=date(2026, 11, 22), seeds={"sampler": 0, "data": 0, "trial": 0},
        validation=Validation(objective="val/accuracy", value=0.5, nll=0.7, epochs=2, kind="single cut", trials=4),
        data=DataIdentity(fingerprint=data.fingerprint, split=data.split, patches=data.patches),
        code=Code(version="0.1.0", commit=None, dirty=False), packages={"torch": "2"},
    )  # fmt: skip
    path = tmp_path / "best.yaml"
    write_bundle(Bundle(settings=config.settings(), origin=origin), path)
    return path


@pytest.fixture
def zipped(bundle, home, tmp_path, monkeypatch) -> Path:
    """Return the whole bundle that an export of that search would be."""
    held = read_bundle(bundle)
    told = held.model_copy(update={"origin": held.origin.model_copy(update={"environment": here(threads=1)})})
    monkeypatch.setattr(exporting, "chosen", lambda *_: told)
    exporting.export_bundle(home, "pets", tmp_path / "best.zip")
    return tmp_path / "best.zip"


def run(bundle: Path, home: Home, seeds: int = 2, root: str | None = None, **more):
    store = Store(default_uri(home.path), home.path / "artifacts")
    console = more.pop("console", Console(quiet=True))
    return retrain(bundle, seeds, root, home, store, console, **{"inline": True, **more})


def said_by(bundle: Path, home: Home, **more) -> str:
    """Return what a retrain with one seed prints."""
    file = io.StringIO()
    run(bundle, home, seeds=1, console=Console(file=file, width=200), **more)
    return file.getvalue()


def test_a_bundle_is_read_as_it_was_written(bundle, config) -> None:
    assert read_bundle(bundle).config() == config


def test_every_seed_is_trained_and_tested_and_the_opening_recorded(bundle, home) -> None:
    result = run(bundle, home)
    assert result.images == 4  # a fifth of 2 x 10
    assert len(result.values("accuracy")) == 2
    assert json.loads((result.folder / "test.json").read_text())["test/accuracy"].keys() == {"0", "1"}
    (line,) = (result.folder / "test-opened.jsonl").read_text().splitlines()
    assert json.loads(line)["seeds"] == [0, 1]


def test_another_retrain_says_how_often_test_was_opened_and_leaves_no_seed_of_the_one_before(bundle, home) -> None:
    assert "opened before" not in said_by(bundle, home)
    list_of_openings = home.path / "models" / "pets-3" / "test-opened.jsonl"
    list_of_openings.write_text(list_of_openings.read_text() + '{"kind": "opened_te')  # killed while it wrote
    assert len(list(run(bundle, home, seeds=3).folder.glob("seed*.safetensors"))) == 3
    assert "note: test was opened before: 2 times, last on 20" in said_by(bundle, home)
    assert [file.name for file in (home.path / "models" / "pets-3").glob("seed*")] == ["seed0.safetensors"]


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


# --- the whole bundle -------------------------------------------------------------------------------------------------

KILLED = """
import os, signal, sys
from pathlib import Path
from rich.console import Console
from search.record.home import Home
from search.retrain import retrain
from search.run import worker
worker.CHECKPOINT_SECONDS = 0.0
bundle, home, root, at = sys.argv[1:]
whole = worker.Run.save

def save_epoch(run, path):
    whole(run, path)
    print(f"trained seed {run.config.seed} epoch {run.epoch}", flush=True)
    if at == f"{run.config.seed}.{run.epoch}":
        os.kill(os.getpid(), signal.SIGKILL)

def save(*_):
    os.kill(os.getpid(), signal.SIGKILL)

worker.Run.save = save_epoch
if at == "trained":
    retrain._save = save
retrain._log = lambda *_: None
retrain.retrain(Path(bundle), 2, root, Home(Path(home)), None, Console(), inline=True)
"""


def elsewhere(bundle: Path, home: Path, root: Path, at: str = "") -> subprocess.CompletedProcess:
    """Retrain in a process of its own and in another folder; it kills itself once `at`."""
    home.mkdir(exist_ok=True)
    words = [sys.executable, "-c", KILLED, str(bundle), str(home), str(root), at]
    path = {"PYTHONPATH": str(Path(__file__).parents[2])}
    return subprocess.run(words, cwd=home, capture_output=True, text=True, env={**os.environ, **path}, check=False)


def contents(model: Path) -> dict[str, bytes]:
    names = ("seed0.safetensors", "seed1.safetensors", "test.json")
    return {name: (model / name).read_bytes() for name in names}


def test_another_folder_and_process_give_the_same_bits(zipped, home, folders, tmp_path) -> None:
    here_ = contents(run(zipped, home).folder)
    moved = Path(shutil.copytree(folders, tmp_path / "far" / "animals"))
    done = elsewhere(zipped, tmp_path / "other", moved)
    assert done.returncode == 0, done.stderr
    assert "exported 2026-11-22: the same versions, code, processor and threads as when exported" in done.stdout
    assert "forecast: 2 epochs of" in done.stdout
    assert contents(tmp_path / "other" / "models" / "pets-3") == here_


def test_what_was_killed_goes_on_and_opens_the_test_split_once(zipped, home, folders, tmp_path) -> None:
    whole = contents(run(zipped, home).folder)
    other = tmp_path / "other"
    # The epoch that was saved but not yet reported when it was killed is trained again.
    for at, trained in (("1.1", ["seed 0 epoch 1", "seed 0 epoch 2", "seed 1 epoch 1"]), ("trained", ["seed 1 epoch 1", "seed 1 epoch 2"]), ("", [])):
        done = elsewhere(zipped, other, folders, at)
        assert done.returncode == (-signal.SIGKILL if at else 0), done.stderr
        assert [line.removeprefix("trained ") for line in done.stdout.splitlines() if line.startswith("trained")] == trained
    assert "seed 1: was trained before" in done.stdout
    assert contents(other / "models" / "pets-3") == whole
    assert len((other / "models" / "pets-3" / "test-opened.jsonl").read_text().splitlines()) == 1
    assert list((other / "unfinished").iterdir()) == [other / "unfinished" / "pets-3.lock"]


def test_what_was_begun_with_other_threads_starts_again_and_says_so(zipped, home, folders, tmp_path) -> None:
    assert elsewhere(zipped, home.path, folders, "0.1").returncode == -signal.SIGKILL
    said = said_by(zipped, home, threads=2)
    assert "begun before, not gone on with: threads: 1 then, 2 now" in said


def test_threads_are_those_of_the_export_and_others_are_named(zipped, home) -> None:
    said = said_by(zipped, home)
    assert "differs" not in said
    said = said_by(zipped, home, threads=2)
    assert "differs: threads: 1 then, 2 now; --threads 1 makes them the same" in said
    assert "exported 2026-11-22: so last bits may differ" in said


def test_the_boxes_of_the_bundle_are_trained_on_where_a_method_finds_others(zipped, home, tmp_path) -> None:
    packed, file = unpack(zipped), tmp_path / "boxes.npz"
    file.write_bytes(packed.files[BOXES["train"]])
    names, found = read_any_patches(file)
    boxes = found.boxes.copy()
    boxes[3, 0] = 0, 0, 9, 9
    theirs = replace(found, boxes=boxes)
    write_patches(file, theirs, names, "")
    data = packed.bundle.origin.data.model_copy(update={"patches": theirs.hash})
    origin = packed.bundle.origin.model_copy(update={"data": data})
    pack(packed.bundle.model_copy(update={"origin": origin}), {BOXES["train"]: file.read_bytes()}, tmp_path / "theirs.zip")
    said = said_by(tmp_path / "theirs.zip", home)
    assert "differs: patch boxes: peaks finds others here on 1 of 16 images; those of the bundle are trained on" in said


def test_images_that_changed_are_named_where_the_search_never_was(zipped, folders, tmp_path) -> None:
    Image.new("RGB", (24, 20), (1, 2, 3)).save(folders / "cat" / "4.png")
    (folders / "dog" / "1.png").unlink()
    other = Home(tmp_path / "other")
    other.path.mkdir()
    with pytest.raises(InputError, match=r"the images are not those of the search: cat/4\.png changed, dog/1\.png is missing$"):
        run(zipped, other)


def test_images_that_are_nowhere_are_asked_for(zipped, home, folders, tmp_path) -> None:
    folders.rename(tmp_path / "elsewhere")
    with pytest.raises(InputError, match=r"data.root: '.*pets' is no folder; say where the images lie now: --root FOLDER$"):
        run(zipped, home)


def test_two_processes_do_not_retrain_one_model(zipped, home) -> None:
    (home.path / "unfinished").mkdir()
    with FileLock(home.path / "unfinished" / "pets-3.lock"), pytest.raises(InputError, match="another process is retraining this model"):
        run(zipped, home)
