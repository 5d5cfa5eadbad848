from collections import Counter

import pytest

from search.decide.asha import Ladder, Promotion
from search.record.history import History
from search.record.journal import Asked, Ended, Promoted, Reported
from search.space.space import Plan
from tests.search.conftest import run_to_end


def climb(values: list[float], nll: list[float] | None = None) -> History:
    """Return a history in which trial k finished the rung of one epoch with values[k]."""
    history = History()
    for k, value in enumerate(values):
        history.see(Asked(trial=k, settings={}, by="tpe", job=k, to=1))
        metrics = {"val/accuracy": value, "val/nll": nll[k] if nll else 1.0}
        history.see(Reported(trial=k, epoch=1, job=k, attempt=1, metrics=metrics, seconds=1, checkpoint=None))
        history.see(Ended(trial=k, job=k))
    return history


def ladder(trials: int = 100, promote: bool = True) -> Ladder:
    return Ladder(Plan(trials=trials, epochs=9, rungs=(1, 3, 9), promote=promote))


def test_nothing_is_promoted_before_a_third_of_the_rung_is_sure() -> None:
    # trial 0 is the reference, which always climbs, so it is taken out of the way by its own promotion first
    history = climb([0.1, 0.5])
    history.see(Promoted(trial=0, rung=1, job=2, to=3))
    assert ladder().next(history) is None


def test_the_best_of_three_is_promoted() -> None:
    assert ladder().next(climb([0.1, 0.5, 0.3])) == Promotion(1, 1, 3)


def test_a_promoted_trial_is_not_promoted_twice() -> None:
    history = climb([0.1, 0.5, 0.3])
    history.see(Promoted(trial=1, rung=1, job=3, to=3))
    history.see(Promoted(trial=0, rung=1, job=4, to=3))
    assert ladder().next(history) is None


def test_a_tie_goes_to_the_lower_negative_log_likelihood() -> None:
    assert ladder().next(climb([0.1, 0.5, 0.5], nll=[1, 1, 0.9])) == Promotion(2, 1, 3)


def test_the_reference_always_climbs() -> None:
    assert ladder().next(climb([0.1])) == Promotion(0, 1, 3)


def test_a_higher_rung_is_served_first() -> None:
    history = climb([0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1])
    for k in (0, 1, 2):
        history.see(Promoted(trial=k, rung=1, job=9 + k, to=3))
        metrics = {"val/accuracy": 0.9 - k / 10, "val/nll": 1.0}
        history.see(Reported(trial=k, epoch=3, job=9 + k, attempt=1, metrics=metrics, seconds=1, checkpoint=None))
        history.see(Ended(trial=k, job=9 + k))
    assert ladder().next(history) == Promotion(0, 3, 9)


def test_once_no_trial_can_arrive_places_are_rounded_up() -> None:
    history = climb([0.4, 0.5])
    history.see(Promoted(trial=0, rung=1, job=2, to=3))
    assert ladder(trials=2).next(history) == Promotion(1, 1, 3)


@pytest.mark.parametrize(
    ("trials", "finished"),
    [
        # by hand: n, ceil(n/3), ceil(n/9), … plus the reference where it was not among them
        pytest.param(1, {1: 1, 3: 1, 9: 1, 27: 1}, id="one trial runs to the end"),
        pytest.param(24, {1: 24, 3: 8, 9: 3, 27: 1}, id="24 trials"),
    ],
)
def test_every_rung_keeps_a_third_and_the_last_is_always_reached(trials, finished, space, dispatching) -> None:
    search = space.search.model_copy(update={"trials": trials})
    history = run_to_end(dispatching(type(space)(space.name, "", space.fixed, space.tune, search)))
    count = Counter({rung: sum(t.rung >= rung for t in history.trials.values()) for rung in (1, 3, 9, 27)})
    for rung, least in finished.items():
        assert count[rung] >= least, "mispromotions of asynchronous ASHA only add"
    assert history.trials[0].rung == 27


def test_the_stopping_kind_stops_a_trial_worse_than_the_best_third() -> None:
    history = climb([0.9, 0.8, 0.1])
    assert ladder(promote=False).stops(history, history.trials[2])


def test_the_stopping_kind_lets_the_first_arrivals_pass() -> None:
    history = climb([0.5, 0.9])
    assert not ladder(promote=False).stops(history, history.trials[1])


def test_a_lower_objective_is_better_for_nll() -> None:
    search = Plan(trials=100, epochs=9, rungs=(1, 3, 9), objective="val/nll")
    assert Ladder(search).next(climb([0, 0, 0], nll=[2.0, 0.5, 1.0])) == Promotion(1, 1, 3)
