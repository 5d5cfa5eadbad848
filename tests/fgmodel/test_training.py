import math

import numpy as np
import pytest
import torch

from fgmodel.config import TrialConfig
from fgmodel.data.datasets import Fold
from fgmodel.errors import InputError
from fgmodel.training import Diverged, Run
from fgmodel.trial_data import TrialData

FROZEN = {
    "model.freeze_backbones": True,
    "model.hidden_size": 16,
    "model.time_steps": 3,
    "optim.lr_global": 0.05,
    "optim.lr_local": 0.1,
    "optim.batch_size": 8,
    "optim.schedule": "cosine",
    "optim.epochs": 6,
}
END_TO_END = {
    "model.global_backbone": "test_resnet",     # timm's, for tests; it has batch norm
    "model.local_backbone": "test_resnet",
    "model.weights": "random",
    "model.hidden_size": 8,
    "model.time_steps": 2,
    "data.frame_size": 64,
    "data.image_size": 48,
    "data.patch_size": 32,
    "data.augmentation": "standard",
    "optim.batch_size": 8,
    "optim.epochs": 3,
}


def trial_data(folds, *, frames=None, features=None, maps=None, labels, patches=3):
    n = len(labels)
    whole, local = features or (None, None)
    return TrialData(
        classes=("a", "b", "c"), names=tuple(f"{i}.jpg" for i in range(n)), labels=labels, folds=folds,
        boxes=np.tile(np.array([8, 8, 40, 40], np.int16), (n, patches, 1)),
        frames=frames, global_features=whole, local_features=local, local_maps=maps,
        fingerprint="f", split="s", patches="p",
    )


def cut_in(k, n):
    parts = np.array_split(np.arange(n), k)
    return tuple(Fold(np.setdiff1d(np.arange(n), part), part) for part in parts)


def easy_features(n=60, folds=3, seed=0):
    """Three classes about three points, clearly apart."""
    random = np.random.default_rng(seed)
    labels = np.arange(n) % 3
    centres = 3 * np.random.default_rng(9).standard_normal((3, 12))
    whole = (centres[labels] + random.standard_normal((n, 12))).astype(np.float32)
    local = (centres[labels][:, None] + random.standard_normal((n, 3, 12))).astype(np.float32)
    return trial_data(cut_in(folds, n), features=(whole, local), labels=labels)


def coloured_frames(n=24):
    """Three classes of three colours."""
    random, labels = np.random.default_rng(0), np.arange(n) % 3
    frames = random.integers(0, 120, (n, 64, 64, 3)).astype(np.uint8)
    frames[np.arange(n), :, :, labels] += 120
    return trial_data(cut_in(2, n), frames=frames, labels=labels)


def start(settings, data, **changes):
    return Run(TrialConfig.from_settings(settings | changes), data)


def epochs(run, count):
    return [run.train_epoch() | run.validate() for _ in range(count)]


CASES = [
    pytest.param(FROZEN, easy_features(), id="features"),
    pytest.param(END_TO_END, coloured_frames(), id="end to end"),
]


def test_easy_features_are_learned_within_a_few_epochs():
    assert epochs(start(FROZEN, easy_features()), 6)[-1]["val/accuracy"] > 0.9


@pytest.mark.slow
def test_colours_are_learned_end_to_end():
    run = start(END_TO_END, coloured_frames(), **{"optim.lr_global": 0.02, "optim.lr_local": 0.02, "optim.epochs": 10})
    assert epochs(run, 10)[-1]["val/accuracy"] > 0.8


@pytest.mark.slow
@pytest.mark.parametrize(("settings", "data"), CASES)
def test_a_resumed_run_is_bit_identical_to_one_that_was_not_interrupted(settings, data, tmp_path):
    undisturbed = epochs(start(settings, data), 3)
    first = start(settings, data)
    epochs(first, 1)
    first.save(tmp_path / "run.safetensors")
    torch.manual_seed(123)                      # whoever continues has another history
    second = start(settings, data)
    second.load(tmp_path / "run.safetensors")
    assert second.epoch == 1
    assert epochs(second, 2) == undisturbed[1:]


