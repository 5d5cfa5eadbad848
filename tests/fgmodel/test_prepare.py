import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from fgmodel.batches import source
from fgmodel.config import TrialConfig
from fgmodel.data.boxes_file import Patches, write_patches
from fgmodel.errors import InputError
from fgmodel.model import TwoStream
from fgmodel.preparation_forecast import pending
from fgmodel.prepare import prepare
from fgmodel.trial_data import whole

LITE = {"model.global_backbone": "efficientnet_lite0", "model.local_backbone": "efficientnet_lite0"}
FINCHES = LITE | {
    "data.dataset": "finches", "data.finches_per_species": 8, "data.frame_size": 64, "data.image_size": 48,
    "data.patch_size": 32, "data.patches": "parts", "data.patches_per_image": 2, "data.validation": 0.2,
}


def config(settings):
    return TrialConfig.from_settings(settings)


def birds(root, **more):
    small = {"data.root": str(root), "data.frame_size": 32, "data.image_size": 32, "data.patch_size": 32}
    return config(LITE | small | {"data.validation": 0.25} | {key.replace("_", ".", 1): v for key, v in more.items()})


@pytest.mark.slow
def test_frozen_trunks_get_features(tmp_path):
    data = prepare(config(FINCHES | {"model.freeze_backbones": True}), tmp_path)
    assert data.frames is None
    assert data.global_features.shape == (72, 1280)
    assert data.local_features.shape == (72, 2, 1280)
    assert data.global_features.dtype == data.local_features.dtype == np.float32
    assert data.boxes.shape == (72, 2, 4)
    assert len(data.names) == len(data.labels) == 72
    assert data.labels.dtype == np.int64


@pytest.mark.slow
def test_trunks_in_training_get_frames(tmp_path):
    data = prepare(config(FINCHES), tmp_path)
    assert data.frames.shape == (72, 64, 64, 3)
    assert data.frames.dtype == np.uint8
    assert data.global_features is data.local_features is None


LOOKING = {"model.spatial_attention": "between_steps", "model.local_stride16": True, "data.patch_size": 64}


@pytest.mark.slow
def test_frozen_trunks_under_spatial_attention_get_maps(tmp_path):
    frozen = config(FINCHES | LOOKING | {"model.freeze_backbones": True})
    told = {step.what for step in pending(frozen, tmp_path)}
    data = prepare(frozen, tmp_path)
    assert told == {"72 images", "boxes by parts", "features of 72 images", "maps of 144 patches"}
    assert pending(frozen, tmp_path) == ()
    assert data.local_features is None
    assert (data.local_maps.shape, data.local_maps.dtype) == ((72, 2, 1280, 4, 4), np.float16)
    again = prepare(frozen, tmp_path)                       # from its record
    assert np.array_equal(data.local_maps, again.local_maps)
    assert str(data.local_maps.filename) == str(again.local_maps.filename)


@pytest.mark.slow
def test_maps_computed_once_are_those_of_a_trunk_in_the_model(tmp_path):
    settings = FINCHES | LOOKING
    whole, frozen = config(settings), config(settings | {"model.freeze_backbones": True})
    there, kept = prepare(whole, tmp_path), prepare(frozen, tmp_path)
    rows, picks, cpu = torch.arange(4), torch.tensor([[0, 1]] * 4), torch.device("cpu")
    model = TwoStream(whole.model, 12).eval()
    with torch.inference_mode():
        images, maps = model.features(*source(whole, there, cpu).evaluation(rows, picks))
        cached = source(frozen, kept, cpu).evaluation(rows, picks)
        torch.testing.assert_close(cached.patches, maps, atol=0.01, rtol=0.001)     # half precision; values to 6
        torch.testing.assert_close(model(images, maps).looks, model(cached.whole, cached.patches).looks, atol=1e-3, rtol=0)


@pytest.mark.slow
@pytest.mark.parametrize("settings", [{}, LOOKING])
def test_a_global_stream_alone_gets_no_features_of_patches(settings, tmp_path):
    alone = {name: value for name, value in settings.items() if name == "data.patch_size"} | {"model.local_stream": "none"}
    frozen = config(FINCHES | alone | {"model.freeze_backbones": True})
    data = prepare(frozen, tmp_path)
    assert data.local_features is data.local_maps is None
    assert data.global_features.shape == (72, 1280)
    assert pending(frozen, tmp_path) == ()
    both = prepare(config(FINCHES | settings | {"model.freeze_backbones": True}), tmp_path)
    assert (both.patches, both.fingerprint) == (data.patches, data.fingerprint)


