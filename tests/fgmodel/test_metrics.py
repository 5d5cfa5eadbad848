from math import log

import numpy as np
import pytest
import torch

from fgmodel.config import ModelConfig
from fgmodel.metrics import Observed, evaluate, measures, observe, relative_entropy, together
from fgmodel.model import Outputs, TwoStream

SEEN = Observed(                                                            # two images, two classes, three steps
    global_logits=torch.tensor([[2.0, 0.0], [1.0, 0.0]]),
    local_logits=torch.tensor([[[0.0, 1.0]], [[0.0, 3.0]]]),
    step_predictions=torch.tensor([[[0, 1, 1]], [[1, 1, 0]]]),
    alpha=torch.tensor([[0.2, 0.3, 0.5], [0.4, 0.3, 0.3]]),
    entropy=torch.tensor([0.9, 0.7]),
    state_cosine=torch.tensor([[0.5, 0.9, 1.0], [0.7, 0.9, 1.0]]),
)
LABELS = torch.tensor([0, 0])
NOWHERE = torch.zeros(1, 2, 2, 0, 0)    # no spatial attention


def test_accuracies_and_nll_are_those_worked_out_by_hand():
    result = evaluate(SEEN, LABELS, weight=1.0)         # fused: [2, 1] is right, [1, 3] wrong
    assert (result.accuracy, result.accuracy_global, result.accuracy_local, result.n) == (0.5, 1.0, 0.0, 2)
    assert result.nll == pytest.approx((log(1 + np.exp(-1)) + log(1 + np.exp(2))) / 2)
    assert result.predictions.tolist() == [0, 1]
    assert result.predictions_global.tolist() == [0, 0]
    assert result.predictions_local.tolist() == [1, 1]


def test_the_fusion_weight_decides_the_fused_prediction():
    assert evaluate(SEEN, LABELS, weight=0.2).accuracy == 1.0   # [1, 0.6]
    assert evaluate(SEEN, LABELS, weight=5.0).accuracy == 0.0


def test_an_epoch_measures_every_name_the_design_lists():
    measured = measures(SEEN, LABELS, weight=1.0)
    assert measured == pytest.approx({
        "val/accuracy": 0.5,
        "val/accuracy_global": 1.0,
        "val/accuracy_local": 0.0,
        "val/nll": evaluate(SEEN, LABELS, weight=1.0).nll,
        "val/accuracy_step/01": 0.5, "val/accuracy_step/02": 0.0, "val/accuracy_step/03": 0.5,
        "attention/alpha/01": 0.3, "attention/alpha/02": 0.3, "attention/alpha/03": 0.4,
        "attention/entropy": 0.8,
        "attention/state_cosine/01": 0.6, "attention/state_cosine/02": 0.9, "attention/state_cosine/03": 1.0,
    })


def test_a_single_step_has_a_weight_and_no_entropy():
    one = SEEN._replace(step_predictions=SEEN.step_predictions[:, :1], alpha=torch.ones(2, 1), state_cosine=torch.ones(2, 1), entropy=torch.zeros(2))
    measured = measures(one, LABELS, weight=1.0)
    assert measured["attention/alpha/01"] == 1.0
    assert "attention/entropy" not in measured, "0 beside the others' would read: one step of many has it all"


def test_batches_pool_into_one_accuracy_in_which_each_image_counts_once():
    first, rest = Observed(*(v[:1] for v in SEEN)), Observed(*(v[1:] for v in SEEN))
    assert measures(together([first, rest, rest]), torch.tensor([0, 0, 0]), 1.0)["val/accuracy"] == pytest.approx(1 / 3)


@pytest.mark.parametrize(
    ("alpha", "expected"),
    [
        pytest.param([0.25] * 4, 1.0, id="uniform is 1"),
        pytest.param([0.0, 1.0, 0.0], 0.0, id="one step alone is 0"),
        pytest.param([0.5, 0.5, 0.0, 0.0], 0.5, id="two of four: ln 2 / ln 4"),
        pytest.param([1.0], 0.0, id="a single step is 0 by definition"),
    ],
)
def test_the_entropy_is_relative_to_its_largest_value(alpha, expected):
    assert relative_entropy(torch.tensor(alpha)).item() == pytest.approx(expected)


