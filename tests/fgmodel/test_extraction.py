from dataclasses import replace

import numpy as np
import pytest
import torch

from fgmodel.cache import Frames
from fgmodel.config import DataConfig
from fgmodel.data.boxes_file import read_patches
from fgmodel.data.datasets import open_dataset
from fgmodel.errors import InputError
from fgmodel.extraction import EXTRACTORS, boxes_path, extract
from fgmodel.extraction.boxes import greedy_peaks, peak_boxes
from fgmodel.extraction.cam import Head, regression
from fgmodel.extraction.ddt import fitted, principal_component
from fgmodel.extraction.quality import known_truth, measure, share_held
from fgmodel.trunks.frozen_trunk import FrozenTrunk

LITE = FrozenTrunk("efficientnet_lite0", "imagenet")
FINCHES = DataConfig(dataset="finches", finches_per_species=8)


# --- from maps to boxes -----------------------------------------------------------------------------------------------

def bumpy(**heights):
    """Return a map that is zero but for the cells given, e.g. c3_4=2.0: row 3, column 4."""
    grid = torch.zeros(1, 14, 14)
    for cell, height in heights.items():
        row, column = (int(number) for number in cell[1:].split("_"))
        grid[0, row, column] = height
    return grid


def cells(grid, count):
    where, heights = greedy_peaks(grid, count)
    return [divmod(int(cell), 14) for cell in where[0]], heights[0].tolist()


def test_peaks_come_highest_first_and_never_within_two_cells():
    grid = bumpy(c5_5=9.0, c5_7=8.0, c7_7=7.0, c5_8=6.0, c0_0=5.0)
    assert cells(grid, 3) == ([(5, 5), (5, 8), (0, 0)], [9.0, 6.0, 5.0])   # (5,7) and (7,7) lie within two cells


def test_too_few_peaks_bring_them_closer():
    grid = bumpy(c5_5=9.0, c5_7=8.0, c5_6=7.0)
    assert cells(grid, 3)[0] == [(5, 5), (5, 7), (5, 6)]   # two cells away before one


def test_where_nothing_is_left_peaks_come_again_in_order():
    assert cells(bumpy(c1_1=2.0, c9_9=1.0), 5)[0] == [(1, 1), (9, 9), (1, 1), (9, 9), (1, 1)]


def test_each_map_of_a_batch_has_peaks_of_its_own():
    grid = torch.cat([bumpy(c1_1=2.0), bumpy(c9_9=1.0, c2_2=0.5), torch.zeros(1, 14, 14)])
    where, _ = greedy_peaks(grid, 2)
    assert where.tolist() == [[15, 15], [135, 30], [0, 0]]


def test_a_box_lies_around_its_peak_and_covers_a_twentieth():
    grid = torch.ones(1, 14, 14) * 0.1
    grid[0, 3, 10] = 0.2
    ((box,),), _ = peak_boxes(grid, 1)
    x1, y1, x2, y2 = box.tolist()
    assert (x1 + x2) / 2 == pytest.approx(10.5 / 14, abs=0.01)
    assert (y1 + y2) / 2 == pytest.approx(3.5 / 14, abs=0.01)
    assert 0.05 <= (x2 - x1) * (y2 - y1) < 0.09            # a disc of a twentieth, boxed: 0.05 · 4/π


def test_a_map_without_height_gives_the_whole_image():
    boxes, heights = peak_boxes(torch.zeros(1, 14, 14), 2)
    assert boxes.tolist() == [[[0, 0, 1, 1]] * 2]
    assert heights.tolist() == [[0, 0]]


def test_a_lone_cell_is_not_drowned_in_the_ringing_around_it():
    ((box,),), _ = peak_boxes(bumpy(c7_7=1.0), 1)
    assert (box[2:] - box[:2]).max() < 4 / 14


# --- ddt --------------------------------------------------------------------------------------------------------------

