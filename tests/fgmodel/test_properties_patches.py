"""Patch files, ours and the authors', and every other array that is read: 4,000, read as written or refused in a line."""

import contextlib
import io
import struct
import warnings
import zipfile

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as nps

from fgmodel import atomic
from fgmodel.arrays import map_npy, read_npy, read_npz
from fgmodel.data.boxes_file import Patches, read_any_patches, read_patches, write_patches
from fgmodel.data.released import FRAME, read_released
from fgmodel.data.splits import Fold
from fgmodel.errors import InputError
from fgmodel.test_split import right
from fgmodel.trial_data import TrialData, read_record, write_record
from tests.hostile import changed, in_a_gigabyte, often, outcome, refused

LABELS, CLASSES = np.array([0, 0, 1]), ("a", "b")


@pytest.fixture(autouse=True)
def no_waiting_for_the_disk(monkeypatch):
    monkeypatch.setattr(atomic.os, "fsync", lambda _: None)


def bytes_of(save, *arrays, **named) -> bytes:
    file = io.BytesIO()
    save(file, *arrays, **named)
    return file.getvalue()


@st.composite
def patches(draw):
    """Return the boxes of a few images with the images' names."""
    images, each, frame = draw(st.integers(1, 4)), draw(st.integers(1, 3)), draw(st.integers(1, 32767))
    low = draw(nps.arrays(np.int16, (images, each, 2), elements=st.integers(0, frame - 1)))
    high = draw(nps.arrays(np.int16, (images, each, 2), elements=st.integers(1, frame)))
    boxes = np.concatenate([low, np.maximum(high, low + 1)], axis=-1).astype(np.int16)
    scores = draw(nps.arrays(np.float32, (images, each), elements=st.floats(width=32)))
    names = draw(st.lists(st.text(st.characters(exclude_characters="\0"), max_size=9), min_size=images, max_size=images))
    return Patches(boxes, scores, frame, draw(st.sampled_from(["ddt", "released", "näh"]))), names


@pytest.mark.slow
@often(400)
@given(made=patches())
def test_patches_come_back_as_they_were_written(tmp_path, made):
    write_patches(tmp_path / "train.npz", made[0], made[1], "made-so")
    read = read_patches(tmp_path / "train.npz", made[1])
    assert np.array_equal(read.boxes, made[0].boxes)
    assert np.array_equal(read.scores, made[0].scores, equal_nan=True)
    assert (read.frame, read.method, read.hash) == (made[0].frame, made[0].method, made[0].hash)


def patch_file(**other) -> bytes:
    held = {
        "names": np.array(["a/0.png", "b/1.png"]), "frame": np.int64(448), "boxes": np.array([[[0, 0, 9, 9]]] * 2, np.int16),
        "scores": np.zeros((2, 1), np.float32), "method": np.array("ddt"), "config": np.array("x"),
    }  # fmt: skip
    return bytes_of(np.savez_compressed, **{k: v for k, v in (held | other).items() if v is not None})


def judged(folder, content: bytes):
    path = folder / "train.npz"
    path.write_bytes(content)
    held = outcome(lambda: read_any_patches(path), str(path))
    if not refused(held):
        write_patches(folder / "again.npz", held[1], held[0], "")
        assert read_any_patches(folder / "again.npz")[1].hash == held[1].hash
    return held


@pytest.mark.slow
@often(1000)
@given(content=st.one_of(changed(patch_file()), changed(bytes_of(np.savez, **np.load(io.BytesIO(patch_file()))))))
@example(bytes_of(np.save, np.zeros((2, 1, 4), np.int16)))
def test_a_real_patch_file_spoilt(tmp_path, content):
    judged(tmp_path, content)


arrays = st.one_of(
    st.none(), nps.arrays(st.sampled_from([np.int16, np.float32, np.float64, np.bool_, np.dtype("U3"), np.dtype("S2"), np.complex64, np.dtype(">i2"), np.dtype("M8[s]")]),
                          nps.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4)),
)  # fmt: skip


