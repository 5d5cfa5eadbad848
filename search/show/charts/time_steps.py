"""Charts of the time steps of trials: attention, how the states settle, what each step is worth alone.

α alone misleads: the patch is the same at every step, so the LSTM's state settles, and once h_t is nearly h_T it no
longer matters which of them is weighted. So the cosine of the states stands beneath α, and beneath that how well each
step classifies alone (thesis.md §6.4, §6.5, §9 "Attention").

T  time steps
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from fgmodel.palette import GREY
from search.record.history import Trial
from search.show.charts.chart import LEAD, NEXT, THESIS, Axis, Bars, Chart, Heat, Layer, Pen, Trace, fitted
from search.show.charts.seen import Seen
from search.show.standing import ranked

ALPHA, COSINE, STEP = "attention/alpha", "attention/state_cosine", "val/accuracy_step"
CURVES = 4         # trials whose attention is drawn
TALL = 320         # pixels
EVEN = Pen(GREY, dash="dash", width=1.5)


def attention_charts(seen: Seen) -> list[Chart]:
    """Return charts of the best trial and the next ones of its rung; nothing where the best has no time steps."""
    if not seen.told:
        return []
    best = seen.told[0][0]
    others = [t for t in ranked(seen.space, seen.history) if t is not best and t.rung >= best.rung]
    thesis = [trial.number for trial, _, pen in seen.told if pen is THESIS]
    return attention_of([best, *others[: CURVES - 1]], *thesis)


def attention_of(trials: Sequence[Trial], thesis: int | None = None) -> list[Chart]:
    """Return α, the cosine of the states, each step's accuracy, and how the first trial's α came about.

    `thesis` is the trial of the thesis' values. Nothing where the first trial has no time steps.
    """
    trials = [t for t in trials if len(by_step(t, t.rung, ALPHA))]
    if not trials:
        return []
    near = "Near 1, a step's state says what the last one says, and it no longer matters which of them α weighs."
    first, pens = trials[0], [LEAD, *NEXT]
    pens = [THESIS if t.number == thesis else pen for t, pen in zip(trials, pens, strict=False)]

    def chart(name: str, measure: str, title: str, axis: str, said: str, rule: float, of_rule: str) -> Chart:
        measured = [by_step(t, t.rung, measure) for t in trials]
        y = fitted(axis, [rule, *(v for values in measured for v in values), *([0.0] if measure == ALPHA else [])])
        x = Axis("time step t", 0.5, max(1, *map(len, measured)) + 0.5, whole=True)
        curves: list[Layer] = [
            Trace(f"#{t.number}" if len(trials) > 1 else "", pen, _steps(values), tuple(values.tolist()))
            for t, pen, values in zip(trials, pens, measured, strict=True)
        ]
        if measure == ALPHA:    # shares of 1: from 0; of one trial as bars
            y = replace(y, low=0.0)
            bars = Bars("", LEAD.colour, _steps(measured[0]), tuple(measured[0].tolist()))
            curves = curves if len(trials) > 1 else [bars]
        across = Trace(of_rule, EVEN, (x.low, x.high), (rule, rule))
        return Chart(name, title, said, x, y, (*reversed(curves), across), TALL)

    even, local = 1 / len(by_step(first, first.rung, ALPHA)), first.at(first.rung, "val/accuracy_local")
    alone, whole = "accuracy of\nstep t alone", "all steps, by α"
    return [
        chart("alpha", ALPHA, "Attention α over the time steps", "attention α", _peak(first), even, "even, 1/T"),
        chart("cosine", COSINE, "How like the last state each state is", "cos(h_t, h_T)", near, 1.0, ""),
        chart("steps", STEP, "Accuracy of each time step alone", alone, _gain(first), local, whole),
        _over_training(first),
    ]


def by_step(trial: Trial, epoch: int, name: str) -> np.ndarray:
    """Return a measure of each time step after an epoch: T."""
    metrics = trial.reports.get(epoch, {})                  # 01, 02, …: two digits sort as numbers do
    return np.array([metrics[key] for key in sorted(metrics) if key.startswith(f"{name}/")])


def _over_training(trial: Trial) -> Chart:
    count = len(by_step(trial, trial.rung, ALPHA))
    epochs = [e for e in sorted(trial.reports) if len(by_step(trial, e, ALPHA)) == count]
    weights = np.stack([by_step(trial, epoch, ALPHA) for epoch in epochs], axis=1)           # T epochs
    first, last = int(weights[:, 0].argmax()) + 1, int(weights[:, -1].argmax()) + 1
    said = f"Trial #{trial.number}: α was largest at step {first} after its first epoch, at step {last} after its last."
    heat = Heat("attention α", tuple(map(float, epochs)), _steps(weights), tuple(map(tuple, weights.tolist())))
    x = Axis("epoch", epochs[0] - 0.5, epochs[-1] + 0.5, whole=True)
    y = Axis("time step t", 0.5, count + 0.5, whole=True)
    return Chart("training", f"How the attention of #{trial.number} came about", said, x, y, (heat,), TALL)


def _peak(trial: Trial) -> str:
    alpha, entropy = by_step(trial, trial.rung, ALPHA), trial.at(trial.rung, "attention/entropy")
    even = "" if np.isnan(entropy) else f"; entropy {entropy:.2f} of the largest possible (1 is even over all steps)"
    return (
        f"Mean over the validation images. Trial #{trial.number} weighs step {int(alpha.argmax()) + 1} most "
        f"(α {alpha.max():.3f}; dashed: even, {1 / len(alpha):.3f}){even}."
    )


def _gain(trial: Trial) -> str:
    steps, local = by_step(trial, trial.rung, STEP), trial.at(trial.rung, "val/accuracy_local")
    if not len(steps):
        return "Not measured."
    whole = "" if np.isnan(local) else f"; all steps together, weighed by α (dashed): {local:.3f}"
    return f"Trial #{trial.number}: step 1 alone {steps[0]:.3f}, step {len(steps)} alone {steps[-1]:.3f}{whole}."


def _steps(values: np.ndarray) -> tuple[float, ...]:
    return tuple(float(step) for step in range(1, len(values) + 1))
