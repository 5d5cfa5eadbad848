"""The parts of an answer's lead, by hand."""

import numpy as np
import pytest
import torch

from fgmodel.config import TrialConfig
from fgmodel.model import Outputs, TwoStream
from fgmodel.use.classifier import Classifier, Sighting
from fgmodel.use.decision import decisions

# w = 2; two steps of two numbers; W = rows (1, 0) and (0, 1), b = (0.5, 0)
ALPHA, STATES = [0.25, 0.75], [[1.0, 0.0], [0.0, 2.0]]
LOCAL = [0.5 + 0.25 * 1, 0.75 * 2]        # z_l = b + Σ α W h = 0.75, 1.5


@pytest.fixture
def classifier():
    config = TrialConfig.from_settings({
        "model.freeze_backbones": True, "model.hidden_size": 2, "model.time_steps": 2, "model.fusion_weight": 2.0,
    })  # fmt: skip
    model = TwoStream(config.model, 2, (3, 3)).eval()
    with torch.no_grad():
        model.local_head.weight.copy_(torch.eye(2))
        model.local_head.bias.copy_(torch.tensor([0.5, 0.0]))
    return Classifier(config, ("wren", "robin"), model, None, None)


def decision(classifier, z_g, patches=1):
    outputs = Outputs(
        torch.tensor([z_g]), torch.tensor([[LOCAL] * patches]), torch.tensor([[ALPHA] * patches]),
        torch.tensor([[STATES] * patches]), torch.empty(1, patches, 2, 0, 0),
    )
    (found,) = decisions(classifier, Sighting(*(torch.empty(1, patches, 0) for _ in range(3)), outputs))
    return found


def test_the_parts_are_those_counted_by_hand(classifier):
    found = decision(classifier, [0.2, 0.1])
    # z = 0.2 + 2·0.75 = 1.7 for the wren and 0.1 + 2·1.5 = 3.1 for the robin: it leads by 1.4
    assert (found.answer, found.runner_up) == (1, 0)
    assert found.whole == pytest.approx(-0.1)
    assert found.steps == pytest.approx(np.array([2 * 0.25 * (0 - 1), 2 * 0.75 * (2 - 0)]))   # -0.5, 3
    assert found.bias == pytest.approx(2 * (0 - 0.5))
    assert found.lead == pytest.approx(1.4)


def test_the_step_with_the_largest_part_decided_and_without_it_the_other_would_lead(classifier):
    said = decision(classifier, [0.2, 0.1]).said(("wren", "robin"))
    assert said == (
        "'robin' leads 'wren' by 1.40 logits: -0.10 from the global stream, +1.50 from the local stream (t1 -0.50, t2 +3.00, "
        "bias -1.00). Step 2 decided, with the largest part (+3.00). Without step 2 'wren' would lead. Attention is largest at step 2."
    )


def test_where_the_global_stream_gives_more_than_any_step_it_decided(classifier):
    said = decision(classifier, [0.0, 9.0]).said(("wren", "robin"))
    assert "The global stream decided (+9.00); of the time steps, 2 gives most. Without step 2 the answer would be the same." in said


def test_patches_share_what_the_steps_and_the_bias_give(classifier):
    found = decision(classifier, [0.2, 0.1], patches=3)
    assert found.steps == pytest.approx(np.array([-0.5, 3.0]))                 # the mean over patches
    assert found.patches == pytest.approx(np.full(3, 1.5 / 3))
