"""What `fgsearch data check` says of a folder, and `fgsearch data fetch` and `convert` as a user meets them."""

import json
import shutil
from io import StringIO

import pytest
import torch
from rich.console import Console

from fgmodel.config import TrialConfig
from search.data import inventory
from search.data.fetch import SOURCES
from search.data.inventory import Published, check_data, recognised
from search.errors import InputError
from search.record.home import Home
from search.run.launch import open_data
from search.space.shipped import find_space
from tests.fgmodel.test_dogs import lay_out
from tests.search.conftest import SPACES


@pytest.fixture
def tiny_dogs(tmp_path, paint):
    return lay_out(tmp_path / "dogs", paint)


@pytest.fixture(autouse=True)
def home(monkeypatch, tmp_path):
    monkeypatch.setenv("FGSEARCH_HOME", str(tmp_path / "home"))


def document(root, tmp_path, layout=None):
    return check_data(root, layout, tmp_path / "cache").document()


@pytest.mark.slow
def test_cub10_is_a_subset(cub10, tmp_path):
    found = check_data(cub10, None, tmp_path)
    assert found.verdict == "a subset of CUB-200-2011: 10 of 200 classes, 543 of 11,788 images"
    assert not found.problem
    told = found.document()
    assert (told["train"], told["test"], told["smallest_class"]["images"], told["largest_class"]["images"]) == (300, 243, 41, 60)


def test_each_layout_is_recognised(tiny_cub, tiny_dogs, folders):
    assert [recognised(root) for root in (tiny_cub, tiny_dogs, folders)] == ["cub", "dogs", "folders"]


@pytest.mark.parametrize("lost", ["images.txt", "images"])
def test_birds_that_lack_something_are_still_recognised_and_it_is_named(tiny_cub, tmp_path, lost):
    path = tiny_cub / lost
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    told = document(tiny_cub, tmp_path)
    assert told["layout"] == "cub"
    assert [name for name, there in told["parts"].items() if not there] == ["images/" if lost == "images" else lost]
    assert f"{lost} missing" in told["problem"]
    assert not told["usable"]


def test_dogs_without_their_lists_are_recognised_by_their_breeds(tiny_dogs, tmp_path):
    shutil.rmtree(tiny_dogs / "lists")
    told = document(tiny_dogs, tmp_path)
    assert told["parts"] == {"Images/": True, "train_list.mat": False, "test_list.mat": False}
    assert "train_list.mat and test_list.mat missing" in told["problem"]


@pytest.mark.slow
def test_a_whole_data_set_is_called_so_and_more_than_was_published_is_not(tiny_dogs, tmp_path, monkeypatch):
    monkeypatch.setitem(inventory.PUBLISHED, "dogs", Published("Dogs", 2, 8, 4))
    assert check_data(tiny_dogs, None, tmp_path / "cache").verdict == "Dogs, whole"
    monkeypatch.setitem(inventory.PUBLISHED, "dogs", Published("Dogs", 2, 7, 5))
    found = check_data(tiny_dogs, None, tmp_path / "cache")
    assert found.verdict == "in the layout of, but not as published: Dogs: 2 of 2 classes, 12 of 12 images"


def test_the_published_numbers_are_the_specifications():
    birds, dogs = inventory.PUBLISHED["cub"], inventory.PUBLISHED["dogs"]
    assert (birds.classes, birds.train, birds.test) == (200, 5994, 5794)    # specification, §3 "Data"
    assert (dogs.classes, dogs.train, dogs.test) == (120, 12000, 8580)


def test_the_same_picture_in_train_and_test_is_leakage_and_within_a_split_it_is_not(tiny_cub, tmp_path):
    wren = tiny_cub / "images" / "001.Wren"
    shutil.copy(wren / "Wren_0.png", wren / "Wren_5.png")    # 0-3 are for training, 4-5 for testing
    robin = tiny_cub / "images" / "002.Robin"
    shutil.copy(robin / "Robin_0.png", robin / "Robin_1.png")
    told = document(tiny_cub, tmp_path)
    assert told["train_and_test"] == [["001.Wren/Wren_0.png", "001.Wren/Wren_5.png"]]
    assert told["duplicates"] == [["001.Wren/Wren_0.png", "001.Wren/Wren_5.png"], ["002.Robin/Robin_0.png", "002.Robin/Robin_1.png"]]
    assert told["usable"]


def test_grey_files_are_counted(folders, tmp_path):
    from PIL import Image

    Image.new("L", (20, 20), 90).save(folders / "cat" / "0.png")
    assert document(folders, tmp_path)["greyscale"] == 1


def test_unusable_images_are_named_and_mean_status_two(folders, fgsearch):
    (folders / "cat" / "3.png").write_bytes(b"hello")
    (folders / "dog" / "4.png").write_bytes(b"hello")
    status, said, errors = fgsearch("data", "check", folders, "--json")
    assert status == 2
    assert json.loads(said)["unusable"] == ["cat/3.png is not an image", "dog/4.png is not an image"]
    assert errors.splitlines()[-1] == f"{folders}: cat/3.png is not an image (and 1 more); data.bad_images: skip leaves such files out"