@pytest.mark.slow
def test_preparing_again_computes_nothing_and_gives_the_same(tmp_path):
    told = []
    first, again = (prepare(config(FINCHES | {"model.freeze_backbones": True}), tmp_path,
                            progress=lambda *now: told.append(now)) for _ in range(2))
    assert [what for what, done, total in told if done == total] == [
        "finches drawn", "features of whole images", "features of patches"]
    assert (first.fingerprint, first.split, first.patches) == (again.fingerprint, again.split, again.patches)
    assert np.array_equal(first.local_features, again.local_features)


@pytest.mark.slow
def test_a_search_leaves_the_test_split_alone(tmp_path):
    prepare(config(FINCHES | {"model.freeze_backbones": True}), tmp_path)
    assert list(tmp_path.rglob("*-train-*"))
    assert not list(tmp_path.rglob("*-test-*"))


@pytest.mark.slow
def test_the_test_split_has_nothing_to_train_on(tmp_path):
    train, test = (prepare(config(FINCHES), tmp_path, split=split) for split in ("train", "test"))
    (fold,) = test.folds
    assert len(fold.train) == len(fold.validation) == 0
    assert len(test.names) == 24
    assert not set(test.names) & set(train.names)
    assert test.fingerprint == train.fingerprint


@pytest.mark.slow
def test_the_final_run_trains_on_train_and_validation(tmp_path):
    data = prepare(config(FINCHES), tmp_path)
    everything = whole(data)
    (fold,) = everything.folds
    assert fold.train.tolist() == list(range(72))
    assert len(fold.validation) == 0
    assert everything.split != data.split
    assert everything.fingerprint == data.fingerprint


@pytest.mark.slow
def test_released_patches_are_taken_from_their_folder(cub10, tmp_path):
    settings = LITE | {"data.root": str(cub10), "data.patches": str(cub10), "data.frame_size": 224}
    data = prepare(config(settings), tmp_path)
    rows = np.load(cub10 / "train_patches.npy")
    y1, _, x1, _ = (rows[5, 3, :4] / 2).tolist()           # 448 to 224
    assert data.boxes[5, 3, :2].tolist() == pytest.approx([x1, y1], abs=0.5)
    one_file = prepare(config(settings | {"data.patches": str(cub10 / "train_patches.npy")}), tmp_path)
    assert one_file.patches == data.patches


def boxes(count):
    return Patches(np.tile(np.array([4, 4, 28, 30], np.int16), (count, 3, 1)), np.zeros((count, 3), np.float32), 32, "x")


def test_our_own_patch_files_are_read_for_both_splits(tiny_cub, tmp_path):
    names = [f"{c}/{c[4:]}_{k}.png" for c in ("001.Wren", "002.Robin") for k in range(6)]
    write_patches(tmp_path / "p" / "train.npz", boxes(8), [n for n in names if int(n[-5]) < 4], "")
    write_patches(tmp_path / "p" / "test.npz", boxes(4), [n for n in names if int(n[-5]) >= 4], "")
    for given in ("p", "p/train.npz"):
        wanted = birds(tiny_cub, data_patches=str(tmp_path / given), data_patches_per_image=2)
        for split, count in (("train", 8), ("test", 4)):
            data = prepare(wanted, tmp_path, split=split)
            assert data.boxes.tolist() == [[[4, 4, 28, 30]] * 2] * count


@pytest.mark.parametrize(("settings", "says"), [
    pytest.param({"data_patches": "nowhere"}, "data.patches: 'nowhere' is neither a file, nor a folder, nor one of ddt",
                 id="no such thing"),
    pytest.param({"data_patches": "."}, "data.patches: no boxes for the train split: .*train.npz is missing", id="empty"),
    pytest.param({"data_patches": "parts"}, "parts needs true boxes", id="true boxes of real birds"),
    pytest.param({"data_patch_backbone": "resnet43"}, "'resnet43' is no trunk", id="unknown trunk"),
])
def test_patches_that_cannot_be_had_are_one_line(tiny_cub, tmp_path, settings, says, monkeypatch):
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    with pytest.raises(InputError, match=says) as refused:
        prepare(birds(tiny_cub, **settings), tmp_path)
    assert "\n" not in str(refused.value)


