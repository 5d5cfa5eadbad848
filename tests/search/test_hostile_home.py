"""Pickles planted wherever a search reads, and paths that lead out of its home: nothing runs, nothing is reached."""

import io
import json
import os
import pickle
import shutil
import subprocess
import threading
import time
import zipfile
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch
import yaml

from fgmodel import checkpoint, test_split
from fgmodel.config import TrialConfig
from fgmodel.data import matlab
from fgmodel.data.boxes_file import read_any_patches
from fgmodel.data.listings import list_cub
from fgmodel.data.released import read_released
from fgmodel.prepare import prepare
from fgmodel.trial_data import read_record
from fgmodel.use import official
from search.errors import InputError
from search.export.bundle import read_bundle
from search.export.packing import unpack
from search.record.history import load
from search.record.home import Home
from search.record.journal import Journal, Launched, Opened, Reported
from search.record.manifest import difference
from search.space.file import read_space
from search.tracking.store import Store
from tests.chaos.stage import family, words
from tests.fgmodel.test_prepare import FINCHES
from tests.lab import Lab

CONFIG = TrialConfig.from_settings(FINCHES | {"model.freeze_backbones": True})


class Trap:
    """What unpickles it makes the file that says so."""

    def __init__(self, marker: Path) -> None:
        self._marker = str(marker)

    def __reduce__(self):
        return os.mkdir, (self._marker,)


def saved(save, what) -> bytes:
    file = io.BytesIO()
    save(file, what)
    return file.getvalue()


def forms(marker: Path) -> dict[str, bytes]:
    """Return the ways in which a pickle hides in a file."""
    array = np.array([Trap(marker)], object)
    named = io.BytesIO()
    with zipfile.ZipFile(named, "w") as archive:
        for name in ("said", "labels", "boxes", "names", "frame", "scores", "method", "config", "fit", "data"):
            archive.writestr(f"{name}.npy", saved(lambda f, a: np.save(f, a, allow_pickle=True), array))
    return {
        "pickle": pickle.dumps(Trap(marker)),
        "npy": saved(lambda f, a: np.save(f, a, allow_pickle=True), array),
        "npz": named.getvalue(),
        "torch": saved(lambda f, t: torch.save(t, f), {"model": Trap(marker)}),
        "torch, old": saved(lambda f, t: torch.save(t, f, _use_new_zipfile_serialization=False), {"model": Trap(marker)}),
        "yaml": f"!!python/object/apply:os.mkdir ['{marker}']\n".encode(),
    }


@pytest.fixture
def marker(tmp_path) -> Path:
    """Return what a sprung trap would make; that the trap works is tried first."""
    marker = tmp_path / "sprung"
    pickle.loads(forms(marker)["pickle"])
    marker.rmdir()
    return marker


@pytest.fixture(scope="module")
def cache(tmp_path_factory) -> Path:
    cache = tmp_path_factory.mktemp("home") / "cache"
    prepare(CONFIG, cache)
    return cache


def plant_and_read(path: Path, marker: Path, read) -> list[str]:
    """Return what is said to a file in each form, None where nothing is; no trap goes off."""
    said = []
    for content in forms(marker).values():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        try:
            said.append(read(path))
        except InputError as error:
            said.append(str(error))
        assert not marker.exists()
    return said


READERS = [
    pytest.param("boxes.npz", read_any_patches, id="a patch file"),
    pytest.param("train_patches.npy", lambda path: read_released(path, np.zeros(4, np.int64), ["wren"]), id="released boxes"),
    pytest.param("model.safetensors", lambda path: checkpoint.read(path, {}, {}), id="a checkpoint"),
    pytest.param("official.pth", lambda path: official.convert(path, path.with_suffix(".safetensors"), 10), id="the authors' checkpoint"),
    pytest.param("best.yaml", read_bundle, id="a bundle"),
    pytest.param("best.zip", unpack, id="a whole bundle"),
    pytest.param("space.yaml", read_space, id="a space file"),
    pytest.param("lists.mat", lambda path: matlab.read_matlab(path, ("file_list",)), id="a MATLAB list"),
]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "read"), READERS)
def test_a_file_that_hides_a_pickle_is_refused_in_one_line(name, read, tmp_path, marker):
    said = plant_and_read(tmp_path / "files" / name, marker, read)
    assert [line for line in said if not isinstance(line, str) or name not in line] == []
    first_lines = [line for line in said if "\n" in line and "nothing was started" not in line]
    assert first_lines == []


