"""What a stream's attention comes to, by hand: two images, two steps, two classes, states of one number."""

import numpy as np
import pytest
import torch
from torch import nn

from fgmodel.analysis.attention_record import alpha_by_class_csv, attention_record_figure, attention_record_text, record
from fgmodel.posthoc import Held, ModelStates

ALPHA = torch.tensor([[[0.25, 0.75]], [[0.5, 0.5]]])             # n R T
STATES = torch.tensor([[[[1.0], [2.0]]], [[[1.0], [-3.0]]]])     # n R T H


@pytest.fixture
def model() -> ModelStates:
    head = nn.Linear(1, 2)
    head.weight.requires_grad = head.bias.requires_grad = False
    head.weight.copy_(torch.tensor([[1.0], [-1.0]]))
    head.bias.copy_(torch.tensor([0.5, 0.0]))
    return ModelStates(head, torch.tensor([0, 0]), Held(torch.zeros(2, 2), STATES, ALPHA[..., None] * STATES, ALPHA))


def test_the_parts_of_the_margin_are_of_each_step_and_sum_with_the_bias_to_the_margin(model) -> None:
    seen = record(model)
    # image 1: W h α = ±(0.25, 1.5), image 2: ±(0.5, -1.5); the margin is twice that: steps (0.5, 3), (1, -3), bias 0.5
    np.testing.assert_allclose(seen.margin.mean, [0.75, 0.0])
    assert seen.margin_bias == 0.5


def test_right_and_wrong_the_best_step_and_the_favourite_are_counted(model) -> None:
    seen = record(model)
    assert (seen.local, seen.oracle) == (0.5, 1.0)  # image 2 is told right by its first step only
    assert seen.right.tolist() == [0.25, 0.75]
    assert seen.wrong.tolist() == [0.5, 0.5]
    assert seen.favourite.tolist() == [0.5, 0.5]  # of equal weights the first counts


def test_the_text_says_the_parts_and_the_accuracies(model) -> None:
    said = attention_record_text(record(model))
    assert "The steps' parts of the margin +1.25: 0.75, 0, bias +0.50." in said
    assert "Local stream 50.0 % right by α; 100.0 % if the best step of each image were known." in said


def test_the_figure_names_its_axes_and_units(model) -> None:
    axes = attention_record_figure(record(model)).axes
    assert [a.get_xlabel() for a in axes] == ["time step t"] * 4
    assert "logits" in axes[1].get_ylabel()


def test_the_table_leaves_a_class_without_images_empty(model) -> None:
    assert alpha_by_class_csv(record(model), ("wren", "owl")).splitlines() == [
        "class,alpha/01,alpha/02", "wren,0.3750,0.6250", "owl,,",
    ]  # fmt: skip
