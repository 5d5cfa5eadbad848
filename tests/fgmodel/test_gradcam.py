import numpy as np
import pytest
import torch
from torch import nn
from torch.testing import assert_close

from fgmodel.analysis.gradcam import all_zero, min_max, patch_cells, require_fine, step_maps, upsampled
from fgmodel.errors import InputError
from fgmodel.spatial import SpatialStream
from fgmodel.streams import LocalOutput, LocalStream, TrunkStream
from fgmodel.trunks.frozen_trunk import FrozenTrunk

LABELS = torch.tensor([2, 0, 1])


class ReadsMap(nn.Module):
    """A stream that is given the map itself, as one with spatial attention is; here it averages it and is then `inner`."""

    def __init__(self, inner):
        super().__init__()
        self.inner, self.head = inner, inner.head

    def forward(self, cells):
        return self.inner(cells.mean(dim=(2, 3)))


class LooksAtCorner(nn.Module):
    """A step's state is one cell of the map: step t reads cell (t, t)."""

    def __init__(self, width, classes):
        super().__init__()
        self.head = nn.Linear(width, classes)

    def forward(self, cells):
        states = torch.stack([cells[:, :, t, t] for t in range(2)], dim=1)
        return LocalOutput(*[{
            "logits": self.head(states.mean(dim=1)), "alpha": torch.full(states.shape[:2], 0.5), "states": states,
        }.get(name, states.new_empty(len(cells), 2, 0, 0)) for name in LocalOutput._fields])


def small_trunk():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, stride=2), nn.ReLU(), nn.Conv2d(8, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU(),
    ).eval()


def stream(trunk=None, width=6, attention="per_step", steps=4):
    torch.manual_seed(1)
    made = LocalStream(trunk, width, 3, hidden_size=5, time_steps=steps, attention=attention).eval()
    nn.init.normal_(made.head.weight)               # far apart classes, so that argmaxes differ
    return made


def patches():
    return torch.rand(3, 3, 17, 17, generator=torch.Generator().manual_seed(2))


def plain_gradcam(model, trunk, images, classes):
    """Grad-CAM as its authors define it: a hook on the last map, one backward pass an image and step through the whole."""
    held = {}
    hook = trunk[-1].register_forward_hook(lambda _, __, out: held.update(map=out))
    maps = torch.zeros(*classes.shape, 8, 8)
    for b in range(len(images)):
        for t in range(classes.shape[1]):
            x = trunk(images[b : b + 1]).mean(dim=(2, 3))
            held["map"].retain_grad()
            model.head(model(x).states[0, t])[classes[b, t]].backward()
            weights = held["map"].grad.mean(dim=(2, 3))[0]
            maps[b, t] = (weights[:, None, None] * held["map"][0].detach()).sum(dim=0).clamp(min=0)
    hook.remove()
    return maps


@pytest.mark.parametrize("target", ["true", "predicted", "each_step"])
def test_the_closed_form_is_plain_gradcam_through_the_whole_network(target):
    trunk, model = small_trunk(), stream()
    seen = step_maps(model, trunk(patches()), LABELS, target)
    expected = plain_gradcam(model, trunk, patches(), seen.classes)
    assert expected.amax() > 1e-4       # far above the tolerance
    assert_close(seen.maps, expected, rtol=1e-5, atol=1e-9)


def test_a_stream_that_reads_the_map_itself_is_differentiated_to_the_map():
    trunk, model = small_trunk(), stream()
    cells = trunk(patches())
    assert_close(step_maps(ReadsMap(model), cells, LABELS).maps, step_maps(model, cells, LABELS).maps, rtol=1e-5, atol=1e-9)


def test_where_gradients_differ_from_cell_to_cell_their_mean_weighs_the_channels():
    model, cells = LooksAtCorner(2, 3), torch.ones(1, 2, 2, 2)
    with torch.no_grad():
        model.head.weight.copy_(torch.tensor([[0.0, 0.0], [4.0, 8.0], [0.0, 0.0]]))
    seen = step_maps(model, cells, torch.tensor([1]))
    assert_close(seen.maps, torch.full((1, 2, 2, 2), 3.0))      # one cell of four: 4/4·1 + 8/4·1


@pytest.mark.parametrize("place", ["between_steps", "between_layers"])
def test_a_shift_of_a_spatial_streams_map_is_as_if_added_to_every_cell(place):
    cells, shift = small_trunk()(patches()).detach(), torch.randn(3, 6)
    looking = SpatialStream(None, 6, 3, hidden_size=5, time_steps=4, attention="per_step", place=place).eval()
    given, added = looking(cells, shift), looking(cells + shift[..., None, None])
    assert_close(given.logits, added.logits)
    assert_close(given.looks, added.looks)


