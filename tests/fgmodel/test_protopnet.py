import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from fgmodel.cache import Frames
from fgmodel.config import DataConfig
from fgmodel.data.datasets import open_dataset
from fgmodel.errors import InputError
from fgmodel.extraction.protopnet import FROZEN, TRAINED, activation_boxes, find, fitted, restored
from fgmodel.extraction.prototype_training import foreign, loss, push
from fgmodel.extraction.prototypes import Nearness, PrototypeNet, similarity
from fgmodel.extraction.task import Task
from fgmodel.trunks.frozen_trunk import FrozenTrunk

TINY = FrozenTrunk("timm/test_resnet", "random")
FAST = {"epochs": 3, "warm": 1, "push": 2, "last": 2, "epoch_images": 1, "batch": 16}


def small_net(classes=2, width=6):
    torch.manual_seed(0)
    return PrototypeNet(torch.nn.Identity(), width, classes)


# --- the network (thesis.md §4) ---------------------------------------------------------------------------------------

def test_the_network_is_that_of_the_specification():
    net = small_net(classes=3)
    assert [tuple(p.shape) for p in net.addon.parameters()] == [(128, 6, 1, 1), (128,), (128, 128, 1, 1), (128,)]
    assert net.prototypes.shape == (30, 128)
    assert 0 <= net.prototypes.min() < net.prototypes.max() <= 1
    assert net.head.bias is None
    assert net.head.weight[1].tolist() == [-0.5] * 10 + [1.0] * 10 + [-0.5] * 10


def test_similarity_is_the_log_of_the_specification():
    assert similarity(torch.tensor([0.0, 1.0])).tolist() == pytest.approx([math.log(1e4), math.log(2 / 1.0001)])


def test_distances_are_squared_and_their_minimum_over_cells_counts():
    net = small_net()
    latent = torch.rand(2, 128, 3, 4)
    direct = (latent[:, None] - net.prototypes[None, :, :, None, None]).square().sum(dim=2)
    torch.testing.assert_close(net.distances(latent), direct, rtol=1e-4, atol=1e-4)
    images = torch.rand(2, 6, 3, 4)
    seen = net(images)
    torch.testing.assert_close(seen.nearest, net.distances(net.latent(images)).flatten(2).amin(dim=2))
    torch.testing.assert_close(seen.logits, similarity(seen.nearest) @ net.head.weight.T)


def test_the_loss_is_the_sum_of_its_four_terms():
    net = small_net()
    nearest = torch.full((2, 20), 9.0)
    nearest[0, 3], nearest[0, 15] = 1.0, 5.0     # image 0, of class 0: own 1, other 5
    nearest[1, 3], nearest[1, 15] = 2.0, 4.0     # image 1, of class 1: own 4, other 2
    logits = torch.zeros(2, 2)
    value = loss(net, Nearness(logits, nearest), torch.tensor([0, 1]))
    expected = math.log(2) + 0.8 * (1 + 4) / 2 - 0.08 * (5 + 2) / 2 + 1e-4 * 20 * 0.5
    assert value.item() == pytest.approx(expected, rel=1e-5)
    assert foreign(net).item() == pytest.approx(20 * 0.5)    # own weights are free


def test_a_push_takes_the_nearest_cell_of_its_own_class():
    net = small_net()
    latents = [torch.rand(3, 128, 2, 2), torch.rand(2, 128, 2, 2)]
    labels = torch.tensor([0, 1, 0, 1, 0])
    before = net.prototypes.detach().clone()
    push(net, iter(latents), labels)
    every = torch.cat(latents)
    for p in (0, 9, 10, 19):
        cells = every[labels == p // 10].permute(0, 2, 3, 1).reshape(-1, 128)
        nearest = cells[(cells - before[p]).square().sum(dim=1).argmin()]
        torch.testing.assert_close(net.prototypes[p].detach(), nearest)


# --- boxes ------------------------------------------------------------------------------------------------------------

def test_a_box_lies_where_its_prototype_does_and_covers_a_twentieth():
    net = small_net()
    images = 0.01 * torch.rand(1, 6, 10, 10)
    images[0, :, 2, 7] = torch.tensor([5.0, 0, 3, 0, 2, 0])
    with torch.no_grad():
        latent = net.latent(images)
        net.prototypes[4] = latent[0, :, 2, 7]
    boxes, scores = activation_boxes(net, images, 3)
    x1, y1, x2, y2 = boxes[0, 0].tolist()
    assert x1 < 7.5 / 10 < x2
    assert y1 < 2.5 / 10 < y2
    assert scores[0, 0].item() == pytest.approx(math.log(1e4), rel=1e-2)
    assert (scores[0].diff() <= 0).all()
    assert ((boxes[..., 2:] - boxes[..., :2]).prod(dim=-1) >= 0.05).all()


def test_more_boxes_than_prototypes_are_refused():
    with pytest.raises(InputError, match=r"data.patches_per_image: 21, but there are 20 prototypes"):
        activation_boxes(small_net(), torch.rand(1, 6, 4, 4), 21)


# --- the fit ----------------------------------------------------------------------------------------------------------

def frames_of(cache, split):
    return Frames(open_dataset(DataConfig(dataset="finches", finches_per_species=8), cache), split, 64, cache)


@pytest.mark.slow
@pytest.mark.parametrize("recipe", [
    pytest.param(replace(FROZEN, size=128, **FAST), id="frozen trunk"),
    pytest.param(replace(TRAINED, size=96, **FAST), id="trained trunk"),
])
def test_a_fit_is_kept_and_serves_both_splits_the_same_every_time(recipe, tmp_path):
    found = []
    for cache in (tmp_path / "a", tmp_path / "b"):
        train, test = (frames_of(cache, split) for split in ("train", "test"))
        found.append([find(Task(frames, fitted(train, TINY, recipe), 4, TINY), recipe) for frames in (test, train)])
        (kept,) = (cache / "patches").glob("*.npz")
        assert "-train-" in kept.name
        assert np.load(kept)["held_out_accuracy"].shape == (1,)
    for once, again in zip(*found, strict=True):
        assert np.array_equal(once.boxes, again.boxes)
        assert np.array_equal(once.scores, again.scores)
        assert (np.diff(once.scores, axis=1) <= 0).all()


@pytest.mark.slow
def test_a_trained_trunk_learns_and_a_frozen_one_does_not(tmp_path):
    train = frames_of(tmp_path, "train")
    start = TINY.model.state_dict()
    recipe = replace(TRAINED, size=96, **FAST)
    net = restored(fitted(train, TINY, recipe), TINY, recipe)
    moved = [name for name, value in net.trunk.named_parameters() if name in start and not torch.equal(value, start[name])]
    assert moved
    recipe = replace(FROZEN, size=128, **FAST)
    assert not list(restored(fitted(train, TINY, recipe), TINY, recipe).trunk.parameters())
    assert all(not p.requires_grad for p in TINY.model.parameters())


@pytest.mark.slow
def test_prototypes_are_cells_of_train_images(tmp_path):
    train, recipe = frames_of(tmp_path, "train"), replace(FROZEN, size=128, **FAST)
    net = restored(fitted(train, TINY, recipe), TINY, recipe)
    from fgmodel.cache import trunk_maps
    latent = net.latent(torch.from_numpy(trunk_maps(train, TINY, 128).astype(np.float32)))
    labels = torch.from_numpy(train.dataset.labels[train.rows])
    nearest = net.distances(latent).detach().amin(dim=(2, 3))                              # n P
    for p in range(0, 120, 17):
        assert nearest[labels == p // 10, p].min() < 1e-3
