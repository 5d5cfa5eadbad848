"""The worker's side of an order, without Ray: what it makes of a disk that is full and of a checkpoint that is gone."""

import pytest

from fgmodel.errors import NoRoomError
from search.decide.dispatch import Order, Outcome
from search.run.worker import TrialActor


class Run:
    """A run that trains nothing."""

    epoch = 0

    def __init__(self, *_: object) -> None:
        self.loaded = []

    def load(self, path) -> None:
        self.loaded.append(path.name)


@pytest.fixture
def actor(space, tmp_path, monkeypatch) -> TrialActor:
    monkeypatch.setattr("search.run.worker.Run", Run)
    monkeypatch.setattr(TrialActor, "_open", lambda self, config: None)
    settings = space.config(space.reference()).settings()
    order = Order(job=7, attempt=1, trial=3, to=9, settings=settings, checkpoint=(3, "3/epoch3-job5.1.safetensors"))
    static = {"cache": str(tmp_path), "machine": "here", "checkpoints": str(tmp_path / "checkpoints"), "threads": 1}
    actor = TrialActor.__new__(TrialActor)
    actor.setup({"order": order.model_dump_json(), **static})
    return actor


def test_a_checkpoint_that_was_deleted_after_the_order_was_given_costs_epochs_and_not_the_trial(actor, tmp_path) -> None:
    assert actor._start().loaded == []
    (tmp_path / "checkpoints" / "3").mkdir(parents=True)
    (tmp_path / "checkpoints" / "3" / "epoch3-job5.1.safetensors").touch()
    assert actor._start().loaded == ["epoch3-job5.1.safetensors"]


def test_a_disk_without_room_is_told_as_the_storages_fault(actor, monkeypatch) -> None:
    def refuse(self):
        raise NoRoomError("epoch9.safetensors cannot be written: No space left on device")

    monkeypatch.setattr(TrialActor, "_epoch", refuse)
    assert Outcome.model_validate_json(actor.step()["outcome"]).reason == "storage"