def test_the_component_is_the_first_principal_one_and_points_to_the_centre():
    chance = np.random.default_rng(0)
    along = np.array([0.6, -0.8, 0.0])                     # what the objects in the middle differ by
    maps = 0.1 * chance.standard_normal((20, 3, 6, 6)) + np.array([5.0, 1.0, -2.0])[:, None, None]
    maps[:, :, 2:4, 2:4] += 3 * along[:, None, None]
    for sign in (1, -1):
        component = principal_component((sign * maps).astype(np.float32))
        np.testing.assert_allclose(component.direction.numpy(), sign * along, atol=0.02)
        np.testing.assert_allclose(component.mean.numpy(), (sign * maps).mean(axis=(0, 2, 3)), atol=1e-5)
        projected = component.project(torch.from_numpy(sign * maps).float())
        assert (projected[:, 2:4, 2:4] > 0).all()
        assert projected[:, 0].mean() < 0


@pytest.fixture(scope="module")
def few_birds(cub10, tmp_path_factory):
    """Return a data set of six train and two test images of each of cub10's classes."""
    root, kept = tmp_path_factory.mktemp("few") / "few", []
    table = {name: dict(line.split(maxsplit=1) for line in (cub10 / name).read_text().splitlines())
             for name in ("images.txt", "image_class_labels.txt", "train_test_split.txt")}
    room = {(label, split): 6 if split == "1" else 2 for label in map(str, range(1, 11)) for split in "01"}
    for image, path in table["images.txt"].items():
        group = table["image_class_labels.txt"][image], table["train_test_split.txt"][image]
        if room[group]:
            room[group] -= 1
            kept.append(image)
            (root / "images" / path).parent.mkdir(parents=True, exist_ok=True)
            (root / "images" / path).symlink_to(cub10 / "images" / path)
    for name, rows in table.items():
        (root / name).write_text("".join(f"{image} {rows[image]}\n" for image in kept))
    (root / "classes.txt").write_text((cub10 / "classes.txt").read_text())
    return root


def frames_of(data, cache, split, size):
    return Frames(open_dataset(data, cache), split, size, cache)


@pytest.fixture(scope="module")
def by_ddt(few_birds, tmp_path_factory):
    """Return the cache, the frames and the boxes of both splits, the test split's found first."""
    cache = tmp_path_factory.mktemp("cache")
    data = DataConfig(dataset="cub", root=str(few_birds))
    train, test = (frames_of(data, cache, split, 448) for split in ("train", "test"))
    return cache, [(frames, extract("ddt", frames, train, LITE, count=10, scale=1.0)) for frames in (test, train)]


def test_ddt_finds_the_birds_of_both_splits(by_ddt, true_birds):
    for frames, patches in by_ddt[1]:
        assert patches.boxes.shape == (len(frames), 10, 4)
        # thesis.md §9: 0.863 on all of cub10; random boxes 0.598
        assert measure(patches, true_birds(frames.dataset, frames.split)).inside > 0.8


def test_ddt_projects_test_images_on_what_train_images_taught(by_ddt):
    cache, [_, (train, _)] = by_ddt
    (kept,) = (cache / "patches").glob("*.ddt.npz")
    assert "-train-" in kept.name
    assert np.array_equal(np.load(kept)["direction"], fitted(train, LITE)["direction"].numpy())


def test_each_split_s_maps_are_kept_once_for_all_methods(by_ddt):
    cache, [(test, _), (train, _)] = by_ddt
    extract("cam", test, train, LITE, count=1)
    assert len(list((cache / "maps").glob("*.npy"))) == 2


# --- cam --------------------------------------------------------------------------------------------------------------

def test_a_cell_adds_to_the_logit_of_the_class_predicted():
    head = Head(mean=torch.tensor([1.0, 2.0]), weight=torch.tensor([[1.0, 0.0], [0.0, 3.0]]), bias=torch.tensor([0.5, -0.5]))
    maps = torch.tensor([[[[1.0, 5.0]], [[2.0, 2.0]]], [[[1.0, 1.0]], [[2.0, 6.0]]]])   # 2 2 1 2
    assert head.logits(maps.mean(dim=(2, 3))).tolist() == [[2.5, -0.5], [0.5, 5.5]]
    assert head.activation(maps).tolist() == [[[0.0, 4.0]], [[0.0, 12.0]]]              # its mean is the logit less bias


