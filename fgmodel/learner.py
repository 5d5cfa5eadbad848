"""One model in training: a fold's images, its optimiser, and all that must survive an interruption.

B  images of a batch      K  patches of each      n  images of the fold's training part
"""

from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from fgmodel.batches import Batch, Source, draw, evaluation_picks
from fgmodel.config import TrialConfig
from fgmodel.losses import Loss, global_loss, two_stream_loss
from fgmodel.metrics import Observed, observe, step_logits
from fgmodel.model import Outputs, TwoStream
from fgmodel.posthoc import Held, ModelStates, hold
from fgmodel.schedule import rate_factor

_PATCHES_AT_ONCE = 250
"""Patches of an evaluation batch on features: enough to fill the matrix product, few enough to stay in the cache."""


class Learner:
    """The model of fold `number`, trained on `rows`; whatever is random follows (seed, fold, epoch)."""

    def __init__(
        self,
        config: TrialConfig,
        source: Source,
        labels: Int[Tensor, " n_all"],
        rows: Int[Tensor, " n"],
        *,
        classes: int,
        number: int,
        device: torch.device,
    ) -> None:
        self._config, self._source, self._rows, self._number, self._device = config, source, rows, number, device
        self._labels = labels.to(device)
        with seeded(config.seed, number, 0, device):
            model = TwoStream(config.model, classes, source.widths)  # on the CPU: a GPU starts from the same weights
        self.model = model.to(device).to(memory_format=torch.channels_last)  # touches what has four dimensions
        self._optimizer = _optimizer(config, self.model)

    def train_epoch(self, epoch: int) -> Float[Tensor, " parts"]:
        """Return the loss and its parts summed over the images, then the images' number."""
        self.model.train()
        with seeded(self._config.seed, self._number, 1 + epoch, self._device) as generator:
            order = torch.randperm(len(self._rows), generator=generator)
            draws = draw(len(self._rows), generator)
            batches = _batches(order, self._config.optim.batch_size)
            sums = torch.zeros(len(Loss._fields) + 1, device=self._device)
            for step, chosen in enumerate(batches):
                self._set_rates(epoch + (step + 0.5) / len(batches))
                sums += self._step(self._rows[chosen], draws[chosen])
        return sums.cpu()  # the epoch's one synchronisation with a GPU

    @torch.inference_mode()
    def observe(self, source: Source, rows: Int[Tensor, " m"]) -> list[Observed]:
        """Return what validation keeps of each of the images, in order, in batches."""
        draws = self._config.data.evaluation_patches == "random"
        return [observe(outputs, self.model, draws=draws) for outputs in self._evaluated(source, rows)]

    @torch.inference_mode()
    def hold(self, source: Source, rows: Int[Tensor, " m"], labels: Int[Tensor, " n_all"]) -> ModelStates:
        """Return the states of each of the images, in order, with the head that reads them."""
        draws = self._config.data.evaluation_patches == "random"
        parts = [hold(outputs, draws=draws) for outputs in self._evaluated(source, rows)]
        head = deepcopy(self.model.local_head).cpu().requires_grad_(False)  # noqa: FBT003  torch's own signature
        return ModelStates(head, labels[rows], Held(*(torch.cat(column) for column in zip(*parts, strict=True))))

    def tensors(self) -> dict[str, Tensor]:
        """Return all that decides how training goes on: weights, buffers, momentum."""
        state = {f"fold{self._number}/model/{name}": value for name, value in self.model.state_dict().items()}
        for name, parameter in self.model.named_parameters():
            for key, value in self._optimizer.state[parameter].items():
                state[f"fold{self._number}/{key}/{name}"] = value
        return state

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Take back what `tensors` returned; names of other folds may be among it."""
        with torch.no_grad():
            for name, value in self.tensors().items():
                value.copy_(tensors[name])  # in place: each keeps its device and memory format

    def _evaluated(self, source: Source, rows: Int[Tensor, " m"]) -> Iterator[Outputs]:
        self.model.eval()
        picks = evaluation_picks(self._config.data, len(rows), source.patches_per_image)          # m K
        frozen = self._config.model.freeze_backbones
        patches = _PATCHES_AT_ONCE if frozen else self._config.optim.batch_size  # no more pixels than in training
        size = max(1, patches // max(1, picks.shape[1]))
        for batch in zip(torch.split(rows, size), torch.split(picks, size), strict=True):
            yield self._forward(source.evaluation(*batch))

    def _step(self, rows: Int[Tensor, " B"], draws: Float[Tensor, "B R"]) -> Float[Tensor, " parts"]:
        outputs = self._forward(self._source.training(rows, draws))                                # K = 1
        labels = self._labels[rows.to(self._device)]
        loss = self._loss(outputs, labels)
        self._optimizer.zero_grad()
        torch.autograd.backward(loss.total)
        if self._config.optim.clip_norm is not None:
            nn.utils.clip_grad_norm_(self.model.parameters(), self._config.optim.clip_norm)
        self._optimizer.step()
        return len(rows) * torch.stack([*loss, torch.ones_like(loss.total)]).detach()

    def _loss(self, outputs: Outputs, labels: Int[Tensor, " B"]) -> Loss:
        if self._config.model.local_stream == "none":
            return global_loss(outputs.global_logits, labels, self._config.loss)
        steps = step_logits(self.model, outputs.states)[:, 0] if self._config.loss.every_step else None  # B T C
        return two_stream_loss(outputs.global_logits, outputs.local_logits[:, 0], labels, self._config.loss, steps)

    def _forward(self, batch: Batch) -> Outputs:
        outputs: Outputs
        if self._config.model.freeze_backbones:
            outputs = self.model(*batch)
        else:
            with torch.autocast(self._device.type, torch.bfloat16, enabled=self._config.optim.precision == "bf16"):
                features = self.model.features(*batch)
            outputs = self.model(*features)  # LSTM, softmax and loss stay in full precision (§3)
        return outputs

    def _set_rates(self, epoch: float) -> None:
        factor = rate_factor(self._config.optim, epoch)
        for group in self._optimizer.param_groups:
            group["lr"] = factor * group["base_lr"]


@contextmanager
def seeded(seed: int, fold: int, moment: int, device: torch.device) -> Iterator[torch.Generator]:
    """Yield a generator for one moment of one fold; torch's own, which dropout in a trunk uses, is set likewise.

    Moment 0 is the start, 1 + e is epoch e. Torch's own generator is put back afterwards.
    """
    mixed = int(np.random.SeedSequence([seed, fold, moment]).generate_state(1, np.uint64)[0])
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(mixed)
        yield torch.Generator().manual_seed(mixed)


def _batches(order: Int[Tensor, " n"], size: int) -> list[Tensor]:
    batches = list(torch.split(order, size))
    if size > 1 and len(batches) > 1 and len(batches[-1]) == 1:
        batches.pop()  # batch norm cannot learn from one image (§8.12)
    return batches


def _optimizer(config: TrialConfig, model: TwoStream) -> torch.optim.SGD:
    optim = config.optim
    streams = ((model.global_stream, optim.lr_global), (model.local_stream, optim.lr_local))
    optimizer = torch.optim.SGD(
        [{"params": list(stream.parameters()), "lr": rate, "base_lr": rate} for stream, rate in streams],
        momentum=optim.momentum,
        weight_decay=optim.weight_decay,
        fused=True,  # one pass over the weights: a tenth of a step on a CPU
    )
    if optim.momentum:
        for parameter in model.parameters():  # zero is what SGD's first step amounts to; so every checkpoint has it
            optimizer.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
    return optimizer
