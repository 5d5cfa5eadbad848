"""Stanford Dogs as it is published, and what is refused in its place."""

import struct
from pathlib import Path

import numpy as np
import pytest
import scipy.io

from fgmodel.config import DataConfig
from fgmodel.data.datasets import open_dataset
from fgmodel.errors import InputError


def dogs(root, **more):
    return DataConfig(dataset="dogs", root=str(root), **more)


def cells(texts):
    held = np.empty((len(texts), 1), object)
    held[:, 0] = texts
    return held


def write_list(path, names, numbers, **other):
    path.parent.mkdir(parents=True, exist_ok=True)
    content = {
        "file_list": cells(names),
        "annotation_list": cells([name.removesuffix(".jpg") for name in names]),
        "labels": np.array(numbers, np.uint8)[:, None],
    } | other
    scipy.io.savemat(path, {key: value for key, value in content.items() if value is not None})


# Of each breed images 0-3 are for training and 4-5 for testing, in the lists' own order, which is not ours.
TRAIN = [f"n02-{breed}/n02_{k}.jpg" for breed in ("Pug", "Boxer") for k in (3, 0, 2, 1)]
TEST = [f"n02-{breed}/n02_{k}.jpg" for breed in ("Pug", "Boxer") for k in (5, 4)]


def label(name):
    return {"n02-Boxer": 1, "n02-Pug": 2}[name.split("/")[0]]


def lay_out(root, paint):
    """Write a small data set in Stanford Dogs' layout."""
    for name in TRAIN + TEST:
        paint(root / "Images" / name)
    for which, names in (("train", TRAIN), ("test", TEST)):
        write_list(root / "lists" / f"{which}_list.mat", names, [label(name) for name in names])
    return root


@pytest.fixture
def tiny_dogs(tmp_path, paint) -> Path:
    return lay_out(tmp_path / "dogs", paint)


@pytest.mark.slow
def test_the_lists_decide_labels_and_split(tiny_dogs, tmp_path):
    dataset = open_dataset(dogs(tiny_dogs), tmp_path)
    assert dataset.classes == ("n02-Boxer", "n02-Pug")
    assert dataset.names == tuple(sorted(TRAIN + TEST))
    assert dataset.labels.tolist() == [0] * 6 + [1] * 6
    assert dataset.train.tolist() == ([True] * 4 + [False] * 2) * 2
    assert dataset.image(0).size == (24, 20)


@pytest.mark.slow
def test_the_layout_has_its_variants(tiny_dogs, tmp_path):
    first = open_dataset(dogs(tiny_dogs), tmp_path).fingerprint
    for name in ("train_list.mat", "test_list.mat"):
        (tiny_dogs / "lists" / name).rename(tiny_dogs / name)
    (tiny_dogs / "Images").rename(tiny_dogs / "images")
    assert open_dataset(dogs(tiny_dogs), tmp_path).fingerprint == first


@pytest.mark.slow
def test_labels_of_some_breeds_only_are_numbered_anew(tiny_dogs, tmp_path):
    for which, names in (("train", TRAIN), ("test", TEST)):
        write_list(tiny_dogs / "lists" / f"{which}_list.mat", names, [100 + label(name) for name in names])
    assert open_dataset(dogs(tiny_dogs), tmp_path).labels.tolist() == [0] * 6 + [1] * 6


@pytest.mark.slow
def test_what_a_pretrained_trunk_has_seen_is_noted(tiny_dogs, tiny_cub, folders, tmp_path):
    assert "cut from ImageNet" in open_dataset(dogs(tiny_dogs), tmp_path).notes[0]
    birds = DataConfig(dataset="cub", root=str(tiny_cub))
    assert "22 to 23 test images" in open_dataset(birds, tmp_path).notes[0]
    assert open_dataset(DataConfig(dataset="folders", root=str(folders)), tmp_path).notes == ()


def of_train(**change):
    """Return a spoiler that writes the training list with other variables."""
    def spoil(root):
        write_list(root / "lists" / "train_list.mat", TRAIN, [label(name) for name in TRAIN], **change)
    return spoil


def with_names(names, labels=None):
    return lambda r: write_list(r / "lists" / "train_list.mat", names, labels or [label(n) for n in names])


def with_bytes(content):
    return lambda r: (r / "lists" / "train_list.mat").write_bytes(content)


def damage(root):
    path = root / "lists" / "train_list.mat"
    path.write_bytes(path.read_bytes()[:300])


def all_alike(root):
    for which, names in (("train", TRAIN), ("test", TEST)):
        write_list(root / "lists" / f"{which}_list.mat", names, [1] * len(names))