@pytest.mark.slow
@often(600)
@given(other=st.dictionaries(st.sampled_from(["names", "frame", "boxes", "scores", "method", "config", "x"]), arrays, min_size=1, max_size=3))
@example({"frame": np.array([1, 2])})
@example({"frame": np.array(np.inf)})
@example({"names": np.array("ab")})
@example({"scores": np.array([["a"], ["b"]])})
def test_whatever_arrays_a_patch_file_holds(tmp_path, other):
    judged(tmp_path, patch_file(**other))


RELEASED = np.concatenate([np.broadcast_to([10.0, 50, 20, 90], (3, 2, 4)), np.broadcast_to(LABELS[:, None, None], (3, 2, 1))], axis=-1)


def told(folder, content: bytes):
    path = folder / "train_patches.npy"
    path.write_bytes(content)
    held = outcome(lambda: read_released(path, LABELS, CLASSES), str(path))
    if not refused(held):
        y1, y2, x1, x2 = np.moveaxis(np.load(path)[..., :4], -1, 0)
        assert np.array_equal(held.boxes, np.stack([x1, y1, x2, y2], axis=-1))
    return held


@pytest.mark.slow
@often(600)
@given(content=changed(bytes_of(np.save, RELEASED)))
@example(patch_file())
@example(b"\x93NUMPY\x01\x00v\x00{'descr': '<f8', 'fortran_order': False, 'shape': (1000000000000, 10, 5), }" + b" " * 36 + b"\n")
@example(b"\x93NUMPY\x01\x00" + struct.pack("<H", 60_000) + b"-" * 59_998 + b"1\n")
def test_a_released_file_spoilt(tmp_path, content):
    told(tmp_path, content)


coordinates = st.one_of(st.integers(0, FRAME).map(float), st.integers(0, FRAME).map(float), st.floats())
places = st.tuples(st.integers(0, 2), st.integers(0, 1), st.integers(0, 4))


@pytest.mark.slow
@often(200)
@given(rows=nps.arrays(np.float64, st.tuples(st.integers(0, 4), st.integers(0, 2), st.integers(4, 6)), elements=coordinates))
@example(np.zeros((3, 0, 5)))
@example(np.full((3, 1, 5), 1e300))
def test_whatever_a_released_file_holds(tmp_path, rows):
    told(tmp_path, bytes_of(np.save, rows))


@pytest.mark.slow
@often(200)
@given(other=st.dictionaries(places, coordinates, max_size=3))
def test_a_few_numbers_of_a_released_file_changed(tmp_path, other):
    rows = RELEASED.copy()
    for place, value in other.items():
        rows[place] = value
    told(tmp_path, bytes_of(np.save, rows))


@pytest.mark.slow
@often(300)
@given(array=arrays.filter(lambda array: array is not None))
def test_an_array_is_read_as_numpy_reads_it(tmp_path, array):
    np.save(tmp_path / "a.npy", array)
    plain = array.dtype.kind != "M"
    for read in (read_npy, map_npy):
        if plain and (array.size or read is read_npy):
            held = read(tmp_path / "a.npy")
            assert (held.shape, held.dtype) == (array.shape, array.dtype)
            assert held.tobytes() == array.tobytes()
    if plain:
        np.savez(tmp_path / "a.npz", a=array)
        assert read_npz(tmp_path / "a.npz")["a"].tobytes() == array.tobytes()


LOOK = bytes_of(np.savez, labels=LABELS, predictions=LABELS[::-1], predictions_sum=np.zeros((3, 2), int))


