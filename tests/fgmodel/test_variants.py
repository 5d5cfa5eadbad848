"""The rows of Tables 6.1 and 6.2 and chapter 7, each as a run that trains, validates and resumes."""

import math

import numpy as np
import pytest
import torch

from fgmodel.errors import InputError
from fgmodel.posthoc import by_step
from tests.fgmodel.test_training import END_TO_END, FROZEN, coloured_frames, easy_features, epochs, start, trial_data

NONE = {"model.local_stream": "none"}
TRUNK = {"model.local_stream": "trunk"}
WITHOUT_TIME = {name: value for name, value in FROZEN.items() if name not in ("model.hidden_size", "model.time_steps")}
ROW_A = {name: value for name, value in WITHOUT_TIME.items() if name != "optim.lr_local"} | NONE
ROW_B = WITHOUT_TIME | TRUNK
ROW_C = FROZEN | {"model.attention": "last", "loss.every_step": True}
LOOKING = {"model.spatial_attention": "between_steps"}
SUM = {"model.attention": "sum", "model.sum_steps": 2}
TWO_TRUNKS = {k: v for k, v in END_TO_END.items() if k not in ("model.hidden_size", "model.time_steps")}


def maps(n=60, folds=3):
    """The easy features, each as a map whose cells are noise about it."""
    data = easy_features(n, folds)
    noise = np.random.default_rng(1).standard_normal((n, 3, 12, 2, 3))
    cells = (data.local_features[..., None, None] + noise).astype(np.float16)
    return trial_data(data.folds, features=(data.global_features, None), labels=data.labels, maps=cells)


VARIANTS = [
    pytest.param(ROW_A, easy_features(), id="6.1a on features"),
    pytest.param(TWO_TRUNKS | NONE, coloured_frames(), id="6.1a end to end"),
    pytest.param(ROW_B, easy_features(), id="6.1b on features"),
    pytest.param(TWO_TRUNKS | TRUNK, coloured_frames(), id="6.1b end to end"),
    pytest.param(ROW_C, easy_features(), id="6.1c"),
    pytest.param(FROZEN | SUM, easy_features(), id="6.2, retrained"),
    pytest.param(FROZEN | LOOKING, maps(), id="chapter 7 on maps"),
    pytest.param(
        END_TO_END | {"model.spatial_attention": "between_layers", "model.attention_heads": 2}, coloured_frames(),
        id="chapter 7 end to end, between layers, two heads",
    ),
    pytest.param(FROZEN | {"model.time_steps": 1}, easy_features(), id="a single time step"),
    pytest.param(FROZEN | {"data.evaluation_patches": "random", "data.evaluation_draws": 3}, easy_features(), id="draws"),
    pytest.param(FROZEN | {"model.fusion": "probs"}, easy_features(), id="probabilities fused"),
]


@pytest.mark.slow
@pytest.mark.parametrize(("settings", "data"), VARIANTS)
def test_a_variant_trains_measures_finite_numbers_and_resumes_to_the_bit(settings, data, tmp_path):
    undisturbed = epochs(start(settings, data), 2)
    assert all(math.isfinite(value) for measured in undisturbed for value in measured.values())
    first = start(settings, data)
    epochs(first, 1)
    first.save(tmp_path / "run.safetensors")
    second = start(settings, data)
    second.load(tmp_path / "run.safetensors")
    assert epochs(second, 1) == undisturbed[1:]


@pytest.mark.slow
@pytest.mark.parametrize(("settings", "data"), [
    pytest.param(ROW_B, easy_features(), id="6.1b"),
    pytest.param(ROW_C, easy_features(), id="6.1c"),
    pytest.param(FROZEN | SUM, easy_features(), id="6.2"),
    pytest.param(FROZEN | LOOKING | {"model.hidden_size": 32}, maps(), id="chapter 7"),
])
def test_a_variants_local_stream_learns_easy_classes(settings, data):
    run = start(settings, data, **{"optim.epochs": 20, "optim.lr_local": 0.3})
    assert max(measured["val/accuracy_local"] for measured in epochs(run, 20)) > 0.9


