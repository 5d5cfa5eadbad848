"""The two streams together and their fusion at test.

B  images      N  patches an image      S, P  pixels of a side      D  channels of a trunk      C  classes
T  time steps  H  width of the LSTM's states
"""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from fgmodel.backbones import backbone
from fgmodel.config import ModelConfig, TrialConfig
from fgmodel.streams import GlobalStream, LocalStream


class Outputs(NamedTuple):
    """What the model says about a batch, patch by patch."""

    global_logits: Float[Tensor, "B C"]
    local_logits: Float[Tensor, "B N C"]
    alpha: Float[Tensor, "B N T"]
    states: Float[Tensor, "B N T H"]


class TwoStream(nn.Module):
    """Both streams: `pooled` turns pixels into features, calling it turns features into logits.

    Given the widths of features that were computed once (frozen trunks), no trunk is built.
    """

    def __init__(self, config: ModelConfig, classes: int, feature_widths: tuple[int, int] | None = None) -> None:
        super().__init__()
        assert config.freeze_backbones == (feature_widths is not None)
        whole = patch = None
        if feature_widths is None:
            whole = backbone(config.global_backbone, config.weights)  # keeps its last pool: 14x14 cells at 448 px
            patch = backbone(config.local_backbone, config.weights, drop_last_pool=config.drop_last_pool)
            feature_widths = (whole.width, patch.width)
        self.global_stream = GlobalStream(
            whole, feature_widths[0], classes, addon=config.global_addon, dropout=config.dropout,
        )
        self.local_stream = LocalStream(
            patch,
            feature_widths[1],
            classes,
            hidden_size=config.hidden_size,
            time_steps=config.time_steps,
            attention=config.attention,
            dropout=config.dropout,
        )

    def pooled(
        self, images: Float[Tensor, "B 3 S S"], patches: Float[Tensor, "B N 3 P P"],
    ) -> tuple[Float[Tensor, "B Dg"], Float[Tensor, "B N Dl"]]:
        """Return the pooled features of whole images and patches (RGB in 0..1; the trunks normalise)."""
        local = self.local_stream.pooled(patches.flatten(0, 1))                   # BN D
        return self.global_stream.pooled(images), torch.unflatten(local, 0, patches.shape[:2])

    def forward(self, global_features: Float[Tensor, "B Dg"], local_features: Float[Tensor, "B N Dl"]) -> Outputs:
        """Return logits, attention and states; every patch passes through the local stream by itself."""
        shape = local_features.shape[:2]                                          # B N
        logits, alpha, states = self.local_stream(local_features.flatten(0, 1))   # BN C, BN T, BN T H
        return Outputs(
            self.global_stream(global_features),
            torch.unflatten(logits, 0, shape),
            torch.unflatten(alpha, 0, shape),
            torch.unflatten(states, 0, shape),
        )


def fused(
    global_logits: Float[Tensor, "B C"], local_logits: Float[Tensor, "B C"], weight: float,
) -> Float[Tensor, "B C"]:
    """Return z_g + w z_l (TH 3.1.5): logits, no softmax, since the streams have separate classifiers."""
    return global_logits + weight * local_logits


def fusion_weight(config: TrialConfig) -> float:
    """Return w: `model.fusion_weight`, or λ' where it is not set, as in the thesis."""
    weight = config.model.fusion_weight
    return config.loss.lambda_local if weight is None else weight
