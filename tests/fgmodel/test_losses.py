from math import log

import pytest
import torch
import torch.nn.functional as F

from fgmodel.config import LossConfig
from fgmodel.losses import global_loss, ranking_hinge, two_stream_loss


def hinge(p_global, p_local, margin=0.5, *, detach=True):
    return ranking_hinge(torch.tensor(p_global), torch.tensor(p_local), margin, detach_global=detach).tolist()


def test_the_hinge_asks_the_local_stream_to_be_surer_than_the_global_by_the_margin():
    assert hinge([0.6], [0.2]) == pytest.approx([0.9])      # 0.6 - 0.2 + 0.5
    assert hinge([0.2], [0.6]) == pytest.approx([0.1])      # surer, but not by 0.5
    assert hinge([0.2], [0.8]) == [0.0]                     # surer by more than the margin


def test_the_hinge_is_torchs_margin_ranking_loss():
    p_global, p_local = torch.rand(50), torch.rand(50)
    mine = ranking_hinge(p_global, p_local, 0.3, detach_global=True)
    theirs = F.margin_ranking_loss(p_local, p_global, torch.ones(50), margin=0.3, reduction="none")
    torch.testing.assert_close(mine, theirs)


@pytest.mark.parametrize(
    ("detach", "on_global"), [pytest.param(True, None, id="detached"), pytest.param(False, 1.0, id="not detached")],
)
def test_an_active_hinge_pulls_the_local_probability_up_and_the_global_down_only_if_not_detached(detach, on_global):
    p_global, p_local = torch.tensor([0.6], requires_grad=True), torch.tensor([0.4], requires_grad=True)
    ranking_hinge(p_global, p_local, 0.5, detach_global=detach).sum().backward()
    assert p_local.grad.item() == -1.0
    assert (p_global.grad and p_global.grad.item()) == on_global


def test_a_satisfied_hinge_has_no_gradient():
    p_global, p_local = torch.tensor([0.1], requires_grad=True), torch.tensor([0.9], requires_grad=True)
    ranking_hinge(p_global, p_local, 0.5, detach_global=False).sum().backward()
    assert p_local.grad.item() == 0.0
    assert p_global.grad.item() == 0.0


def test_the_loss_of_two_images_is_the_one_worked_out_by_hand():
    global_logits = torch.tensor([[0.0, 0.0], [log(3.0), 0.0]])     # p_g of class 0: 1/2, 3/4
    local_logits = torch.tensor([[log(4.0), 0.0], [0.0, 0.0]])      # p_l of class 0: 4/5, 1/2
    config = LossConfig(lambda_rank=0.5, lambda_local=2.0, margin=0.1)
    loss = two_stream_loss(global_logits, local_logits, torch.tensor([0, 0]), config)
    ce_global, ce_local = (log(2) + log(4 / 3)) / 2, (log(5 / 4) + log(2)) / 2
    rank = (0.0 + (0.75 - 0.5 + 0.1)) / 2                           # the first image satisfies it: 0.5 - 0.8 + 0.1 < 0
    assert loss.global_stream.item() == pytest.approx(ce_global)
    assert loss.local_stream.item() == pytest.approx(ce_local)
    assert loss.rank.item() == pytest.approx(rank)
    assert loss.rank_active.item() == 0.5
    assert loss.p_global.item() == pytest.approx(0.625)
    assert loss.p_local.item() == pytest.approx(0.65)
    assert loss.total.item() == pytest.approx(ce_global + 2.0 * ce_local + 0.5 * rank)


def test_the_ranking_loss_leaves_the_global_stream_alone_when_detached():
    labels, local_logits = torch.tensor([1, 0, 2]), torch.randn(3, 4)
    gradients = []
    for lambda_rank in (0.0, 1.0):
        logits = torch.arange(12.0).view(3, 4).requires_grad_()
        two_stream_loss(logits, local_logits, labels, LossConfig(lambda_rank=lambda_rank)).total.backward()
        gradients.append(logits.grad)
    assert torch.equal(*gradients)


def test_a_sure_and_wrong_prediction_has_a_finite_loss():
    loss = two_stream_loss(torch.tensor([[1e4, 0.0]]), torch.tensor([[1e4, 0.0]]), torch.tensor([1]), LossConfig())
    assert loss.total.item() == pytest.approx(2e4 + 0.25)           # λ m = 0.25: both probabilities are 0


def test_smoothed_labels_give_every_class_its_share():
    logits = torch.tensor([[log(3.0), 0.0]])                        # probabilities 3/4, 1/4
    config = LossConfig(label_smoothing=0.2, lambda_rank=0.0)
    loss = two_stream_loss(logits, logits, torch.tensor([0]), config)
    assert loss.global_stream.item() == pytest.approx(-0.9 * log(0.75) - 0.1 * log(0.25))
    assert loss.p_global.item() == pytest.approx(0.75)              # the hinge compares probabilities, not smoothed ones


def test_a_loss_on_every_step_is_the_mean_of_each_steps_and_leaves_the_hinge_to_the_prediction():
    labels, quiet = torch.tensor([0]), torch.tensor([[0.0, 0.0]])
    predicting = torch.tensor([[log(4.0), 0.0]])                        # p_l = 4/5
    steps = torch.tensor([[[0.0, 0.0], [log(3.0), 0.0]]])               # 1/2, 3/4
    config = LossConfig(lambda_rank=1.0, lambda_local=2.0, margin=0.5, every_step=True)
    loss = two_stream_loss(quiet, predicting, labels, config, steps)
    assert loss.local_stream.item() == pytest.approx((log(2) + log(4 / 3)) / 2)
    assert loss.p_local.item() == pytest.approx(0.8)
    assert loss.rank.item() == pytest.approx(0.2)                       # 0.5 - 0.8 + 0.5
    assert loss.total.item() == pytest.approx(log(2) + (log(2) + log(4 / 3)) + 0.2)


def test_without_a_local_stream_the_loss_is_the_global_streams():
    loss = global_loss(torch.tensor([[0.0, 0.0], [log(3.0), 0.0]]), torch.tensor([0, 0]), LossConfig())
    assert loss.total.item() == loss.global_stream.item() == pytest.approx((log(2) + log(4 / 3)) / 2)
    assert loss.p_global.item() == pytest.approx(0.625)
