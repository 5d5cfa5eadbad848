import numpy as np
import pytest
import torch

from fgmodel.analysis.claim import Areas, answer, measure_areas, trends
from fgmodel.streams import LocalStream

FALLS = np.array([[0.6, 0.5, 0.4]] * 8)
FALLS_LESS = np.array([[0.6, 0.59, 0.58]] * 8)
RISES = FALLS[:, ::-1]
EVEN = np.full((8, 3), 0.5)
ENDS_LOWER = np.array([[0.6, 0.1, 0.5]] * 4 + [[0.5, 0.1, 0.6]] * 4)   # ρ −1/2 and +1/2


def areas(trained, untrained=EVEN, shuffled=EVEN):
    return Areas(trained, np.ones(trained.shape, bool), {"untrained": untrained[None], "shuffled": shuffled[None]}, trained, {})


@pytest.mark.parametrize(("row", "rho", "change"), [
    pytest.param([3.0, 2.0, 1.0], -1, -2, id="ever smaller"),
    pytest.param([1.0, 3.0, 2.0], 0.5, 1, id="1 - 6·2/(3·8)"),
    pytest.param([2.0, 2.0, 1.0], -0.866, -1, id="a tie: ranks 2.5 2.5 1"),
    pytest.param([1.0, 1.0, 1.0], 0, 0, id="the same is no decline"),
    pytest.param([1.0, np.nan, 3.0], np.nan, np.nan, id="a step without a map"),
])
def test_the_trend_of_an_image_is_spearmans_correlation_with_time_and_the_change_from_first_to_last(row, rho, change):
    seen = trends(np.array([row]))
    assert seen.rho == pytest.approx([rho], abs=1e-3, nan_ok=True)
    assert seen.change == pytest.approx([change], nan_ok=True)


@pytest.mark.parametrize(("given", "supported"), [
    pytest.param(areas(FALLS), True, id="falls, nulls even"),
    pytest.param(areas(FALLS, shuffled=RISES), True, id="falls, a null rises"),
    pytest.param(areas(FALLS, untrained=FALLS), False, id="falls as an untrained one does"),
    pytest.param(areas(FALLS, shuffled=FALLS), False, id="falls as a shuffled one does"),
    pytest.param(areas(FALLS_LESS, shuffled=FALLS), False, id="falls less than a null"),
    pytest.param(areas(EVEN), False, id="even"),
    pytest.param(areas(RISES), False, id="rises"),
    pytest.param(areas(EVEN, untrained=RISES, shuffled=RISES), False, id="below the nulls, yet no decline"),
    pytest.param(areas(ENDS_LOWER), False, id="half of the images"),
])
def test_the_claim_is_supported_only_where_both_measures_fall_and_beyond_both_nulls(given, supported):
    assert answer(given).supported == supported
    assert str(answer(given)).startswith("supported" if supported else "not supported")


def test_a_steady_small_decline_of_one_measure_alone_is_not_enough():
    same_rho_as_null = answer(areas(FALLS, untrained=FALLS_LESS, shuffled=FALLS_LESS))
    assert same_rho_as_null.change.declines
    assert not same_rho_as_null.rho.declines
    assert not same_rho_as_null.supported


def test_p_is_wilcoxons_one_sided_five_declines_of_five_come_by_chance_once_in_thirty_two():
    falls = np.array([[0.9, 0.9 - k / 10] for k in range(1, 6)])
    given = Areas(falls, np.ones((5, 2), bool), {"untrained": np.full((1, 5, 2), 0.5)}, falls, {})
    assert answer(given).change.p == pytest.approx(1 / 32)


def test_means_and_nulls_are_reported_with_what_was_left_out():
    given = areas(np.concatenate([FALLS[:6], [[np.nan, 0.5, 0.4]] * 2]), untrained=FALLS_LESS)
    seen = answer(given)
    assert (seen.images, seen.excluded) == (6, 2)
    assert seen.change.trained == pytest.approx((-0.2, -0.2, -0.2))
    assert seen.change.nulls["untrained"] == pytest.approx((-0.02, -0.02, -0.02))
    assert seen.change.beyond["untrained"] == pytest.approx((-0.18, -0.18, -0.18))


def test_right_steps_are_correlated_with_small_areas():
    seen = answer(areas(FALLS)._replace(correct=np.array([[False, False, True]] * 8)))
    # of 24, three groups of 8 by area; right ones are the smallest: ranks 20.5 12.5 4.5 with 8.5 8.5 20.5
    assert seen.area_and_correct.mean == pytest.approx(-0.866, abs=1e-3)


def test_areas_are_measured_of_the_stream_and_of_each_draw_of_each_null():
    torch.manual_seed(0)
    stream = LocalStream(None, 6, 3, hidden_size=5, time_steps=4, attention="per_step").eval()
    cells, labels = torch.rand(2, 6, 7, 7), torch.tensor([0, 2])
    seen = measure_areas(stream, cells, labels, draws=3)
    assert seen.trained.shape == seen.correct.shape == (2, 4)
    assert {name: null.shape for name, null in seen.nulls.items()} == {"untrained": (3, 2, 4), "shuffled": (3, 2, 4)}
    known = seen.nulls["untrained"][~np.isnan(seen.nulls["untrained"])]
    assert len(known)
    assert ((known > 0) & (known <= 1)).all()
