"""What is handed out and recorded, without Ray: the same journal, the same decisions."""

import json
from dataclasses import replace
from random import Random

import pytest

from search.decide.dispatch import Outcome
from search.errors import InputError
from search.record.history import History, load
from search.record.journal import read
from tests.search.conftest import run_to_end, train

DECISIONS = ("asked", "repeated", "promoted", "stopped", "failed")


def decisions(path) -> list[dict]:
    facts = [fact.model_dump(mode="json", exclude={"at"}) for fact in read(path)]
    return [fact for fact in facts if fact["fact"] in DECISIONS]


def reports(history: History) -> dict:
    return {t.number: t.reports for t in history.trials.values()}


def test_the_first_trial_is_the_reference(space, dispatching) -> None:
    order = dispatching(space).next()
    assert (order.settings["loss.lambda_rank"], order.settings["loss.lambda_local"], order.settings["loss.margin"]) == (
        0.5,
        1.0,
        0.5,
    )
    assert (
        order.settings["model.time_steps"],
        order.settings["optim.lr_global"],
        order.settings["optim.lr_local"],
    ) == (10, 0.001, 0.01)


def test_replaying_a_journal_twice_changes_nothing(space, dispatching) -> None:
    dispatcher = dispatching(space)
    run_to_end(dispatcher)
    once, twice = History.of(read(dispatcher.journal.path)), History.of([*read(dispatcher.journal.path)] * 1)
    for fact in read(dispatcher.journal.path):
        twice.see(fact)
    assert reports(once) == reports(twice) == reports(dispatcher.history)
    assert {t.number: (t.rung, t.promoted, t.checkpoint, t.seconds) for t in once.trials.values()} == {
        t.number: (t.rung, t.promoted, t.checkpoint, t.seconds) for t in twice.trials.values()
    }


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("how", [
    pytest.param({"promote": True}, id="promoting"),
    pytest.param({"promote": False}, id="stopping"),
    pytest.param({"finalists": 2, "seeds": 2}, id="racing"),
])  # fmt: skip
def test_a_driver_killed_at_any_moment_decides_as_the_undisturbed_one(seed, how, space, dispatching) -> None:
    space = replace(space, search=space.search.model_copy(update=how))
    whole = dispatching(space, "whole")
    run_to_end(whole)
    random = Random(seed)
    while True:  # a driver that dies again and again: the journal may lose its last line, never one before it
        killed = dispatching(space, "killed")
        killed.history.lost = sorted(killed.history.live)  # what `Launched` says
        orders = random.randint(0, 12)
        order = None
        for _ in range(orders):
            if not (order := killed.next()):
                break
            train(
                killed,
                order,
                until=random.randint((order.checkpoint or (0, ""))[0], order.to) if random.random() < 0.3 else None,
            )
            if killed.history.live:
                break
        if killed.complete:
            break
    assert decisions(killed.journal.path) == decisions(whole.journal.path)
    assert reports(killed.history) == reports(whole.history)


def test_a_lost_job_is_issued_again_from_its_checkpoint(space, dispatching) -> None:
    dispatcher = dispatching(space)
    train(dispatcher, dispatcher.next())
    order = dispatcher.next()
    train(dispatcher, order, until=2)
    dispatcher.lose(order.job, order.attempt, "killed")
    again = dispatcher.next()
    assert (again.trial, again.job, again.attempt, again.checkpoint[0]) == (order.trial, order.job, 2, 2)


def test_a_trial_whose_worker_keeps_vanishing_fails_after_the_allowed_retries(space, dispatching) -> None:
    dispatcher = dispatching(space)
    for _ in range(1 + space.search.retries):
        order = dispatcher.next()
        dispatcher.lose(order.job, order.attempt, "killed")
    assert dispatcher.history.trials[0].reason == "lost"
    assert dispatcher.next().trial == 1


