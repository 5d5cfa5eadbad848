"""What a trained local stream's attention over time comes to, as a figure, a text and a table (specification §6.1-6.5).

α alone misleads: once the state has settled it no longer matters which step is weighted. So beside α stand each step's
exact share of the true class's margin, how long the states are, and how far each moves from the one before.

n  images      R  readings of an image      T  time steps      H  width of the states      C  classes
"""

import csv
import io
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from fgmodel.analysis.attention_stats import (
    AlphaSummary,
    Entropies,
    alpha_by_class,
    alpha_by_correct,
    alpha_summary,
    argmax_histogram,
    entropies,
    oracle_accuracy,
    state_norms,
    step_cosines,
)
from fgmodel.analysis.intervals import Interval, mean_interval
from fgmodel.analysis.step_figures import new_figure, of_steps, time_axis
from fgmodel.palette import BLUE, GREEN, GREY, VERMILION
from fgmodel.posthoc import ModelStates, contributions, read


@dataclass(frozen=True)
class AttentionRecord:
    """Of n images; where an image has several readings, each counts as an image."""

    images: int
    alpha: AlphaSummary
    favourite: Float[Tensor, " T"]      # share of images whose largest weight is step t's
    right: Float[Tensor, " T"]          # mean α of images the stream tells right, NaN where there are none
    wrong: Float[Tensor, " T"]
    entropies: Entropies
    margin: Interval                    # (T,) each step's part of z_true - z_other, with the bias they sum to it
    margin_bias: float
    norms: Float[Tensor, " T"]
    cosines: Float[Tensor, " T-1"]
    local: float                        # accuracy of the stream, by α
    oracle: float                       # accuracy if the best step were known for each image
    by_class: Float[Tensor, "C T"]


def record(model: ModelStates) -> AttentionRecord:
    """Return all of it from what a trained model held of some images."""
    readings = model.held.alpha.shape[1]
    alpha, states = model.held.alpha.flatten(0, 1), model.held.states.flatten(0, 1)    # n·R T; n·R T H
    labels = model.labels.repeat_interleave(readings)                                  # n·R
    alone = read("alone", model.head, model.held.states).flatten(0, 1)                 # n·R T C
    whole = model.held.weighted.sum(dim=2) @ model.head.weight.T + model.head.bias     # n R C  z_l
    correct = whole.flatten(0, 1).argmax(dim=1) == labels                              # n·R
    parts = contributions(model)
    right, wrong = alpha_by_correct(alpha, correct)
    return AttentionRecord(
        images=len(model.labels),
        alpha=alpha_summary(alpha),
        favourite=argmax_histogram(alpha),
        right=right,
        wrong=wrong,
        entropies=entropies(alpha),
        margin=mean_interval(parts.margin.mean(dim=1).double().numpy()),
        margin_bias=parts.margin_bias.mean().item(),
        norms=state_norms(states),
        cosines=step_cosines(states),
        local=correct.float().mean().item(),
        oracle=oracle_accuracy(alone.argmax(dim=2) == labels[:, None]),
        by_class=alpha_by_class(alpha, labels, len(model.head.weight)),
    )


def attention_record_figure(seen: AttentionRecord) -> Figure:
    """Return four panels over time steps: α, each step's part of the margin, the states' lengths and their cosines."""
    figure = new_figure(9.2, 6.2)
    (alpha, margin), (norms, cosines) = figure.subplots(2, 2)
    _draw_alpha(alpha, seen)
    steps = of_steps(seen.norms.numpy())
    margin.bar(steps, seen.margin.mean, color=GREEN, width=0.7)
    low, high = (np.abs(np.asarray(end) - seen.margin.mean) for end in (seen.margin.low, seen.margin.high))
    margin.errorbar(steps, seen.margin.mean, yerr=np.stack([low, high]), fmt="none", ecolor="black", capsize=2)
    margin.axhline(0, color=GREY, linewidth=1)
    margin.set_ylabel("part of the true class's margin\n(logits; mean and its 95 % interval)")
    norms.plot(steps, seen.norms, color=VERMILION, marker="o", markersize=4)
    norms.set_ylabel("length of the state, ‖h$_t$‖")
    cosines.plot(steps[1:], seen.cosines, color=VERMILION, marker="s", markersize=4)
    cosines.axhline(1, color=GREY, linestyle="--", linewidth=1)
    cosines.set_ylabel("cos(h$_t$, h$_{t-1}$): 1, it stands still")
    for axes in (alpha, margin, norms, cosines):
        time_axis(axes)
    return figure


def attention_record_text(seen: AttentionRecord) -> str:
    """Return what the figure shows, and what it has no room for, in words."""
    margin = np.asarray(seen.margin.mean)
    total = float(margin.sum()) + seen.margin_bias
    first = int(seen.favourite.argmax()) + 1
    return (
        f"Attention on {seen.images} images: mean α {_listed(seen.alpha.mean)}; step {first} has the largest weight on "
        f"{seen.favourite.max():.0%} of them. Entropy (1 = even): {seen.entropies.mean_of_entropies:.3f} an image, "
        f"{seen.entropies.entropy_of_mean:.3f} of the mean. α where right: {_listed(seen.right)}; where wrong: "
        f"{_listed(seen.wrong)}. The steps' parts of the margin {total:+.2f}: {_listed(margin)}, bias "
        f"{seen.margin_bias:+.2f}. cos(h_t, h_t-1): {_listed(seen.cosines)}. Local stream {100 * seen.local:.1f} % "
        f"right by α; {100 * seen.oracle:.1f} % if the best step of each image were known."
    )


def alpha_by_class_csv(seen: AttentionRecord, classes: tuple[str, ...]) -> str:
    """Return each class's mean weights as CSV; a class without images has empty cells."""
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(["class", *(f"alpha/{step:02d}" for step in of_steps(seen.norms.numpy()))])
    for name, weights in zip(classes, seen.by_class.tolist(), strict=True):
        writer.writerow([name, *("" if np.isnan(weight) else f"{weight:.4f}" for weight in weights)])
    return text.getvalue()


def _draw_alpha(axes: Axes, seen: AttentionRecord) -> None:
    steps, alpha = of_steps(seen.norms.numpy()), seen.alpha
    axes.plot(steps, alpha.mean, color=BLUE, marker="o", markersize=4, label="mean")
    axes.fill_between(steps, alpha.low, alpha.high, color=BLUE, alpha=0.2, linewidth=0, label="10 to 90 % of images")
    axes.axhline(1 / len(steps), color=GREY, linestyle="--", linewidth=1, label="uniform, 1/T")
    axes.set_ylabel("attention α")
    axes.set_ylim(bottom=0)
    axes.legend(frameon=False, fontsize="small")


def _listed(values: Tensor | np.ndarray) -> str:
    return ", ".join(f"{float(value):.3g}" for value in values)
