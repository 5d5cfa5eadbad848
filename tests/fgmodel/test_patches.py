from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fgmodel.config import DataConfig
from fgmodel.data.boxes_file import Patches, cut, read_patches, to_pixels, write_patches
from fgmodel.data.datasets import open_dataset
from fgmodel.data.released import read_released
from fgmodel.errors import InputError
from fgmodel.extraction.quality import measure

NAMES = ("a/0.png", "a/1.png", "b/0.png")
LABELS = np.array([0, 0, 1])
CLASSES = ("a", "b")


def some(frame=448):
    boxes = np.array([[[0, 0, 10, 20], [5, 5, 448, 448]], [[1, 2, 3, 4], [9, 9, 99, 99]], [[0, 0, 1, 1], [7, 7, 8, 9]]])
    return Patches(boxes.astype(np.int16), np.arange(6, dtype=np.float32).reshape(3, 2), frame, "peaks")


# --- cutting ----------------------------------------------------------------------------------------------------------

def test_a_box_cut_at_its_own_size_is_those_pixels():
    images = torch.rand(2, 3, 32, 32)
    crops = cut(images, torch.tensor([[[4.0, 6.0, 12.0, 14.0]], [[24.0, 0.0, 32.0, 8.0]]]), 8)
    torch.testing.assert_close(crops[0, 0], images[0, :, 6:14, 4:12])
    torch.testing.assert_close(crops[1, 0], images[1, :, 0:8, 24:32])


def test_a_box_cut_at_half_its_size_averages_its_pixels():
    images = torch.rand(1, 3, 32, 32)
    crops = cut(images, torch.tensor([[[8.0, 8.0, 24.0, 24.0]]]), 8)
    expected = torch.nn.functional.avg_pool2d(images[:, :, 8:24, 8:24], 2)
    torch.testing.assert_close(crops[0, 0], expected[0])


def test_every_patch_of_every_image_is_cut():
    images = torch.rand(2, 3, 32, 32)
    boxes = torch.tensor([[[0, 0, 8, 8], [8, 8, 16, 16], [0, 8, 8, 16]], [[1, 1, 9, 9], [2, 2, 10, 10], [3, 3, 11, 11]]])
    crops = cut(images, boxes.float(), 8)
    assert crops.shape == (2, 3, 3, 8, 8)
    torch.testing.assert_close(crops[1, 2], images[1, :, 3:11, 3:11])


# --- boxes ------------------------------------------------------------------------------------------------------------

@pytest.mark.slow
@given(st.lists(st.floats(-2, 3), min_size=4, max_size=4), st.sampled_from([32, 224, 448]))
def test_pixels_are_inside_the_frame_and_never_empty(fractions, frame):
    x1, y1, x2, y2 = to_pixels(np.array(fractions), frame).tolist()
    assert 0 <= x1 < x2 <= frame
    assert 0 <= y1 < y2 <= frame


def test_boxes_are_rescaled_to_the_frame():
    rescaled = some().rescaled(224)
    assert rescaled.boxes[0].tolist() == [[0, 0, 5, 10], [2, 2, 224, 224]]
    assert rescaled.boxes[2, 0].tolist() == [0, 0, 1, 1]   # half a pixel is still a pixel
    assert rescaled.frame == 224


def test_more_patches_than_the_file_holds_are_refused():
    assert some().first(1, "x.npz").boxes.shape == (3, 1, 4)
    with pytest.raises(InputError, match=r"data.patches_per_image: 3, but x.npz holds 2 boxes an image"):
        some().first(3, "x.npz")


def test_the_hash_follows_the_boxes():
    moved = some()
    moved.boxes[0, 0, 0] += 1
    assert some().hash == some().hash != moved.hash
    assert some().hash != some(frame=500).hash
    assert some().hash.startswith("sha256:")


# --- our file format --------------------------------------------------------------------------------------------------

def test_patches_come_back_as_they_were_written(tmp_path):
    write_patches(tmp_path / "train.npz", some(), NAMES, "made-so")
    read = read_patches(tmp_path / "train.npz", NAMES)
    assert np.array_equal(read.boxes, some().boxes)
    assert np.array_equal(read.scores, some().scores)
    assert (read.frame, read.method, read.hash) == (448, "peaks", some().hash)


@pytest.mark.parametrize(("names", "says"), [
    pytest.param(("a/0.png", "a/1.png", "b/1.png"), "it holds b/0.png", id="another image"),
    pytest.param(("a/1.png", "a/0.png", "b/0.png"), "their order or number differs", id="another order"),
])
def test_patches_of_other_images_are_refused(names, says, tmp_path):
    write_patches(tmp_path / "train.npz", some(), NAMES, "")
    with pytest.raises(InputError, match=says):
        read_patches(tmp_path / "train.npz", names)


