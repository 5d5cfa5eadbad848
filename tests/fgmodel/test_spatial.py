from math import exp, sqrt

import pytest
import torch
from torch import nn

from fgmodel.config import ModelConfig
from fgmodel.model import TwoStream
from fgmodel.spatial import LookingLSTM, SpatialAttention, SpatialStream, cosine_basis

PLACES = ("between_steps", "between_layers")


def stream(place="between_steps", trunk=None, **settings):
    wanted = {"hidden_size": 6, "time_steps": 3, "attention": "per_step", "place": place} | settings
    return SpatialStream(trunk, 8, 5, **wanted)


def size(module):
    return sum(p.numel() for p in module.parameters())


def fixed_query(sight, query):
    """Make the map be asked the same, whatever the state."""
    with torch.no_grad():
        sight.query[-1].weight.zero_()
        sight.query[-1].bias.copy_(query)


def fixed_answer(sight, answer):
    with torch.no_grad():
        sight.answer[-1].weight.zero_()
        sight.answer[-1].bias.copy_(answer)


def test_the_basis_has_the_values_worked_out_by_hand():
    basis = cosine_basis(2, 2)
    assert basis.shape == (64, 2, 2)
    half = torch.tensor([[0.5, -0.5], [-0.5, 0.5]])                     # cos(π/4) = √½, cos(3π/4) = -√½
    torch.testing.assert_close(basis[0], half)                          # u = v = 1
    torch.testing.assert_close(basis[2], -half)                         # u = 1, v = 3: cos(3π/4), cos(9π/4)
    torch.testing.assert_close(basis[1], torch.zeros(2, 2))             # v = 2: cos(π/2), cos(3π/2)
    wide = cosine_basis(3, 5)
    assert wide[8 + 2, 1, 4].item() == pytest.approx(-1 * -0.5877852523)    # u = 2, v = 3: cos(π), cos(2.7π)


def test_the_two_mlps_have_the_parameters_of_the_specification():
    sight = SpatialAttention(512, 512)
    assert (size(sight.query), size(sight.answer)) == (623_808, 492_544)    # §1


def test_other_trunks_split_their_channels_in_a_quarter_and_three():
    sight = SpatialAttention(1280, 16)                                  # §9: c_k = D/4, c_v = 3D/4
    assert (sight.query[-1].out_features, sight.answer[0].in_features) == (320 + 64, 960 + 64)


def test_the_extra_of_the_thesis_resnet34_is_its_two_mlps():
    base = ModelConfig(freeze_backbones=True)
    plain = TwoStream(base, 200, (512, 512))
    looking = TwoStream(base.model_copy(update={"spatial_attention": "between_steps"}), 200, (512, 512))
    assert size(looking) - size(plain) == 623_808 + 492_544


def test_keys_and_values_are_the_maps_channels_with_the_basis_beneath():
    cells = torch.randn(2, 8, 3, 5)
    keys, values = SpatialAttention(8, 6).keys_and_values(cells)
    assert (keys.shape, values.shape) == ((2, 2 + 64, 15), (2, 6 + 64, 15))
    torch.testing.assert_close(keys[:, :2], cells[:, :2].flatten(2))
    torch.testing.assert_close(values[:, :6], cells[:, 2:].flatten(2))
    for each in (keys[1, 2:], values[0, 6:]):
        torch.testing.assert_close(each, cosine_basis(3, 5).flatten(1))


def test_a_look_is_the_softmax_over_cells_of_query_times_key_over_the_root_of_their_width():
    sight = SpatialAttention(4, 6)                                      # c_k = 1: 65 channels of a key
    query = torch.zeros(65)
    query[0] = sqrt(65)
    fixed_query(sight, query)
    cells = torch.zeros(1, 4, 1, 2)
    cells[0, 0, 0] = torch.tensor([0.0, 2.0])
    _, look = sight(torch.randn(1, 6), *sight.keys_and_values(cells))   # scores √65·2/√65 = 2, and 0
    torch.testing.assert_close(look, torch.tensor([[1.0, exp(2)]]) / (1 + exp(2)))


def test_the_answer_is_the_mean_of_the_values_looked_at():
    sight = SpatialAttention(4, 6)
    fixed_query(sight, torch.zeros(65))                                 # looks everywhere alike
    keys, values = sight.keys_and_values(torch.randn(3, 4, 2, 2))
    fed, look = sight(torch.randn(3, 6), keys, values)
    torch.testing.assert_close(look, torch.full((3, 4), 0.25))
    torch.testing.assert_close(fed, sight.answer(values.mean(dim=2)))


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("heads", [1, 4])
def test_every_look_sums_to_one_over_the_map(place, heads):
    out = stream(place, heads=heads)(torch.randn(4, 8, 3, 5))
    assert (out.logits.shape, out.alpha.shape, out.states.shape, out.looks.shape) == (
        (4, 5), (4, 3), (4, 3, 6), (4, 3, 3, 5))
    assert (out.looks >= 0).all()
    torch.testing.assert_close(out.looks.sum(dim=(2, 3)), torch.ones(4, 3))
    torch.testing.assert_close(out.alpha.sum(dim=1), torch.ones(4))


