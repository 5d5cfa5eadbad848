import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from fgmodel import atomic
from fgmodel.cache import Frames, global_features, local_features, local_maps
from fgmodel.config import DataConfig
from fgmodel.data.boxes_file import Patches, cut
from fgmodel.data.datasets import open_dataset
from fgmodel.errors import InputError
from fgmodel.trunks.frozen_trunk import FrozenTrunk, pixels, resized

ROWS, STEP = 40, 4
BUILD = """
import sys, time
from pathlib import Path
import numpy as np
from fgmodel import atomic

def compute(a, b):
    for row in range(a, b):
        with open(sys.argv[2], "a") as log:
            log.write(f"{row}\\n")
        time.sleep(float(sys.argv[3]))
        yield np.full((1, 1000), row)

held = atomic.array(Path(sys.argv[1]), (40, 1000), np.float32, compute, step=4, what="rows")
print(int(held.sum()))
"""


def build(path: Path, log: Path, seconds: float) -> subprocess.Popen:
    command = [sys.executable, "-c", BUILD, str(path), str(log), str(seconds)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2])


def rows_of(a, b):
    return (np.full((1, 1000), row) for row in range(a, b))


def expected():
    return np.repeat(np.arange(ROWS, dtype=np.float32)[:, None], 1000, axis=1)


def never(a, b):
    raise AssertionError(f"rows {a}..{b} are on disk")


def array(path, compute=rows_of):
    return atomic.array(path, (ROWS, 1000), np.float32, compute, step=STEP, what="rows")


# --- arrays on disk ---------------------------------------------------------------------------------------------------

def test_an_array_is_computed_once_and_then_mapped(tmp_path):
    assert np.array_equal(array(tmp_path / "x.npy"), expected())
    again = array(tmp_path / "x.npy", compute=never)
    assert isinstance(again, np.memmap)
    assert not again.flags.writeable


@pytest.mark.slow
def test_processes_that_build_at_once_compute_each_row_once(tmp_path):
    builders = [build(tmp_path / "x.npy", tmp_path / "log", 0.01) for _ in range(4)]
    told = [builder.communicate(timeout=60)[0].strip() for builder in builders]
    assert told == [str(1000 * sum(range(ROWS)))] * 4
    assert (tmp_path / "log").read_text().split() == [str(row) for row in range(ROWS)]


def test_a_build_killed_is_taken_up_by_the_next(tmp_path):
    path, log = tmp_path / "x.npy", tmp_path / "log"
    builder = build(path, log, 0.02)
    while not log.exists() or len(log.read_text().split()) < 5 * STEP:
        time.sleep(0.01)
    builder.send_signal(signal.SIGKILL)
    builder.communicate(timeout=60)
    assert not path.exists()                      # half an array never counts
    computed = []

    def remember(a, b):
        computed.append(a)
        return rows_of(a, b)

    assert np.array_equal(array(path, remember), expected())
    assert computed[0] > 0                        # what was on disk is not computed again
    assert not path.with_name("x.npy.part").exists()


def test_the_step_being_written_when_the_power_failed_is_computed_again(tmp_path):
    path = tmp_path / "x.npy"
    whole = array(path)
    torn = bytearray(path.read_bytes()[: 128 + 3 * STEP * 4000])
    torn[-STEP * 4000 :] = bytes(STEP * 4000)     # the third step: its length arrived on disk, its bytes did not
    (tmp_path / "y.npy.part").write_bytes(torn)
    assert np.array_equal(array(tmp_path / "y.npy"), whole)


def test_a_stale_part_of_something_else_is_not_used(tmp_path):
    (tmp_path / "x.npy.part").write_bytes(b"of an older version" * 10_000)
    assert np.array_equal(array(tmp_path / "x.npy"), expected())


@pytest.mark.parametrize("spoil", [
    pytest.param(lambda p: p.write_bytes(p.read_bytes()[:-1]), id="cut short"),
    pytest.param(lambda p: p.write_bytes(b""), id="empty"),
    pytest.param(lambda p: np.save(p, np.zeros(3, np.float32)), id="another array"),
])
def test_a_damaged_array_is_named(spoil, tmp_path):
    array(tmp_path / "x.npy")
    spoil(tmp_path / "x.npy")
    with pytest.raises(InputError, match=r"x.npy .*delete it"):
        array(tmp_path / "x.npy")


def test_a_full_disk_is_one_line_naming_the_file(tmp_path):
    (tmp_path / "x.npy.part").symlink_to("/dev/full")   # where every write fails for want of space
    with pytest.raises(InputError, match=r"x.npy cannot be written: No space left on device") as refused:
        array(tmp_path / "x.npy")
    assert "\n" not in str(refused.value)
    with pytest.raises(InputError, match=r"y.npz cannot be written: No space left on device"), Path("/dev/full").open("wb", 0) as full:
        atomic.write(tmp_path / "y.npz", lambda _: full.write(b"hello"))


def test_a_file_is_written_whole_or_not_at_all(tmp_path):
    path = tmp_path / "sub" / "x"
    atomic.write(path, lambda file: file.write(b"one"))

    def fail(file):
        file.write(b"tw")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        atomic.write(path, fail)
    assert path.read_bytes() == b"one"
    assert list(path.parent.iterdir()) == [path]


# --- frames -----------------------------------------------------------------------------------------------------------

def frames_of(root, cache, split="train", size=32, progress=lambda *_: None):
    dataset = open_dataset(DataConfig(dataset="cub", root=str(root)), cache)
    return Frames(dataset, split, size, cache, progress)


