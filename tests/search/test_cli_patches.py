"""`fgsearch patches` as a user meets it; real Ray, drawn birds and a tiny trunk."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.main import get_command

from fgmodel.cache import Frames
from fgmodel.data.boxes_file import read_any_patches, read_patches, write_patches
from fgmodel.data.datasets import open_dataset
from fgmodel.extraction import extract
from fgmodel.prepare import extraction_trunk, find_patches
from search.cli import main
from search.commands.patches import app
from search.data.patch_files import configure
from search.data.patch_tasks import Chunk

FEW = ["--dataset", "finches", "--count", "3", "--set", "data.frame_size=64", "--set", "data.finches_per_species=8"]
BY_PEAKS = ["--method", "peaks", *FEW, "--backbone", "timm/test_resnet", "--set", "model.weights=random"]


@pytest.fixture
def here(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("FGSEARCH_HOME", raising=False)
    return tmp_path


@pytest.fixture
def patches(monkeypatch, capsys):
    """Return a function that runs `fgsearch patches` and gives its status, output and errors."""

    def run(*words: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["fgsearch", "patches", *words])
        with pytest.raises(SystemExit) as exit_:
            main()
        said = capsys.readouterr()
        return int(exit_.value.code or 0), said.out, said.err

    return run


def by_peaks():
    return configure(
        "finches", None, ["data.frame_size=64", "data.finches_per_species=8", "model.weights=random"],
        patches="peaks", patch_backbone="timm/test_resnet", patches_per_image=3,
    )


def a_file(here: Path, method: str = "random", split: str = "train", count: int = 3) -> Path:
    """Write a patch file of drawn birds."""
    config = configure("finches", None, ["data.frame_size=64", "data.finches_per_species=8"])
    dataset = open_dataset(config.data, here / "cache")
    frames = Frames(dataset, split, 64, here / "cache")
    write_patches(here / f"{split}.npz", extract(method, frames, frames, extraction_trunk(by_peaks()), count), frames.names, "")
    return here / f"{split}.npz"


@pytest.mark.parametrize("name", get_command(app).commands)
def test_every_command_has_help_with_an_example(name, patches) -> None:
    status, said, _ = patches(name, "--help")
    assert status == 0
    assert f"Example: fgsearch patches {name}" in " ".join(said.split())


@pytest.mark.slow
def test_extract_finds_on_ray_what_threads_find_and_a_search_takes_it_from_the_cache(here, patches) -> None:
    status, said, errors = patches("extract", *BY_PEAKS, "--split", "both", "--out", "boxes")
    assert (status, errors) == (0, "")
    assert "train: 72 images; about" in said
    config = by_peaks()
    for split, n in (("train", 72), ("test", 24)):
        names, ours = read_any_patches(here / "boxes" / f"{split}.npz")
        frames = Frames(open_dataset(config.data, here / "alone"), split, 64, here / "alone")
        alone = extract("peaks", frames, replace(frames, split="train"), extraction_trunk(config), 3)
        assert names == list(frames.names)
        assert (len(ours.boxes), ours.hash) == (n, alone.hash)
        home = replace(frames, cache=here / "fgsearch-home" / "cache")
        assert find_patches(config.model_copy(update={"data": config.data.model_copy(update={"patches": "boxes"})}), home).hash == ours.hash
    kept = sorted(path.name for path in (here / "fgsearch-home" / "cache" / "patches").glob("*.npz"))
    assert len(kept) == 2                                   # the splits' alone: chunks are let go


@pytest.mark.slow
def test_extract_keeps_the_chunks_it_finds_and_goes_on_from_there(here, patches) -> None:
    cache = here / "fgsearch-home" / "cache"
    chunk = Chunk(by_peaks(), cache, "train", (0, 64), "cpu")
    found = chunk.find()
    marked = replace(found, boxes=np.full_like(found.boxes, 7) + np.array([0, 0, 1, 1], np.int16))   # to know it again
    write_patches(chunk.path(), marked, chunk.frames().names, "")
    assert patches("extract", *BY_PEAKS, "--out", "boxes")[0] == 0
    boxes = read_any_patches(here / "boxes" / "train.npz")[1].boxes
    assert (boxes[:64] == [7, 7, 8, 8]).all()
    assert not (boxes[64:] == [7, 7, 8, 8]).all()


@pytest.mark.slow
def test_extract_goes_on_after_it_was_killed(here) -> None:
    words = [sys.executable, "-m", "search.cli", "patches", "extract", "--dataset", "finches", "--method", "peaks", "--count", "3",
             "--set", "data.finches_per_species=16", "--set", "data.frame_size=128", "--out", "boxes"]
    kept = here / "fgsearch-home" / "cache" / "patches"
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    with subprocess.Popen(words, env=env, stdout=subprocess.DEVNULL) as killed:
        while len(list(kept.glob("*.npz"))) < 1:
            assert killed.poll() is None
            time.sleep(0.02)
        killed.send_signal(signal.SIGKILL)
    times = {path: path.stat().st_mtime_ns for path in kept.glob("*.npz")}
    assert 1 <= len(times) < 3                              # of 144 images
    subprocess.run(words, env=env, check=True, capture_output=True)
    whole = read_any_patches(here / "boxes" / "train.npz")[1]
    assert whole.boxes.shape == (144, 3, 4)
    config = configure("finches", None, ["data.finches_per_species=16", "data.frame_size=128"], patches="peaks",
                       patch_backbone="efficientnet_lite0", patches_per_image=3)
    frames = Frames(open_dataset(config.data, here / "alone"), "train", 128, here / "alone")
    assert extract("peaks", frames, frames, extraction_trunk(config), 3).hash == whole.hash


def test_check_tells_what_a_file_holds_and_how_good_it_is(here, patches) -> None:
    a_file(here, "parts")
    status, said, _ = patches("check", "train.npz", *FEW, "--json")
    told = json.loads(said)
    assert status == 0
    assert (told["method"], told["images"], told["count"], told["frame"], told["split"]) == ("parts", 72, 3, 64, "train")
    assert told["quality"]["covered"] == 1.0
    assert told["random"]["covered"] < 0.5
    assert 0 < told["area"]["smallest"] <= told["area"]["median"] <= told["area"]["largest"] <= 1
    status, said, _ = patches("check", "train.npz", *FEW)
    assert "3 boxes by parts for each of 72 images" in said
    assert "holds half the telling" in said


def test_check_needs_no_images_to_tell_what_is_in_a_file(here, patches) -> None:
    a_file(here)
    told = json.loads(patches("check", "train.npz", "--json")[1])
    assert (told["images"], told["split"], told["quality"]) == (72, None, None)
    assert "compared with no data set" in patches("check", "train.npz")[1]


@pytest.mark.slow
def test_show_draws_a_sheet(here, patches) -> None:
    a_file(here, split="test")
    assert patches("show", "test.npz", *FEW, "--out", "sheet.png")[0] == 0
    with Image.open(here / "sheet.png") as sheet:
        assert sheet.size == (1616, 1292)


def released(tiny_cub: Path) -> Path:
    """Write a released array of the tiny CUB's train images."""
    array = np.zeros((8, 10, 5))
    array[..., :4] = [10, 200, 30, 250]                      # y1 y2 x1 x2
    array[4:, :, 4] = 1
    np.save(tiny_cub.parent / "train_patches.npy", array)
    return tiny_cub.parent / "train_patches.npy"


