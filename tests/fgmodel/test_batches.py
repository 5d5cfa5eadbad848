from dataclasses import replace

import numpy as np
import pytest
import torch

from fgmodel.batches import Features, Pixels, draw, evaluation_picks
from fgmodel.config import DataConfig, ModelConfig
from fgmodel.trial_data import TrialData

CPU = torch.device("cpu")


def data(*, frames=None, boxes=None, features=None):
    whole, patches = features or (None, None)
    n = len(frames if frames is not None else whole)
    return TrialData(
        classes=("a", "b"), names=tuple(map(str, range(n))), labels=np.zeros(n, np.int64), folds=(),
        boxes=np.zeros((n, 1, 4), np.int16) if boxes is None else boxes,
        frames=frames, global_features=whole, local_features=patches, fingerprint="", split="", patches="",
    )


@pytest.fixture
def features():
    whole = np.arange(6, dtype=np.float32).repeat(2).reshape(6, 2)                      # image i: [i, i]
    patches = np.arange(6 * 3, dtype=np.float32).reshape(6, 3, 1).repeat(4, axis=2)     # patch k of image i: 3i + k
    return data(features=(whole, patches))


def test_features_of_an_image_come_with_features_of_its_own_patches(features):
    batch = Features(ModelConfig(), features, CPU).evaluation(torch.tensor([4, 1]), torch.tensor([[0, 2], [1, 1]]))
    assert batch.whole.tolist() == [[4, 4], [1, 1]]
    assert batch.patches[..., 0].tolist() == [[12, 14], [4, 4]]


def test_training_takes_one_patch_of_each_image_uniformly(features):
    draws = torch.tensor([[0.0], [0.34], [0.67], [0.999]], dtype=torch.float64)
    batch = Features(ModelConfig(), features, CPU).training(torch.tensor([0, 0, 0, 0]), draws)
    assert batch.patches[:, 0, 0].tolist() == [0, 1, 2, 2]


def test_features_are_the_shared_arrays_themselves_not_a_copy(features):
    source = Features(ModelConfig(), features, CPU)
    assert source._patches.data_ptr() == features.local_features.ctypes.data
    assert source.widths == (2, 4)


def test_a_read_only_memory_map_is_read_without_a_warning(tmp_path):
    np.save(tmp_path / "whole.npy", np.ones((2, 3), np.float32))
    whole = np.load(tmp_path / "whole.npy", mmap_mode="r")
    assert Features(ModelConfig(), data(features=(whole, whole[:, None])), CPU).widths == (3, 3)


def test_an_images_draws_stay_below_one_and_follow_the_generator():
    draws = [draw(1000, torch.Generator().manual_seed(seed)) for seed in (1, 1, 2)]
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])
    assert draws[0].min() >= 0
    assert draws[0].max() < 1


def test_evaluation_takes_all_patches_or_the_best_or_a_fixed_draw():
    def picks(how, seed=0):
        return evaluation_picks(DataConfig(evaluation_patches=how, seed=seed), 50, 10)

    assert picks("mean_all").tolist() == [list(range(10))] * 50
    assert picks("top1").tolist() == [[0]] * 50
    assert torch.equal(picks("random"), picks("random"))
    assert not torch.equal(picks("random"), picks("random", seed=1))
    assert set(picks("random").flatten().tolist()) == set(range(10))


def test_more_draws_begin_with_those_of_fewer():
    def picks(draws):
        return evaluation_picks(DataConfig(evaluation_patches="random", evaluation_draws=draws), 50, 10)

    assert picks(5).shape == (50, 5)
    assert torch.equal(picks(5)[:, :1], picks(1))
    assert len({tuple(column) for column in picks(5).T.tolist()}) == 5


