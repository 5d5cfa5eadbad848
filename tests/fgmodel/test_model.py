from math import log

import pytest
import torch

from fgmodel.config import ModelConfig, TrialConfig, official, thesis
from fgmodel.model import TwoStream, fused, fusion_weight

FROZEN = ModelConfig(freeze_backbones=True, hidden_size=8, time_steps=3)
TINY = ModelConfig(
    global_backbone="test_resnet", local_backbone="test_resnet", weights="random", hidden_size=8, time_steps=3,
)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("preset", "parameters"),
    [
        pytest.param(official(), 46_134_289, id="official"),    # specification, §1: CUB
        pytest.param(thesis(), 44_461_584, id="thesis"),
    ],
)
def test_the_presets_have_the_size_and_the_maps_of_the_specification(preset, parameters):
    model = TwoStream(preset.model.model_copy(update={"weights": "random"}), classes=200).to("meta")
    assert sum(p.numel() for p in model.parameters()) == parameters
    for trunk, side in ((model.global_stream.trunk, 448), (model.local_stream.trunk, 224)):
        assert trunk(torch.empty(1, 3, side, side, device="meta")).shape == (1, 512, 14, 14)


def test_pixels_become_logits_of_every_patch_with_attention_and_states():
    model = TwoStream(TINY, classes=5)
    out = model(*model.features(torch.rand(2, 3, 64, 64), torch.rand(2, 4, 3, 32, 32)))
    assert out.global_logits.shape == (2, 5)
    assert out.local_logits.shape == (2, 4, 5)
    assert out.alpha.shape == (2, 4, 3)
    assert out.states.shape == (2, 4, 3, 8)


def test_a_patchs_logits_do_not_depend_on_the_patches_beside_it():
    model, whole, patches = TwoStream(FROZEN, 5, (6, 7)), torch.randn(2, 6), torch.randn(2, 4, 7)
    together, alone = model(whole, patches), model(whole, patches[:, 2:3])
    torch.testing.assert_close(together.local_logits[:, 2:3], alone.local_logits)
    torch.testing.assert_close(together.alpha[:, 2:3], alone.alpha)


def test_frozen_trunks_are_not_even_built():
    model = TwoStream(FROZEN, 5, (6, 7))
    assert model.global_stream.trunk is None
    assert model.local_stream.trunk is None


def test_above_the_pooled_features_the_model_is_the_same_frozen_or_not():
    whole = TwoStream(TINY, classes=5)
    features = whole.features(torch.rand(2, 3, 64, 64), torch.rand(2, 4, 3, 32, 32))
    widths = (features[0].shape[-1], features[1].shape[-1])
    frozen = TwoStream(TINY.model_copy(update={"freeze_backbones": True}), 5, widths)
    frozen.load_state_dict({name: value for name, value in whole.state_dict().items() if "trunk" not in name})
    assert all(torch.equal(mine, theirs) for mine, theirs in zip(whole(*features), frozen(*features), strict=True))


def test_the_streams_share_no_weight():
    model = TwoStream(TINY, classes=5)
    ours = {id(p) for p in model.global_stream.parameters()}
    assert not any(id(p) in ours for p in model.local_stream.parameters())


def test_fusion_adds_the_weighted_local_logits_to_the_global_ones():
    z = fused(torch.tensor([[1.0, 2.0]]), torch.tensor([[4.0, 0.0]]), 0.5)
    assert z.tolist() == [[3.0, 2.0]]


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        pytest.param("logits", [log(4) + 0.5 * log(9), 0.0], id="logits"),
        pytest.param("probs", [log((0.8 + 0.5 * 0.9) / 1.5), log((0.2 + 0.5 * 0.1) / 1.5)], id="probabilities, normalised"),
        pytest.param("logprobs", [log(0.8) + 0.5 * log(0.9), log(0.2) + 0.5 * log(0.1)], id="log-probabilities"),
    ],
)
def test_each_kind_of_fusion_is_the_one_worked_out_by_hand(kind, expected):
    z_g, z_l = torch.tensor([[log(4), 0.0]]), torch.tensor([[log(9), 0.0]])     # p_g = 4/5, p_l = 9/10
    torch.testing.assert_close(fused(z_g, z_l, 0.5, kind), torch.tensor([expected]))


def test_log_probabilities_predict_just_what_logits_do():
    z_g, z_l = torch.randn(20, 5), torch.randn(20, 5)
    one, other = (fused(z_g, z_l, 0.7, kind).softmax(dim=1) for kind in ("logits", "logprobs"))
    torch.testing.assert_close(one, other)


@pytest.mark.parametrize("kind", ["logits", "probs", "logprobs"])
def test_a_weight_of_zero_leaves_the_global_prediction(kind):
    z_g = torch.randn(20, 5)
    torch.testing.assert_close(fused(z_g, torch.randn(20, 5), 0.0, kind).softmax(dim=1), z_g.softmax(dim=1))


@pytest.mark.parametrize(
    ("change", "parameters"),
    [
        pytest.param({"local_stream": "none"}, 513 * 200, id="6.1a: a head"),
        pytest.param({"local_stream": "trunk"}, 2 * 513 * 200, id="6.1b: two heads"),
        pytest.param({"attention": "last"}, 44_461_584 - 2 * 20_024_384 - 10 * 512, id="6.1c: the thesis' without W^t"),
        pytest.param({"attention": "sum"}, 44_461_584 - 2 * 20_024_384 - 10 * 512, id="6.2: likewise"),
        pytest.param({}, 44_461_584 - 2 * 20_024_384, id="6.1d: the thesis' above its two VGG19"),
    ],
)
def test_above_the_trunks_the_rows_of_the_thesis_tables_have_the_sizes_worked_out_by_hand(change, parameters):
    model = TwoStream(ModelConfig(freeze_backbones=True, **change), 200, (512, 512))
    assert sum(p.numel() for p in model.parameters()) == parameters


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        pytest.param({"loss.lambda_local": 0.7}, 0.7, id="λ' unless set"),
        pytest.param({"loss.lambda_local": 0.7, "model.fusion_weight": 0.0}, 0.0, id="set, even to zero"),
    ],
)
def test_the_fusion_weight_is_lambda_local_unless_set(settings, expected):
    assert fusion_weight(TrialConfig.from_settings(settings)) == expected


def test_dropout_acts_in_training_only_and_on_both_streams():
    config = ModelConfig(freeze_backbones=True, hidden_size=8, time_steps=2, dropout=0.5)
    model, features = TwoStream(config, 3, (16, 16)), (torch.rand(4, 16), torch.rand(4, 2, 16))
    first, second = model.train()(*features), model(*features)
    assert not torch.equal(first.global_logits, second.global_logits)
    assert not torch.equal(first.local_logits, second.local_logits)
    model.eval()
    assert torch.equal(model(*features).local_logits, model(*features).local_logits)


@pytest.mark.parametrize("kind", ["none", "trunk"])
def test_end_to_end_a_smaller_local_stream_has_the_trunk_it_needs_and_no_more(kind):
    config = TINY.model_copy(update={"local_stream": kind})
    model = TwoStream(config, classes=5)
    out = model(*model.features(torch.rand(2, 3, 64, 64), torch.rand(2, 0 if kind == "none" else 4, 3, 32, 32)))
    assert out.local_logits.shape == (2, 0 if kind == "none" else 4, 5)
    assert out.alpha.shape[2] == 0
    trunks = {name.split(".")[0] for name, _ in model.named_parameters() if ".trunk." in name}
    assert trunks == {"global_stream"} | ({"local_stream"} if kind == "trunk" else set())