@pytest.mark.parametrize("write", [
    pytest.param(lambda p: p.write_bytes(b"hello"), id="no npz"),
    pytest.param(lambda p: np.savez(p, boxes=some().boxes), id="an array missing"),
    pytest.param(lambda p: np.savez(p, names=np.array([{}], object)), id="pickled"),
    pytest.param(lambda p: p.mkdir(), id="folder"),
])
def test_a_file_that_is_no_patch_file_is_refused(write, tmp_path):
    write(tmp_path / "train.npz")
    with pytest.raises(InputError, match="is no patch file of ours") as refused:
        read_patches(tmp_path / "train.npz", NAMES)
    assert "\n" not in str(refused.value)


def test_a_torn_patch_file_is_refused(tmp_path):
    path = tmp_path / "train.npz"
    write_patches(path, some(), NAMES, "")
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(InputError, match="is no patch file of ours"):
        read_patches(path, NAMES)


@pytest.mark.parametrize("box", [
    pytest.param([-1, 0, 5, 5], id="left of it"),
    pytest.param([0, 0, 449, 5], id="right of it"),
    pytest.param([5, 0, 5, 9], id="no width"),
    pytest.param([0, 9, 5, 8], id="upside down"),
])
def test_a_box_empty_or_outside_the_frame_is_refused(box, tmp_path):
    patches = some()
    patches.boxes[1, 1] = box
    write_patches(tmp_path / "train.npz", patches, NAMES, "")
    with pytest.raises(InputError, match=r"row 1, box 1: .* is empty or outside the 448x448 frame"):
        read_patches(tmp_path / "train.npz", NAMES)


# --- the released arrays ----------------------------------------------------------------------------------------------

def released():
    """Return rows as the authors released them: y1 y2 x1 x2 label."""
    rows = np.zeros((3, 2, 5))
    rows[..., :4] = [10, 50, 20, 90]
    rows[..., 4] = LABELS[:, None]
    return rows


def test_released_rows_are_y_before_x(tmp_path):
    np.save(tmp_path / "train_patches.npy", released())
    patches = read_released(tmp_path / "train_patches.npy", LABELS, CLASSES)
    assert patches.boxes[0, 0].tolist() == [20, 10, 90, 50]
    assert (patches.boxes.dtype, patches.frame, patches.method) == (np.int16, 448, "released")


@pytest.mark.parametrize(("spoil", "says"), [
    pytest.param(lambda r: r[:2], "holds 2 images, the data set's split 3: it is of other data", id="too few rows"),
    pytest.param(lambda r: r[[0, 2, 1]], "row 1 is of class 'b', the data set's image of 'a'.* sorted paths", id="order"),
    pytest.param(lambda r: r[[0, 2, 2]], "holds 1 images of 'a', the data set 2", id="counts a class"),
    pytest.param(lambda r: np.where(np.arange(5) == 4, r + 7, r), "holds 0 images of 'a'", id="unknown labels"),
    pytest.param(lambda r: np.where(np.arange(5) == 0, r + 0.5, r), "should be whole numbers", id="fractions"),
    pytest.param(lambda r: np.where(np.arange(5) == 0, np.nan, r), "should be whole numbers", id="not a number"),
    pytest.param(lambda r: np.where(np.arange(5) == 1, 449, r), "is empty or outside", id="below the frame"),
    pytest.param(lambda r: np.where(np.arange(5) == 2, -1, r), "is empty or outside", id="left of the frame"),
    pytest.param(lambda r: np.where(np.arange(5) == 1, 10, r), "is empty or outside", id="empty"),
    pytest.param(lambda r: r[:, 0], "is float64 .images, boxes, 5., not float64 .3, 5.", id="shape"),
    pytest.param(lambda r: r.astype(np.float32), "not float32", id="type"),
    pytest.param(lambda r: r + np.array([[[0.0] * 5, [0, 0, 0, 0, 1]]]), "row 0 carries several labels", id="labels"),
])
def test_a_released_file_that_does_not_fit_is_refused(spoil, says, tmp_path):
    np.save(tmp_path / "train_patches.npy", spoil(released()))
    with pytest.raises(InputError, match=says) as refused:
        read_released(tmp_path / "train_patches.npy", LABELS, CLASSES)
    assert "\n" not in str(refused.value)


def test_a_pickled_released_file_is_refused(tmp_path):
    np.save(tmp_path / "train_patches.npy", np.array([{}], object), allow_pickle=True)
    with pytest.raises(InputError, match="cannot be read"):
        read_released(tmp_path / "train_patches.npy", LABELS, CLASSES)