@pytest.mark.slow
@pytest.mark.parametrize(("settings", "data"), CASES)
def test_the_same_seed_gives_the_same_numbers_and_another_seed_others(settings, data):
    runs = [epochs(start(settings, data, seed=seed), 1) for seed in (1, 1, 2)]
    assert runs[0] == runs[1]
    assert runs[0] != runs[2]


def test_a_run_leaves_torchs_own_generator_as_it_was():
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    epochs(start(FROZEN, easy_features()), 1)
    assert torch.equal(torch.rand(3), expected)


def test_a_checkpoint_of_epoch_0_can_be_continued(tmp_path):
    run = start(FROZEN, easy_features())
    run.save(tmp_path / "run.safetensors")
    expected = epochs(run, 2)
    run.load(tmp_path / "run.safetensors")
    assert run.epoch == 0
    assert epochs(run, 2) == expected


@pytest.mark.parametrize(
    ("change", "said"),
    [
        pytest.param({"optim.lr_local": 0.2}, "optim.lr_local is 0.1 there, 0.2 here", id="a rate"),
        pytest.param({"seed": 1}, "seed is 0 there, 1 here", id="the seed"),
        pytest.param({"optim.epochs": 9}, "optim.epochs is 6 there, 9 here", id="the epochs a cosine spans"),
        pytest.param({"model.hidden_size": 8}, "model.hidden_size is 16 there, 8 here", id="the model's size"),
    ],
)
def test_another_configurations_checkpoint_is_refused_and_changes_nothing(change, said, tmp_path):
    data = easy_features()
    other = start(FROZEN, data)
    other.train_epoch()
    other.save(tmp_path / "run.safetensors")
    run, untouched = start(FROZEN, data, **change), start(FROZEN, data, **change)
    with pytest.raises(InputError, match=said):
        run.load(tmp_path / "run.safetensors")
    assert run.epoch == 0
    assert epochs(run, 1) == epochs(untouched, 1)


def test_a_folder_that_moved_keeps_its_checkpoints(tmp_path):
    data = easy_features()
    start(FROZEN, data, **{"data.root": "/old/birds"}).save(tmp_path / "run.safetensors")
    start(FROZEN, data, **{"data.root": "/new/birds"}).load(tmp_path / "run.safetensors")


def test_rates_beyond_reason_end_in_diverged_with_the_epoch():
    # the decay alone multiplies the weights by 1 - 10 = -9 a step
    beyond = {"optim.lr_global": 10.0, "optim.weight_decay": 1.0, "optim.schedule": "constant"}
    run = start(FROZEN, easy_features(), **beyond)
    with pytest.raises(Diverged) as error:
        epochs(run, 20)
    assert 3 < run.epoch < 20
    assert f"not finite at epoch {run.epoch};" in str(error.value)


def test_weights_that_left_the_finite_numbers_do_not_validate():
    run = start(FROZEN, easy_features())
    run.models[1].global_stream.head.weight.data[0, 0] = math.nan
    with pytest.raises(Diverged, match="a prediction is not finite at epoch 0"):
        run.validate()


def test_every_fold_has_its_own_model_trained_without_its_validation_images():
    data = easy_features(folds=2)
    spoilt = data.local_features.copy()
    spoilt[data.folds[0].validation] = math.nan       # would end in nan weights if it were trained on
    whole = data.global_features.copy()
    whole[data.folds[0].validation] = math.nan
    run = start(FROZEN, trial_data(data.folds[:1], features=(whole, spoilt), labels=data.labels))
    assert math.isfinite(run.train_epoch()["train/loss"])


def test_folds_start_from_different_weights():
    one, other, _ = start(FROZEN, easy_features()).models
    assert not torch.equal(one.global_stream.head.weight, other.global_stream.head.weight)


def test_a_folds_model_is_judged_on_its_own_validation_images_only():
    data = easy_features(folds=2)
    run = start(FROZEN, data)
    epochs(run, 3)
    good = run.validate()["val/accuracy_global"]
    with torch.no_grad():                             # the second fold's model now calls everything class 0
        head = run.models[1].global_stream.head
        head.weight.zero_()
        head.bias.copy_(torch.tensor([1.0, 0.0, 0.0]))
    assert good == 1.0
    assert run.validate()["val/accuracy_global"] == pytest.approx((30 + 10) / 60)