@pytest.mark.parametrize("content", ["pickle", "npy", "npz", "torch"])
@pytest.mark.parametrize("kind", ["frames", "features", "patches", "prepared", "digests"])
def test_a_cache_that_hides_a_pickle_is_refused_in_one_line_or_computed_again(kind, content, cache, tmp_path, marker):
    mine = tmp_path / "cache"
    shutil.copytree(cache, mine)
    files = [file for file in (mine / kind).glob("*") if not file.name.endswith(".lock")] if (mine / kind).exists() else []
    if kind != "prepared":
        shutil.rmtree(mine / "prepared")  # else nothing looks at the rest
    for file in files:
        file.write_bytes(forms(marker)[content])
    said = ""
    try:
        prepare(CONFIG, mine)
    except InputError as error:
        said = str(error)
    assert "\n" not in said
    assert not said or str(mine / kind) in said
    assert not marker.exists()


def test_predictions_that_hide_a_pickle_are_refused(tmp_path, marker):
    for content in forms(marker).values():
        (tmp_path / "seen.npz").write_bytes(content)
        with pytest.raises((OSError, ValueError)):  # search.studies says it in one line
            test_split.right(tmp_path / "seen.npz", "test/accuracy")
        assert not marker.exists()


def a_journal(path: Path, **report) -> None:
    with Journal(path) as journal:
        journal.append(Opened(search="s", space={}, digest="d"))
        journal.append(Launched(trials=1, workers=1, version="0", commit=None, reference={}, data={}))
        if report:
            line = Reported(trial=0, epoch=1, job=0, attempt=1, metrics={}, seconds=1, checkpoint=None).model_dump(mode="json") | report
            with path.open("a") as file:
                file.write(json.dumps(line) + "\n")


def test_a_journal_with_a_pickle_in_it_is_refused_at_its_line(tmp_path, marker):
    for n, content in enumerate(forms(marker).values()):
        path = tmp_path / str(n) / "journal.jsonl"
        a_journal(path)
        with path.open("ab") as file:
            file.write(content.replace(b"\n", b" ") + b"\n")
        with pytest.raises(InputError, match=r"journal.jsonl:3: is not a line of a search's journal") as refusal:
            load(path)
        assert "\n" not in str(refusal.value)
        assert not marker.exists()


def test_the_list_of_a_searchs_images_is_never_unpickled(tmp_path, marker):
    home = Home(tmp_path)
    for content in forms(marker).values():
        home.search("s").mkdir(parents=True, exist_ok=True)
        (home.search("s") / "images.json").write_bytes(content)
        with pytest.raises(InputError, match="is damaged"):
            difference(home, "s", CONFIG)
        assert not marker.exists()


def test_what_a_server_answers_is_never_unpickled(marker):
    class Page(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.send_header("Content-Type", "application/octet-stream")
            self.end_headers()
            self.wfile.write(forms(marker)["pickle"])

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Page) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        with pytest.raises(InputError, match="is no MLflow server"):
            Store(f"http://127.0.0.1:{server.server_port}")
        server.shutdown()
        thread.join()
    assert not marker.exists()


# --- paths ------------------------------------------------------------------------------------------------------------

OUTSIDE = ["../../outside.safetensors", "0/../../outside.safetensors", "/etc/passwd", "0/", "..", "0/..", "~/x"]


@pytest.mark.parametrize("field", ["checkpoint", "predictions"])
@pytest.mark.parametrize("path", OUTSIDE)
def test_a_journal_cannot_name_a_file_outside_its_search(field, path, tmp_path):
    a_journal(tmp_path / "journal.jsonl", **{field: path})
    with pytest.raises(InputError, match=r"journal.jsonl:3: is not a line of a search's journal"):
        load(tmp_path / "journal.jsonl")


@pytest.mark.parametrize("name", ["../../outside", "/tmp/outside", "..", "", "a/b", ".hidden"])
def test_a_bundle_cannot_have_its_model_written_outside_the_home(name, tmp_path):
    origin = {
        "search": name, "trial": 0, "by": "tpe", "exported": "2026-11-22", "seeds": {}, "packages": {}, "data": {"fingerprint": "", "split": "", "patches": ""},
        "validation": {"objective": "val/accuracy", "value": 0.5, "nll": 0.7, "epochs": 2, "kind": "single cut", "trials": 4},
        "code": {"version": "0.1.0", "commit": None, "dirty": False},
    }
    (tmp_path / "best.yaml").write_text(yaml.safe_dump({"settings": CONFIG.settings(), "origin": origin}))
    with pytest.raises(InputError, match=r"best.yaml:\d+: 'origin.search'"):
        read_bundle(tmp_path / "best.yaml")