def test_import_turns_a_released_array_into_a_file_of_ours(here, patches, tiny_cub) -> None:
    released(tiny_cub)
    status, said, errors = patches("import", "train_patches.npy", "--root", "birds", "--out", "boxes/train.npz", "--count", "4")
    assert (status, errors) == (0, "")
    assert "4 released boxes for each of 8 train images" in said
    config = configure("cub", "birds", [])
    ours = read_patches(here / "boxes" / "train.npz", open_dataset(config.data, here / "cache").names_of("train"))
    assert ours.boxes[7].tolist() == [[30, 10, 250, 200]] * 4
    assert json.loads(patches("check", "train_patches.npy", "--root", "birds", "--json")[1])["method"] == "released"


def shuffled(here: Path) -> None:
    names, held = read_any_patches(a_file(here))
    write_patches(here / "train.npz", held, names[::-1], "")


def foreign(here: Path) -> None:
    names, held = read_any_patches(a_file(here))
    write_patches(here / "train.npz", held, [f"x/{name}" for name in names], "")


@pytest.mark.parametrize(("make", "words", "says"), [
    pytest.param(a_file, ("check", "train.npz", "--dataset", "finches", "--count", "4", *FEW[4:]), "--count 4, but train.npz holds 3 boxes an image", id="more boxes than there are"),
    pytest.param(shuffled, ("check", "train.npz", *FEW), "train.npz belongs to other images than the data set's split: their order or number differs", id="shuffled"),
    pytest.param(foreign, ("check", "train.npz", *FEW), "it holds x/01.cone_billed_finch/00000", id="of other images"),
    pytest.param(lambda h: None, ("check", "none.npz"), "none.npz is no patch file of ours", id="no file"),
    pytest.param(lambda h: (h / "a.npz").write_text("hello"), ("check", "a.npz"), "a.npz is no patch file of ours", id="no patch file"),
    pytest.param(lambda h: None, ("check", "train_patches.npy"), "a released array has no names", id="released without images"),
    pytest.param(a_file, ("show", "train.npz"), "--root: give the folder of the images", id="nothing to show"),
    pytest.param(a_file, ("show", "train.npz", *FEW, "--out", "sheet.pdf"), "--out sheet.pdf: a sheet is a .png or .jpg file", id="no picture"),
    pytest.param(a_file, ("show", "train.npz", *FEW, "--out", "no/sheet.png"), "no/sheet.png: cannot be written", id="no folder"),
    pytest.param(lambda h: None, ("extract", "--method", "dtd", *FEW, "--out", "b"), "--method: 'dtd' is no method; did you mean 'ddt'?", id="method misspelt"),
    pytest.param(lambda h: None, ("extract", "--root", "nowhere", "--out", "b"), "data.root: 'nowhere' is no folder", id="no images"),
    pytest.param(lambda h: None, ("extract", *FEW, "--set", "data.frame_sise=64", "--out", "b"), "did you mean 'data.frame_size'?", id="setting misspelt"),
    pytest.param(lambda h: None, ("extract", *FEW, "--backbone", "resnet3", "--out", "b"), "resnet3", id="trunk misspelt"),
    pytest.param(lambda h: None, ("import", "a.npy", "--root", ".", "--out", "a.npy"), "--out a.npy: a patch file is .npz", id="written as npy"),
    pytest.param(lambda h: None, ("import", "a.npy", "--root", ".", "--out", "a.npz", "--split", "both"), "is of one split", id="both splits in one array"),
])
def test_a_mistake_is_one_clear_line_and_status_two(make, words, says, here, patches) -> None:
    make(here)
    status, _, errors = patches(*words)
    assert status == 2
    assert says in errors
    assert len(errors.strip().splitlines()) == 1


@pytest.mark.slow
def test_parts_of_real_birds_are_refused_before_any_task(here, patches, tiny_cub) -> None:
    status, _, errors = patches("extract", "--root", "birds", "--method", "parts", "--out", "b")
    assert status == 2
    assert errors.strip() == "data.patches: parts needs true boxes, which 'birds' has not; take ddt"
