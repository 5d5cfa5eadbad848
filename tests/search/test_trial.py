"""The worker's side of an order, without Ray: what it makes of a disk that is full and of a checkpoint that is gone."""

import pytest
import torch

from fgmodel.errors import NoRoomError
from search.decide.dispatch import Order
from search.run.worker import Room, Worker


class Run:
    """A run that trains nothing."""

    epoch = 0

    def __init__(self, *_: object) -> None:
        self.loaded = []

    def load(self, path) -> None:
        self.loaded.append(path.name)


@pytest.fixture
def worker(space, tmp_path, monkeypatch) -> Worker:
    monkeypatch.setattr("search.run.worker.Run", Run)
    monkeypatch.setattr(Worker, "_open", lambda self, config: None)
    settings = space.config(space.reference()).settings()
    order = Order(job=7, attempt=1, trial=3, to=9, settings=settings, checkpoint=(3, "3/epoch3-job5.1.safetensors"))
    worker = Worker()
    worker.take(order, Room(tmp_path / "checkpoints", tmp_path, torch.get_num_threads()))
    return worker


def test_a_checkpoint_that_was_deleted_after_the_order_was_given_costs_epochs_and_not_the_trial(worker, tmp_path) -> None:
    assert worker._start().loaded == []
    (tmp_path / "checkpoints" / "3").mkdir(parents=True)
    (tmp_path / "checkpoints" / "3" / "epoch3-job5.1.safetensors").touch()
    assert worker._start().loaded == ["epoch3-job5.1.safetensors"]


def test_a_disk_without_room_is_told_as_the_storages_fault(worker, monkeypatch) -> None:
    def refuse(self):
        raise NoRoomError("epoch9.safetensors cannot be written: No space left on device")

    monkeypatch.setattr(Worker, "_epoch", refuse)
    assert worker.epoch().reason == "storage"
    assert worker.over