def test_more_patches_than_a_file_holds_are_refused(tiny_cub, tmp_path):
    names = [f"{c}/{c[4:]}_{k}.png" for c in ("001.Wren", "002.Robin") for k in range(4)]
    write_patches(tmp_path / "p" / "train.npz", boxes(8), names, "")
    with pytest.raises(InputError, match=r"data.patches_per_image: 10, but .*train.npz holds 3 boxes an image"):
        prepare(birds(tiny_cub, data_patches=str(tmp_path / "p")), tmp_path)


PREPARE = """
import sys
from pathlib import Path
from fgmodel.config import TrialConfig
from fgmodel.prepare import prepare

settings = eval(sys.argv[1])
data = prepare(TrialConfig.from_settings(settings), Path(sys.argv[2]))
print(data.local_features.astype("f8").sum())
"""


@pytest.mark.slow
def test_processes_may_prepare_at_once_and_one_be_killed(tmp_path):
    settings = FINCHES | {"model.freeze_backbones": True, "data.frame_size": 128, "data.patch_size": 64}
    command = [sys.executable, "-c", PREPARE, repr(settings), str(tmp_path / "shared")]
    at = Path(__file__).parents[2]
    first, second = (subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=at) for _ in range(2))
    deadline = time.monotonic() + 60
    while not list((tmp_path / "shared" / "features").glob("*.part")) and time.monotonic() < deadline:
        time.sleep(0.005)
    first.send_signal(signal.SIGKILL)
    first.communicate()
    told = float(second.communicate(timeout=120)[0])
    alone = prepare(config(settings), tmp_path / "alone")
    assert told == pytest.approx(alone.local_features.astype("f8").sum(), rel=1e-6)
    assert not list((tmp_path / "shared" / "features").glob("*.part"))


@pytest.mark.slow
def test_what_was_prepared_is_opened_again_without_building_a_trunk(tmp_path, monkeypatch):
    frozen = config(FINCHES | {"model.freeze_backbones": True})
    first = prepare(frozen, tmp_path)
    monkeypatch.setattr("fgmodel.trunks.frozen_trunk.backbone", lambda *_, **__: pytest.fail("a trunk was built"))
    again = prepare(frozen, tmp_path)
    assert np.array_equal(first.local_features, again.local_features)
    assert np.array_equal(first.folds[0].validation, again.folds[0].validation)
    assert (first.names, first.classes, first.split) == (again.names, again.classes, again.split)


@pytest.mark.slow
@pytest.mark.parametrize("spoil", [
    pytest.param(lambda cache: next((cache / "prepared").glob("*.npz")).write_bytes(b"rubbish"), id="the record is rubbish"),
    pytest.param(lambda cache: next((cache / "features").glob("*.npy")).unlink(), id="features were deleted"),
])
def test_a_record_that_cannot_be_followed_is_made_anew(tmp_path, spoil):
    frozen = config(FINCHES | {"model.freeze_backbones": True})
    first = np.array(prepare(frozen, tmp_path).local_features)
    spoil(tmp_path)
    assert np.array_equal(prepare(frozen, tmp_path).local_features, first)
    assert np.array_equal(prepare(frozen, tmp_path).local_features, first)


@pytest.mark.slow
def test_other_boxes_under_the_same_name_are_read_anew(tiny_cub, tmp_path):
    wanted = birds(tiny_cub, data_patches=str(tmp_path / "train.npz"), data_patches_per_image=1)
    names = prepare(birds(tiny_cub, data_patches="ddt", data_patches_per_image=1), tmp_path / "cache").names
    for side in (8, 16):
        boxes = np.tile(np.array([0, 0, side, side], np.int16), (len(names), 1, 1))
        write_patches(tmp_path / "train.npz", Patches(boxes, np.zeros(boxes.shape[:2], np.float32), 32, "mine"), names, "x")
        assert prepare(wanted, tmp_path / "cache").boxes[0, 0, 2] == side