def test_each_head_asks_and_hears_by_itself():
    sight = SpatialAttention(512, 512, heads=4)
    assert (sight.query[-1].out_features, sight.answer[0].in_features) == (4 * 192, 4 * 448)


def test_the_first_query_is_the_same_for_every_patch_and_later_ones_are_not():
    lstm = LookingLSTM(8, 32, "between_steps")
    asked = []
    lstm.sight.query.register_forward_hook(lambda _m, _given, query: asked.append(query))
    lstm(torch.randn(2, 8, 3, 3), 2)
    torch.testing.assert_close(asked[0][0], asked[0][1])                # MLP_q(0): its biases
    assert not torch.allclose(asked[1][0], asked[1][1])


def test_keys_and_values_are_made_once_for_all_steps(monkeypatch):
    calls, made = [], SpatialAttention.keys_and_values
    monkeypatch.setattr(SpatialAttention, "keys_and_values", lambda self, cells: calls.append(1) or made(self, cells))
    LookingLSTM(8, 6, "between_steps")(torch.randn(2, 8, 3, 3), 5)
    assert len(calls) == 1


def as_lstm(*cells):
    """Return torch's LSTM with the weights of these cells."""
    lstm = nn.LSTM(cells[0].input_size, cells[0].hidden_size, num_layers=len(cells), batch_first=True)
    lstm.load_state_dict({f"{name}_l{k}": value for k, cell in enumerate(cells) for name, value in cell.state_dict().items()})
    return lstm


def test_between_steps_is_a_two_layer_lstm_fed_with_answers():
    lstm, answer = LookingLSTM(8, 6, "between_steps"), torch.randn(6)
    fixed_answer(lstm.sight, answer)
    states, _ = lstm(torch.randn(2, 8, 3, 3), 4)
    expected, _ = as_lstm(lstm.bottom, lstm.top)(answer.expand(2, 4, 6))
    torch.testing.assert_close(states, expected)


def test_between_layers_the_bottom_layers_state_asks_and_the_top_layer_is_fed_the_answer():
    lstm, cells = LookingLSTM(8, 6, "between_layers"), torch.randn(2, 8, 3, 3)
    states, looks = lstm(cells, 4)
    below, _ = as_lstm(lstm.bottom)(cells.mean(dim=(2, 3))[:, None].expand(-1, 4, -1))      # B T H
    keys, values = lstm.sight.keys_and_values(cells)
    answers, expected_looks = zip(*(lstm.sight(below[:, t], keys, values) for t in range(4)), strict=True)
    expected, _ = as_lstm(lstm.top)(torch.stack(answers, dim=1))
    torch.testing.assert_close(states, expected)
    torch.testing.assert_close(looks.flatten(2), torch.stack(expected_looks, dim=1))


def test_a_longer_look_begins_with_the_states_of_a_shorter_one():
    lstm, cells = LookingLSTM(8, 6, "between_steps"), torch.randn(2, 8, 3, 3)
    torch.testing.assert_close(lstm(cells, 5)[0][:, :2], lstm(cells, 2)[0])


@pytest.mark.parametrize("place", PLACES)
def test_the_loss_reaches_the_trunk_and_both_mlps(place):
    local = stream(place, nn.Conv2d(3, 8, 3, stride=2, padding=1), hidden_size=32)
    local(local.features(torch.rand(2, 3, 8, 8))).logits.square().sum().backward()
    for name, parameter in local.named_parameters():
        assert parameter.grad.abs().max() > 0, name


def test_neither_basis_nor_scale_is_trained_or_saved():
    sight = SpatialAttention(8, 6)
    assert {name.split(".")[0] for name in sight.state_dict()} == {"query", "answer"}


def test_maps_become_logits_of_every_patch_with_where_each_step_looked():
    config = ModelConfig(
        global_backbone="test_resnet", local_backbone="test_resnet", weights="random", hidden_size=8, time_steps=3,
        spatial_attention="between_steps",
    )
    model = TwoStream(config, classes=5)
    whole, maps = model.features(torch.rand(2, 3, 64, 64), torch.rand(2, 4, 3, 96, 96))
    assert maps.shape == (2, 4, 96, 3, 3)
    out = model(whole, maps)
    assert (out.local_logits.shape, out.looks.shape) == ((2, 4, 5), (2, 4, 3, 3, 3))
