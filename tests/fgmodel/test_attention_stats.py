import torch
from torch.testing import assert_close

from fgmodel.analysis.attention_stats import (
    alpha_by_class,
    alpha_by_correct,
    alpha_summary,
    argmax_histogram,
    entropies,
    oracle_accuracy,
    state_norms,
    step_cosines,
)

ALPHA = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.5, 0.5]])


def test_alpha_is_summed_up_by_mean_deviation_and_quantiles_of_each_step():
    seen = alpha_summary(torch.tensor([[0.0], [0.5], [1.0]]))
    assert_close(torch.cat(seen), torch.tensor([0.5, 0.4082, 0.1, 0.5, 0.9]), atol=1e-4, rtol=0)  # √(1/6)


def test_the_histogram_counts_each_images_largest_weight_the_first_of_equal_ones():
    assert_close(argmax_histogram(ALPHA), torch.tensor([2 / 3, 1 / 3]))


def test_alpha_is_told_apart_by_right_and_wrong_and_is_unknown_of_none():
    right, wrong = alpha_by_correct(ALPHA, torch.tensor([True, False, True]))
    assert (right.tolist(), wrong.tolist()) == ([0.75, 0.25], [0, 1])
    assert alpha_by_correct(ALPHA, torch.tensor([True] * 3))[1].isnan().all()


def test_alpha_by_class_is_the_mean_of_its_images_and_unknown_without_any():
    seen = alpha_by_class(ALPHA, torch.tensor([2, 0, 2]), 3)
    assert_close(seen, torch.tensor([[0, 1], [torch.nan, torch.nan], [0.75, 0.25]]), equal_nan=True)


def test_images_that_each_have_a_step_of_their_own_are_sure_one_by_one_and_even_together():
    seen = entropies(ALPHA[:2])
    assert (seen.mean_of_entropies, seen.entropy_of_mean) == (0, 1)


def test_states_are_measured_by_length_and_by_the_angle_to_the_one_before():
    states = torch.tensor([[[3.0, 4.0], [4.0, -3.0], [8.0, -6.0]]])
    assert state_norms(states).tolist() == [5, 5, 10]
    assert_close(step_cosines(states), torch.tensor([0.0, 1.0]))


def test_the_oracle_is_right_where_any_step_is():
    assert oracle_accuracy(torch.tensor([[True, False], [False, False], [False, True], [False, False]])) == 0.5
