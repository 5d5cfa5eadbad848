"""The space file for one's own images: each choice for each kind of folder and machine, and every file can be launched."""

import re
from itertools import product
from pathlib import Path

import pytest

from search.data.new_space import FEWEST_TRIALS, Facts, fitting_trials, space_text
from search.space.file import read_space
from search.space.space import Space
from tests.search.test_cli import here, picture  # noqa: F401 a fixture

LEAVES = Facts(root="leaves", layout="folders", classes=6, train=240, test=60, smallest=30, side=400, skipped=0, cut=True, cpus=2, gpus=0)


def written(given: Facts, folder: Path, trials: int = 32) -> Space:
    path = folder / "leaves.yaml"
    path.write_text(space_text("leaves", given, trials))
    return read_space(path)


@pytest.mark.parametrize(("change", "settings"), [
    pytest.param({}, {"data.folds": 3, "data.image_size": 320, "model.freeze_backbones": True, "optim.batch_size": 16}, id="300 photographs, no GPU"),
    pytest.param({"side": 8, "train": 1437}, {"data.frame_size": 128, "data.patches": "peaks", "optim.batch_size": 32}, id="tiny pictures"),
    pytest.param({"train": 5994, "smallest": 29}, {"data.folds": 0, "data.validation": 0.2, "data.patches_per_image": 4}, id="CUB's number of images"),
    pytest.param({"train": 5994, "gpus": 1}, {"model.freeze_backbones": False, "data.image_size": 448, "optim.precision": "bf16"}, id="a GPU and images enough for it"),
    pytest.param({"train": 240, "gpus": 1}, {"model.freeze_backbones": True}, id="a GPU and too few images for a trunk"),
    pytest.param({"smallest": 2}, {"data.folds": 2}, id="a class of two images"),
    pytest.param({"train": 60}, {"optim.batch_size": 8}, id="sixty images"),
    pytest.param({"skipped": 3}, {"data.bad_images": "skip"}, id="files that are no images"),
    pytest.param({"root": "it's: mine #1"}, {"data.root": "it's: mine #1"}, id="a name that YAML would misread"),
])  # fmt: skip
def test_a_choice_for_each_kind_of_folder(change, settings, tmp_path):
    config = written(Facts(**{**vars(LEAVES), **change}), tmp_path).config({}).settings()
    assert {name: config[name] for name in settings} == settings


@pytest.mark.slow
def test_every_file_it_can_write_is_a_space(tmp_path):
    for side, train, gpus, cpus in product((8, 100, 250, 500), (10, 500, 3000, 50_000), (0, 1, 8), (1, 64)):
        space = written(Facts(**{**vars(LEAVES), "side": side, "train": train, "gpus": gpus, "cpus": cpus}), tmp_path)
        assert space.search.rungs[-1] == space.search.epochs
        assert space.search.resources.gpu * space.search.workers <= gpus
        assert space.search.resources.cpu * space.search.workers <= max(cpus, gpus)


def test_each_line_says_why(tmp_path):
    lines = space_text("leaves", LEAVES).splitlines()
    assert [line for line in lines if not re.search(r"# .", line) and not line.endswith(":") and not line.lstrip().startswith("-")] == []
    assert written(LEAVES, tmp_path).question.startswith("Which loss weights, time steps and learning rates tell the 6 classes of leaves apart best?")


def test_trials_are_as_many_as_fit():
    assert [fitting_trials(lambda n: 100.0 * n, limit) for limit in (3600, 3199, 1600, 10)] == [32, 24, 16, FEWEST_TRIALS]


def shapes(folder: Path, classes: int = 2, each: int = 6) -> None:
    for label in range(classes):
        for number in range(each):
            picture(folder / f"class{label}" / f"{number}.png", 40 + number)


@pytest.mark.parametrize(("make", "words", "said"), [
    pytest.param(lambda h: None, ("nowhere",), "nowhere: is no folder", id="no folder"),
    pytest.param(lambda h: (h / "mine").mkdir(), ("mine",), "holds no folders named after classes; fgsearch new wants one folder a class with its images in it", id="an empty folder"),
    pytest.param(lambda h: shapes(h / "mine", 1), ("mine",), "mine holds one class, 'class0'", id="one class"),
    pytest.param(lambda h: shapes(h / "mine" / "images"), ("mine",), "did you mean mine/images?", id="one folder too high"),
    pytest.param(lambda h: shapes(h / "mine", each=1), ("mine",), "class 'class0' has one image; a test split needs a second", id="one image a class"),
    pytest.param(lambda h: shapes(h / "mine", each=2), ("mine",), "class 'class0' has 1 image to train on; it needs 2", id="two images a class"),
    pytest.param(lambda h: (shapes(h / "mine"), (h / "mine.yaml").touch()), ("mine",), "mine.yaml: is there already; name another file with --out", id="a file that is there"),
    pytest.param(lambda h: shapes(h / "mine"), ("mine", "--out", "no/mine.yaml"), "no/mine.yaml: cannot be written: No such file", id="nowhere to write to"),
])  # fmt: skip
def test_a_mistake_is_one_line_and_nothing_is_written(make, words, said, here, fgsearch):  # noqa: F811 fixtures
    make(here)
    before = {file: file.stat().st_mtime_ns for file in here.rglob("*.yaml")}
    status, _, errors = fgsearch("new", *words)
    assert status == 2, errors
    assert said in errors
    assert len(errors.splitlines()) == 1
    assert {file: file.stat().st_mtime_ns for file in here.rglob("*.yaml")} == before


@pytest.mark.slow
def test_a_folder_of_pictures_becomes_a_space_file_and_the_next_command(here, fgsearch):  # noqa: F811 fixtures
    shapes(here / "My shapes", classes=3, each=10)
    (here / "My shapes" / "class1" / "notes.png").write_text("no picture")
    status, said, errors = fgsearch("new", "My shapes")
    assert status == 0, errors
    assert "3, from 10 images" in said
    assert "forecast    about" in said
    assert said.splitlines()[-1] == "  fgsearch launch My-shapes.yaml"
    space = read_space(here / "My-shapes.yaml")
    assert (space.fixed["data.root"], space.fixed["data.bad_images"]) == ("My shapes", "skip")