def test_the_head_is_the_penalised_optimum():
    """At the minimum of mean CE + c/2 |w|², c·w is the mean of (y - p) x, and no bias helps."""
    chance = np.random.default_rng(0)
    pooled = torch.from_numpy(chance.standard_normal((60, 5)).astype(np.float32))
    labels = torch.from_numpy((chance.random(60) * 3).astype(np.int64))
    head = regression(pooled, labels)
    x = (pooled - pooled.mean(dim=0)) / pooled.std(dim=0)
    residual = torch.nn.functional.one_hot(labels).float() - head.logits(pooled).softmax(dim=1)
    torch.testing.assert_close(0.01 * head.weight * pooled.std(dim=0), residual.T @ x / 60, atol=1e-5, rtol=1e-3)
    torch.testing.assert_close(residual.mean(dim=0), torch.zeros(3), atol=1e-5, rtol=0)


@pytest.mark.slow
def test_cam_reads_labels_of_train_images_alone(by_ddt):
    cache, [(test, _), (train, _)] = by_ddt
    before = extract("cam", test, train, LITE, count=3)
    (kept,) = (cache / "patches").glob("*.cam.npz")
    assert "-train-" in kept.name
    labels = test.dataset.labels.copy()
    labels[test.rows] = 0
    kept.unlink()
    blind = replace(train, dataset=replace(train.dataset, labels=labels))   # another fingerprint: fitted anew
    assert np.array_equal(extract("cam", replace(blind, split="test"), blind, LITE, count=3).boxes, before.boxes)


# --- boxes that look at nothing ---------------------------------------------------------------------------------------

def blind(method, count, cache):
    frames = frames_of(FINCHES, cache, "train", 120)
    return extract(method, frames, frames, LITE, count)


def test_a_grid_has_the_cells_nearest_to_the_centre_first(tmp_path):
    assert blind("grid", 4, tmp_path).boxes[0].tolist() == [[0, 0, 60, 60], [60, 0, 120, 60], [0, 60, 60, 120], [60, 60, 120, 120]]
    ten = blind("grid", 10, tmp_path).boxes[5]                                # three rows of four cells
    assert ten[0].tolist() == [30, 40, 60, 80]
    assert {(x2 - x1, y2 - y1) for x1, y1, x2, y2 in ten.tolist()} == {(30, 40)}


def test_center_s_squares_grow_about_the_centre(tmp_path):
    boxes = blind("center", 3, tmp_path).boxes
    assert boxes[7].tolist() == [[36, 36, 84, 84], [21, 21, 99, 99], [6, 6, 114, 114]]   # sides of 0.4, 0.65 and 0.9


def test_random_boxes_follow_from_an_image_s_name_alone(tmp_path):
    four, two = blind("random", 4, tmp_path).boxes, blind("random", 2, tmp_path).boxes
    assert np.array_equal(four[:, :2], two)
    assert len(np.unique(four.reshape(-1, 4), axis=0)) > 0.9 * four[..., 0].size
    sides = (four[..., 2:] - four[..., :2]) / 120
    assert 0.19 < sides.min() < 0.25
    assert 0.55 < sides.max() < 0.61
    assert sides.mean() == pytest.approx(0.4, abs=0.02)


# --- part by part -----------------------------------------------------------------------------------------------------

@pytest.mark.slow
@pytest.mark.parametrize("method", ["random", "parts", "peaks", "ddt"])
def test_boxes_do_not_depend_on_how_images_are_shared_out(method, tmp_path):
    train = frames_of(FINCHES, tmp_path, "train", 128)
    parts = [extract(method, replace(train, part=part), train, LITE, count=3) for part in ((0, 64), (64, 72))]
    whole = extract(method, train, train, LITE, count=3)
    assert np.array_equal(np.concatenate([part.boxes for part in parts]), whole.boxes)
    with pytest.raises(InputError, match="belongs to other images"):
        read_patches(boxes_path(method, train, LITE, 3), replace(train, part=(0, 64)).names)


