from dataclasses import replace

import numpy as np
import pytest
import torch

from fgmodel.analysis.probe_images import SHOWN, SIDE, Looks, open_probe_images, read_looks
from fgmodel.config import TrialConfig
from tests.fgmodel.test_training import END_TO_END, FROZEN, coloured_frames, easy_features, start


def of(settings, data, tmp_path):
    return open_probe_images(TrialConfig.from_settings(settings), data, tmp_path, "cpu")


def looked(tmp_path):
    """A run that trains its own trunks, and its probe."""
    run = start(END_TO_END, coloured_frames())
    return run, of(END_TO_END, coloured_frames(), tmp_path)


def test_looks_are_of_validation_images_of_the_model_that_looks(tmp_path) -> None:
    run, probe = looked(tmp_path)
    assert len(probe.rows) == SHOWN
    assert set(probe.rows) <= set(run.data.folds[0].validation)


def test_each_time_step_of_each_image_has_a_map_that_is_nowhere_negative(tmp_path) -> None:
    run, probe = looked(tmp_path)
    seen = probe.looks(run)
    assert seen.pictures.shape == (SHOWN, SIDE, SIDE, 3)
    assert seen.maps.shape[:2] == seen.right.shape == (SHOWN, 2)
    assert (seen.maps >= 0).all()
    assert seen.names == tuple("abc"[row % 3] for row in probe.rows)


@pytest.mark.slow
def test_who_looks_between_epochs_trains_as_who_does_not(tmp_path) -> None:
    (looking, probe), still = looked(tmp_path), start(END_TO_END, coloured_frames())
    for _ in range(2):
        assert looking.train_epoch() | looking.validate() == still.train_epoch() | still.validate()
        probe.looks(looking)


def test_under_spatial_attention_the_kept_maps_are_looked_at(tmp_path) -> None:
    data = easy_features()
    maps = np.random.default_rng(1).standard_normal((60, 3, 12, 4, 4)).astype(np.float16)
    data = replace(data, local_features=None, local_maps=maps, frames=np.zeros((60, 64, 64, 3), np.uint8))
    probe = of(FROZEN | {"model.spatial_attention": "between_steps"}, data, tmp_path)
    assert torch.equal(probe.cells, torch.from_numpy(maps[probe.rows, 0]).float())


@pytest.mark.parametrize("settings", [
    pytest.param({"model.local_stream": "none"}, id="no local stream"),
    pytest.param({"model.local_stream": "trunk"}, id="no time steps"),
])
def test_without_time_steps_there_is_nothing_to_see(settings, tmp_path) -> None:
    left_out = {k: v for k, v in FROZEN.items() if k not in ("model.hidden_size", "model.time_steps")}
    left_out = left_out if settings["model.local_stream"] == "trunk" else {k: v for k, v in left_out.items() if k != "optim.lr_local"}
    assert of(left_out | settings, easy_features(), tmp_path) is None


def some_looks() -> Looks:
    random = np.random.default_rng(0)
    return Looks(random.integers(0, 255, (2, 8, 8, 3), np.uint8), random.random((2, 3, 4, 4)).astype(np.float32), np.eye(2, 3) > 0, ("Wren", "Rotkehlchen"))


def test_what_is_written_is_read_back(tmp_path) -> None:
    with (tmp_path / "a.npz").open("wb") as file:
        some_looks().write(file)
    again = read_looks(tmp_path / "a.npz")
    assert np.array_equal(again.pictures, some_looks().pictures)
    assert np.allclose(again.maps, some_looks().maps, atol=1e-3)  # kept as half floats
    assert np.array_equal(again.right, some_looks().right)
    assert again.names == ("Wren", "Rotkehlchen")


@pytest.mark.parametrize("changes", [
    pytest.param({"names": np.array(["Wren"])}, id="a name is missing"),
    pytest.param({"maps": np.zeros((2, 5, 4, 4))}, id="more steps than said to be right"),
    pytest.param({"pictures": np.zeros((2, 8, 8, 3))}, id="pictures that are no bytes"),
    pytest.param({"maps": None}, id="no maps"),
])
def test_a_file_whose_parts_do_not_fit_is_refused(changes, tmp_path) -> None:
    seen = some_looks()
    arrays = {"pictures": seen.pictures, "maps": seen.maps, "right": seen.right, "names": np.array(seen.names)}
    np.savez(tmp_path / "a.npz", **{name: array for name, array in (arrays | changes).items() if array is not None})
    with pytest.raises(ValueError, match=r"belong together|has no"):
        read_looks(tmp_path / "a.npz")
