"""One run in plain PyTorch: start, train an epoch, validate, test, save, load.

A run trains one model a fold. Whatever is random is drawn from (seed, fold, epoch), so a run that was saved, loaded and
continued gives the numbers of one that was not interrupted, to the bit.
"""

from pathlib import Path

import torch
from torch import Tensor

from fgmodel import checkpoint
from fgmodel.batches import source
from fgmodel.config import TrialConfig, Value
from fgmodel.errors import InputError
from fgmodel.learner import Learner
from fgmodel.losses import Loss
from fgmodel.metrics import Evaluation, Observed, evaluate, measures, together
from fgmodel.model import TwoStream, fusion_weight
from fgmodel.posthoc import ModelStates
from fgmodel.trial_data import TrialData

_ELSEWHERE = ("data.root", "data.bad_images")
"""Settings whose effect is all in the data's fingerprint: a folder that moved keeps its checkpoints."""


class Diverged(Exception):
    """Training left the finite numbers, an outcome of a trial and no one's mistake; the message names the epoch."""


def best_device() -> str:
    """Return "cuda" where there is a GPU to be had, else "cpu"."""
    return "cuda" if torch.cuda.is_available() else "cpu"


class Run:
    """One configuration in training, from epoch 0 or from a checkpoint."""

    def __init__(self, config: TrialConfig, data: TrialData, device: str = "cpu") -> None:
        self.config = config
        self.data = data
        self.epoch = 0
        self._device = torch.device(device)
        self._source = source(config, data, self._device)
        self._labels = torch.tensor(data.labels)
        self._learners = [
            Learner(
                config,
                self._source,
                self._labels,
                torch.tensor(fold.train),
                classes=len(data.classes),
                number=number,
                device=self._device,
            )
            for number, fold in enumerate(data.folds)
        ]

    @property
    def models(self) -> list[TwoStream]:
        """The model of each fold."""
        return [learner.model for learner in self._learners]

    def train_epoch(self) -> dict[str, float]:
        """Train every fold's model for an epoch; return the mean loss and its parts over the images trained on.

        Raises Diverged: where a loss was not finite; the run is then of no further use.
        """
        sums = torch.stack([learner.train_epoch(self.epoch) for learner in self._learners]).sum(dim=0)
        self.epoch += 1
        self._require_finite("the loss", sums)
        loss = Loss(*(sums[:-1] / sums[-1]))
        measured = {
            "train/loss": loss.total.item(),
            "train/loss_global": loss.global_stream.item(),
            "train/loss_local": loss.local_stream.item(),
            "train/loss_rank": loss.rank.item(),
            "train/rank_active": loss.rank_active.item(),
            "train/p_global": loss.p_global.item(),
            "train/p_local": loss.p_local.item(),
        }
        if self.config.model.local_stream == "none":
            return {name: measured[name] for name in ("train/loss", "train/loss_global", "train/p_global")}
        return measured

    def validate(self) -> dict[str, float]:
        """Return every metric of an epoch over all folds' validation images, each image once.

        Nothing where no image is held out. Raises Diverged: where a prediction is not finite.
        """
        seen, rows = self._validated()
        return measures(seen, self._labels[rows], fusion_weight(self.config), self.config.model.fusion) if seen else {}

    def validated(self) -> tuple[Evaluation, Tensor]:
        """Return how the run does on all folds' validation images, and which images of the data they are, in order.

        Raises InputError: where no image is held out. Diverged: where a prediction is not finite.
        """
        seen, rows = self._validated()
        if seen is None:
            raise InputError("data.validation: no image was held out, so nothing is predicted on validation images")
        return evaluate(seen, self._labels[rows], fusion_weight(self.config), self.config.model.fusion), rows

    def test(self, data: TrialData) -> Evaluation:
        """Return how the run's model, trained on a single fold, does on all images of `data`."""
        (learner,) = self._learners
        seen = together(learner.observe(source(self.config, data, self._device), torch.arange(len(data.labels))))
        self._require_finite_logits(seen)
        return evaluate(seen, torch.tensor(data.labels), fusion_weight(self.config), self.config.model.fusion)

    def states(self, data: TrialData | None = None) -> list[ModelStates]:
        """Return what each fold's model holds of its own validation images, or of all images of `data`.

        For `posthoc`. Raises InputError: where the local stream has no time steps.
        """
        if self.config.model.local_stream != "lstm":
            raise InputError(f"model.local_stream: {self.config.model.local_stream} has no states; lstm has")
        images = source(self.config, data, self._device) if data else self._source
        labels = torch.tensor(data.labels) if data else self._labels
        return [
            learner.hold(images, torch.arange(len(labels)) if data else torch.tensor(fold.validation), labels)
            for learner, fold in zip(self._learners, self.data.folds, strict=True)
        ]

    def save(self, path: Path) -> None:
        """Keep weights, momentum and epoch in `path`, whole or not at all."""
        checkpoint.write(path, self._tensors(), self._identity(), self.epoch)

    def load(self, path: Path) -> None:
        """Continue from a checkpoint.

        Raises InputError: where the file is damaged or of another configuration; the run is then unchanged.
        """
        tensors, epoch = checkpoint.read(path, self._identity(), self._tensors())
        for learner in self._learners:
            learner.restore(tensors)
        self.epoch = epoch

    def _validated(self) -> tuple[Observed | None, Tensor]:
        rows = [torch.tensor(fold.validation) for fold in self.data.folds]
        if not any(len(fold_rows) for fold_rows in rows):
            return None, torch.cat(rows)
        seen = together([
            part
            for learner, fold_rows in zip(self._learners, rows, strict=True)
            for part in learner.observe(self._source, fold_rows)
        ])
        self._require_finite_logits(seen)
        return seen, torch.cat(rows)

    def _tensors(self) -> dict[str, Tensor]:
        return {name: tensor for learner in self._learners for name, tensor in learner.tensors().items()}

    def _identity(self) -> dict[str, Value]:
        settings = {name: value for name, value in self.config.settings().items() if name not in _ELSEWHERE}
        data = {"the data": self.data.fingerprint, "the split": self.data.split, "the boxes": self.data.patches}
        return settings | data

    def _require_finite_logits(self, seen: Observed) -> None:
        self._require_finite("a prediction", torch.cat([seen.global_logits.flatten(), seen.local_logits.flatten()]))

    def _require_finite(self, what: str, values: Tensor) -> None:
        if not values.isfinite().all():
            raise Diverged(f"{what} is not finite at epoch {self.epoch}; lower learning rates or a warm-up may help")
