import pytest

from search.decide.sampler import propose
from search.record.history import History
from search.record.journal import Asked, Ended, Failed, Reported
from search.space.space import Space


def with_sampler(space: Space, name: str, seed: int = 0) -> Space:
    sampler = space.search.sampler.model_copy(update={"name": name, "seed": seed})
    return Space(space.name, "", space.fixed, space.tune, space.search.model_copy(update={"sampler": sampler}))


def fill(space: Space, trials: int, history: History | None = None) -> History:
    """Ask and answer trials with an objective that likes λ near 1.6, off the centre where CMA-ES begins."""
    history = history or History()
    for number in range(len(history.trials), trials):
        settings, by = propose(space, history)
        history.see(Asked(trial=number, settings=settings, by=by, job=number, to=1))
        metrics = {"val/accuracy": 1 - abs(settings["loss.lambda_rank"] - 1.6), "val/nll": 1.0}
        history.see(Reported(trial=number, epoch=1, job=number, attempt=1, metrics=metrics, seconds=1, checkpoint=None))
        history.see(Ended(trial=number, job=number))
    return history


@pytest.mark.slow
@pytest.mark.parametrize("name", ["tpe", "random", "gp", "cmaes"])
def test_the_same_history_is_asked_the_same(name, space) -> None:
    space = with_sampler(space, name)
    history = fill(space, 14)
    assert propose(space, history) == propose(space, history)
    assert propose(space, history)[1] == name


@pytest.mark.parametrize("name", ["tpe", "random", "gp", "cmaes"])
def test_another_seed_asks_something_else(name, space) -> None:
    first, second = (propose(with_sampler(space, name, seed), fill(with_sampler(space, name), 3)) for seed in (0, 1))
    assert first != second


@pytest.mark.slow
@pytest.mark.parametrize("name", ["tpe", "gp", "cmaes"])
def test_a_model_based_sampler_beats_chance(name, space) -> None:
    def late(name: str) -> float:
        trials = fill(with_sampler(space, name), 50).trials
        return sum(abs(trials[k].settings["loss.lambda_rank"] - 1.6) for k in range(35, 50)) / 15

    assert late(name) < 0.6 * late("random")


def test_proposals_stay_inside_the_ranges_and_respect_conditions(space) -> None:
    for trial in list(fill(space, 30).trials.values())[1:]:
        for parameter in space.tune:
            if parameter.name in trial.settings:
                assert parameter.contains(trial.settings[parameter.name])
        assert ("loss.margin" in trial.settings) == (trial.settings["loss.lambda_rank"] > 0)


def test_no_configuration_is_proposed_twice(space) -> None:
    few = tuple(p for p in space.tune if p.name == "model.time_steps")
    space = Space(space.name, "", space.fixed, few, space.search)
    history = History()
    while proposal := propose(space, history):
        number = len(history.trials)
        history.see(Asked(trial=number, settings=proposal[0], by=proposal[1], job=number, to=1))
        history.see(Failed(trial=number, job=number, reason="error", why="not trained here"))
    assert sorted(t.settings["model.time_steps"] for t in history.trials.values()) == list(range(1, 11))


def test_start_points_come_right_after_the_reference(space) -> None:
    start = ({"optim.lr_global": 0.05},)
    space = Space(space.name, "", space.fixed, space.tune, space.search.model_copy(update={"start": start}))
    history = fill(space, 1)
    settings, by = propose(space, history)
    assert by == "start"
    assert settings == {**space.reference(), "optim.lr_global": 0.05}


def test_a_failed_trial_has_no_value_and_breaks_nothing(space) -> None:
    history = fill(space, 12)
    settings, by = propose(space, history)
    history.see(Asked(trial=12, settings=settings, by=by, job=12, to=1))
    history.see(Failed(trial=12, job=12, reason="divergence", why="loss is not finite at epoch 1"))
    assert propose(space, history)