def test_a_person_reads_counts_balance_and_what_is_known_of_the_data(tiny_cub, fgsearch):
    shutil.copy(tiny_cub / "images/001.Wren/Wren_0.png", tiny_cub / "images/001.Wren/Wren_5.png")
    status, said, _ = fgsearch("data", "check", tiny_cub)
    assert status == 0
    assert "a subset of CUB-200-2011: 2 of 200 classes, 12 of 11,788 images" in said
    assert "8 train, 4 test (published: 5,994 and 5,794)" in said
    assert "2, from 6 images (001.Wren) to 6" in said
    assert "001.Wren/Wren_0.png = 001.Wren/Wren_5.png, in train and in test" in said
    assert "are in ImageNet too" in said


def test_many_findings_are_cut_for_a_person(tiny_cub, fgsearch):
    for bird in ("001.Wren/Wren", "002.Robin/Robin"):
        for number in range(3):
            (tiny_cub / "images" / f"{bird}_{number}.png").write_bytes(b"hello")
    assert "and 1 more: --json lists them" in fgsearch("data", "check", tiny_cub)[1]


def unpack_below(root):
    shutil.copytree(root / "birds", root / "deep" / "CUB_200_2011")


@pytest.mark.parametrize(("make", "words", "said"), [
    pytest.param(lambda p: None, ("data", "check", "nowhere"), "nowhere: is no folder", id="no folder"),
    pytest.param(unpack_below, ("data", "check", "deep"), "did you mean deep/CUB_200_2011?", id="one folder too high"),
    pytest.param(lambda p: ((p / "new").mkdir(), (p / "new" / "images.tar").touch()), ("data", "check", "new"), "images.tar is still packed", id="not unpacked"),
    pytest.param(lambda p: (p / "new").mkdir(), ("data", "check", "new"), "holds no folders named after classes", id="empty"),
    pytest.param(lambda p: None, ("data", "check", "birds", "--dataset", "dogs"), "is no Stanford Dogs folder", id="another layout asked for"),
    pytest.param(lambda p: None, ("data", "fetch", "dogs", "--to", "new", "--url", "ftp://x"), "is no http or https address", id="no http"),
    pytest.param(lambda p: None, ("data", "fetch", "cub", "--to", "new", "--url", "http://127.0.0.1:9/"), "Connection refused", id="nobody listens"),
    pytest.param(lambda p: (p / "file").touch(), ("data", "fetch", "cub", "--to", "file"), "file: cannot be written", id="a file to unpack into"),
    pytest.param(lambda p: None, ("convert", "none.pth"), "none.pth: there is no such file", id="no checkpoint"),
    pytest.param(lambda p: torch.save({"a": torch.zeros(1)}, p / "x.pth"), ("convert", "x.pth"), "it lacks fc.bias and img_classifier.bias", id="another checkpoint"),
])
def test_a_mistake_is_one_line_and_status_two(tiny_cub, tmp_path, monkeypatch, fgsearch, make, words, said):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("no_proxy", "*")
    make(tmp_path)
    status, _, errors = fgsearch(*words)
    assert status == 2
    assert said in errors
    assert len([line for line in errors.splitlines() if line.strip()]) == 1


@pytest.mark.parametrize("command", ["check", "fetch"])
def test_every_data_command_has_help_with_an_example(command, fgsearch):
    status, said, _ = fgsearch("data", command, "--help")
    assert status == 0
    assert f"Example: fgsearch data {command}" in said


def test_a_data_set_that_is_there_is_not_fetched(tmp_path, fgsearch):
    (tmp_path / "CUB_200_2011").mkdir()
    status, said, _ = fgsearch("data", "fetch", "cub", "--to", tmp_path, "--url", "http://127.0.0.1:9/")
    assert status == 0
    assert f"fgsearch data check {tmp_path}/CUB_200_2011" in said


def test_the_spaces_look_where_fetch_unpacks():
    for source in SOURCES.values():
        assert f"data.root: data/{source.folder}\n" in find_space(source.space).read_text()


def test_a_search_says_what_is_known_of_its_data(tiny_cub, tmp_path, monkeypatch):
    monkeypatch.setattr("fgmodel.prepare.prepare", lambda *_, **__: None)
    said = Console(file=StringIO(), width=200)
    open_data(TrialConfig.from_settings({"data.root": str(tiny_cub)}), Home(tmp_path), said)
    assert said.file.getvalue().count("note: 22 to 23 test images of CUB-200-2011 are in ImageNet too") == 1


@pytest.mark.slow
def test_check_says_it_too(tiny_cub, tmp_path, fgsearch):
    settings = ("data.dataset=cub", f"data.root={tiny_cub}", "data.patches=peaks", "model.weights=random", "data.folds=2")
    words = [word for setting in (*settings, "search.workers=1") for word in ("--set", setting)]
    assert "note: 22 to 23 test images" in fgsearch("check", SPACES / "cub-frozen.yaml", *words)[1]


def test_only_a_folder_can_be_checked(tmp_path):
    (tmp_path / "x").touch()
    with pytest.raises(InputError, match="is no folder"):
        check_data(tmp_path / "x", None, tmp_path)
