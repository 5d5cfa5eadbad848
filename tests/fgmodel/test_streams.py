import pytest
import torch
from torch import nn

from fgmodel.streams import GlobalStream, LocalStream, NoStream, RepeatedInputLSTM, TrunkStream


def tiny_trunk():
    return nn.Conv2d(3, 6, 3, stride=2, padding=1)


def local_stream(trunk=None, width=6, **settings):
    return LocalStream(trunk, width, 5, **{"hidden_size": 4, "time_steps": 3, "attention": "per_step"} | settings)


@pytest.mark.parametrize("steps", [1, 2, 6, 10])
def test_the_unrolled_lstm_gives_the_states_of_nn_lstm(steps):
    lstm, x = RepeatedInputLSTM(24, 16, num_layers=2, batch_first=True), torch.randn(8, 24)
    reference = nn.LSTM(24, 16, num_layers=2, batch_first=True)
    reference.load_state_dict(lstm.state_dict())    # same parameters under the same names
    expected, _ = reference(x[:, None].expand(-1, steps, -1))
    torch.testing.assert_close(lstm.unroll(x, steps), expected, atol=1e-5, rtol=0)


def test_the_unrolled_lstm_has_the_gradients_of_nn_lstm():
    lstm, x = RepeatedInputLSTM(24, 16, num_layers=2, batch_first=True), torch.randn(8, 24)
    wanted = torch.randn(8, 6, 16)
    (lstm.unroll(x, 6) * wanted).sum().backward()
    unrolled = [p.grad.clone() for p in lstm.parameters()]
    lstm.zero_grad()
    (lstm(x[:, None].expand(-1, 6, -1))[0] * wanted).sum().backward()
    for mine, theirs in zip(unrolled, lstm.parameters(), strict=True):
        torch.testing.assert_close(mine, theirs.grad, atol=1e-4, rtol=1e-4)


def test_a_longer_unroll_begins_with_the_states_of_a_shorter_one():
    lstm, x = RepeatedInputLSTM(24, 16, num_layers=2, batch_first=True), torch.randn(8, 24)
    torch.testing.assert_close(lstm.unroll(x, 6)[:, :3], lstm.unroll(x, 3))


def test_the_lstm_starts_within_one_over_the_root_of_its_width():
    lstm = RepeatedInputLSTM(24, 16, num_layers=2, batch_first=True)
    assert all(p.abs().max() <= 0.25 for p in lstm.parameters())


def test_the_global_stream_classifies_the_mean_of_its_trunks_map():
    trunk, image = tiny_trunk(), torch.rand(2, 3, 8, 8)
    stream = GlobalStream(trunk, 6, 5)
    pooled = stream.features(image)
    torch.testing.assert_close(pooled, trunk(image).mean(dim=(2, 3)))
    torch.testing.assert_close(stream(pooled), pooled @ stream.head.weight.T)   # the bias is 0


def test_the_addon_stands_between_the_map_and_the_pooling():
    stream = GlobalStream(tiny_trunk(), 6, 5, addon=True)
    assert stream.features(torch.rand(2, 3, 8, 8)).shape == (2, 1024)
    assert (stream.features(torch.rand(2, 3, 8, 8)) >= 0).all()                   # a mean of ReLUs
    assert stream.head.in_features == 1024
    biases = [m.bias for m in stream.addon if isinstance(m, nn.Conv2d)]
    assert all((bias == 0).all() for bias in biases)
    assert stream.addon[2].weight.std().item() == pytest.approx((2 / 1024) ** 0.5, rel=0.02)    # Kaiming fan_out


def test_heads_start_as_narrow_gaussians_with_no_bias():
    for head in (GlobalStream(None, 512, 200).head, local_stream(hidden_size=512).head):
        assert (head.bias == 0).all()
        assert head.weight.std().item() == pytest.approx(0.01, rel=0.05)


def test_the_local_stream_classifies_the_attended_state():
    stream = local_stream(tiny_trunk())
    out = stream(stream.features(torch.rand(2, 3, 8, 8)))
    assert (out.logits.shape, out.alpha.shape, out.states.shape) == ((2, 5), (2, 3), (2, 3, 4))
    mixed = torch.einsum("bt,bth->bh", out.alpha, out.states)
    torch.testing.assert_close(out.logits, stream.head(mixed))


def test_the_last_states_attention_gives_the_head_the_last_state():
    stream = local_stream(attention="last")
    out = stream(torch.randn(2, 6))
    torch.testing.assert_close(out.logits, stream.head(out.states[:, -1]))


def test_features_from_the_cache_and_features_just_computed_give_the_same_logits():
    stream, patch = local_stream(tiny_trunk()), torch.rand(2, 3, 8, 8)
    stored = stream.features(patch).detach().numpy().copy()
    torch.testing.assert_close(stream(torch.from_numpy(stored)).logits, stream(stream.features(patch)).logits)


def test_a_sum_gives_the_head_the_sum_of_the_first_states():
    stream = local_stream(attention="sum", sum_steps=2)
    out = stream(torch.randn(2, 6))
    torch.testing.assert_close(out.logits, stream.head(out.states[:, 0] + out.states[:, 1]))


def test_without_an_lstm_the_head_classifies_the_pooled_map_and_there_are_no_time_steps():
    trunk, patch = tiny_trunk(), torch.rand(2, 3, 8, 8)
    stream = TrunkStream(trunk, 6, 5)
    out = stream(stream.features(patch))
    torch.testing.assert_close(out.logits, stream.head(trunk(patch).mean(dim=(2, 3))))
    assert out.alpha.shape == (2, 0)
    assert out.states.shape[:2] == (2, 0)


def test_no_stream_says_nothing_of_no_patches():
    stream = NoStream(5)
    out = stream(stream.features(torch.empty(0, 3, 8, 8)))
    assert out.logits.shape == (0, 5)
    assert not list(stream.parameters())


def test_an_lstm_alone_looks_nowhere():
    assert local_stream()(torch.randn(2, 6)).looks.shape == (2, 3, 0, 0)
