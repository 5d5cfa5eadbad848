import pytest

from fgmodel.config import OptimConfig
from fgmodel.schedule import rate_factor


def factors(at, **settings):
    return [rate_factor(OptimConfig(**settings), float(epoch)) for epoch in at]


def test_step_multiplies_by_a_tenth_every_forty_epochs():
    assert factors([0, 39.99, 40, 79.99, 80]) == pytest.approx([1, 1, 0.1, 0.1, 0.01])


def test_milestones_multiply_by_a_tenth_at_each_of_them():
    assert factors([0, 29.99, 30, 60], schedule="milestones") == pytest.approx([1, 1, 0.1, 0.01])


def test_cosine_spans_all_epochs_and_stays_at_zero_after():
    expected = [1, 0.853553, 0.5, 0, 0]     # (1 + cos 45°) / 2 at a quarter
    assert factors([0, 5, 10, 20, 25], schedule="cosine", epochs=20) == pytest.approx(expected, abs=1e-6)


def test_constant_stays():
    assert factors([0, 99], schedule="constant") == [1, 1]


def test_warmup_rises_linearly_under_any_schedule():
    assert factors([0.5, 1, 2, 3], schedule="constant", warmup_epochs=2) == [0.25, 0.5, 1, 1]
    assert factors([1], schedule="cosine", epochs=2, warmup_epochs=2) == pytest.approx([0.25])