def test_maps_come_in_full_precision_with_the_trunks_width(features):
    cells = np.arange(6 * 3 * 4 * 2 * 2, dtype=np.float16).reshape(6, 3, 4, 2, 2)
    held = replace(features, local_features=None, local_maps=cells)
    source = Features(ModelConfig(freeze_backbones=True, spatial_attention="between_steps"), held, CPU)
    batch = source.evaluation(torch.tensor([4]), torch.tensor([[2, 0]]))
    assert source.widths == (2, 4)
    assert batch.patches.dtype == torch.float32
    assert np.array_equal(batch.patches[0].numpy(), cells[4, [2, 0]])


def test_without_a_local_stream_no_patch_is_taken(features, pictures):
    alone = replace(features, local_features=None)
    source = Features(ModelConfig(freeze_backbones=True, local_stream="none"), alone, CPU)
    draws = torch.zeros(2, 4, dtype=torch.float64)
    for how in ("mean_all", "top1", "random"):
        picks = evaluation_picks(DataConfig(evaluation_patches=how), 2, source.patches_per_image)
        assert source.evaluation(torch.tensor([4, 1]), picks).patches.shape == (2, 0, 0)
    assert source.training(torch.tensor([4, 1]), draws).whole.tolist() == [[4, 4], [1, 1]]
    cut = Pixels(DataConfig(frame_size=64, image_size=32, patch_size=32), pictures, CPU, patches=False)
    assert cut.patches_per_image == 0
    assert cut.training(torch.tensor([0, 1]), draws).patches.shape == (2, 0, 3, 32, 32)


@pytest.fixture
def pictures():
    frames = np.zeros((2, 64, 64, 3), np.uint8)
    frames[0, 16:32, 8:24] = (255, 0, 51)       # a block of red with a little blue
    boxes = np.array([[[8, 16, 24, 32], [40, 40, 56, 56]], [[0, 0, 64, 64], [0, 0, 32, 32]]], np.int16)
    return data(frames=frames, boxes=boxes)


def frames(pictures, **settings):
    config = DataConfig(frame_size=64, image_size=32, patch_size=32, **settings)
    return Pixels(config, pictures, CPU)


def test_images_are_resized_and_patches_cut_from_the_frame_in_0_to_1(pictures):
    batch = frames(pictures).evaluation(torch.tensor([0, 1]), torch.tensor([[0, 1], [0, 1]]))
    assert batch.whole.shape == (2, 3, 32, 32)
    assert batch.patches.shape == (2, 2, 3, 32, 32)
    torch.testing.assert_close(batch.whole[0, :, 12, 8], torch.tensor([1.0, 0.0, 0.2]))         # inside the block
    torch.testing.assert_close(batch.patches[0, 0, :, 16, 16], torch.tensor([1.0, 0.0, 0.2]))   # the box is the block
    assert batch.patches[0, 1].abs().max() == 0
    assert batch.patches[1].abs().max() == 0


def test_evaluation_never_augments(pictures):
    rows, picks = torch.tensor([0]), torch.tensor([[0]])
    plain = frames(pictures).evaluation(rows, picks)
    standard = frames(pictures, augmentation="standard").evaluation(rows, picks)
    assert torch.equal(plain.whole, standard.whole)
    assert torch.equal(plain.patches, standard.patches)


@pytest.mark.parametrize("augmentation", ["flip", "standard"])
def test_an_augmented_patch_shows_what_its_box_was_put_around(pictures, augmentation):
    source = frames(pictures, augmentation=augmentation)
    draws = draw(40, torch.Generator().manual_seed(0))
    draws[:, 0] = 0.0                                       # always the first box: the block
    batch = source.training(torch.zeros(40, dtype=torch.int64), draws)
    centres = batch.patches[:, 0, :, 16, 16]
    torch.testing.assert_close(centres, torch.tensor([1.0, 0.0, 0.2]).expand(40, -1))
    left_right = (batch.whole[:, 0].sum(dim=1).argmax(dim=1) > 16).float().mean()       # the block began left of centre
    assert 0.2 < left_right < 0.8
