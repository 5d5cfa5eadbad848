"""The worker's side of an order: trains a trial from its checkpoint to its rung, an epoch a call, and reports each.

No Ray here: `search.run.actor` runs it in a process of Ray's, `search.run.inline` in this one.
"""

import gc
import json
import socket
import time
import traceback
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import torch

from fgmodel import atomic
from fgmodel.analysis.probe_images import SEEN_THROUGH, ProbeImages, open_probe_images
from fgmodel.config import TrialConfig
from fgmodel.errors import InputError, NoRoomError
from fgmodel.prepare import prepare
from fgmodel.test_split import Look, look
from fgmodel.training import Diverged, Run, best_device
from fgmodel.trial_data import TrialData, whole
from search.decide.dispatch import Order, Outcome

CHECKPOINT_SECONDS = 60.0  # of training that a crash may cost at most, beside the epoch under way


@dataclass(frozen=True)
class Room:
    """Where a worker finds things and how much of the machine it takes."""

    checkpoints: Path
    cache: Path
    threads: int


class Worker:
    """Runs orders one after another; what one of them prepared serves the next."""

    def __init__(self) -> None:
        self._data: dict[str, TrialData] = {}
        self._probes: dict[str, ProbeImages | None] = {}

    def take(self, order: Order, room: Room) -> None:
        """Take the next order; the run before it is let go, its memory included."""
        self._order, self._room = order, room
        self._run: Run | None = None
        self._saved = time.monotonic()
        self.over = False  # whether the order is done
        torch.set_num_threads(room.threads)
        if torch.cuda.is_available():
            gc.collect()
            torch.cuda.empty_cache()

    def epoch(self) -> Outcome:
        """Train one epoch and report it, or the end of the trial by its own fault."""
        try:
            outcome = self._epoch()
        except Diverged as error:
            outcome = self._failure(str(error), "divergence")
        except NoRoomError as error:
            outcome = self._failure(str(error), "storage")
        except InputError as error:
            outcome = self._failure(str(error), "error")
        except Exception as error:  # noqa: BLE001 a trial's own fault must not be retried by Tune, and must be shown
            where = traceback.extract_tb(error.__traceback__)[-1]
            said = f"{type(error).__name__}: {error} ({Path(where.filename).name}:{where.lineno})"
            outcome = self._failure(said.replace("\n", " "), "error")
        self.over = outcome.failure is not None or outcome.epoch >= self._order.to
        return outcome

    def _epoch(self) -> Outcome:
        order, begun = self._order, time.monotonic()
        run = self._run = self._run or self._start()
        metrics = run.train_epoch() | run.validate()
        predictions = None
        if order.final and run.epoch >= order.to:
            seen = look(run, prepare(run.config, self._room.cache, "test", device=best_device()))
            metrics |= seen.metrics
            predictions = self._keep(seen)
        if bad := [name for name, value in metrics.items() if not abs(value) < float("inf")]:
            raise Diverged(f"{bad[0]} is not finite at epoch {run.epoch}")
        checkpoint = self._save(run) if self._due(run) else None
        seconds = time.monotonic() - begun
        return Outcome(
            job=order.job,
            attempt=order.attempt,
            trial=order.trial,
            epoch=run.epoch,
            metrics=metrics,
            seconds=round(seconds, 4),
            checkpoint=checkpoint,
            predictions=predictions,
            looks=self._look(run) if run.epoch >= order.to and not order.final else None,
        )

    def _start(self) -> Run:
        if not self._room.checkpoints.parent.is_dir():  # a node that joined after the probe
            raise InputError(f"{socket.gethostname()}: does not see {self._room.checkpoints.parent}; every node must")
        config = TrialConfig.from_settings(self._order.settings)
        data = self._open(config)
        run = Run(config, whole(data) if self._order.final else data, best_device())
        if self._order.checkpoint and (file := self._room.checkpoints / self._order.checkpoint[1]).is_file():
            run.load(file)  # else it was deleted since the order was given: all epochs again, as the dispatcher would
        return run

    def _open(self, config: TrialConfig) -> TrialData:
        if self._order.boxes:
            config = TrialConfig.from_settings({**config.settings(), "data.patches": self._order.boxes})
        key = _chosen(config, ("data.", "model."))
        if key not in self._data:
            self._data = {key: prepare(config, self._room.cache, device=best_device())}
        return self._data[key]

    def _due(self, run: Run) -> bool:
        return run.epoch >= self._order.to or time.monotonic() - self._saved > CHECKPOINT_SECONDS

    def _look(self, run: Run) -> str | None:
        """Keep where the time steps look now, for MLflow's image grid; None where there is nothing to see."""
        key = _chosen(run.config, ("data.", *SEEN_THROUGH))
        if key not in self._probes:
            with suppress(InputError):  # of an image that is no longer there: the trial itself needs none of them
                self._probes = {key: open_probe_images(run.config, run.data, self._room.cache, best_device())}
        probe = self._probes.get(key)
        if probe is None:
            return None
        name = f"{self._stem()}.npz"
        atomic.write(self._room.checkpoints.parent / "looks" / name, probe.looks(run).write)
        return name

    def _keep(self, seen: Look) -> str:
        name = f"{self._stem()}.npz"
        atomic.write(self._room.checkpoints.parent / "predictions" / name, seen.write)
        return name

    def _stem(self) -> str:
        """Return a name no other attempt can have: a file counts once a journal line names it."""
        order, run = self._order, self._run
        assert run
        return f"{order.trial}/epoch{run.epoch}-job{order.job}.{order.attempt}"

    def _save(self, run: Run) -> str:
        name = f"{self._stem()}.safetensors"
        (self._room.checkpoints / name).parent.mkdir(parents=True, exist_ok=True)
        run.save(self._room.checkpoints / name)
        self._saved = time.monotonic()
        return name

    def _failure(self, why: str, reason: str) -> Outcome:
        order = self._order
        epoch = self._run.epoch if self._run else 0
        return Outcome(job=order.job, attempt=order.attempt, trial=order.trial, epoch=epoch, failure=why, reason=reason)


def _chosen(config: TrialConfig, begins: tuple[str, ...]) -> str:
    """Return a configuration's settings that begin so, as a key."""
    return json.dumps({k: v for k, v in config.settings().items() if k.startswith(begins)}, sort_keys=True)
