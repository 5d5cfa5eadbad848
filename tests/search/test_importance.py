"""Importance against effects that were put there, and standing by hand."""

from pathlib import Path
from random import Random

import pytest

from search.record.history import History
from search.record.journal import Asked, Ended, Failed, Promoted, Reported
from search.show.importance import importance, importance_at, standings
from search.space.file import read_space

SPACES = Path(__file__).parents[2] / "spaces"


@pytest.fixture(scope="module")
def space():
    return read_space(SPACES / "finches.yaml")


def told(history: History, trial: int, epoch: int, value: float, settings: dict | None = None) -> None:
    """Take in a trial that reached a rung with a value."""
    if trial not in history.trials:
        history.see(Asked(trial=trial, settings=settings or {}, by="tpe", job=10 * trial, to=epoch))
        job = 10 * trial
    else:
        job = 10 * trial + epoch
        history.see(Promoted(trial=trial, rung=1, job=job, to=epoch))
    history.see(Reported(trial=trial, epoch=epoch, job=job, attempt=1, metrics={"val/accuracy": value, "val/nll": 1.0}, seconds=1, checkpoint=None))
    history.see(Ended(trial=trial, job=job))


def made(space, trials: int, worth) -> History:
    random, history = Random(1), History()
    for trial in range(trials):
        settings = space.draw(random)
        told(history, trial, 1, worth(settings), settings)
    return history


def test_standing_goes_by_rung_then_by_value_and_a_diverged_trial_stands_last(space) -> None:
    history = History()
    for trial, value in ((0, 0.2), (1, 0.9), (2, 0.5)):
        told(history, trial, 1, value)
    told(history, 2, 3, 0.6)                                   # promoted: above trial 1, whatever its value
    history.see(Asked(trial=3, settings={}, by="tpe", job=99, to=1))
    history.see(Failed(trial=3, job=99, reason="divergence", why="loss"))
    history.see(Asked(trial=4, settings={}, by="tpe", job=98, to=1))
    history.see(Failed(trial=4, job=98, reason="error", why="a broken disk"))
    history.see(Asked(trial=5, settings={}, by="tpe", job=97, to=1))   # running
    assert standings(space, history) == pytest.approx({2: 1.0, 1: 2 / 3, 0: 1 / 3, 3: 0.0})


@pytest.mark.slow
def test_a_setting_that_decides_alone_has_nearly_all_importance_and_its_curve_rises(space) -> None:
    found = importance(space, made(space, 200, lambda s: s["loss.lambda_local"]))
    assert found.explained > 0.9
    first = found.effects[0]
    assert first.parameter.name == "loss.lambda_local"
    assert first.alone > 0.9
    assert all(e.total < 0.1 for e in found.effects[1:])
    assert first.mean[-1] - first.mean[0] > 0.8                 # from the worst to the best
    assert (first.values[0], first.values[-1]) == (0.5, 2.0)    # the ends of its range


@pytest.mark.slow
def test_two_settings_that_only_matter_together_have_it_in_the_total(space) -> None:
    def same_side(s):
        return float((s["loss.lambda_local"] > 1.25) == (s["loss.lambda_rank"] > 1.0))

    shares = {e.parameter.name: e for e in importance(space, made(space, 500, same_side)).effects}
    for name in ("loss.lambda_local", "loss.lambda_rank"):
        assert shares[name].alone < 0.15
        assert shares[name].total > 0.4


@pytest.mark.slow
def test_pure_chance_is_not_explained(space) -> None:
    chance = Random(5)
    assert importance(space, made(space, 150, lambda _: chance.random())).explained < 0.1


def test_a_few_trials_have_no_importance(space) -> None:
    assert importance(space, made(space, 5, lambda s: s["loss.lambda_local"])) is None
    assert importance_at(space, made(space, 20, lambda s: s["loss.lambda_local"]), 3) is None


def test_choices_and_conditions_have_importance_too(tmp_path) -> None:
    (tmp_path / "choices.yaml").write_text(
        'tune:\n  loss.lambda_rank: {choices: [0.0, 1.0]}\n  loss.margin: {low: 0.0, high: 1.0, when: {loss.lambda_rank: "> 0"}}\n'
        "  optim.batch_size: {choices: [16, 32]}\n"
    )
    space = read_space(tmp_path / "choices.yaml")
    history = made(space, 120, lambda s: s.get("loss.margin", 0.5) + 2 * s["loss.lambda_rank"])
    shares = {e.parameter.name: e for e in importance(space, history).effects}
    assert shares["loss.lambda_rank"].alone > 0.5
    assert shares["loss.margin"].mean[-1] > shares["loss.margin"].mean[0] + 0.2
    assert shares["optim.batch_size"].total < 0.1
