"""Any torchvision or timm trunk by name: pixels in, feature map out, normalised as its weights expect.

Legend: B images, H W pixels, D channels of the map, h w its cells.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

from fgmodel.errors import InputError
from fgmodel.trunks.find import PROBE, Trunk, Weights, find_trunk


class Backbone(nn.Module):
    """A trunk without its classifier, which takes RGB in 0..1 and normalises by itself.

    `width` is D; `weights_id` names the weights it started with, by their content. A frozen one stays in eval mode.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, trunk: Trunk, weights_id: str) -> None:
        super().__init__()
        self.trunk = trunk.module
        self.weights_id = weights_id
        self.frozen = False
        # Buffers move with the trunk, but are no weights: they do not belong into a checkpoint.
        self.register_buffer("mean", torch.tensor(trunk.mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(trunk.std).view(1, 3, 1, 1), persistent=False)
        self.width = _probe(self).shape[1]

    def forward(self, x: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B D h w"]:
        """Return the trunk's map of RGB images in 0..1."""
        return cast("Tensor", self.trunk((x - self.mean) / self.std))   # once, after cropping (thesis §8.4)

    def train(self, mode: bool = True) -> "Backbone":
        """Switch batch norm and dropout, unless the trunk is frozen."""
        return super().train(mode and not self.frozen)


def backbone(
    name: str, weights: Weights, *, drop_last_pool: bool = False, stride16: bool = False, unstrided: bool = False,
) -> Backbone:
    """Return the trunk called `name`, up to its last map; with `stride16`, up to its last map of that stride.

    `drop_last_pool` leaves out a max pool that ends the trunk (VGG's; the released code, thesis §1 row 3); others have
    none. `unstrided` keeps the last stage, at stride 16 instead of 32 (chapter 7). Random weights are always the same
    draw, so that what they compute can be cached.
    Raises InputError: for an unknown name (with the nearest ones), for weights that cannot be had, and for a trunk
    whose last stage has no stride to take away.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        trunk = find_trunk(name, weights, stride16=stride16)
    found = Backbone(trunk, f"{name}:{weights}:{_digest(trunk.module)}")
    if drop_last_pool:
        _drop_last_pool(found)
    if unstrided:
        _unstride(found, name)
    return found


def freeze(b: Backbone) -> Backbone:
    """Make `b` a fixed function, in place: no gradients, eval mode, each batch norm folded into its convolution.

    Measured with EfficientNet-Lite0 at 160 px on one thread: 22.1 ms an image, 14.2 with channels last, 11.9 with both;
    its map (values to 6) moves by 4e-5 at most.
    """
    b.frozen = True
    b.eval()
    _fold_batch_norms(b)
    return b.to(memory_format=torch.channels_last).requires_grad_(requires_grad=False)


def _digest(trunk: nn.Module) -> str:
    content = hashlib.sha256()
    for name, value in trunk.state_dict().items():
        content.update(name.encode())
        content.update(value.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return content.hexdigest()[:16]


def _probe(b: Backbone) -> Float[Tensor, "1 D h w"]:
    training = b.training
    with torch.inference_mode():
        out = b.eval()(torch.zeros(1, 3, PROBE, PROBE))
    b.train(training)
    return cast("Tensor", out)


def _drop_last_pool(b: Backbone) -> None:
    last = _calls(b)[-1]
    if isinstance(last.module, nn.MaxPool2d):
        b.set_submodule(last.name, nn.Identity())


def _unstride(b: Backbone, name: str) -> None:
    """Set the convolutions that halve the map last to stride 1, as §1 does with ResNet34's layer4."""
    calls, side = _calls(b), _probe(b).shape[-1]
    halving = [call.module for call in calls if call.returned.shape[-1] == side < call.given.shape[-1]]
    convolutions = [module for module in halving if isinstance(module, nn.Conv2d)]
    possible = side == PROBE // 32 and len(convolutions) == len(halving)    # a pool on a shortcut cannot follow
    for module in convolutions if possible else ():
        module.stride = (1, 1)
    if not possible or _probe(b).shape[-1] != PROBE // 16:
        raise InputError(
            f"model.local_stride16: '{name}' does not come to stride 32 by convolutions that could do without; "
            "resnet34 does, or leave it false",
        )


@dataclass(frozen=True)
class _Call:
    name: str
    module: nn.Module
    given: Tensor
    returned: Tensor


def _calls(b: Backbone) -> list[_Call]:
    """Return the trunk's layers in the order a forward pass runs them, with what each took and gave."""
    calls: list[_Call] = []

    def note(name: str) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], None]:
        return lambda module, given, returned: calls.append(_Call(name, module, given[0], returned))

    layers = [(n, m) for n, m in b.named_modules() if not list(m.children()) or isinstance(m, nn.BatchNorm2d)]
    hooks = [m.register_forward_hook(note(n)) for n, m in layers]
    _probe(b)
    for hook in hooks:
        hook.remove()
    return calls


def _fold_batch_norms(b: Backbone) -> None:
    calls = _calls(b)
    convolutions = {id(c.returned): c.module for c in calls if isinstance(c.module, nn.Conv2d)}
    for call in calls:
        norm, convolution = call.module, convolutions.get(id(call.given))
        if isinstance(norm, nn.BatchNorm2d) and convolution is not None:
            assert norm.running_mean is not None   # a trunk that normalises by its batch is no fixed function
            assert norm.running_var is not None
            convolution.weight, convolution.bias = fuse_conv_bn_weights(
                convolution.weight, convolution.bias,
                norm.running_mean, norm.running_var, norm.eps, norm.weight, norm.bias,
            )
            b.set_submodule(call.name, getattr(norm, "act", nn.Identity()))   # timm's batch norms end in an activation
