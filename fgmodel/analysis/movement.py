"""How maps move from one time step to the next, in words: the measures of §6.7 and §6.8 that no figure shows.

n  images      T  time steps      h, w  cells of a map      k, l  of a look; 0 without spatial attention
"""

from jaxtyping import Float
from torch import Tensor

from fgmodel.analysis.fineness import correlation_with_last, drift, fineness
from fgmodel.analysis.gradcam import all_zero


def movement_text(maps: Float[Tensor, "n T h w"], attention: Float[Tensor, "n T k l"]) -> str:
    """Return how Grad-CAM's maps change over the steps; and the spatial attention a_t, where `attention` has any."""
    measured, alike = fineness(maps), correlation_with_last(maps).nanmean(dim=0)
    told = (
        f"From step 1 to {maps.shape[1]}, mean over {len(maps)} images: 90 % of the map in {_ends(measured.area90)} "
        f"of the patch; "
        f"overlap with step 1 (IoU of half-max areas) falls to {measured.iou_with_first.nanmean(dim=0)[-1]:.2f}; "
        f"correlation with the last step's map {', '.join(f'{value:.3f}' for value in alike)}. "
        f"{int(all_zero(maps).sum())} of {maps.shape[0] * maps.shape[1]} maps are zero everywhere."
    )
    return told if attention.numel() == 0 else f"{told} {_drift_text(attention)}"


def _drift_text(attention: Float[Tensor, "n T k l"]) -> str:
    moved, measured = drift(attention), fineness(attention)
    return (
        f"Spatial attention: entropy {_ends(measured.entropy)} (1 = even), half-max area "
        f"{_ends(measured.half_max_area)} of the patch; from a step to the next (Jensen-Shannon, bits) "
        f"{_each(moved.divergence)}; its centroid moves by {_each(moved.shift)} of the map's width; from step 1, which "
        f"asks the same of every image, {_each(moved.from_first)}."
    )


def _ends(measure: Float[Tensor, "n T"]) -> str:
    mean = measure.nanmean(dim=0)
    return f"{mean[0]:.3f} to {mean[-1]:.3f}"


def _each(measure: Float[Tensor, "n steps"]) -> str:
    return ", ".join(f"{value:.2g}" for value in measure.nanmean(dim=0))