@pytest.fixture(scope="module")
def birds(cub10, tmp_path_factory):
    return open_dataset(DataConfig(dataset="cub", root=str(cub10)), tmp_path_factory.mktemp("cache"))


def released_of(cub10, birds, split):
    return read_released(cub10 / f"{split}_patches.npy", birds.labels[birds.rows(split)], birds.classes)


@pytest.mark.parametrize(("split", "images"), [("train", 300), ("test", 243)])
def test_the_released_patches_of_cub10_are_read(cub10, birds, split, images):
    patches = released_of(cub10, birds, split)
    assert patches.boxes.shape == (images, 10, 4)
    sides = (patches.boxes[..., 2:] - patches.boxes[..., :2]).astype(int)
    assert sides.prod(axis=-1).min() >= 0.05 * 448**2   # the tight box of a map's top twentieth (thesis.md §4)


def test_released_patches_shuffled_or_of_the_other_split_are_refused(cub10, birds, tmp_path):
    rows = np.load(cub10 / "train_patches.npy")
    np.save(tmp_path / "train_patches.npy", np.random.default_rng(0).permutation(rows))
    with pytest.raises(InputError, match="not in the order of sorted paths"):
        released_of(tmp_path, birds, "train")
    with pytest.raises(InputError, match="it is of other data"):
        read_released(cub10 / "test_patches.npy", birds.labels[birds.rows("train")], birds.classes)


def test_released_boxes_follow_the_birds(cub10, birds, true_birds):
    """The check that the frame is the squashed image and rows are ours: figures of the data's own README."""
    patches, truth = released_of(cub10, birds, "train"), true_birds(birds, "train")
    centres, true = ((b[..., :2] + b[..., 2:]) / 2 for b in (patches.boxes.astype(float), truth.birds))
    correlation = [np.corrcoef(centres[..., axis].mean(axis=1), true[:, axis])[0, 1] for axis in (0, 1)]
    assert correlation == pytest.approx([0.22, 0.27], abs=0.01)
    assert measure(patches, truth).inside == pytest.approx(0.79, abs=0.01)


# Images of each class of CUB-200-2011 (train, test), as the data set's own lists count them: a class has 41 to 60 images.
CUB_COUNTS = {"train": 5994, "test": 5794}   # thesis.md §3


@pytest.mark.parametrize("split", CUB_COUNTS)
def test_the_released_patches_of_all_of_cub_are_whole(official, split):
    rows = np.load(official / f"{split}_patches.npy", allow_pickle=False)
    labels = rows[:, 0, 4].astype(int)
    counts = np.bincount(labels, minlength=200)
    assert rows.shape == (CUB_COUNTS[split], 10, 5)                             # thesis.md §4
    assert (rows[..., 4] == rows[:, :1, 4]).all()                               # one label a row
    assert (np.diff(labels) >= 0).all()                                         # in the order of sorted class folders
    assert len(counts) == 200
    patches = read_released(official / f"{split}_patches.npy", labels, [str(c) for c in range(200)])   # half-open, in 448
    sides = (patches.boxes[..., 2:] - patches.boxes[..., :2]).astype(int)
    assert sides.prod(axis=-1).min() >= 0.05 * 448**2
    if split == "train":
        # CUB trains on 30 images of a class, but on 29 of the six that have too few (5994 = 200 x 30 - 6)
        assert (counts[counts != 30] == 29).all()
        assert (counts == 29).sum() == 6
    else:
        assert (counts.min(), counts.max()) == (11, 30)


@pytest.mark.parametrize("split", CUB_COUNTS)
def test_the_released_patches_of_cub10_are_the_first_ten_classes_of_all(official, cub10, split):
    whole, ten = (np.load(root / f"{split}_patches.npy", allow_pickle=False) for root in (official, cub10))
    assert np.array_equal(whole[whole[:, 0, 4] < 10], ten)


def test_the_released_patches_of_all_of_cub_agree_with_the_lists_of_cub10(official, cub10):
    lists = {name: dict(line.split() for line in (cub10 / name).read_text().splitlines())
             for name in ("image_class_labels.txt", "train_test_split.txt")}
    for split, flag in (("train", "1"), ("test", "0")):
        labels = np.load(official / f"{split}_patches.npy", allow_pickle=False)[:, 0, 4].astype(int)
        listed = Counter(int(label) - 1 for image, label in lists["image_class_labels.txt"].items()
                         if lists["train_test_split.txt"][image] == flag)
        assert {label: int((labels == label).sum()) for label in range(10)} == dict(listed)
