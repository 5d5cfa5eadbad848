"""How sure a race is, against numbers worked out by hand or read from a table of Student's t."""

import math
from dataclasses import replace

import pytest

from search.show.verdict import asked, odds_above_zero, seeds_interval, verdict
from tests.search.test_confirm import SEARCH, repeat, searched


def test_the_interval_of_three_seeds_is_students() -> None:
    # mean 0.8, sd 0.02; t(0.975, 2) = 4.303, so ± 4.303 · 0.02 / √3 = ± 0.0497
    found = seeds_interval([0.78, 0.80, 0.82])
    assert found.mean == pytest.approx(0.80)
    assert (found.low, found.high) == pytest.approx((0.7503, 0.8497), abs=1e-4)
    assert math.isnan(seeds_interval([0.8]).low)


def test_the_odds_of_paired_differences() -> None:
    # mean 0.02, sd 0.02, n 4: t = 2; P(T < 2) with 3 degrees of freedom = 0.9303
    spread = 0.02 * math.sqrt(3 / 2)
    assert odds_above_zero([0.02 - spread, 0.02 + spread, 0.02, 0.02]) == pytest.approx(0.9303, abs=1e-4)
    assert odds_above_zero([0.0, 0.0]) == 0.5
    assert odds_above_zero([0.1, 0.1]) == 1.0
    assert math.isnan(odds_above_zero([0.1]))


@pytest.fixture
def racing(space):
    return replace(space, search=SEARCH)


def test_a_race_that_does_not_decide_says_so(racing) -> None:
    history = searched(0.5, 0.9, 0.8)
    for of, value in ((1, 0.70), (2, 0.78), (1, 0.76), (2, 0.74)):
        repeat(history, of, value)
    found = verdict(racing, history)
    assert found.trial.number == 2
    assert found.interval.mean == pytest.approx(0.76)
    assert found.race[1].behind.mean == pytest.approx(0.03)
    assert "#1, the next best, by 0.030" in found.sure
    assert "cannot be told apart" in found.sure
    assert "trial #2 " in found.answer


def test_a_race_that_decides_says_the_odds(racing) -> None:
    history = searched(0.5, 0.9, 0.8)
    for of, value in ((1, 0.700), (2, 0.780), (1, 0.701), (2, 0.780)):
        repeat(history, of, value)
    assert "the odds that it is truly better are over 99 %" in verdict(racing, history).sure


def test_without_a_race_the_best_is_called_lucky(space) -> None:
    found = verdict(replace(space, search=SEARCH.model_copy(update={"finalists": 0})), searched(0.5, 0.9, 0.8))
    assert found.interval is None
    assert "best of 3" in found.sure
    assert "lucky" in found.sure


def test_the_question_is_the_first_sentence_of_the_space_file(space) -> None:
    assert asked(space).startswith("Which loss weights, time steps and learning rates tell twelve drawn finches apart")
    assert asked(space).endswith("?")
