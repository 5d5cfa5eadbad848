import io

import numpy as np
import pytest
from PIL import Image

from search.record.history import Trial
from search.record.journal import now
from search.tracking.figures import trial_figure

ALPHA = (0.07, 0.08, 0.14, 0.23, 0.33, 0.15)   # cub10, thesis.md §9
COSINE = (0.93, 0.97, 0.99, 1.0, 1.0, 1.0)
ACCURACY = (0.885, 0.882, 0.878, 0.872, 0.868, 0.864)


def metrics(alpha=ALPHA, cosine=COSINE, accuracy=ACCURACY):
    named = {"attention/alpha": alpha, "attention/state_cosine": cosine, "val/accuracy_step": accuracy}
    return {f"{name}/{t:02d}": value for name, values in named.items() for t, value in enumerate(values, start=1)}


def attention_figure(reports, title):
    return trial_figure(Trial(17, {}, "tpe", now(), reports=reports, rung=max(reports, default=0)), title)


def axes(figure):
    return {axes.get_ylabel(): axes for axes in figure.axes}


def test_the_last_epochs_alpha_is_shown_over_time_steps_one_bar_each():
    bars = attention_figure({1: metrics(alpha=ALPHA[::-1]), 2: metrics()}, "trial #17").axes[0].patches
    assert [bar.get_height() for bar in bars] == list(ALPHA)
    assert [bar.get_x() + bar.get_width() / 2 for bar in bars] == pytest.approx([1, 2, 3, 4, 5, 6])


def test_cosine_and_accuracy_of_each_step_stand_beneath_alpha_on_the_same_time_axis():
    shown = axes(attention_figure({1: metrics()}, "trial #17"))
    accuracy, cosine = shown["accuracy of\nstep t alone"], shown["cos(h_t, h_T)"]
    assert list(cosine.lines[0].get_ydata()) == list(COSINE)
    assert list(accuracy.lines[0].get_ydata()) == list(ACCURACY)
    assert accuracy.get_xlabel() == "time step t"
    assert accuracy.get_shared_x_axes().joined(accuracy, cosine)


def test_more_than_nine_time_steps_keep_their_order():
    alpha = tuple(t / 78 for t in range(1, 13))
    figure = attention_figure({1: metrics(alpha, alpha, alpha)}, "T = 12")
    assert [bar.get_height() for bar in figure.axes[0].patches] == list(alpha)


def test_alpha_over_epochs_has_one_row_a_time_step_and_one_column_an_epoch():
    figure = attention_figure({2: metrics(), 1: metrics(alpha=[1 / 6] * 6)}, "trial #17")
    weights = next(a for a in figure.axes if a.get_xlabel() == "epoch").collections[0].get_array()
    assert np.allclose(weights, np.stack([[1 / 6] * 6, ALPHA], axis=1))


def test_one_epoch_of_one_time_step_can_be_drawn():
    picture = io.BytesIO()
    attention_figure({1: metrics((1.0,), (1.0,), (0.5,))}, "T = 1").savefig(picture)
    assert Image.open(picture).size == (1000, 650)


@pytest.mark.parametrize("given", [
    pytest.param({}, id="no epoch"),
    pytest.param({1: {"val/accuracy": 0.5}}, id="no attention"),
])
def test_nothing_to_draw_is_said(given):
    with pytest.raises(ValueError, match="attention/alpha"):
        attention_figure(given, "empty")
