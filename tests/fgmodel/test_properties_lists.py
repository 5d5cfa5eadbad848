"""Annotation files, 2,000 of them: CUB's lists, boxes and parts, and Stanford Dogs', are read or refused with their place."""

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from fgmodel.config import DataConfig
from fgmodel.data import dogs
from fgmodel.data.datasets import open_dataset
from fgmodel.data.dogs import list_dogs
from fgmodel.data.listings import LARGEST, list_cub
from fgmodel.errors import InputError
from fgmodel.extraction.quality import known_truth
from tests.fgmodel.test_dogs import TEST, TRAIN, lay_out
from tests.hostile import HOSTILE, changed, in_a_gigabyte, often, outcome, refused

LISTS = ("images.txt", "image_class_labels.txt", "train_test_split.txt", "classes.txt")


@pytest.fixture(scope="module")
def real(cub10) -> dict[str, bytes]:
    """Return the lists of ten classes of CUB-200-2011."""
    return {name: (cub10 / name).read_bytes() for name in LISTS}


@pytest.fixture
def copy(tmp_path, cub10, real):
    """Return a folder with those lists and the very images."""
    (tmp_path / "images").symlink_to(cub10 / "images")
    for name, content in real.items():
        (tmp_path / name).write_bytes(content)
    return tmp_path


@pytest.mark.slow
@often(200)
@given(data=st.data())
def test_a_real_list_of_cub_spoilt(copy, cub10, real, data):
    name = data.draw(st.sampled_from(LISTS))
    (copy / name).write_bytes(data.draw(changed(real[name])))
    listed = outcome(lambda: list_cub(copy), copy)
    (copy / name).write_bytes(real[name])
    if not refused(listed):
        assert len(listed.names) == len(listed.labels) == len(listed.train) == 543   # as many as there are images
        assert set(listed.labels) <= set(range(len(listed.classes)))


SMALL = {   # what `tiny_cub` has
    "images.txt": b"".join(b"%d %s_%d.png\n" % (6 * c + k + 1, name, k) for c, name in enumerate((b"001.Wren/Wren", b"002.Robin/Robin")) for k in range(6)),
    "image_class_labels.txt": b"".join(b"%d %d\n" % (i, 1 + (i > 6)) for i in range(1, 13)),
    "train_test_split.txt": b"".join(b"%d %d\n" % (i, i % 6 not in (5, 0)) for i in range(1, 13)),
    "classes.txt": b"1 001.Wren\n2 002.Robin\n",
}


@pytest.mark.slow
@often(800)
@given(name=st.sampled_from(LISTS), data=st.data())
@example("classes.txt", None)
def test_a_small_list_of_cub_spoilt(tiny_cub, name, data):
    assert (tiny_cub / name).read_bytes() == SMALL[name]
    (tiny_cub / name).write_bytes(data.draw(changed(SMALL[name])) if data else b"1 a\x0bb\x85\xe2\x80\xa8c\n2 \xff\xfe\n")
    listed = outcome(lambda: list_cub(tiny_cub), tiny_cub)
    (tiny_cub / name).write_bytes(SMALL[name])
    assert refused(listed) or len(listed.names) == 12


BOXES = b"".join(b"%d 60.0 27.0 325.0 304.0\n" % k for k in range(1, 13))
PLACES = b"".join(b"%d %d 312.0 182.0 %d\n" % (k, part, k % 2) for k in range(1, 13) for part in (1, 2))


@pytest.mark.slow
@often(400)
@given(name=st.sampled_from(["bounding_boxes.txt", "parts/part_locs.txt", "parts/parts.txt", "images.txt"]), data=st.data())
def test_boxes_and_parts_of_cub_spoilt(tiny_cub, name, data):
    dataset = open_dataset(DataConfig(dataset="cub", root=str(tiny_cub)), tiny_cub.parent / "cache")
    (tiny_cub / "parts").mkdir(exist_ok=True)
    kept = {"bounding_boxes.txt": BOXES, "parts/part_locs.txt": PLACES, "parts/parts.txt": b"1 back\n2 beak\n", "images.txt": SMALL["images.txt"]}
    for file, content in kept.items():
        (tiny_cub / file).write_bytes(data.draw(changed(content)) if file == name else content)
    truth = outcome(lambda: known_truth(dataset, "test", tiny_cub), tiny_cub)
    (tiny_cub / "images.txt").write_bytes(SMALL["images.txt"])
    if not refused(truth):
        assert np.isfinite(truth.birds).all()
        assert truth.points.shape == (4, len(truth.parts), 2)


names = st.one_of(
    st.sampled_from(TRAIN), st.text(max_size=8), st.builds("{}/{}.jpg".format, st.text(max_size=4), st.text(max_size=4)),
    st.sampled_from([piece.decode("utf-8", "surrogateescape") for piece in HOSTILE]),
)  # fmt: skip
variables = st.one_of(st.none(), st.lists(names, max_size=9), st.lists(st.floats(), max_size=9), st.lists(st.sampled_from([1.0, 2.0, 1e300]), max_size=9))


@pytest.mark.slow
@often(600)
@given(content=st.dictionaries(st.sampled_from(["file_list", "annotation_list", "labels"]), variables, max_size=2), listed=st.lists(names, max_size=6) | st.just(TRAIN))
def test_whatever_the_lists_of_dogs_hold(tmp_path, paint, monkeypatch, content, listed):
    root = tmp_path / "dogs"
    if not root.exists():
        lay_out(root, paint)

    def fitting(names):
        return {"file_list": names, "annotation_list": [n.removesuffix(".jpg") for n in names], "labels": [1.0 + ("Pug" in n) for n in names]}

    monkeypatch.setattr(dogs, "read_matlab", lambda path, _: fitting(listed) | content if "train" in path.name else fitting(TEST))
    held = outcome(lambda: list_dogs(root), root)
    assert refused(held) or len(held.names) == 12


def hungry(root: str) -> None:
    """Read a list of fifty gigabytes; called in a process that has one."""
    print(outcome(lambda: list_cub(__import__("pathlib").Path(root)), root))


@pytest.mark.slow
def test_no_list_takes_more_than_a_gigabyte(tiny_cub):
    with (tiny_cub / "images.txt").open("wb") as file:
        file.truncate(50 << 30)
    assert f"is larger than {LARGEST >> 20} MB" in in_a_gigabyte("tests.fgmodel.test_properties_lists:hungry", tiny_cub)


@pytest.mark.parametrize(("content", "said"), [
    pytest.param(b"1 001.Wren\x0b\n2 002.Robin\n2 x\n", r"classes\.txt:3: '2 x' should be an id not used before", id="lines are those of an editor"),
    pytest.param(b"1 001.Wren\n\x1b[31m\xff\n", r"classes\.txt:2: '\\x1b\[31m\\udcff' should be an id", id="control codes are escaped"),
    pytest.param(b"1 001.Wren\nx" + b"y" * 100_000, r"classes\.txt:2: 'xy+ … y+' should be an id", id="a line too long is cut"),
])  # fmt: skip
def test_a_line_that_is_none_is_shown_so_that_it_can_be_found(content, said, tiny_cub):
    (tiny_cub / "classes.txt").write_bytes(content)
    with pytest.raises(InputError, match=said):
        list_cub(tiny_cub)
