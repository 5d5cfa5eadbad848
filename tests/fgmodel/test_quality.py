import numpy as np
import pytest

from fgmodel.config import DataConfig
from fgmodel.data.boxes_file import Patches
from fgmodel.data.datasets import open_dataset
from fgmodel.errors import InputError
from fgmodel.extraction.quality import Truth, known_truth, measure, moved_at_random
from fgmodel.extraction.sheet import contact_sheet

NAN = np.nan


def patches(*images):
    boxes = np.array(images, np.int16)
    return Patches(boxes, np.zeros(boxes.shape[:2], np.float32), 100, "made up")


LEFT, RIGHT, ALL = [0, 0, 50, 100], [50, 0, 100, 100], [0, 0, 100, 100]
TRUTH = Truth(
    birds=np.array([[0, 0, 0.25, 1], [0, 0, 1, 1]]),
    points=np.array([[[0.1, 0.5], [0.7, 0.7]], [[NAN, NAN], [0.2, 0.9]]]),
    parts=("beak", "tail"),
    telling=np.array([[0.4, 0, 0.6, 1], [0.9, 0.9, 1.0, 1.0]]),
)


def test_quality_is_what_hand_counting_gives():
    found = measure(patches([LEFT, RIGHT], [LEFT, LEFT]), TRUTH)
    assert found.area == 0.5
    assert found.inside == (0.5 + 0 + 1 + 1) / 4
    assert found.boxes_hitting == 1.0            # left holds the first's beak, right its tail; the second's tail is left
    assert found.images_hitting == 1.0
    assert found.parts_a_box == 1.0
    assert (found.parts_hit, found.parts_visible) == (1.5, 1.5)
    assert found.by_part == {"beak": 1.0, "tail": 1.0}
    assert found.covered == 0.5                  # just half of the first's telling part; nothing of the second's


def test_a_part_nobody_sees_is_hit_by_nobody():
    hidden = Truth(points=np.array([[[NAN, NAN], [0.7, 0.7]]]), parts=("beak", "tail"))
    found = measure(patches([LEFT, LEFT]), hidden)
    assert (found.boxes_hitting, found.images_hitting, found.parts_hit, found.parts_visible) == (0, 0, 0, 1)
    assert found.by_part == {"tail": 0.0}


def test_a_box_is_half_open():
    edge = Truth(points=np.array([[[0.5, 0.5]]]), parts=("beak",))
    assert measure(patches([LEFT]), edge).boxes_hitting == 0
    assert measure(patches([RIGHT]), edge).boxes_hitting == 1


def test_only_what_is_known_is_reported():
    assert measure(patches([LEFT]), Truth()).document() == {"area": 0.5}
    assert not Truth()


def test_random_boxes_keep_their_sizes_and_lie_anywhere_in_the_frame():
    before = patches(*[[[10, 20, 40, 30]]] * 4000)
    after = moved_at_random(before)
    sides = after.boxes[..., 2:] - after.boxes[..., :2]
    assert (sides == [30, 10]).all()
    assert after.boxes[..., :2].min() == 0
    assert after.boxes[..., 2:].max() == 100
    assert after.boxes[:, 0, 0].mean() == pytest.approx(35, abs=1.5)      # uniform over 0..70
    assert np.array_equal(after.boxes, moved_at_random(before).boxes)
    assert not np.array_equal(after.boxes, moved_at_random(before, seed=1).boxes)
    assert np.array_equal(moved_at_random(patches([ALL])).boxes, [[ALL]])


@pytest.mark.slow
def test_the_truth_of_cub10_is_that_of_its_files(cub10, tmp_path):
    dataset = open_dataset(DataConfig(dataset="cub", root=str(cub10)), tmp_path)
    truth = known_truth(dataset, "train", cub10)
    assert truth.birds.shape == (300, 4)
    assert truth.points.shape == (300, 15, 2)
    assert truth.parts[1] == "beak"
    visible = ~np.isnan(truth.points[..., 0])
    inside = (truth.points >= truth.birds[:, None, :2]) & (truth.points <= truth.birds[:, None, 2:])
    assert inside.all(axis=-1)[visible].mean() > 0.99       # parts are of the bird: both were scaled alike


def test_finches_know_their_telling_part_and_folders_nothing(folders, tmp_path):
    finches = open_dataset(DataConfig(dataset="finches", finches_per_species=8), tmp_path)
    assert known_truth(finches, "test", None).telling.shape == (24, 4)
    pets = open_dataset(DataConfig(dataset="folders", root=str(folders)), tmp_path)
    assert not known_truth(pets, "train", folders)


@pytest.mark.parametrize(("text", "says"), [
    pytest.param("1 0 0 5\n", "bounding_boxes.txt:1: '1 0 0 5' should have 5 columns", id="a column missing"),
    pytest.param("1 0 0 5 5\n", "bounding_boxes.txt: lacks image", id="an image missing"),
    pytest.param("".join(f"{i} 0 x 5 5\n" for i in range(1, 13)), "holds something that is no number", id="no number"),
])
def test_a_malformed_truth_file_is_named(text, says, tiny_cub, tmp_path):
    dataset = open_dataset(DataConfig(dataset="cub", root=str(tiny_cub)), tmp_path / "cache")
    (tiny_cub / "bounding_boxes.txt").write_text(text)
    with pytest.raises(InputError, match=says) as refused:
        known_truth(dataset, "train", tiny_cub)
    assert "\n" not in str(refused.value)


def test_a_sheet_shows_boxes_where_they_are(tmp_path):
    dataset = open_dataset(DataConfig(dataset="finches", finches_per_species=8), tmp_path)
    n = len(dataset.rows("train"))
    sheet = contact_sheet(dataset, "train", patches(*[[[25, 25, 75, 75]]] * n), Truth())
    assert sheet.size == (5 * 324 - 4, 4 * 324 - 4)
    assert sheet.getpixel((100, 80)) == (0, 0x72, 0xB2)     # the first image's box begins at a quarter of 320
    assert sheet.getpixel((324 + 100, 324 + 80)) == (0, 0x72, 0xB2)