def names(settings, data):
    return set(epochs(start(settings, data), 1)[0])


def test_without_a_local_stream_nothing_local_is_measured():
    assert names(ROW_A, easy_features()) == {
        "train/loss", "train/loss_global", "train/p_global", "val/accuracy", "val/accuracy_global", "val/nll"}


def test_without_an_lstm_nothing_is_measured_over_time():
    assert names(ROW_B, easy_features()) == {
        "train/loss", "train/loss_global", "train/loss_local", "train/loss_rank", "train/rank_active", "train/p_global",
        "train/p_local", "val/accuracy", "val/accuracy_global", "val/accuracy_local", "val/nll"}


def test_a_global_stream_alone_learns_what_it_learns_beside_a_local_one():
    alone, beside = (epochs(start(settings, easy_features()), 3) for settings in (ROW_A, FROZEN))
    for one, other in zip(alone, beside, strict=True):
        assert one["train/loss_global"] == other["train/loss_global"]       # its reference is detached
        assert one["val/accuracy"] == one["val/accuracy_global"] == other["val/accuracy_global"]


def test_without_a_local_stream_there_is_nothing_local_to_train():
    model = start(ROW_A, easy_features()).models[0]
    assert not list(model.local_stream.parameters())
    end_to_end = start(TWO_TRUNKS | NONE, coloured_frames()).models[0]
    assert not list(end_to_end.local_stream.parameters())
    assert list(end_to_end.global_stream.trunk.parameters())


def test_without_an_lstm_the_local_stream_is_a_trunk_and_a_head():
    model = start(ROW_B, easy_features()).models[0]
    assert {name: tuple(p.shape) for name, p in model.local_stream.named_parameters()} == {
        "head.weight": (3, 12), "head.bias": (3,)}


def test_the_test_of_a_global_stream_alone_has_no_local_accuracy():
    data = easy_features(folds=2)
    run = start(ROW_A, trial_data(data.folds[:1], features=(data.global_features, data.local_features), labels=data.labels))
    result = run.test(easy_features(30, seed=1))
    assert result.accuracy == result.accuracy_global
    assert result.accuracy_local is result.predictions_local is None
    assert result.predictions.shape == (30,)


@pytest.mark.slow
def test_a_loss_on_every_step_trains_the_first_one_too():
    last = FROZEN | {"model.attention": "last", "loss.lambda_rank": 0.0, "optim.epochs": 12}
    every, alone = (epochs(start(s, easy_features()), 12)[-1] for s in (last | {"loss.every_step": True}, last))
    assert every["val/accuracy_step/01"] > 0.9
    assert every["train/loss_local"] != alone["train/loss_local"]


def test_the_sum_of_one_state_is_that_states_step():
    measured = epochs(start(FROZEN | {"model.attention": "sum", "model.sum_steps": 1}, easy_features()), 2)[-1]
    assert measured["val/accuracy_local"] == measured["val/accuracy_step/01"]
    assert [measured[f"attention/alpha/0{t}"] for t in (1, 2, 3)] == [1.0, 0.0, 0.0]


def test_the_weights_of_a_sum_have_the_entropy_of_its_mean():
    measured = epochs(start(FROZEN | SUM, easy_features()), 1)[-1]
    assert measured["attention/entropy"] == pytest.approx(math.log(2) / math.log(3))   # two of three steps alike


def test_accuracy_over_draws_has_a_spread_and_one_draw_has_none():
    random, data = FROZEN | {"data.evaluation_patches": "random", "model.fusion_weight": 100.0}, easy_features()
    data.local_features[:] = np.random.default_rng(0).standard_normal(data.local_features.shape)    # patches say nothing
    one, five = (epochs(start(random, data, **{"data.evaluation_draws": draws}), 2)[-1] for draws in (1, 5))
    assert "val/accuracy_draw_sd" not in one
    assert five["val/accuracy_draw_sd"] > 0
    assert five["val/accuracy_global"] == one["val/accuracy_global"]        # it sees no patch


