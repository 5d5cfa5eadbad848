"""The race of finalists over seeds, by hand: who is trained again, who wins."""

from dataclasses import replace

import pytest

from search.decide import race
from search.record.history import History
from search.record.journal import Asked, Ended, Failed, Repeated, Reported
from search.space.space import Plan, Space
from tests.search.conftest import run_to_end

SEARCH = Plan(trials=3, epochs=2, rungs=(2,), finalists=2, seeds=2)


def report(history: History, trial: int, value: float, nll: float = 1.0) -> None:
    for epoch in (1, 2):
        history.see(Reported(trial=trial, epoch=epoch, job=trial, attempt=1, metrics={"val/accuracy": value, "val/nll": nll}, seconds=1, checkpoint=None))
    history.see(Ended(trial=trial, job=trial))


def searched(*values: float) -> History:
    """Return a history whose trial k reached the last rung with values[k]."""
    history = History()
    for k, value in enumerate(values):
        history.see(Asked(trial=k, settings={}, by="tpe", job=k, to=2))
        report(history, k, value)
    return history


def repeat(history: History, of: int, value: float | None, nll: float = 1.0) -> None:
    number = len(history.trials)
    history.see(Repeated(trial=number, of=of, settings={}, job=number, to=2))
    if value is None:
        history.see(Failed(trial=number, job=number, reason="divergence", why="loss is not finite"))
    else:
        report(history, number, value, nll)


def test_the_best_of_the_last_rung_are_repeated_in_rounds() -> None:
    history = searched(0.5, 0.9, 0.8)
    asked = []
    while again := race.due(SEARCH, history):
        asked.append((again[0].number, again[1]))
        repeat(history, again[0].number, 0.7)
    assert asked == [(1, 1), (2, 1), (1, 2), (2, 2)]


def test_the_winner_has_the_best_mean_over_fresh_seeds_not_the_luckiest_run() -> None:
    history = searched(0.5, 0.9, 0.8)
    for of, value in ((1, 0.70), (2, 0.78), (1, 0.74), (2, 0.80)):
        assert race.best(SEARCH, history).number == 1  # the leader, until the race is over
        repeat(history, of, value)
    assert race.best(SEARCH, history).number == 2
    first, second = race.confirmed(SEARCH, history)
    assert (first.mean, second.mean) == pytest.approx((0.79, 0.72))
    assert (first.sd, second.sd) == pytest.approx((0.0141421, 0.0282843), rel=1e-5)


def test_a_tie_goes_to_the_lower_nll() -> None:
    history = searched(0.5, 0.9, 0.8)
    for of, nll in ((1, 0.9), (2, 0.8), (1, 0.9), (2, 0.8)):
        repeat(history, of, 0.7, nll)
    assert race.best(SEARCH, history).number == 2


def test_a_finalist_that_diverges_with_another_seed_does_not_win() -> None:
    history = searched(0.5, 0.9, 0.8)
    for of, value in ((1, None), (2, 0.6), (1, 0.95), (2, 0.6)):
        repeat(history, of, value)
    assert race.best(SEARCH, history).number == 2


def test_repeats_are_no_candidates() -> None:
    history = searched(0.5, 0.9, 0.8)
    repeat(history, 1, 0.7)
    assert [t.number for t in history.candidates] == [0, 1, 2]


@pytest.fixture
def racing(space) -> Space:
    return replace(space, search=space.search.model_copy(update={"finalists": 2, "seeds": 2, "trials": 9}))


def test_a_search_ends_with_the_race(racing, dispatching) -> None:
    dispatcher = dispatching(racing)
    history = run_to_end(dispatcher)
    assert dispatcher.complete
    repeats = [t for t in history.trials.values() if t.repeats is not None]
    finalists = [t.number for t in race.finalists(racing.search, history)]
    assert sorted(t.repeats for t in repeats) == sorted(2 * finalists)
    for trial in repeats:
        number = sum(t.repeats == trial.repeats and t.number <= trial.number for t in repeats)
        assert (trial.settings["seed"], trial.settings["data.validation_seed"]) == (number, number)
        assert {k: v for k, v in trial.settings.items() if k not in ("seed", "data.validation_seed")} == history.trials[trial.repeats].settings


def test_a_finished_search_races_when_it_is_launched_with_finalists(space, racing, dispatching) -> None:
    plain = replace(space, search=space.search.model_copy(update={"trials": 9}))
    run_to_end(dispatching(plain))
    dispatcher = dispatching(racing)
    assert not dispatcher.complete
    run_to_end(dispatcher)
    assert dispatcher.complete


def test_trials_after_a_race_are_proposed_as_without_it(space, racing, dispatching) -> None:
    longer = replace(racing, search=racing.search.model_copy(update={"trials": 12, "finalists": 0}))
    run_to_end(dispatching(racing, "raced"))
    raced = run_to_end(dispatching(longer, "raced"))
    plain = replace(space, search=space.search.model_copy(update={"trials": 9}))
    run_to_end(dispatching(plain, "plain"))
    undisturbed = run_to_end(dispatching(longer, "plain"))
    assert [t.settings for t in raced.candidates] == [t.settings for t in undisturbed.candidates]
