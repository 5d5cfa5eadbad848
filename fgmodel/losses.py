"""The loss of both streams (Eq. 3.8-3.11).

B  images in the batch      C  classes      T  time steps
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from fgmodel.config import LossConfig


class Loss(NamedTuple):
    """The loss and its parts, each the mean over the batch."""

    total: Float[Tensor, ""]
    global_stream: Float[Tensor, ""]  # CE(z_g, y)
    local_stream: Float[Tensor, ""]   # CE(z_l, y)
    rank: Float[Tensor, ""]           # the hinge, not yet times λ
    rank_active: Float[Tensor, ""]    # share of images whose hinge is above zero
    p_global: Float[Tensor, ""]       # probability of the true class
    p_local: Float[Tensor, ""]


def two_stream_loss(
    global_logits: Float[Tensor, "B C"],
    local_logits: Float[Tensor, "B C"],
    labels: Int[Tensor, " B"],
    config: LossConfig,
    step_logits: Float[Tensor, "B T C"] | None = None,
) -> Loss:
    """Return mean_n [CE(z_g, y) + λ' CE(z_l, y) + λ max(0, p_g - p_l + m)].

    Eq. 3.9 sums over the images; the mean keeps the learning rate's meaning when the batch size is searched. With
    `step_logits`, CE(z_l, y) is the mean over the time steps of each one's (Table 6.1c); p_l stays z_l's.
    """
    p_global, p_local = _log_true(global_logits, labels).exp(), _log_true(local_logits, labels).exp()  # B, B
    hinge = ranking_hinge(p_global, p_local, config.margin, detach_global=config.detach_global)  # B
    ce_global = F.cross_entropy(global_logits, labels, label_smoothing=config.label_smoothing)
    if step_logits is None:
        ce_local = F.cross_entropy(local_logits, labels, label_smoothing=config.label_smoothing)
    else:
        each = labels[:, None].expand(step_logits.shape[:2])                       # B T
        ce_local = F.cross_entropy(step_logits.mT, each, label_smoothing=config.label_smoothing)
    rank = hinge.mean()
    total = ce_global + config.lambda_local * ce_local + config.lambda_rank * rank
    return Loss(total, ce_global, ce_local, rank, (hinge > 0).float().mean(), p_global.mean(), p_local.mean())


def global_loss(global_logits: Float[Tensor, "B C"], labels: Int[Tensor, " B"], config: LossConfig) -> Loss:
    """Return CE(z_g, y), all there is to learn without a local stream (Table 6.1a); the other parts are 0."""
    p_global = _log_true(global_logits, labels).exp()   # B
    ce_global = F.cross_entropy(global_logits, labels, label_smoothing=config.label_smoothing)
    none = torch.zeros_like(ce_global)
    return Loss(ce_global, ce_global, none, none, none, p_global.mean(), none)


def ranking_hinge(
    p_global: Float[Tensor, " B"], p_local: Float[Tensor, " B"], margin: float, *, detach_global: bool,
) -> Float[Tensor, " B"]:
    """Return max(0, p_g - p_l + m): it pushes the local stream's p above the global's by the margin (Eq. 3.11).

    Detached, p_g is a reference; else lowering it is the cheap way to satisfy the loss (specification §8.6).
    """
    reference = p_global.detach() if detach_global else p_global
    return (reference - p_local + margin).relu()


def _log_true(logits: Tensor, labels: Tensor) -> Tensor:
    return logits.log_softmax(dim=1).gather(1, labels[:, None]).squeeze(1)  # B
