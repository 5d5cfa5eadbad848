"""Which time step decided: an answer's lead over the next one, taken apart exactly (specification §6.4).

The fused logit is z = z_g + w z_l, and z_l = b + mean over patches of Σ_t α^t W H^t, all linear. So the lead of the
class answered over the runner-up is the global stream's part plus w times those of the time steps and of the bias.

n  images      N  patches of each      T  time steps      H  width of the LSTM's states
"""

from dataclasses import dataclass

import numpy as np
import torch

from fgmodel.model import fusion_weight
from fgmodel.use.classifier import Classifier, Sighting


@dataclass(frozen=True)
class Decision:
    """The parts of one image's lead, in logits; positive speaks for the answer, negative for the runner-up."""

    answer: int
    runner_up: int
    whole: float              # the global stream's part
    steps: np.ndarray         # (T,) each time step's, the mean over patches
    patches: np.ndarray       # (N,) each patch's share of the steps' and the bias's parts
    bias: float               # of the local head
    alpha: np.ndarray         # (T,) the mean over patches

    @property
    def local(self) -> float:
        """The local stream's part of the lead."""
        return float(self.steps.sum() + self.bias)

    @property
    def lead(self) -> float:
        """All of it."""
        return self.whole + self.local

    @property
    def step(self) -> int:
        """The time step that gives the largest part, counted from 1."""
        return int(self.steps.argmax()) + 1

    @property
    def patch(self) -> int:
        """The patch that says most for the answer, counted from 0."""
        return int(self.patches.argmax())

    def said(self, classes: tuple[str, ...]) -> str:
        """Return who decided, in words."""
        answer, other, part = classes[self.answer], classes[self.runner_up], self.steps[self.step - 1]
        parts = ", ".join(f"t{t} {value:+.2f}" for t, value in enumerate(self.steps, 1))
        decided = f"Step {self.step} decided, with the largest part ({part:+.2f})."
        if self.whole > part:
            decided = f"The global stream decided ({self.whole:+.2f}); of the time steps, {self.step} gives most."
        stays = "the answer would be the same" if self.lead > part else f"'{other}' would lead"
        return (
            f"'{answer}' leads '{other}' by {self.lead:.2f} logits: {self.whole:+.2f} from the global stream, "
            f"{self.local:+.2f} from the local stream ({parts}, bias {self.bias:+.2f}). {decided} "
            f"Without step {self.step} {stays}. Attention is largest at step {int(self.alpha.argmax()) + 1}."
        )


def decisions(classifier: Classifier, seen: Sighting) -> list[Decision]:
    """Return the decision of each image; of a model with time steps that fuses logits.

    Under `logprobs` the lead is the same: the fusions differ by a constant an image.
    """
    weight, head = fusion_weight(classifier.config), classifier.model.local_head
    logits = classifier.logits(seen.outputs)
    order = logits.fused.topk(2, dim=1).indices                                              # n 2
    with torch.inference_mode():
        rows, bias = head.weight.cpu()[order], head.bias.cpu()[order]                        # n 2 H; n 2
        towards = weight * (rows[:, 0] - rows[:, 1])                                         # n H
        weighted = seen.outputs.alpha[..., None] * seen.outputs.states                       # n N T H
        parts = torch.einsum("npth,nh->npt", weighted, towards)                              # n N T
        of_bias = weight * (bias[:, 0] - bias[:, 1])                                         # n
        whole = logits.global_stream.gather(1, order) @ torch.tensor([1.0, -1.0])            # n
    alpha = seen.outputs.alpha.mean(dim=1)
    return [
        Decision(
            answer=int(order[i, 0]), runner_up=int(order[i, 1]), whole=float(whole[i]),
            steps=parts[i].mean(dim=0).numpy(), patches=((parts[i].sum(dim=1) + of_bias[i]) / parts.shape[1]).numpy(),
            bias=float(of_bias[i]), alpha=alpha[i].numpy(),
        )
        for i in range(len(order))
    ]
