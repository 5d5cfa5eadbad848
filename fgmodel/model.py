"""The two streams together and their fusion at test.

B  images      N  patches an image      S, P  pixels of a side      D  channels of a trunk      C  classes
T  time steps  H  width of the LSTM's states      h, w  cells of a map
"""

from math import inf, log, log1p
from typing import Literal, NamedTuple, TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor, nn

from fgmodel.config import ModelConfig, TrialConfig
from fgmodel.spatial import SpatialStream
from fgmodel.streams import GlobalStream, LocalStream, NoStream, TrunkStream
from fgmodel.trunks.backbones import Backbone, backbone

Fusion: TypeAlias = Literal["logits", "probs", "logprobs"]
AnyLocalStream: TypeAlias = NoStream | TrunkStream | LocalStream | SpatialStream


class Outputs(NamedTuple):
    """What the model says about a batch, patch by patch; an axis of length 0 says that it has no such thing."""

    global_logits: Float[Tensor, "B C"]
    local_logits: Float[Tensor, "B N C"]    # N = 0 without a local stream
    alpha: Float[Tensor, "B N T"]           # T = 0 without an LSTM
    states: Float[Tensor, "B N T H"]
    looks: Float[Tensor, "B N T h w"]       # h = w = 0 without spatial attention


class TwoStream(nn.Module):
    """Both streams: `features` turns pixels into features, calling it turns features into logits.

    Given the widths of features that were computed once (frozen trunks), no trunk is built.
    """

    local_stream: AnyLocalStream

    def __init__(self, config: ModelConfig, classes: int, feature_widths: tuple[int, int] | None = None) -> None:
        super().__init__()
        assert config.freeze_backbones == (feature_widths is not None)
        whole = patch = None
        if feature_widths is None:
            whole = backbone(config.global_backbone, config.weights)  # keeps its last pool: 14x14 cells at 448 px
            patch = _patch_trunk(config)
            feature_widths = (whole.width, patch.width if patch else 0)
        self.global_stream = GlobalStream(
            whole, feature_widths[0], classes, addon=config.global_addon, dropout=config.dropout,
        )
        self.local_stream = _local_stream(config, patch, feature_widths[1], classes)

    @property
    def local_head(self) -> nn.Linear:
        """The local stream's classifier."""
        assert not isinstance(self.local_stream, NoStream)
        return self.local_stream.head

    def features(
        self, images: Float[Tensor, "B 3 S S"], patches: Float[Tensor, "B N 3 P P"],
    ) -> tuple[Float[Tensor, "B Dg"], Float[Tensor, "B N ..."]]:
        """Return the features of whole images and patches (RGB in 0..1; the trunks normalise).

        They are pooled, but for the patches' where spatial attention looks at the map itself (B N D h w).
        """
        local = self.local_stream.features(patches.flatten(0, 1))                 # BN D   or BN D h w
        return self.global_stream.features(images), torch.unflatten(local, 0, patches.shape[:2])

    def forward(self, global_features: Float[Tensor, "B Dg"], local_features: Float[Tensor, "B N ..."]) -> Outputs:
        """Return logits, attention and states; every patch passes through the local stream by itself."""
        shape = local_features.shape[:2]                                          # B N
        of_patches = self.local_stream(local_features.flatten(0, 1))              # BN C, BN T, BN T H, BN T h w
        return Outputs(self.global_stream(global_features), *(torch.unflatten(each, 0, shape) for each in of_patches))


def _patch_trunk(config: ModelConfig) -> Backbone | None:
    if config.local_stream == "none":
        return None
    return backbone(
        config.local_backbone, config.weights,
        drop_last_pool=config.drop_last_pool, unstrided=config.local_stride16,
    )


def _local_stream(config: ModelConfig, trunk: Backbone | None, width: int, classes: int) -> AnyLocalStream:
    if config.local_stream == "none":
        return NoStream(classes)
    if config.local_stream == "trunk":
        return TrunkStream(trunk, width, classes, dropout=config.dropout)
    if config.spatial_attention == "none":
        return LocalStream(
            trunk, width, classes, hidden_size=config.hidden_size, time_steps=config.time_steps,
            attention=config.attention, sum_steps=config.sum_steps, dropout=config.dropout,
        )
    return SpatialStream(
        trunk, width, classes, hidden_size=config.hidden_size, time_steps=config.time_steps,
        attention=config.attention, sum_steps=config.sum_steps, dropout=config.dropout,
        place=config.spatial_attention, heads=config.attention_heads,
    )


def fused(
    global_logits: Float[Tensor, "*B C"], local_logits: Float[Tensor, "*B C"], weight: float, kind: Fusion = "logits",
) -> Float[Tensor, "*B C"]:
    """Return logits of the fused prediction: their argmax is its class, their softmax its probabilities.

    logits    z_g + w z_l, no softmax (TH 3.1.5), since the streams have separate classifiers
    probs     log of (p_g + w p_l) / (1 + w): a mixture is a distribution once divided by its weights' sum
    logprobs  log p_g + w log p_l: z_g + w z_l less a constant an image, so it predicts just what `logits` does
    """
    if kind == "logits":
        return global_logits + weight * local_logits
    log_g, log_l = global_logits.log_softmax(dim=-1), local_logits.log_softmax(dim=-1)
    if kind == "logprobs":
        return log_g + weight * log_l
    log_w = log(weight) if weight else -inf
    return torch.logaddexp(log_g, log_l + log_w) - log1p(weight)


def fusion_weight(config: TrialConfig) -> float:
    """Return w: `model.fusion_weight`, or λ' where it is not set, as in the thesis."""
    weight = config.model.fusion_weight
    return config.loss.lambda_local if weight is None else weight
