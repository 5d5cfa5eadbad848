import pytest
import torch
from torch import nn

from fgmodel.analysis.nulls import NULLS, shuffled, untrained
from fgmodel.spatial import SpatialStream
from fgmodel.streams import LocalStream

SIZES = {"hidden_size": 8, "time_steps": 3, "attention": "per_step"}


@pytest.fixture(params=["averages", "looks"])
def trained(request):
    trunk = nn.Conv2d(3, 16, 1)
    made = LocalStream(trunk, 16, 4, **SIZES)
    if request.param == "looks":
        made = SpatialStream(trunk, 16, 4, **SIZES, place="between_steps")
    for parameter in made.parameters():
        nn.init.normal_(parameter, std=3)           # far from any start
    return made


def above_trunk(stream):
    return {name: value.detach() for name, value in stream.named_parameters() if not name.startswith("trunk")}


@pytest.mark.parametrize("null", NULLS.values(), ids=NULLS)
def test_a_null_shares_the_trunk_and_leaves_the_trained_stream_alone(trained, null):
    before = {name: value.clone() for name, value in above_trunk(trained).items()}
    made = null(trained, 0)
    assert made.trunk is trained.trunk
    assert all(torch.equal(value, before[name]) for name, value in above_trunk(trained).items())
    assert not any(torch.equal(value, before[name]) for name, value in above_trunk(made).items() if value.numel() > 4)


@pytest.mark.parametrize("null", NULLS.values(), ids=NULLS)
def test_the_seed_decides_a_null_and_no_random_number_of_anyone_elses_is_used(trained, null):
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    one, same, other = (above_trunk(null(trained, seed))["head.weight"] for seed in (1, 1, 2))
    assert torch.equal(torch.rand(1), expected)
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


def test_an_untrained_stream_starts_as_the_specification_says(trained):
    fresh = above_trunk(untrained(trained, 0))
    assert fresh["head.weight"].abs().max() < 0.05                       # N(0, 0.01)
    assert fresh["head.bias"].tolist() == [0, 0, 0, 0]
    assert all(value.abs().max() <= 8**-0.5 for name, value in fresh.items() if "head" not in name)  # U(±1/√H), H = 8


def test_a_shuffled_stream_has_the_same_numbers_in_other_places(trained):
    before, after = above_trunk(trained), above_trunk(shuffled(trained, 0))
    for name, value in before.items():
        assert torch.equal(value.flatten().sort().values, after[name].flatten().sort().values)
