"""Tune's Trainable over `search.run.worker`: a border without logic, one epoch a step, on a process that stays warm."""

import time
from pathlib import Path
from typing import Any

from ray.tune import Trainable

from search.decide.dispatch import Order
from search.record.home import cache_here
from search.run.worker import Room, Worker

PARKED_SECONDS = 0.05


class TrialActor(Trainable):
    """Runs orders one after another; the driver decides when an order ends, so a finished one waits parked."""

    def setup(self, config: dict[str, Any]) -> None:
        """Take the first order."""
        self._worker = Worker()
        self.reset_config(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:  # always True: Tune hangs on False
        """Take the next order."""
        cache = cache_here(Path(new_config["cache"]), new_config["machine"])
        room = Room(Path(new_config["checkpoints"]), cache, new_config["threads"])
        self._worker.take(Order.model_validate_json(new_config["order"]), room)
        return True

    def step(self) -> dict[str, Any]:
        """Train one epoch and return its Outcome as text: Tune keeps every number it is given, but one string."""
        if self._worker.over:
            time.sleep(PARKED_SECONDS)
            return {}
        return {"outcome": self._worker.epoch().model_dump_json()}
