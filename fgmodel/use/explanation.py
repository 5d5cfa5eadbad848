"""Why a model answered as it did, as one picture: where it looked, what each time step saw there and was worth.

T  time steps      N  patches      P  pixels of a patch      h, w  cells of its map
"""

from collections.abc import Sequence
from dataclasses import dataclass
from textwrap import fill

import numpy as np
import torch
from jaxtyping import Float, UInt8
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor

from fgmodel.analysis.gradcam import COARSEST, min_max, step_maps, upsampled
from fgmodel.analysis.step_figures import draw_heat, new_figure, of_steps, time_axis
from fgmodel.errors import InputError
from fgmodel.palette import BLUE, GREEN, GREY, VERMILION
from fgmodel.use.classifier import Classifier
from fgmodel.use.decision import Decision, decisions

COLUMNS = 6    # heatmaps of a row


@dataclass(frozen=True)
class Explanation:
    """One image's answer with its reasons."""

    name: str
    image: Image.Image
    boxes: Float[np.ndarray, "N 4"]      # x1 y1 x2 y2 as fractions of the image
    patch: UInt8[np.ndarray, "P P 3"]    # the patch that says most for the answer
    maps: Float[Tensor, "T h w"]         # Grad-CAM of each step on that patch, for the class answered
    decision: Decision
    probabilities: tuple[float, float]   # of the answer and of the runner-up
    classes: tuple[str, ...]

    def said(self) -> str:
        """Return all of it in words."""
        first, second = self.probabilities
        answer, other = self.classes[self.decision.answer], self.classes[self.decision.runner_up]
        return f"{answer} (probability {first:.2f}), before {other} ({second:.2f}). {self.decision.said(self.classes)}"


def require_steps(classifier: Classifier) -> None:
    """Raise InputError where a model has no time steps, or fuses what does not add up."""
    model = classifier.config.model
    if model.local_stream != "lstm":
        raise InputError(f"model.local_stream: this model's is '{model.local_stream}', without time steps to explain")
    if model.fusion == "probs":
        raise InputError("model.fusion: this model adds probabilities, which has no exact parts; logits have")


def explain(classifier: Classifier, images: Sequence[Image.Image], names: Sequence[str]) -> list[Explanation]:
    """Return the explanation of each RGB image. Raises InputError: where the model has no time steps."""
    require_steps(classifier)
    frames = classifier.frames(images, names)
    seen = classifier.see(frames, cells=True)
    found = decisions(classifier, seen)
    told = classifier.logits(seen.outputs).fused.softmax(dim=1)                               # n C
    each, most = torch.arange(len(images)), torch.tensor([decision.patch for decision in found])
    cells = seen.cells[each, most].to(classifier.device)                                      # n D h w
    answers = torch.tensor([decision.answer for decision in found], device=classifier.device)
    maps = step_maps(classifier.model.local_stream, cells, answers).maps.cpu()                # n T h w
    crops = (255 * seen.crops[each, most].permute(0, 2, 3, 1)).round().byte().numpy()         # n P P 3
    boxes = seen.boxes.numpy() / frames.size
    return [
        Explanation(
            names[i], images[i], boxes[i], crops[i], maps[i], decision,
            (float(told[i, decision.answer]), float(told[i, decision.runner_up])), classifier.classes,
        )
        for i, decision in enumerate(found)
    ]


def explanation_figure(why: Explanation) -> Figure:
    """Return the picture: the image with its boxes, α and every step's part of the lead, a heatmap a time step."""
    steps = len(why.maps)
    columns = min(COLUMNS, steps)
    rows = -(-steps // columns)
    figure = new_figure(10.5, 4.6 + 1.75 * rows + 0.9)
    top, below, words = figure.subfigures(3, 1, height_ratios=(4.6, 1.75 * rows, 0.9), squeeze=False)[:, 0]
    picture, right = top.subfigures(1, 2, width_ratios=(1, 1.35), squeeze=False)[0]
    _draw_boxes(picture.subplots(), why)
    alpha, parts = right.subplots(2, 1, sharex=True)
    _draw_alpha(alpha, why.decision)
    _draw_parts(parts, why)
    heat = min_max(upsampled(why.maps[None].float(), len(why.patch)))[0].numpy()              # T P P  NaN: all zero
    grid = below.subplots(rows, columns, squeeze=False)
    for axes in grid.flat:
        axes.set_axis_off()
    for step, axes in zip(range(1, steps + 1), grid.flat, strict=False):
        draw_heat(axes, why.patch, heat[step - 1])
        chosen = "▶ " if step == why.decision.step else ""
        axes.set_title(f"{chosen}t = {step}: {why.decision.steps[step - 1]:+.2f}", fontsize="medium")
    h, w = why.maps.shape[1:]
    coarse = f"; only {h}x{w} cells, so where but not how finely" if min(h, w) < COARSEST else ""
    below.suptitle(
        f"patch {why.decision.patch + 1}: what speaks for '{why.classes[why.decision.answer]}' at each time step "
        f"(Grad-CAM, each map scaled by itself{coarse})", fontsize="medium",
    )
    words.text(0.01, 0.95, fill(why.said(), 150), va="top", fontsize="small")
    figure.suptitle(f"{why.name}: {why.classes[why.decision.answer]} ({why.probabilities[0]:.2f})", fontsize="large")
    return figure


def _draw_boxes(axes: Axes, why: Explanation) -> None:
    axes.set_axis_off()
    axes.imshow(np.asarray(why.image))
    width, height = why.image.size
    for number, box in reversed(list(enumerate(why.boxes))):
        x1, y1, x2, y2 = box * (width, height, width, height)
        most = number == why.decision.patch
        for colour, line in (("black", 3.0 if most else 2.0), (BLUE if most else "white", 2.0 if most else 0.9)):
            axes.plot([x1, x2, x2, x1, x1], [y1, y1, y2, y2, y1], color=colour, linewidth=line)
        axes.text(
            x1 + 0.01 * width, y1 + 0.01 * height, str(number + 1), color="white", va="top", fontsize="small",
            fontweight="bold" if most else "normal",
            bbox={"facecolor": BLUE if most else "black", "pad": 1.2, "linewidth": 0},
        )
    axes.set_title(f"patches, best first; {why.decision.patch + 1} says most for the answer", fontsize="medium")


def _draw_alpha(axes: Axes, decision: Decision) -> None:
    steps = of_steps(decision.alpha)
    axes.plot(steps, decision.alpha, color=BLUE, marker="o", markersize=5)
    axes.axhline(1 / len(steps), color=GREY, linestyle="--", linewidth=1, label="uniform, 1/T")
    axes.set(ylabel="attention α", ylim=(0, 1.25 * max(*decision.alpha, 1 / len(steps))))
    axes.legend(frameon=False, fontsize="small")


def _draw_parts(axes: Axes, why: Explanation) -> None:
    """Draw each step's part of the lead, hatched where it speaks for the runner-up, and the rest beside them."""
    decision, steps = why.decision, len(why.decision.steps)
    values = np.array([*decision.steps, decision.bias, decision.whole])
    places = np.array([*of_steps(decision.steps), steps + 1.5, steps + 3.0])
    for place, value in zip(places, values, strict=True):
        axes.bar(
            place, value, width=0.7, color=GREEN if value >= 0 else VERMILION, hatch="" if value >= 0 else "///",
            edgecolor="white" if value < 0 else GREEN,
        )
    axes.axhline(0, color=GREY, linewidth=1)
    time_axis(axes)
    axes.set_xticks(places, [*map(str, of_steps(decision.steps)), "bias", "global\nstream"])
    axes.set_ylabel("part of the lead\n(logits)")