@pytest.mark.parametrize("kind", ["probs", "logprobs"])
def test_what_is_fused_changes_no_stream(kind):
    logits, other = (epochs(start(FROZEN, easy_features(), **{"model.fusion": k}), 2)[-1] for k in ("logits", kind))
    for name in ("train/loss", "val/accuracy_global", "val/accuracy_local"):
        assert logits[name] == other[name]
    assert (other["val/nll"] == pytest.approx(logits["val/nll"], rel=1e-4)) == (kind == "logprobs")


@pytest.mark.parametrize(("change", "said"), [
    pytest.param({"loss.every_step": True}, "loss.every_step is False there, True here", id="another loss"),
    pytest.param({"model.attention": "sum"}, "model.attention is 'per_step' there, 'sum' here", id="another attention"),
    pytest.param({"model.fusion": "probs"}, "model.fusion is 'logits' there, 'probs' here", id="another fusion"),
])
def test_another_variants_checkpoint_is_refused(change, said, tmp_path):
    start(FROZEN, easy_features()).save(tmp_path / "run.safetensors")
    with pytest.raises(InputError, match=said):
        start(FROZEN, easy_features(), **change).load(tmp_path / "run.safetensors")


@pytest.mark.parametrize(("settings", "data"), [
    pytest.param(FROZEN | SUM, easy_features(), id="features"),
    pytest.param(FROZEN | LOOKING | SUM, maps(), id="maps"),
    pytest.param(
        FROZEN | SUM | {"data.evaluation_patches": "random", "data.evaluation_draws": 3}, easy_features(), id="draws",
    ),
])
def test_states_read_after_training_give_the_accuracies_of_validation(settings, data):
    run = start(settings, data)
    measured = epochs(run, 2)[-1]
    models = run.states()
    assert sum(len(model.labels) for model in models) == 60                 # every fold's validation images
    summed, alone = by_step("sum", models, 1.0), by_step("alone", models, 1.0)
    assert summed.local[1] == pytest.approx(measured["val/accuracy_local"])     # k = 2, as trained
    assert summed.fused[1] == pytest.approx(measured["val/accuracy"])
    for t in (1, 2, 3):
        assert alone.local[t - 1] == pytest.approx(measured[f"val/accuracy_step/0{t}"])


def test_states_of_other_images_come_with_their_labels():
    run, unseen = start(FROZEN, easy_features(folds=2)), easy_features(30, seed=1)
    models = run.states(unseen)
    assert len(models) == 2
    for model in models:
        assert model.labels.tolist() == unseen.labels.tolist()
        assert model.held.states.shape == (30, 1, 3, 16)


def test_a_stream_without_time_steps_has_no_states():
    with pytest.raises(InputError, match=r"model.local_stream: trunk has no states"):
        start(ROW_B, easy_features()).states()


@pytest.mark.parametrize(("settings", "data"), [
    pytest.param(ROW_B, easy_features(), id="without an LSTM"), pytest.param(FROZEN | LOOKING, maps(), id="chapter 7"),
])
def test_dropout_acts_on_a_variants_features_in_training_only(settings, data):
    model = start(settings, data, **{"model.dropout": 0.5}).models[0]
    local, seen = model.local_stream, []
    local.dropout.register_forward_hook(lambda _m, given, returned: seen.append((given[0], returned)))
    kept = data.local_features if data.local_maps is None else data.local_maps
    features = torch.from_numpy(kept[:, 0]).float()
    local.train()(features)
    local.eval()(features)
    (_, dropped), (given, whole) = seen
    channels = (dropped.flatten(2) == 0).all(dim=2) if dropped.ndim > 2 else dropped == 0
    assert 0.4 < channels.float().mean() < 0.6                  # whole channels of a map
    assert torch.equal(given, whole)