def test_an_untrained_run_reports_losses_at_chance():
    measured = start(FROZEN, easy_features(), **{"optim.lr_global": 1e-9, "optim.lr_local": 1e-9}).train_epoch()
    assert measured["train/loss_local"] == pytest.approx(math.log(3), abs=0.01)       # heads start near zero
    assert measured["train/p_global"] == pytest.approx(1 / 3, abs=0.05)
    assert measured["train/loss_rank"] == pytest.approx(0.5, abs=0.05)                # p_g = p_l: the margin
    assert measured["train/rank_active"] == 1.0
    total = measured["train/loss_global"] + measured["train/loss_local"] + 0.5 * measured["train/loss_rank"]
    assert measured["train/loss"] == pytest.approx(total, rel=1e-5)


@pytest.mark.parametrize(
    ("change", "moved"),
    [
        pytest.param({"optim.lr_global": 1e-9}, "local_stream", id="lr_global"),
        pytest.param({"optim.lr_local": 1e-9}, "global_stream", id="lr_local"),
    ],
)
def test_each_stream_follows_its_own_learning_rate(change, moved):
    run, before = start(FROZEN, easy_features(), **change), start(FROZEN, easy_features(), **change)
    run.train_epoch()
    now, then = run.models[0].state_dict(), before.models[0].state_dict()
    changed = {name.split(".")[0] for name in now if not torch.allclose(now[name], then[name], atol=1e-6)}
    assert changed == {moved}


def test_clipping_bounds_what_a_step_may_change():
    clipped = {"optim.clip_norm": 1e-6, "optim.weight_decay": 0.0, "optim.momentum": 0.0}
    run, before = start(FROZEN, easy_features(), **clipped), start(FROZEN, easy_features(), **clipped)
    run.train_epoch()
    for mine, theirs in zip(run.models[0].parameters(), before.models[0].parameters(), strict=True):
        torch.testing.assert_close(mine, theirs, atol=1e-6, rtol=0)


def test_a_run_without_momentum_is_continued_all_the_same(tmp_path):
    data, plain = easy_features(), {"optim.momentum": 0.0}
    run = start(FROZEN, data, **plain)
    run.train_epoch()
    run.save(tmp_path / "run.safetensors")
    again = start(FROZEN, data, **plain)
    again.load(tmp_path / "run.safetensors")
    assert epochs(again, 1) == epochs(run, 1)


def test_trunks_in_bf16_train_and_predict_in_full_precision_above():
    run = start(END_TO_END, coloured_frames(), **{"optim.precision": "bf16"})
    measured = epochs(run, 1)[0]
    assert all(math.isfinite(value) for value in measured.values())
    assert {p.dtype for p in run.models[0].parameters()} == {torch.float32}


def test_the_test_reports_both_streams_and_a_prediction_for_every_image():
    run = start(FROZEN, easy_features(folds=2))
    single = start(FROZEN, trial_data(
        (Fold(np.arange(60), np.arange(0)),),
        features=(run.data.global_features, run.data.local_features), labels=run.data.labels,
    ))
    assert single.validate() == {}                  # nothing is held out
    for _ in range(6):
        single.train_epoch()
    unseen = easy_features(n=30, seed=1)
    result = single.test(unseen)
    assert result.n == 30
    assert result.accuracy > 0.9
    assert result.accuracy == pytest.approx((result.predictions == unseen.labels).mean())
    assert result.accuracy_local == pytest.approx((result.predictions_local == unseen.labels).mean())
    assert result.predictions_global.shape == (30,)


def test_evaluation_on_the_best_patch_looks_at_the_first_alone():
    data = easy_features()
    data.local_features[:, 1:] = 0.0
    all_patches = start(FROZEN, data)
    best = start(FROZEN, data, **{"data.evaluation_patches": "top1"})
    for run in (all_patches, best):
        for learner, other in zip(run._learners, best._learners, strict=True):
            learner.restore(other.tensors())
    assert best.validate()["val/nll"] != all_patches.validate()["val/nll"]
    data.local_features[:, 1:] = data.local_features[:, :1]     # now all patches are the first
    assert best.validate()["val/nll"] == pytest.approx(all_patches.validate()["val/nll"], rel=1e-5)