# --- drawn birds ------------------------------------------------------------------------------------------------------

def part_held(patches, frames):
    """Return the largest share (n) of each finch's telling part that a box holds."""
    true = known_truth(frames.dataset, frames.split, None).telling
    return share_held(patches.boxes / patches.frame, true).max(axis=1)


@pytest.mark.slow
def test_peaks_hold_the_telling_part_of_most_finches(tmp_path):
    frames = frames_of(FINCHES, tmp_path, "train", 256)
    patches = extract("peaks", frames, frames, LITE, count=4)
    sides = patches.boxes[..., 2:] - patches.boxes[..., :2]
    inside = (patches.boxes > 0).all(axis=-1) & (patches.boxes < 256).all(axis=-1)
    assert (abs(sides[inside][:, 0] - sides[inside][:, 1]) <= 1).all()   # squares, but for rounding
    assert (part_held(patches, frames) > 0.7).mean() > 0.8


@pytest.mark.slow
def test_peaks_are_the_same_every_time(tmp_path):
    hashes = {
        extract("peaks", frames, frames, LITE, count=4).hash
        for frames in (frames_of(FINCHES, tmp_path / name, "test", 256) for name in ("a", "b"))
    }
    assert len(hashes) == 1


def test_parts_are_the_true_parts_and_copies_of_them(tmp_path):
    frames = frames_of(FINCHES, tmp_path, "train", 256)
    one, four = (extract("parts", frames, frames, LITE, count=count) for count in (1, 4))
    assert part_held(one, frames).min() > 0.9
    assert np.array_equal(four.boxes[:, 0], one.boxes[:, 0])
    assert (four.boxes[:, 1:] != four.boxes[:, :1]).any(axis=-1).mean() > 0.95
    assert part_held(four.first(4, ""), frames).min() > 0.9


def test_parts_are_known_of_drawn_birds_only(tiny_cub, tmp_path):
    frames = frames_of(DataConfig(dataset="cub", root=str(tiny_cub)), tmp_path, "train", 32)
    with pytest.raises(InputError, match=r"data.patches: parts needs true boxes, which 'birds' has not"):
        extract("parts", frames, frames, LITE, count=1)


def test_a_scale_enlarges_boxes_about_their_centres(tmp_path):
    frames = frames_of(FINCHES, tmp_path, "train", 256)
    small, large = (extract("parts", frames, frames, LITE, count=1, scale=scale).boxes.astype(int) for scale in (1.0, 2.0))
    inside = (large[..., :2] > 0).all(axis=-1) & (large[..., 2:] < 256).all(axis=-1)
    small, large = small[inside], large[inside]
    assert len(small) > 10
    np.testing.assert_allclose(large[:, 2:] - large[:, :2], 2 * (small[:, 2:] - small[:, :2]), atol=3)
    np.testing.assert_allclose(large[:, 2:] + large[:, :2], small[:, 2:] + small[:, :2], atol=3)


@pytest.mark.slow
@pytest.mark.parametrize("method", sorted(EXTRACTORS.keys() - {"ddt", "protopnet", "protopnet_trained"}))   # own tests
def test_every_extractor_keeps_to_the_interface(method, tmp_path):
    cache = tmp_path
    train, test = (frames_of(FINCHES, cache, split, 128) for split in ("train", "test"))
    for frames in (train, test):
        patches = extract(method, frames, train, LITE, count=3)
        assert patches.boxes.shape == (len(frames), 3, 4)
        assert patches.boxes.dtype == np.int16
        assert (patches.boxes[..., :2] >= 0).all()
        assert (patches.boxes[..., 2:] <= 128).all()
        assert (patches.boxes[..., 2:] > patches.boxes[..., :2]).all()
        assert (patches.frame, patches.method) == (128, method)
        assert extract(method, frames, train, LITE, count=3).hash == patches.hash
