import numpy as np
import pytest
from PIL import Image, ImageFilter

from fgmodel.config import DataConfig
from fgmodel.data import finches
from fgmodel.data.datasets import open_dataset


def pixels(seed, species, number):
    return np.asarray(finches.draw(seed, species, number)).astype(int)


def test_a_drawing_is_decided_by_seed_species_and_number():
    first = pixels(0, 3, 7)
    assert np.array_equal(first, pixels(0, 3, 7))
    for other in ((1, 3, 7), (0, 4, 7), (0, 3, 8)):
        assert not np.array_equal(first, pixels(*other))


def test_there_are_twelve_species_which_differ_in_one_part_each():
    assert len({(s.part, s.form) for s in finches.SPECIES}) == len(finches.SPECIES) == 12
    assert {s.part for s in finches.SPECIES} == {"bill", "eye", "crown", "wing", "tail"}
    assert [s.name for s in finches.SPECIES] == sorted(s.name for s in finches.SPECIES)


@pytest.mark.parametrize("species", range(12))
def test_two_birds_of_different_species_differ_inside_the_true_box_and_nowhere_else(species, monkeypatch):
    kind = finches.SPECIES[species]
    commoner = list(finches.SPECIES)
    commoner[species] = finches.Species(kind.name, kind.part, "common")   # the same bird by the same dice, without its mark
    for number in range(3):
        marked = pixels(0, species, number)
        box = np.array(finches.part_box(0, species, number)) * finches.CANVAS
        with monkeypatch.context() as patched:
            patched.setattr(finches, "SPECIES", tuple(commoner))
            plain = pixels(0, species, number)
        differs = Image.fromarray((marked != plain).any(axis=2).astype(np.uint8))
        rows, columns = np.nonzero(np.asarray(differs.filter(ImageFilter.MinFilter(3))))   # thinner is an edge rounded
        assert len(rows) > 20                                    # the mark can be seen
        assert columns.min() >= box[0] - 1.5                     # and lies inside the box
        assert columns.max() <= box[2] + 0.5
        assert rows.min() >= box[1] - 1.5
        assert rows.max() <= box[3] + 0.5


@pytest.mark.slow
def test_the_telling_part_is_inside_the_canvas():
    boxes = np.array([finches.part_box(0, s, i) for s in range(12) for i in range(70)])
    assert boxes.min() > -1e-9
    assert boxes.max() < 1 + 1e-9
    assert (boxes[:, 2:] > boxes[:, :2]).all()
    area = np.prod(boxes[:, 2:] - boxes[:, :2], axis=1)
    assert 0.005 < area.mean() < 0.08                            # small: the rest of the bird tells nothing


@pytest.mark.slow
def test_a_quarter_of_840_finches_is_for_test(tmp_path):
    dataset = open_dataset(DataConfig(dataset="finches"), tmp_path)
    assert (len(dataset.rows("train")), len(dataset.rows("test"))) == (630, 210)
    assert set(np.bincount(dataset.labels[~dataset.train])) == {17, 18}
    assert isinstance(dataset.image(0), Image.Image)
    assert dataset.image(0).size == (256, 256)


@pytest.mark.slow
def test_the_fingerprint_of_finches_follows_seed_and_number(tmp_path):
    prints = {
        open_dataset(DataConfig(dataset="finches", seed=seed, finches_per_species=each), tmp_path).fingerprint
        for seed, each in ((0, 8), (1, 8), (0, 9), (0, 8))
    }
    assert len(prints) == 3


def test_the_dice_fall_as_they_always_did():
    # Python promises the same numbers from the same text; were that to break, every finch would change unnoticed.
    chance = finches._chance(0, 0, 0)
    assert [round(chance.random(), 6) for _ in range(3)] == [0.035226, 0.450065, 0.863188]