@pytest.mark.slow
@often(300)
@given(content=st.one_of(st.just(LOOK), changed(LOOK)), metric=st.sampled_from(["test/accuracy", "test/accuracy_sum/01"]) | st.from_regex(r"test/accuracy(_sum|_x)?(/\d\d?)?", fullmatch=True))
@example(LOOK, "test/accuracy_sum/00")
@example(LOOK, "test/accuracy_sum/03")
@example(LOOK, "test/accuracy/01")
def test_the_predictions_of_a_look(tmp_path, content, metric):
    path = tmp_path / "look.npz"
    path.write_bytes(content)
    with contextlib.suppress(OSError, ValueError):   # which is told with the file by who reads it
        assert right(path, metric).shape == (3,)


@pytest.mark.slow
@often(400)
@given(data=st.data())
def test_a_record_of_prepared_data_is_whole_or_none(tmp_path, data):
    features = tmp_path / "features.npy"
    np.save(features, np.zeros((3, 2), np.float32))
    fold = Fold(train=np.arange(2), validation=np.arange(2, 3))
    made = TrialData(CLASSES, ("0", "1", "2"), LABELS, (fold,), np.zeros((3, 1, 4), np.int16), None, map_npy(features), None, "f", "s", "p")
    write_record(tmp_path / "record.npz", made)
    where = data.draw(st.sampled_from(["record.npz", "features.npy"]))
    (tmp_path / where).write_bytes(data.draw(changed((tmp_path / where).read_bytes())))
    read = outcome(lambda: read_record(tmp_path / "record.npz"), "nothing is refused")
    assert read is None or np.array_equal(read.labels, LABELS)


# --- memory -----------------------------------------------------------------------------------------------------------

def hungry(folder: str) -> None:
    """Read files that ask for far more than a gigabyte; called in a process that has no more."""
    from pathlib import Path

    for path in sorted(Path(folder).iterdir()):
        work = (lambda p=path: read_any_patches(p)) if path.suffix == ".npz" else (lambda p=path: read_released(p, LABELS, CLASSES))
        assert refused(outcome(work, str(path)))
        print(path.name)


def bomb(path, sizes: dict[str, int]) -> None:
    """Write a zip of zeros that unpack to so many bytes, behind a header that claims them."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as zipped:
        for name, size in sizes.items():
            with zipped.open(f"{name}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array_header_1_0(member, {"shape": (size,), "fortran_order": False, "descr": "|u1"})
                for _ in range(size >> 24):
                    member.write(bytes(1 << 24))


def claim(shape: tuple[int, ...], descr: str = "<i2") -> bytes:
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, {"shape": shape, "fortran_order": False, "descr": descr})
    return file.getvalue() + bytes(64)


@pytest.mark.slow
def test_no_patch_file_takes_more_than_a_gigabyte(tmp_path):
    bomb(tmp_path / "bomb.npz", {"names": 5 << 28})
    bomb(tmp_path / "many.npz", {f"x{k}": 1 << 26 for k in range(3)})
    for name, content in {"claim": claim((10**12, 1, 4)), "negative": claim((2**62, 4, 4)), "wide": claim((9,), "<U99999999")}.items():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with zipfile.ZipFile(tmp_path / f"{name}.npz", "w") as zipped:
                for array in ("names", "frame", "boxes", "scores", "method"):
                    zipped.writestr(f"{array}.npy", content)
        (tmp_path / f"{name}.npy").write_bytes(content)
    with (tmp_path / "large.npy").open("wb") as file:
        file.truncate(50 << 30)
    said = in_a_gigabyte("tests.fgmodel.test_properties_patches:hungry", tmp_path)
    assert sorted(said.split()) == sorted(path.name for path in tmp_path.iterdir())


def test_a_file_of_another_kind_is_told_apart(tmp_path):
    (tmp_path / "x.npz").write_bytes(bytes_of(np.save, RELEASED))
    with pytest.raises(InputError, match="is no patch file of ours: File is not a zip file"):
        read_any_patches(tmp_path / "x.npz")
    (tmp_path / "x.npy").write_bytes(patch_file())
    with pytest.raises(InputError, match=r"cannot be read: it is no array as numpy\.save writes them"):
        read_released(tmp_path / "x.npy", LABELS, CLASSES)
