"""Charts of the time steps of the best trials: attention, how the states settle, what each step is worth alone.

T  time steps
"""

from collections.abc import Sequence

import numpy as np

from search.record.history import Trial
from search.report.page import BLUE, DASHES, GREEN, GREY, SYMBOLS, VERMILION, Chart, figure

COLOURS = (VERMILION, BLUE, GREEN, "#8a5fb0", GREY)
ALPHA, COSINE, STEP = "attention/alpha", "attention/state_cosine", "val/accuracy_step"


def attention_charts(trials: Sequence[Trial]) -> list[Chart]:
    """Return charts of trials, the best first; none where the best has no time steps."""
    trials = [t for t in trials if len(by_step(t, t.rung, ALPHA))]
    if not trials:
        return []
    best = trials[0]
    uniform = 1 / len(by_step(best, best.rung, ALPHA))
    alpha = _chart("Attention α over the time steps", "attention α (weights sum to 1)", trials, ALPHA, _peak(best))
    alpha.figure.add_hline(uniform, line={"color": GREY, "dash": "dot", "width": 1})
    cosine_said = "Near 1, a step's state says what the last one says, and it no longer matters which of them α weighs."
    step_said = _gain(best)
    return [
        alpha,
        _chart("How like the last state each state is", "cosine of h_t and h_T", trials, COSINE, cosine_said),
        _chart("Accuracy of each time step alone", "validation accuracy of step t", trials, STEP, step_said),
        _over_training(best),
    ]


def by_step(trial: Trial, epoch: int, name: str) -> np.ndarray:
    """Return a measure of each time step after an epoch: T."""
    metrics = trial.reports.get(epoch, {})
    return np.array([metrics[key] for key in sorted(metrics) if key.startswith(f"{name}/")])


def _chart(title: str, axis: str, trials: Sequence[Trial], name: str, said: str) -> Chart:
    drawn = figure("time step t", axis, 320)
    for place, trial in enumerate(trials):
        values = by_step(trial, trial.rung, name)
        line = {"color": COLOURS[place % len(COLOURS)], "dash": DASHES[place % len(DASHES)], "width": 2 if place else 4}
        drawn.add_scatter(
            x=np.arange(1, len(values) + 1), y=values, name=f"#{trial.number}", mode="lines+markers", line=line,
            marker={"symbol": SYMBOLS[place % len(SYMBOLS)], "size": 8}, hoverinfo="x+y+name",
        )
    longest = max(len(by_step(t, t.rung, name)) for t in trials)
    drawn.update_xaxes(dtick=1 if longest <= 20 else None)
    drawn.update_yaxes(rangemode="tozero" if name == ALPHA else "normal")
    return Chart(title, said, drawn)


def _over_training(trial: Trial) -> Chart:
    count = len(by_step(trial, trial.rung, ALPHA))
    epochs = [e for e in sorted(trial.reports) if len(by_step(trial, e, ALPHA)) == count]
    weights = np.stack([by_step(trial, epoch, ALPHA) for epoch in epochs], axis=1)           # T epochs
    drawn = figure("epoch", "time step t", 320)
    drawn.add_heatmap(
        x=epochs, y=np.arange(1, count + 1), z=weights, colorscale="Viridis",
        zmin=0, zmax=float(weights.max()),   # from 0, or an even α looks like a choice
        colorbar={"title": {"text": "α", "side": "top"}, "thickness": 14},
        hovertemplate="epoch %{x}, t %{y}: α %{z:.3f}<extra></extra>",
    )
    drawn.update_xaxes(dtick=1 if len(epochs) <= 30 else None)
    drawn.update_yaxes(dtick=1 if count <= 12 else None)
    first, last = int(weights[:, 0].argmax()) + 1, int(weights[:, -1].argmax()) + 1
    said = f"Trial #{trial.number}: α was largest at step {first} after its first epoch, at step {last} after its last."
    return Chart("How the best trial's attention came about", said, drawn)


def _peak(trial: Trial) -> str:
    alpha, entropy = by_step(trial, trial.rung, ALPHA), trial.at(trial.rung, "attention/entropy")
    even = "" if np.isnan(entropy) else f"; entropy {entropy:.2f} of the largest possible (1 is even over all steps)"
    return (
        f"Mean over the validation images. Trial #{trial.number}, the thick line, weighs step "
        f"{int(alpha.argmax()) + 1} most (α {alpha.max():.3f}; dotted: even, {1 / len(alpha):.3f}){even}."
    )


def _gain(trial: Trial) -> str:
    steps, local = by_step(trial, trial.rung, STEP), trial.at(trial.rung, "val/accuracy_local")
    if not len(steps):
        return "Not measured."
    whole = "" if np.isnan(local) else f"; all steps together, weighed by α: {local:.3f}"
    return f"Trial #{trial.number}: step 1 alone {steps[0]:.3f}, step {len(steps)} alone {steps[-1]:.3f}{whole}."