def test_a_spatial_stream_says_also_where_each_step_looked_and_one_that_averages_has_no_such_thing():
    cells = small_trunk()(patches())
    looking = SpatialStream(None, 6, 3, hidden_size=5, time_steps=4, attention="per_step", place="between_steps").eval()
    seen = step_maps(looking, cells, LABELS)
    assert seen.maps.shape == seen.looks.shape == (3, 4, 8, 8)
    assert_close(seen.looks.sum(dim=(2, 3)), torch.ones(3, 4))
    assert step_maps(stream(), cells, LABELS).looks.shape == (3, 4, 0, 0)


def test_a_stream_without_time_steps_is_refused():
    with pytest.raises(InputError, match=r"model.local_stream: TrunkStream has no time steps"):
        step_maps(TrunkStream(None, 6, 3), torch.rand(1, 6, 1, 1), LABELS[:1])


def test_the_scores_are_the_logits_of_each_step_alone():
    model, cells = stream(), small_trunk()(patches())
    states = model(cells.mean(dim=(2, 3))).states
    assert_close(step_maps(model, cells, LABELS).step_logits, states @ model.head.weight.T + model.head.bias)


def test_the_true_and_the_predicted_class_stay_the_same_over_time_and_each_steps_own_is_its_argmax():
    model, cells = stream(), small_trunk()(patches())
    assert step_maps(model, cells, LABELS).classes.tolist() == [[2] * 4, [0] * 4, [1] * 4]
    predicted = model(cells.mean(dim=(2, 3))).logits.argmax(dim=1)
    assert torch.equal(step_maps(model, cells, LABELS, "predicted").classes, predicted[:, None].expand(3, 4))
    own = step_maps(model, cells, LABELS, "each_step")
    assert torch.equal(own.classes, own.step_logits.argmax(dim=2))


def test_maps_are_the_same_in_a_batch_and_alone():
    model, cells = stream(), small_trunk()(patches())
    alone = torch.cat([step_maps(model, cells[i : i + 1], LABELS[i : i + 1]).maps for i in range(3)])
    assert_close(step_maps(model, cells, LABELS).maps, alone)


def test_maps_come_out_of_inference_mode_and_leave_no_gradients_behind():
    model = stream()
    with torch.inference_mode():
        cells = small_trunk()(patches())
        seen = step_maps(model, cells, LABELS)
    assert not seen.maps.requires_grad
    assert all(parameter.grad is None for parameter in model.parameters())


def test_cached_half_precision_maps_will_do():
    model, cells = stream(), small_trunk()(patches()).detach()
    assert_close(step_maps(model, cells.half(), LABELS).maps, step_maps(model, cells, LABELS).maps, rtol=0.01, atol=1e-3)


def test_a_map_without_a_cell_for_the_class_is_counted_and_has_no_scale():
    maps = torch.tensor([[[[0.0, 0.0], [0.0, 0.0]], [[0.0, 1.0], [2.0, 4.0]]]])
    assert all_zero(maps).tolist() == [[True, False]]
    assert min_max(maps)[0, 0].isnan().all()
    assert min_max(maps)[0, 1].tolist() == [[0.0, 0.25], [0.5, 1.0]]


def test_scaling_takes_the_smallest_value_to_0_also_where_it_is_not():
    assert min_max(torch.tensor([[[[1.0, 2.0], [3.0, 5.0]]]])).tolist() == [[[[0.0, 0.25], [0.5, 1.0]]]]


def test_upsampling_interpolates_between_the_centres_of_cells():
    # cells at 1 and 3 of 4 px: pixel centres 0.5, 1.5, 2.5, 3.5 lie at 0 (clamped), 1/4, 3/4, 1 of the way
    row = upsampled(torch.tensor([[[[0.0, 4.0], [0.0, 4.0]]]]), 4)[0, 0, 0]
    assert row.tolist() == [0.0, 1.0, 3.0, 4.0]


def test_patches_that_give_fewer_than_7x7_cells_are_refused_with_the_size_that_would_do():
    trunk = FrozenTrunk("test_resnet", "random")                # timm's, for tests; stride 32
    with pytest.raises(InputError, match=r"data.patch_size: 160 px gives maps of 5x5 cells in 'test_resnet'.*set 224"):
        require_fine(trunk, 160)
    require_fine(trunk, 224)


def test_patches_are_cut_from_the_frames_and_seen_by_the_trunk():
    trunk = FrozenTrunk("test_resnet", "random")
    frames = np.random.default_rng(0).integers(0, 255, (2, 64, 64, 3), np.uint8)
    boxes = np.array([[0, 0, 32, 32], [8, 16, 40, 64]], np.int16)
    cells, cut = patch_cells(trunk, frames, boxes, 224)
    assert cells.shape[2:] == (7, 7)
    assert cut.shape == (2, 3, 224, 224)
    assert_close(cut[0].mean(), torch.tensor(frames[0, :32, :32] / 255).mean().float(), atol=0.01, rtol=0)
    assert_close(cells, trunk.maps(cut))