def test_what_is_kept_of_an_image_is_the_mean_over_its_patches():
    model = TwoStream(ModelConfig(freeze_backbones=True, hidden_size=2, time_steps=2), 2, (3, 3))
    with torch.no_grad():
        model.local_stream.head.weight.copy_(torch.eye(2))      # a state is its own logits
    states = torch.tensor([[[[1.0, 0.0], [0.0, 1.0]], [[0.0, 3.0], [0.0, 2.0]]]])       # B=1 N=2 T=2 H=2
    alpha = torch.tensor([[[0.5, 0.5], [1.0, 0.0]]])
    seen = observe(Outputs(torch.zeros(1, 2), torch.tensor([[[1.0, 5.0], [3.0, 1.0]]]), alpha, states, NOWHERE), model)
    assert seen.local_logits.tolist() == [[[2.0, 3.0]]]
    assert seen.step_predictions.tolist() == [[[1, 1]]]           # mean logits [½, 3/2] and [0, 3/2]
    assert seen.alpha.tolist() == [[0.75, 0.25]]
    assert seen.entropy.tolist() == pytest.approx([0.5])        # of each patch first: 1 and 0
    assert seen.state_cosine.flatten().tolist() == pytest.approx([0.5, 1.0])    # first steps: orthogonal, parallel


DRAWN = SEEN._replace(                                                      # two images, two draws of a patch
    local_logits=torch.tensor([[[0.0, 1.0], [0.0, 3.0]], [[0.0, 3.0], [0.0, 3.0]]]),
    step_predictions=torch.tensor([[[0, 1, 1], [0, 0, 1]], [[1, 1, 0], [1, 1, 1]]]),
)


def test_over_draws_accuracy_is_their_mean_with_its_spread():
    result = evaluate(DRAWN, LABELS, weight=1.0)            # fused: right, wrong; wrong, wrong
    assert result.accuracy == 0.25                          # draws: 1/2 and 0
    assert result.accuracy_draw_sd == pytest.approx(0.5 / 2**0.5)
    assert result.predictions.tolist() == [0, 1]            # of the first draw
    one, three = log(1 + np.exp(-1)), log(1 + np.exp(1))    # z_0 - z_1 = 1 and -1; for the second image -2
    assert result.nll == pytest.approx((one + three + 2 * log(1 + np.exp(2))) / 4)
    measured = measures(DRAWN, LABELS, weight=1.0)
    assert measured["val/accuracy_draw_sd"] == pytest.approx(0.5 / 2**0.5)
    assert measured["val/accuracy_step/01"] == 0.5          # 1, 1, 0, 0


def test_probabilities_are_fused_into_a_distribution():
    result = evaluate(SEEN, LABELS, weight=3.0, kind="probs")
    mixed = [(1 / (1 + np.exp(-g)) + 3 / (1 + np.exp(z))) / 4 for g, z in ((2, 1), (1, 3))]     # of class 0
    assert result.nll == pytest.approx(-(log(mixed[0]) + log(mixed[1])) / 2)
    assert result.predictions.tolist() == [int(p < 0.5) for p in mixed]


def test_what_a_model_does_not_have_is_not_measured():
    nothing = torch.empty(2, 0)
    without_time = SEEN._replace(step_predictions=torch.empty(2, 1, 0, dtype=torch.int64), alpha=nothing, state_cosine=nothing)
    stream = {"val/accuracy", "val/accuracy_global", "val/accuracy_local", "val/nll"}
    assert set(measures(without_time, LABELS, 1.0)) == stream
    alone = without_time._replace(local_logits=torch.empty(2, 0, 2), step_predictions=torch.empty(2, 0, 0, dtype=torch.int64))
    assert measures(alone, LABELS, 1.0) == pytest.approx({
        "val/accuracy": 1.0, "val/accuracy_global": 1.0, "val/nll": (log(1 + np.exp(-2)) + log(1 + np.exp(-1))) / 2,
    })