@pytest.mark.parametrize("leads", ["/whole/path", "../out"])
def test_a_record_of_prepared_data_cannot_have_another_folders_arrays_read(leads, cache, tmp_path):
    mine = tmp_path / "cache"
    shutil.copytree(cache, mine)
    (record,) = (mine / "prepared").glob("*.npz")
    with np.load(record) as held:
        said, others = json.loads(str(held["said"])), {name: held[name] for name in ("labels", "boxes")}
    for name, path in said["arrays"].items():
        said["arrays"][name] = str(cache / path) if leads == "/whole/path" else os.path.relpath(cache / path, mine)
    np.savez(record, said=np.array(json.dumps(said)), **others)
    assert read_record(record) is None
    data = prepare(CONFIG, mine)
    assert Path(str(data.global_features.filename)).is_relative_to(mine)


def test_a_cache_that_was_copied_or_moved_is_followed_where_it_is_now(cache, tmp_path):
    mine = tmp_path / "cache"
    shutil.copytree(cache, mine)
    (record,) = (mine / "prepared").glob("*.npz")
    data = read_record(record)
    assert Path(str(data.global_features.filename)).is_relative_to(mine)


@pytest.mark.parametrize("name", ["../secret.png", "/etc/passwd", "../../images/001.Wren/Wren_0.png"])
def test_a_list_of_images_cannot_name_one_outside_its_folder(name, tiny_cub, paint):
    paint(tiny_cub / "secret.png")
    lines = (tiny_cub / "images.txt").read_text().splitlines()
    (tiny_cub / "images.txt").write_text("\n".join([f"1 {name}", *lines[1:]]) + "\n")
    with pytest.raises(InputError, match="which is not in images/"):
        list_cub(tiny_cub)


# --- a whole search among traps ---------------------------------------------------------------------------------------

def kill_an_actor(driver: subprocess.Popen) -> None:
    """Kill a worker in the middle of its job: of that Tune keeps a pickled error."""
    for process in family(psutil.Process(driver.pid)):
        if "Trainable.train" in " ".join(words(process)[:1]):
            process.kill()
            return


def what_tune_keeps(tmp: Path, driver: subprocess.Popen) -> list[Path]:
    """Return the folders in which Tune leaves pickles, here and where Ray has its own."""
    mirror = Path("/tmp/ray").glob(f"session_*_{driver.pid}/artifacts/*/jobs/driver_artifacts/*")
    return [folder for folder in (*tmp.glob("fgsearch-tune-*/jobs/*"), *tmp.glob("fgsearch-tune-*/jobs"), *mirror) if folder.is_dir()]


@pytest.mark.slow
def test_a_search_among_traps_springs_none_and_says_what_it_cannot_read(tmp_path, marker, monkeypatch):
    lab, tmp = Lab(tmp_path / "lab").share(), tmp_path / "tmp"
    tmp.mkdir()
    lab.run("launch", "tiny.yaml", "--trials", "3")
    home, traps = lab.folder / "fgsearch-home", forms(marker)
    checkpoints = list((home / "searches" / "tiny" / "checkpoints").rglob("*.safetensors"))
    for file in checkpoints:
        file.write_bytes(traps["torch"])
    for file in (home / "cache" / "prepared").glob("*"):
        file.write_bytes(traps["npz"])
    (home / "artifacts").mkdir(exist_ok=True)
    for name in ("tuner.pkl", "error.pkl", "params.pkl", "checkpoint.pkl", "model.pkl", "settings.yaml", "attention.png"):
        for folder in [home, home / "artifacts", home / "searches" / "tiny", *home.glob("artifacts/*/artifacts")]:
            (folder / name).write_bytes(traps["pickle"])

    monkeypatch.setenv("TMPDIR", str(tmp))
    process = lab.start("launch", "tiny.yaml", "--trials", "12")
    planted, killed = set(), 0.0
    while process.poll() is None:  # in what Tune keeps, while it runs
        if '"lost"' not in lab.journal.read_text() and time.monotonic() > killed + 2:
            kill_an_actor(process)
            killed = time.monotonic()
        for folder in what_tune_keeps(tmp, process):
            for name in ("tuner.pkl", "error.pkl", "params.pkl", "trainable.pkl", "result.pkl", "searcher-state.pkl", "scheduler-state.pkl"):
                with suppress(FileNotFoundError):
                    (folder / name).write_bytes(traps["pickle"])
                    planted.add(folder.parent.name)
        time.sleep(0.05)
    said, _ = process.communicate()
    assert process.returncode == 0, said
    assert planted >= {"jobs", "driver_artifacts"}
    assert '"lost"' in lab.journal.read_text()
    assert not marker.exists()
    assert "Traceback" not in said
    assert len(load(lab.journal).trials) == 12
    unread = [t.failure for t in load(lab.journal).trials.values() if t.failure]
    assert all("not a readable checkpoint" in why and "\n" not in why for why in unread)

    lab.run("export", "tiny", "--out", "best.yaml")
    lab.run("retrain", "best.yaml", "--seeds", "1")
    assert not marker.exists()