def test_an_attempt_that_was_given_up_is_not_heard_any_more(space, dispatching) -> None:
    dispatcher = dispatching(space)
    old = dispatcher.next()
    dispatcher.lose(old.job, old.attempt, "silent for long")
    dispatcher.next()
    before = dispatcher.history.facts
    assert dispatcher.take(
        Outcome(job=old.job, attempt=old.attempt, trial=old.trial, epoch=1, metrics={"val/accuracy": 1.0})
    )
    assert dispatcher.history.facts == before


def test_a_failed_trial_fails_at_once_and_is_not_retried(space, dispatching) -> None:
    dispatcher = dispatching(space)
    order = dispatcher.next()
    dispatcher.take(
        Outcome(job=0, attempt=1, trial=0, epoch=1, failure="loss is not finite at epoch 1", reason="divergence")
    )
    assert dispatcher.history.trials[0].failure == "loss is not finite at epoch 1"
    assert dispatcher.next().trial == order.trial + 1


def test_a_search_whose_first_trials_all_fail_by_an_error_ends_with_that_error(space, dispatching) -> None:
    dispatcher = dispatching(space)

    def fail() -> None:
        order = dispatcher.next()
        dispatcher.take(Outcome(job=order.job, attempt=1, trial=order.trial, epoch=0, failure="no such file", reason="error"))

    fail()
    fail()
    with pytest.raises(InputError, match="the first 3 trials failed, the last one with: no such file"):
        fail()


def test_a_full_disk_ends_the_search_and_fails_no_trial(space, dispatching) -> None:
    dispatcher = dispatching(space)
    order = dispatcher.next()
    full = Outcome(job=0, attempt=1, trial=0, epoch=1, failure="epoch1.safetensors cannot be written: No space left on device", reason="storage")
    with pytest.raises(InputError, match="No space left on device"):
        dispatcher.take(full)
    assert dispatcher.history.trials[0].reason is None
    dispatcher.history.lost = [order.job]  # as the next launch finds it
    assert dispatcher.next().trial == order.trial


def test_superseded_checkpoints_are_deleted(space, dispatching) -> None:
    dispatcher = dispatching(space)
    run_to_end(dispatcher)
    for folder in dispatcher.checkpoints.iterdir():
        assert len(list(folder.iterdir())) == 1


@pytest.mark.slow
def test_a_complete_search_keeps_only_the_finished_trials_checkpoints_and_an_extension_retrains(
    space, dispatching
) -> None:
    dispatcher = dispatching(space)
    run_to_end(dispatcher)
    dispatcher.finish("stopped")
    kept = {int(p.parent.name) for p in dispatcher.checkpoints.glob("*/*")}
    assert kept == {t.number for t in dispatcher.history.trials.values() if t.rung == 27}
    wider = type(space)(space.name, "", space.fixed, space.tune, space.search.model_copy(update={"trials": 60}))
    extended = dispatching(wider)
    extended.history.finished = None
    run_to_end(extended)
    assert len(extended.history.trials) == 60
    assert all(set(range(1, t.rung + 1)) <= set(t.reports) for t in extended.history.trials.values())


def test_a_finite_space_ends_when_every_configuration_was_tried(tmp_path, dispatching) -> None:
    from search.space.file import read_space

    path = tmp_path / "tiny.yaml"
    path.write_text(
        "tune: {model.time_steps: {low: 1, high: 3}}\nfixed: {data.dataset: finches}\nsearch: {trials: 50, epochs: 3}\n"
    )
    history = run_to_end(dispatching(read_space(path)))
    tried = [json.dumps(t.settings) for t in history.trials.values()]
    assert len(tried) == len(set(tried)) == 4  # T = 1, 2, 3 and the reference's 10


def test_the_history_on_disk_is_the_history_in_memory(space, dispatching) -> None:
    dispatcher = dispatching(space)
    run_to_end(dispatcher)
    assert load(dispatcher.journal.path) == dispatcher.history
