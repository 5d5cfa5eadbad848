import io

import numpy as np
import pytest
import torch
from PIL import Image

from fgmodel.analysis.intervals import Interval
from fgmodel.analysis.step_figures import (
    accuracy_figure,
    accuracy_text,
    fineness_figure,
    fineness_text,
    heatmap_figure,
    heatmap_text,
)

NAMES = ["a wren", "a robin"]
CORRECT = np.array([[True, False, True, True, True, False], [False] * 6])
PANELS = {
    "half_max_area": {
        "trained": Interval(np.array([0.4, 0.3, 0.2]), np.array([0.35, 0.25, 0.15]), np.array([0.45, 0.35, 0.25])),
        "untrained": Interval(np.array([0.4, 0.4, 0.4]), np.array([0.3, 0.3, 0.3]), np.array([0.5, 0.5, 0.5])),
    },
    "entropy": {"trained": Interval(np.array([0.9, 0.9, 0.8]), np.array([0.8, 0.8, 0.7]), np.array([1, 1, 0.9]))},
}


def heatmaps(steps=6):
    maps = torch.rand(2, steps, 7, 7, generator=torch.Generator().manual_seed(0))
    maps[1, 4:5] = 0
    correct = np.resize(CORRECT, (2, steps)) if steps > 6 else CORRECT[:, :steps]
    return heatmap_figure(np.full((2, 64, 64, 3), 128, np.uint8), maps, correct, NAMES)


def size(figure):
    picture = io.BytesIO()
    figure.savefig(picture)
    return Image.open(picture).size


@pytest.mark.slow
def test_heatmaps_are_a_row_an_image_and_a_column_a_step_beside_the_patch_itself():
    figure = heatmaps()
    titles = [axes.get_title() or axes.get_title(loc="left") for axes in figure.axes[:10]]
    assert titles == ["a wren", "t = 1 ✓", "t = 2 ✗", "t = 5 ✓", "t = 6 ✗", "a robin", *(f"t = {t} ✗" for t in (1, 2, 5, 6))]
    assert "Grad-CAM" in figure.axes[10].get_ylabel()
    assert size(figure) == (860, 391)


@pytest.mark.parametrize(("steps", "shown"), [
    pytest.param(3, [1, 2, 3], id="all of a few"), pytest.param(6, [1, 2, 5, 6], id="the thesis'"),
    pytest.param(8, [1, 2, 5, 6, 8], id="and the last"), pytest.param(10, [1, 2, 5, 6, 9], id="the thesis' five"),
])
def test_which_steps_are_shown(steps, shown):
    titles = [axes.get_title() for axes in heatmaps(steps).axes[1:1 + len(shown)]]
    assert [int(title.split()[2]) for title in titles] == shown


def test_a_map_of_zeros_says_so_and_no_other_one_does():
    said = [[text.get_text() for text in axes.texts] for axes in heatmaps().axes[:10]]
    assert said == [[]] * 8 + [["all zero"], []]


def test_each_map_is_scaled_by_itself_and_lies_over_its_patch():
    heat = heatmaps().axes[1].images[1].get_array()
    assert heat.shape == (64, 64)
    assert (heat.min(), heat.max()) == (0, 1)


def test_the_text_of_heatmaps_says_which_steps_were_right():
    assert heatmap_text(CORRECT, NAMES) == (
        "Heatmaps of 2 patches at time steps 1, 2, 5, 6, each with whether that step alone names the class. "
        "a wren: right at 1, 5; a robin: right at none."
    )


def test_fineness_has_a_panel_a_measure_with_named_axes_and_a_curve_and_a_band_a_stream():
    figure = fineness_figure(PANELS)
    area, entropy = figure.axes
    assert (area.get_xlabel(), area.get_ylabel()) == ("time step t", "half-max area\n(% of the patch)")
    assert entropy.get_ylabel() == "entropy of the map\n(1 = even)"
    assert [(line.get_label(), line.get_linestyle()) for line in area.lines] == [("trained", "-"), ("untrained", "--")]
    assert area.lines[0].get_ydata() == pytest.approx([40, 30, 20])
    band = area.collections[0].get_paths()[0].get_extents()
    assert (band.y0, band.y1) == pytest.approx((15, 45))
    assert size(figure) == (920, 360)


def test_the_text_of_fineness_gives_the_first_and_the_last_step_with_their_intervals():
    assert fineness_text({"half_max_area": PANELS["half_max_area"]}) == (
        "Fineness from the first to the last time step, mean and 95 % interval. half-max area (% of the patch): "
        "trained 40 (35 to 45) to 20 (15 to 25); untrained 40 (30 to 50) to 40 (30 to 50)."
    )


def test_accuracy_is_drawn_in_percent_with_a_band_of_the_difference_to_the_first_step():
    axes = accuracy_figure(CORRECT).axes[0]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("time step t", "accuracy of step t alone\n(% of 2 images)")
    assert axes.lines[1].get_ydata() == pytest.approx([50, 0, 50, 50, 50, 0])
    assert size(accuracy_figure(CORRECT)) == (520, 360)


def test_steps_that_are_right_on_the_same_images_differ_by_nothing_for_certain():
    same = np.array([[True, True], [False, False]] * 5)         # 50 % each; unpaired, give or take 31 points
    assert accuracy_text(same) == (
        "Accuracy of each time step alone on 10 images: 50.0 % at t = 1, 50.0 % at t = 2. "
        "The last step less the first: +0.0 points (+0.0 to +0.0)."
    )
