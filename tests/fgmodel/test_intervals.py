import numpy as np
import pytest

from fgmodel.analysis.intervals import beyond_null, mean_interval, null_interval, rank_correlation_interval


def test_a_hundred_coins_give_a_mean_of_one_half_give_or_take_two_standard_errors():
    interval = mean_interval(np.tile([0.0, 1.0], 50))
    assert interval.mean == 0.5
    assert interval.low == pytest.approx(0.402, abs=0.01)      # 0.5 − 1.96·0.05
    assert interval.high == pytest.approx(0.598, abs=0.01)


def test_what_is_not_known_is_left_out_of_a_mean():
    assert mean_interval(np.array([1.0, np.nan, 3.0])).mean == 2


def test_a_curve_has_an_interval_a_step():
    interval = mean_interval(np.array([[1.0, 2.0], [1.0, 4.0]]))
    assert interval.mean.tolist() == [1, 3]
    assert (interval.low[0], interval.high[0]) == (1, 1)
    assert (interval.low[1], interval.high[1]) == (2, 4)


def test_a_nulls_interval_is_within_what_one_draw_falls():
    assert null_interval(np.array([[0.0, 0.0], [1.0, 1.0]])) == (0.5, 0, 1)


def test_what_is_beyond_a_null_holds_how_far_its_draws_lie_apart():
    assert beyond_null(np.array([5.0, 5.0]), np.array([[1.0, 1.0], [3.0, 3.0]])) == (3, 2, 4)


def test_the_same_seed_gives_the_same_interval():
    values = np.arange(10.0)
    assert mean_interval(values, seed=1) == mean_interval(values, seed=1) != mean_interval(values, seed=2)


@pytest.mark.parametrize(("other", "expected"), [
    pytest.param([[1.0, 2.0], [3.0, 4.0]], 1.0, id="same order"),
    pytest.param([[9.0, 8.0], [7.0, 6.0]], -1.0, id="opposite order"),
    pytest.param([[1.0, 2.0], [4.0, 3.0]], 0.8, id="1 - 6·2/(4·15)"),
])
def test_rank_correlation_is_spearmans_over_all_images_and_steps(other, expected):
    assert rank_correlation_interval(np.array([[1.0, 2.0], [3.0, 4.0]]), np.array(other)).mean == pytest.approx(expected)


def test_nothing_correlates_with_what_is_the_same_everywhere():
    assert np.isnan(rank_correlation_interval(np.array([[1.0, 2.0]]), np.ones((1, 2)))).all()
