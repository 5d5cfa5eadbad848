import numpy as np
import pytest
import torch
from torch import nn

from fgmodel.model import Outputs
from fgmodel.posthoc import Held, ModelStates, by_step, contributions, hold, read

HOWS = ("sum", "mean", "alone")


def head(weight, bias):
    linear = nn.Linear(len(weight[0]), len(weight)).requires_grad_(requires_grad=False)
    linear.weight.copy_(torch.tensor(weight))
    linear.bias.copy_(torch.tensor(bias))
    return linear


def model_states(n=6, readings=1, steps=4, width=5, classes=3, seed=0):
    random = torch.Generator().manual_seed(seed)
    states, weighted = torch.randn(2, n, readings, steps, width, generator=random)
    linear = head(torch.randn(classes, width, generator=random).tolist(), [0.3, -0.2, 0.1])
    labels = torch.arange(n) % classes
    return ModelStates(linear, labels, Held(torch.randn(n, classes, generator=random), states, weighted, states[..., 0]))


STATES = torch.tensor([[[[1.0, 0.0], [0.0, 4.0], [1.0, 2.0]]]])         # one image, one reading, T = 3, H = 2


@pytest.mark.parametrize(("how", "expected"), [
    pytest.param("sum", [[1.5, 0.0], [1.5, 4.0], [2.5, 6.0]], id="Σ_1..k H"),
    pytest.param("mean", [[1.5, 0.0], [1.0, 2.0], [0.5 + 2 / 3, 2.0]], id="its mean: the bias counts once"),
    pytest.param("alone", [[1.5, 0.0], [0.5, 4.0], [1.5, 2.0]], id="H^k"),
])
def test_states_are_read_as_worked_out_by_hand(how, expected):
    logits = read(how, head([[1.0, 0.0], [0.0, 1.0]], [0.5, 0.0]), STATES)[0, 0]
    torch.testing.assert_close(logits, torch.tensor(expected))


def test_the_fused_predictions_are_those_worked_out_by_hand():
    model = ModelStates(head([[1.0, 0.0], [0.0, 1.0]], [0.5, 0.0]), torch.tensor([0]),
                        Held(torch.tensor([[3.0, 0.0]]), STATES, STATES, STATES[..., 0]))
    found = by_step("sum", [model], weight=0.5)
    assert found.predictions_local[0, 0].tolist() == [0, 1, 1]
    assert found.predictions_fused[0, 0].tolist() == [0, 0, 0]          # 3.75 to 0, 3.75 to 2, 4.25 to 3
    assert found.local.tolist() == [1, 0, 0]
    assert found.fused.tolist() == [1, 1, 1]
    assert by_step("sum", [model], weight=2.0).fused.tolist() == [1, 0, 0]      # 6 to 8: the sum swamps z_g


def test_all_ways_agree_at_the_first_step():
    one, *others = (by_step(how, [model_states()], 1.0).predictions_fused[:, :, 0] for how in HOWS)
    assert all(np.array_equal(one, other) for other in others)


def test_folds_are_pooled_so_that_each_image_counts_once():
    small, large = model_states(n=3), model_states(n=9, seed=1)
    both = by_step("alone", [small, large], 1.0)
    alone = [by_step("alone", [model], 1.0) for model in (small, large)]
    np.testing.assert_allclose(both.local, (3 * alone[0].local + 9 * alone[1].local) / 12)
    assert both.predictions_fused.shape == (12, 1, 4)


def test_accuracy_over_draws_is_their_mean():
    model = model_states(readings=5)
    found = by_step("mean", [model], 1.0)
    each = (found.predictions_local == model.labels.numpy()[:, None, None]).mean(axis=0)       # R T
    np.testing.assert_allclose(found.local, each.mean(axis=0))


def test_the_parts_of_all_steps_and_the_bias_sum_to_the_logit_and_the_margin():
    model = model_states(n=7, readings=2)
    parts = contributions(model)
    logits = model.head(model.held.weighted.sum(dim=2))                 # n R C  z_l
    for i, label in enumerate(model.labels.tolist()):
        for r in range(2):
            others = [logits[i, r, c].item() for c in range(3) if c != label]
            assert (parts.logit[i, r].sum() + parts.logit_bias[i, r]).item() == pytest.approx(logits[i, r, label].item(), abs=1e-5)
            margin = logits[i, r, label].item() - max(others)
            assert (parts.margin[i, r].sum() + parts.margin_bias[i, r]).item() == pytest.approx(margin, abs=1e-5)
            assert logits[i, r, parts.runner_up[i, r]].item() == max(others)


def test_what_is_held_of_patches_gives_the_mean_of_their_logits():
    states, alpha = torch.randn(2, 3, 4, 5), torch.rand(2, 3, 4)
    out = Outputs(torch.randn(2, 3), torch.randn(2, 3, 3), alpha, states, torch.empty(2, 3, 4, 0, 0))
    held, linear = hold(out, draws=False), model_states().head
    assert held.states.shape == (2, 1, 4, 5)
    of_each_patch = linear(torch.einsum("bnt,bnth->bnh", alpha, states))
    torch.testing.assert_close(linear(held.weighted.sum(dim=2))[:, 0], of_each_patch.mean(dim=1))
    assert hold(out, draws=True).states.shape == (2, 3, 4, 5)
