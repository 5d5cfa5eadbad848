from math import exp

import pytest
import torch

from fgmodel.attention import attended, temporal_attention

KINDS = ("per_step", "shared", "last", "mean")      # `sum` weighs, it does not share out


@pytest.mark.parametrize("kind", KINDS)
def test_the_weights_of_each_patch_are_positive_and_sum_to_one_over_time(kind):
    alpha = temporal_attention(kind, 7, 5)(torch.randn(3, 7, 5))
    assert alpha.shape == (3, 7)
    assert (alpha >= 0).all()
    torch.testing.assert_close(alpha.sum(dim=1), torch.ones(3))


@pytest.mark.parametrize("kind", KINDS)
def test_a_single_time_step_has_weight_one_exactly(kind):
    alpha = temporal_attention(kind, 1, 5)(torch.randn(4, 1, 5))
    assert alpha.tolist() == [[1.0]] * 4


def test_each_time_step_is_scored_by_its_own_vector():
    attention = temporal_attention("per_step", 2, 2)
    with torch.no_grad():
        attention.weight.copy_(torch.tensor([[1.0, 0.0], [0.0, 1.0]]))
    alpha = attention(torch.tensor([[[2.0, 9.0], [9.0, 1.0]]]))         # scores 2 and 1
    torch.testing.assert_close(alpha, torch.tensor([[exp(2), exp(1)]]) / (exp(2) + exp(1)))


def test_the_shared_scores_bias_cancels_in_the_softmax():
    attention, states = temporal_attention("shared", 6, 5), torch.randn(3, 6, 5)
    before = attention(states)
    with torch.no_grad():
        attention.score.bias.add_(3.0)
    torch.testing.assert_close(attention(states), before)


def test_last_and_mean_have_the_weights_their_names_say():
    states = torch.randn(2, 4, 5)
    assert temporal_attention("last", 4, 5)(states).tolist() == [[0, 0, 0, 1]] * 2
    assert temporal_attention("mean", 4, 5)(states).tolist() == [[0.25] * 4] * 2


@pytest.mark.parametrize(
    ("k", "expected"),
    [
        pytest.param(None, [1, 1, 1, 1], id="T unless set"),
        pytest.param(3, [1, 1, 1, 0], id="the first three"),
        pytest.param(1, [1, 0, 0, 0], id="the first alone"),
    ],
)
def test_sum_gives_each_of_the_first_k_states_weight_one(k, expected):
    states = torch.randn(2, 4, 5)
    alpha = temporal_attention("sum", 4, 5, k)(states)
    assert alpha.tolist() == [expected] * 2
    torch.testing.assert_close(attended(alpha, states), states[:, :k].sum(dim=1))


def test_attended_is_the_weighted_sum_of_states():
    states = torch.tensor([[[1.0, 10.0], [3.0, 30.0]]])
    torch.testing.assert_close(attended(torch.tensor([[0.25, 0.75]]), states), torch.tensor([[2.5, 25.0]]))


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        pytest.param("per_step", 10 * 512, id="a vector a step, no bias"),
        pytest.param("shared", 513, id="one vector and a bias"),
        pytest.param("last", 0, id="nothing learned: last"),
        pytest.param("mean", 0, id="nothing learned: mean"),
        pytest.param("sum", 0, id="nothing learned: sum"),
    ],
)
def test_attention_has_the_parameters_of_the_specification(kind, expected):
    assert sum(p.numel() for p in temporal_attention(kind, 10, 512).parameters()) == expected


def test_the_step_vectors_start_within_one_over_the_root_of_the_width():
    weight = temporal_attention("per_step", 10, 64).weight
    assert weight.abs().max() <= 1 / 8
    assert weight.abs().max() > 0.9 / 8     # 640 uniform draws come that close
