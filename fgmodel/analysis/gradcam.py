"""Grad-CAM of each time step of the local stream: which cells of the patch speak for a class (specification §5).

The score of step t is y_t, the logit before the softmax of head(h_t). Grad-CAM weighs each channel by the mean over
space of ∂y_t/∂A and sums the map's channels, clamped at 0. After global average pooling x = mean(A), so ∂y_t/∂A is the
same in every cell, (∂y_t/∂x)/(h·w): T vector-Jacobian products on a vector of D numbers give all maps, the trunk is
never differentiated, and from step to step only the weights of the channels can change. Where a stream reads the map
itself (spatial attention) the mean over space is the gradient by a shift of the whole channel: again D numbers.

B  patches      D  channels of the map A      h, w  its cells      T  time steps      C  classes
P  pixels of a patch      S  pixels of a frame
"""

from math import ceil
from typing import Literal, NamedTuple, TypeAlias, cast

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from fgmodel.data.boxes_file import cut
from fgmodel.errors import InputError
from fgmodel.spatial import SpatialStream
from fgmodel.streams import LocalOutput, LocalStream, NoStream, TrunkStream
from fgmodel.trunks.frozen_trunk import FrozenTrunk, pixels

Target: TypeAlias = Literal["true", "predicted", "each_step"]
"""Whose logit is followed: the label's or the stream's own prediction's, both fixed over t, or each step's own argmax's
(CO), with which a map can change because the class does. CO also multiplies the score by its value: that scales a map,
which changes nothing once it is normalised, but blots it out where the value is negative; we do not."""

COARSEST = 7
"""Cells of a side below which a map is too coarse to say how fine it is (specification §9)."""


class StepMaps(NamedTuple):
    """Where each time step finds its class, and what it says."""

    maps: Float[Tensor, "B T h w"]         # M ≥ 0, at the map's own resolution; all zero where no cell speaks for it
    step_logits: Float[Tensor, "B T C"]    # y_t, of that step alone
    classes: Int[Tensor, "B T"]            # whose logit was followed
    looks: Float[Tensor, "B T k l"]        # where each step looked (a_t); k = l = 0 without spatial attention


def step_maps(
    stream: nn.Module, cells: Float[Tensor, "B D h w"], labels: Int[Tensor, " B"], target: Target = "true",
) -> StepMaps:
    """Return Grad-CAM of every time step of `stream`, given the trunk's maps of its patches.

    A `LocalStream` is given their average; any other stream reads `cells` itself. It should be in eval mode.
    Raises InputError: where the stream has no time steps.
    """
    if isinstance(stream, NoStream | TrunkStream):
        raise InputError(f"model.local_stream: {type(stream).__name__} has no time steps to look at; lstm has")
    cells = cells.float()
    gradients, *said = _gradients(stream, cells, labels, target)                      # B T D
    weights = gradients / cells[0, 0].numel()                                         # B T D  the mean over cells
    return StepMaps(torch.einsum("btd,bdhw->bthw", weights, cells).relu(), *said)


def upsampled(maps: Float[Tensor, "B T h w"], size: int) -> Float[Tensor, "B T {size} {size}"]:
    """Return the maps at `size` px, bilinear."""
    return F.interpolate(maps, (size, size), mode="bilinear")


def all_zero(maps: Float[Tensor, "B T h w"]) -> Bool[Tensor, "B T"]:
    """Tell which maps are zero everywhere: no cell speaks for the class, so there is nothing to scale or to measure."""
    return maps.amax(dim=(2, 3)) == 0


def min_max(maps: Float[Tensor, "B T P Q"]) -> Float[Tensor, "B T P Q"]:
    """Return each map scaled to 0..1; a constant map has no such scale: it is NaN, which no mean takes by mistake."""
    low, high = maps.amin(dim=(2, 3), keepdim=True), maps.amax(dim=(2, 3), keepdim=True)
    return torch.where(high > low, (maps - low) / (high - low), torch.nan)


def patch_cells(
    trunk: FrozenTrunk, frames: np.ndarray, boxes: np.ndarray, size: int,
) -> tuple[Float[Tensor, "B D h w"], Float[Tensor, "B 3 P P"]]:
    """Return a frozen trunk's maps of one patch of each frame, cut at `size` px, and the patches themselves.

    `frames` are B S S 3 (uint8), `boxes` B 4: x1 y1 x2 y2. Whoever measures the maps calls `require_fine` before.
    """
    boxes_there = torch.from_numpy(np.asarray(boxes, np.float32)).to(trunk.device)
    patches = cut(pixels(frames, trunk.device), boxes_there[:, None], size)[:, 0]     # B 3 P P
    return trunk.maps(patches), patches


def require_fine(trunk: FrozenTrunk, size: int) -> None:
    """Raise InputError where the trunk's map of a patch of `size` px has fewer than 7x7 cells."""
    h, w = trunk.maps(torch.zeros(1, 3, size, size, device=trunk.device)).shape[2:]
    if min(h, w) < COARSEST:
        enough = 32 * ceil(COARSEST * size / min(h, w) / 32)
        raise InputError(
            f"data.patch_size: {size} px gives maps of {h}x{w} cells in '{trunk.name}', too coarse to show where a "
            f"step looks; {COARSEST}x{COARSEST} are needed: set {enough}, or take a trunk of a smaller stride",
        )


def _gradients(
    stream: nn.Module, cells: Float[Tensor, "B D h w"], labels: Int[Tensor, " B"], target: Target,
) -> tuple[Float[Tensor, "B T D"], Float[Tensor, "B T C"], Int[Tensor, "B T"], Float[Tensor, "B T k l"]]:
    """Return Σ over cells of ∂y_t/∂A for each t, all y_t, the classes that were followed, and the looks.

    The sum is the gradient of a shift of the whole channel: of a vector, not of the map.
    """
    with torch.inference_mode(mode=False), torch.enable_grad():
        cells = cells.detach().clone()   # a copy: what FrozenTrunk returns knows no gradients
        shift = cells.new_zeros(cells.shape[:2], requires_grad=True)                  # B D
        output = _shifted(stream, cells, shift)
        logits = cast("nn.Linear", stream.head)(output.states)                        # B T C
        classes = _classes(target, labels, output.logits, logits)
        scores = logits.gather(2, classes[..., None]).sum(dim=(0, 2))                 # T  patches do not interact
        gradients = [torch.autograd.grad(score, shift, retain_graph=True)[0] for score in scores]
    return torch.stack(gradients, dim=1), logits.detach(), classes, output.looks.detach()


def _shifted(stream: nn.Module, cells: Float[Tensor, "B D h w"], shift: Float[Tensor, "B D"]) -> LocalOutput:
    """Return the stream's output for the map with `shift` added to every cell."""
    output: LocalOutput
    match stream:
        case LocalStream():
            output = stream(cells.mean(dim=(2, 3)) + shift)
        case SpatialStream():
            output = stream(cells, shift)   # added here, gradients would be as large as the map: three times as slow
        case _:
            output = stream(cells + shift[..., None, None])
    return output


def _classes(
    target: Target, labels: Int[Tensor, " B"], logits: Float[Tensor, "B C"], step_logits: Float[Tensor, "B T C"],
) -> Int[Tensor, "B T"]:
    match target:
        case "true":
            return labels[:, None].expand(step_logits.shape[:2])
        case "predicted":
            return logits.argmax(dim=1)[:, None].expand(step_logits.shape[:2])
        case "each_step":
            return step_logits.argmax(dim=2)
