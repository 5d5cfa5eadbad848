import torch
from torch.testing import assert_close

from fgmodel.analysis.fineness import correlation_with_last, drift, fineness, half_max_areas, jensen_shannon


def maps(*steps):
    """Return the maps of one image; each step is a list of rows."""
    return torch.tensor([list(steps)], dtype=torch.float32)


EVEN, LEFT, RIGHT, NOTHING = [[1, 1]], [[4, 0]], [[0, 4]], [[0, 0]]


def test_entropy_is_1_for_an_even_map_one_half_for_two_cells_of_four_and_0_for_a_single_one():
    seen = fineness(maps([[1, 1], [1, 1]], [[3, 0], [0, 3]], [[0, 2], [0, 0]])).entropy
    assert_close(seen, torch.tensor([[1.0, 0.5, 0.0]]))


def test_half_the_maximum_is_reached_by_half_the_pixels_between_a_cell_and_an_empty_one():
    assert half_max_areas(maps(EVEN, LEFT, RIGHT)).tolist() == [[1.0, 0.5, 0.5]]
    assert torch.equal(fineness(maps(EVEN, LEFT, RIGHT)).half_max_area, half_max_areas(maps(EVEN, LEFT, RIGHT)))


def test_area90_counts_the_fewest_pixels_that_hold_nine_tenths_of_the_map():
    # LEFT is 56 columns of 4, a slope of 112 columns down to 0, 56 of 0; a row's sum is 448. 403.2 is held by the 56
    # columns (224) and u of the slope: 4(u − u²/224) = 179.2, so u = 61.9 and (56 + 61.9)/224 = 0.526.
    assert_close(fineness(maps(EVEN, LEFT)).area90, torch.tensor([[0.9, 0.526]]), atol=0.002, rtol=0)


def test_the_half_max_masks_are_compared_with_the_first_steps():
    assert fineness(maps(LEFT, LEFT, RIGHT, EVEN)).iou_with_first.tolist() == [[1.0, 1.0, 0.0, 0.5]]


def test_a_map_of_zeros_has_no_fineness_and_nothing_overlaps_with_it():
    seen = fineness(maps(NOTHING, LEFT))
    for measure in seen[:3]:
        assert measure.isnan().tolist() == [[True, False]]
    assert seen.iou_with_first.isnan().all()


def test_a_maps_scale_does_not_matter():
    image = torch.rand(2, 3, 7, 7, generator=torch.Generator().manual_seed(0))
    for measure, scaled in zip(fineness(image), fineness(image * 1e-6), strict=True):
        assert_close(measure, scaled, atol=1e-3, rtol=0)


def test_many_images_are_measured_as_each_alone():
    images = torch.rand(40, 2, 3, 3, generator=torch.Generator().manual_seed(0))
    assert_close(fineness(images).area90[35], fineness(images[35:36]).area90[0])


def test_maps_are_correlated_with_the_last_steps_and_a_constant_one_is_not():
    seen = correlation_with_last(maps([[4, 3], [2, 1]], [[5, 5], [5, 5]], [[1, 2], [3, 4]]))[0]
    assert_close(seen, torch.tensor([-1.0, torch.nan, 1.0]), equal_nan=True)


def test_jensen_shannon_is_0_for_the_same_1_for_nothing_in_common_and_0_311_for_a_sure_thing_against_a_coin():
    sure, coin, other = torch.tensor([[1.0, 0.0], [0.5, 0.5], [0.0, 1.0]])
    # H(¾,¼) = 0.811 bits, less the mean of 0 and 1
    assert_close(jensen_shannon(torch.stack([sure, sure, sure]), torch.stack([sure, other, coin])),
                 torch.tensor([0.0, 1.0, 0.3113]), atol=1e-4, rtol=0)


def test_attention_that_jumps_to_the_next_of_two_cells_and_back_drifts_by_half_a_map_each_time():
    seen = drift(maps([[1, 0]], [[0, 1]], [[1, 0]]))
    assert seen.shift.tolist() == [[0.5, 0.5]]
    assert seen.divergence.tolist() == [[1.0, 1.0]]
    assert seen.from_first.tolist() == [[1.0, 0.0]]