def test_frames_are_the_images_squashed_to_a_square(tiny_cub, tmp_path):
    frames = frames_of(tiny_cub, tmp_path)
    image = Image.open(tiny_cub / "images" / "001.Wren" / "Wren_1.png").resize((32, 32), Image.Resampling.BILINEAR)
    assert frames.array.shape == (8, 32, 32, 3)
    assert np.array_equal(frames.array[1], np.asarray(image))


def test_each_split_is_decoded_by_itself(tiny_cub, tmp_path):
    for split, count in (("train", 8), ("test", 4)):
        assert len(frames_of(tiny_cub, tmp_path, split).array) == count
        assert len(list((tmp_path / "frames").glob(f"*-{split}-*.npy"))) == 1


def test_another_image_or_size_gives_other_frames(tiny_cub, tmp_path):
    first = frames_of(tiny_cub, tmp_path)
    held = np.array(first.array)
    assert frames_of(tiny_cub, tmp_path, size=16).array.shape[1] == 16
    Image.new("RGB", (24, 20), "red").save(tiny_cub / "images" / "001.Wren" / "Wren_0.png")
    changed = frames_of(tiny_cub, tmp_path)
    assert changed.array[0, 0, 0].tolist() == [255, 0, 0]
    assert np.array_equal(changed.array[1:], held[1:])


def test_an_image_that_disappears_after_it_was_examined_is_named(tiny_cub, tmp_path):
    dataset = open_dataset(DataConfig(dataset="cub", root=str(tiny_cub)), tmp_path)
    (tiny_cub / "images" / "001.Wren" / "Wren_0.png").unlink()
    with pytest.raises(InputError, match=r"001.Wren/Wren_0.png cannot be decoded: .*; it changed since it was examined"):
        Frames(dataset, "train", 32, tmp_path).decode()


# --- features ---------------------------------------------------------------------------------------------------------

TRUNK = FrozenTrunk("efficientnet_lite0", "imagenet")


def some_patches(count, frame=32):
    boxes = np.array([[[0, 0, 16, 16], [8, 4, 32, 28]]], np.int16).repeat(count, axis=0)
    return Patches(boxes, np.zeros((count, 2), np.float32), frame, "made up")


def test_features_are_the_trunk_pooled_over_space(tiny_cub, tmp_path):
    frames, patches = frames_of(tiny_cub, tmp_path), some_patches(8)
    images = pixels(frames.array[:], "cpu")
    whole = TRUNK.maps(resized(images, 48)).mean(dim=(2, 3)).numpy()
    crops = cut(images, torch.from_numpy(patches.boxes).float(), 40)
    local = np.stack([TRUNK.maps(crop).mean(dim=(2, 3)).numpy() for crop in crops])
    np.testing.assert_allclose(global_features(frames, TRUNK, 48), whole, atol=1e-4)
    np.testing.assert_allclose(local_features(frames, patches, TRUNK, 40), local, atol=1e-4)
    assert local.shape == (8, 2, 1280)


@pytest.mark.slow
def test_features_do_not_depend_on_the_number_of_threads(tiny_cub, tmp_path):
    threads = torch.get_num_threads()
    held = []
    for count in (1, 3):
        torch.set_num_threads(count)
        frames = frames_of(tiny_cub, tmp_path / str(count))
        held.append(np.array(local_features(frames, some_patches(8), TRUNK, 224)))
        assert torch.get_num_threads() == count   # given back
    torch.set_num_threads(threads)
    assert np.array_equal(*held)


def test_features_are_computed_once_and_need_no_frames_then(tiny_cub, tmp_path):
    told = []
    first = frames_of(tiny_cub, tmp_path, progress=lambda *now: told.append(now))
    global_features(first, TRUNK, 48)
    assert told[-1] == ("features of whole images", 8, 8)
    told.clear()
    for frames_file in (tmp_path / "frames").glob("*.npy"):
        frames_file.unlink()
    global_features(frames_of(tiny_cub, tmp_path, progress=lambda *now: told.append(now)), TRUNK, 48)
    assert told == []


@pytest.mark.parametrize("other", [
    pytest.param({"size": 64}, id="size"),
    pytest.param({"trunk": FrozenTrunk("efficientnet_lite0", "random")}, id="weights"),
    pytest.param({"trunk": FrozenTrunk("resnet18", "random")}, id="trunk"),
    pytest.param({"patches": some_patches(8).first(1, "")}, id="patches"),
])
def test_other_settings_have_other_features(tiny_cub, tmp_path, other):
    frames = frames_of(tiny_cub, tmp_path)
    settings = {"patches": some_patches(8), "trunk": TRUNK, "size": 48}
    first = local_features(frames, **settings)
    second = local_features(frames, **(settings | other))
    assert first.filename != second.filename


@pytest.mark.slow
def test_maps_are_the_trunks_in_half_precision_and_other_strides_are_other_maps(tiny_cub, tmp_path):
    frames, patches = frames_of(tiny_cub, tmp_path), some_patches(8)
    crops = cut(pixels(frames.array[:], "cpu"), torch.from_numpy(patches.boxes).float(), 64)
    expected = np.stack([TRUNK.maps(crop).numpy() for crop in crops])
    held = local_maps(frames, patches, TRUNK, 64)
    assert (held.shape, held.dtype) == ((8, 2, 1280, 2, 2), np.float16)
    np.testing.assert_allclose(held, expected, atol=1e-4, rtol=2**-10)
    fine = local_maps(frames, patches, FrozenTrunk("efficientnet_lite0", "imagenet", unstrided=True), 64)
    assert fine.shape == (8, 2, 1280, 4, 4)
    assert fine.filename != held.filename
