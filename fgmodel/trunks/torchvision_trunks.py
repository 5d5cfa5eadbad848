"""Trunks of torchvision's classifiers, cut out of their traced graphs."""

import pickle
import re
from typing import cast

import torch
import torchvision
from torch import Tensor, fx, nn
from torch.fx.passes.shape_prop import ShapeProp

from fgmodel.errors import InputError
from fgmodel.trunks.find import PROBE, Trunk, Weights, no_stride16, no_weights

IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)    # torchvision's documented normalisation
ONE_SIZE = ("vit_", "maxvit")   # torchvision builds these for 224 px and nothing else


def names() -> list[str]:
    """Return every classifier torchvision can build."""
    return cast("list[str]", torchvision.models.list_models(module=torchvision.models))


def build(name: str, weights: Weights, *, stride16: bool) -> Trunk:
    """Return the trunk of torchvision's model `name`; raises InputError."""
    if name.startswith(ONE_SIZE):
        raise InputError(f"torchvision's '{name}' reads one image size only; swin_t, for one, reads any")
    quick = {"init_weights": False} if name in ("googlenet", "inception_v3") else {}   # theirs takes a minute and warns
    with torch.device("meta" if weights == "imagenet" else "cpu"):
        model = torchvision.models.get_model(name, **quick)
    if weights == "imagenet":
        model.load_state_dict(_weights(name), assign=True)
    if hasattr(model, "transform_input"):
        model.transform_input = True   # Inception's weights expect 0.5 / 0.5; it converts from ImageNet's mean itself
    return Trunk(_cut(name, model.eval(), stride16=stride16), *IMAGENET)


def _weights(name: str) -> dict[str, Tensor]:
    first = next(iter(torchvision.models.get_model_weights(name)))   # first published: IMAGENET1K_V1, the thesis' VGG19
    try:
        state = first.get_state_dict(progress=False, check_hash=True, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
        raise no_weights(name, error) from None
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
            raise no_stride16(name)
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