def nest(root, depth=50_000):
    """Write a cell that holds a cell that holds a cell…: scipy's reader descends until its stack ends."""
    def element(kind, body):
        return struct.pack("<II", kind, len(body)) + body + bytes(-len(body) % 8)

    start = element(6, struct.pack("<II", 1, 0)) + element(5, struct.pack("<ii", 1, 1))   # flags: a cell; 1 x 1
    inner = start + element(1, b"")                                                       # no name
    body = b"".join(struct.pack("<II", 14, k * (len(inner) + 8) - 8) + inner for k in range(depth, 0, -1))
    whole = element(14, start + element(1, b"file_list") + body)
    (root / "lists" / "train_list.mat").write_bytes(b"MATLAB 5.0 MAT-file".ljust(124) + b"\0\x01IM" + whole)


def lose_four(root):
    for k in range(4):
        (root / "Images" / "n02-Pug" / f"n02_{k}.jpg").unlink()


@pytest.mark.slow
@pytest.mark.parametrize(("spoil", "says"), [
    pytest.param(lambda r: (r / "lists/test_list.mat").unlink(), "is no Stanford Dogs folder: test_list.mat missing", id="no test list"),
    pytest.param(lambda r: (r / "Images").rename(r / "Pictures"), "is no Stanford Dogs folder: Images/ missing", id="no images"),
    pytest.param(of_train(labels=None), "train_list.mat: has no 'labels', so it is no list of Stanford Dogs", id="a list of another data set"),
    pytest.param(of_train(file_list=np.arange(8)), "'file_list' should be a cell array of texts", id="numbers for files"),
    pytest.param(of_train(file_list=cells([np.arange(2)] * 8)), "'file_list' should be a cell array of texts", id="cells of numbers"),
    pytest.param(of_train(file_list={"a": 1}), "'file_list' should be a cell array of texts", id="a structure"),
    pytest.param(of_train(labels=np.zeros((8, 1))), "'labels' should be whole numbers from 1", id="labels from 0"),
    pytest.param(of_train(labels=np.full((8, 1), 1.5)), "'labels' should be whole numbers from 1", id="half labels"),
    pytest.param(of_train(labels=np.ones((7, 1))), "8 files, 8 annotations and 7 labels do not match", id="a label too few"),
    pytest.param(of_train(labels=np.arange(1, 9)[:, None]), "has label 2, others of its folder 1", id="labels of no folder"),
    pytest.param(all_alike, "label 1 stands for n02-Pug and for n02-Boxer", id="one label for two folders"),
    pytest.param(of_train(annotation_list=cells(["x"] * 8)), "'annotation_list' has 'x' where 'file_list' has 'n02-Pug/n02_3.jpg'", id="other annotations"),
    pytest.param(with_names(["../../etc/passwd"], [1]), "'file_list' has '../../etc/passwd', which should be CLASS/NAME.jpg", id="a name that leaves the folder"),
    pytest.param(with_names(["/etc/passwd"], [1]), "'file_list' has '/etc/passwd', which should be", id="an absolute name"),
    pytest.param(with_names([TRAIN[0], *TRAIN]), f"lists {TRAIN[0]} twice", id="an image twice"),
    pytest.param(with_names([*TRAIN, TEST[0]]), f"{TEST[0]} is in train_list.mat and in test_list.mat", id="an image in both lists"),
    pytest.param(lose_four, r"lists n02-Pug/n02_0.jpg, which is not in Images/ \(4 such\)", id="images missing"),
    pytest.param(lambda r: (r / "Images/n02-Pug/new.jpg").touch(), "Images/n02-Pug/new.jpg is not listed", id="an image not listed"),
    pytest.param(with_bytes(b"hello"), "is not a readable MATLAB file", id="no MATLAB file"),
    pytest.param(with_bytes(b""), "is not a readable MATLAB file", id="an empty file"),
    pytest.param(with_bytes(b"MATLAB 7.3 MAT-file, Platform: GLNXA64".ljust(124) + b"\0\2IM" + bytes(400)), "is not a readable MATLAB file .NotImplementedError: Please use HDF reader", id="HDF5"),
    pytest.param(damage, "is not a readable MATLAB file", id="cut short"),
    pytest.param(nest, r"is not a readable MATLAB file \(its reader crashed\)", id="cells within cells"),
    pytest.param(with_bytes(bytes((8 << 20) + 1)), "is larger than 8 MB", id="far too large"),
    pytest.param(lambda r: ((r / "lists/train_list.mat").unlink(), (r / "lists/train_list.mat").mkdir()), "is not a readable MATLAB file", id="a folder for a list"),
])
def test_what_is_no_stanford_dogs_is_refused_in_one_line(tiny_dogs, tmp_path, spoil, says):
    spoil(tiny_dogs)
    with pytest.raises(InputError, match=says) as refused:
        open_dataset(dogs(tiny_dogs), tmp_path)
    assert "\n" not in str(refused.value)
