import pytest
import torch

from fgmodel.learner import _batches, seeded

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("images", "size", "expected"),
    [
        pytest.param(10, 8, [8, 2], id="the last batch is smaller"),
        pytest.param(9, 8, [8], id="one image alone is left out: batch norm cannot learn from it"),
        pytest.param(1, 8, [1], id="unless there is no other"),
        pytest.param(3, 1, [1, 1, 1], id="or it was asked for"),
    ],
)
def test_an_epoch_is_cut_into_batches(images, size, expected):
    assert [len(batch) for batch in _batches(torch.arange(images), size)] == expected


def test_every_fold_and_epoch_has_random_numbers_of_its_own():
    def first(seed, fold, moment):
        with seeded(seed, fold, moment, CPU) as generator:
            return torch.rand(1, generator=generator).item(), torch.rand(1).item()

    moments = [(seed, fold, moment) for seed in (0, 1) for fold in (0, 1) for moment in (0, 1, 2)]
    assert len({first(*moment) for moment in moments}) == len(moments)
    assert first(1, 2, 3) == first(1, 2, 3)
