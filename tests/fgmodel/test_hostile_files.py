"""Whatever bytes a data set or a checkpoint consists of, the answer is a data set, a model, or one line."""

import pytest
import scipy.io
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from fgmodel import dogs, official
from fgmodel.digests import examine
from fgmodel.dogs import list_dogs
from fgmodel.errors import InputError
from fgmodel.listings import list_cub
from search.fetch import unpack
from tests.fgmodel.test_dogs import TRAIN, cells, lay_out
from tests.fgmodel.test_official import small
from tests.search.test_fetch import packed

often = settings(
    max_examples=200, deadline=None, derandomize=True,   # the same cases in every run: a failure is no accident
    suppress_health_check=[HealthCheck.function_scoped_fixture],   # each case overwrites the one file it is about
)


def changed(content: bytes) -> st.SearchStrategy[bytes]:
    """Return a strategy of `content` with a few bytes replaced, cut out or put in, or cut off, and of any bytes at all."""
    places = st.integers(0, len(content))
    edits = st.lists(st.tuples(places, st.integers(0, 12), st.binary(max_size=12)), min_size=1, max_size=6)

    def edited(changes):
        now = bytearray(content)
        for at, gone, new in changes:
            now[at : at + gone] = new
        return bytes(now)

    return st.one_of(
        st.binary(max_size=300), edits.map(edited), places.map(lambda n: content[:n]),
        st.binary(max_size=200).map(lambda rest: content[:128] + rest),
    )


def told_in_one_line(work):
    said = ""
    try:
        work()
    except InputError as error:
        said = str(error)
    assert "\n" not in said


LISTS = ("images.txt", "image_class_labels.txt", "train_test_split.txt", "classes.txt")
LINES = b"1 001.Wren/Wren_0.png\n2 001.Wren/Wren_1.png\n3 002.Robin/Robin_0.png\n4 1\n5 0\n"


@often
@given(name=st.sampled_from(LISTS), content=changed(LINES))
def test_the_lists_of_cub(tiny_cub, name, content):
    before = (tiny_cub / name).read_bytes()
    (tiny_cub / name).write_bytes(content)
    told_in_one_line(lambda: list_cub(tiny_cub))
    (tiny_cub / name).write_bytes(before)


@pytest.fixture(scope="module")
def mats(tmp_path_factory):
    """Return a training list as MATLAB writes it, plain and compressed."""
    made = {"file_list": cells(TRAIN), "annotation_list": cells([n[:-4] for n in TRAIN]), "labels": [[2.0]] * 4 + [[1.0]] * 4}
    folder = tmp_path_factory.mktemp("mats")
    for compress in (False, True):
        scipy.io.savemat(folder / f"{compress}.mat", made, do_compression=compress)
    return [(folder / f"{compress}.mat").read_bytes() for compress in (False, True)]


@settings(often, max_examples=15)   # each reads in a process of its own
@given(draw=st.data())
def test_the_lists_of_dogs(tmp_path, paint, mats, draw):
    root = tmp_path / "dogs"
    if not root.exists():
        lay_out(root, paint)
    (root / "lists" / "train_list.mat").write_bytes(draw.draw(changed(draw.draw(st.sampled_from(mats)))))
    told_in_one_line(lambda: list_dogs(root))


names = st.one_of(st.sampled_from(TRAIN), st.text(max_size=12), st.builds("{}/{}.jpg".format, st.text(max_size=4), st.text(max_size=4)))
variables = st.one_of(st.none(), st.lists(names, max_size=9), st.lists(st.floats(), max_size=9), st.lists(st.just(1.0), max_size=9))


@often
@given(content=st.dictionaries(st.sampled_from(["file_list", "annotation_list", "labels"]), variables), names=st.lists(names, max_size=9))
def test_whatever_the_lists_of_dogs_hold(tmp_path, paint, monkeypatch, content, names):
    root = tmp_path / "dogs"
    if not root.exists():
        lay_out(root, paint)
    fitting = {"file_list": names, "annotation_list": [n.removesuffix(".jpg") for n in names], "labels": [1.0] * len(names)}
    monkeypatch.setattr(dogs, "read_matlab", lambda path, keys: fitting | content if "train" in path.name else fitting)
    told_in_one_line(lambda: list_dogs(root))


@often
@given(content=changed(b'{"001.Wren/Wren_0.png": [900, 1, "ab", ""]}'))
def test_the_memory_of_digests(tiny_cub, tmp_path, content):
    names = ["001.Wren/Wren_0.png"]
    (fresh,) = examine(tiny_cub / "images", names, tmp_path / "cache")
    (index,) = (tmp_path / "cache" / "digests").glob("*.json")
    index.write_bytes(content)
    (again,) = examine(tiny_cub / "images", names, tmp_path / "cache")
    assert again == fresh


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory):
    """Return their checkpoint in each of the three formats."""
    folder, state = tmp_path_factory.mktemp("checkpoints"), small()
    torch.save({"model": state, "best_acc": 0.8}, folder / "zip.pth")
    torch.save({"model": state, "best_acc": 0.8}, folder / "old.pth", _use_new_zipfile_serialization=False)
    save_file(state, folder / "x.safetensors")
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("name", ["zip.pth", "old.pth", "x.safetensors"])
@often
@given(draw=st.data())
def test_checkpoints(tmp_path, checkpoints, name, draw):
    (tmp_path / name).write_bytes(draw.draw(changed(checkpoints[name])))
    told_in_one_line(lambda: official._classes(tmp_path, official._plain(tmp_path, official._read(tmp_path / name))))


@pytest.mark.parametrize("mode", ["w", "w:gz"])
@often
@given(draw=st.data())
def test_archives(tmp_path, mode, draw):
    content = packed({"birds/images.txt": b"1 a.png\n", "birds/images/a.png": b"x" * 600}, mode)
    (tmp_path / "a.tar").write_bytes(draw.draw(changed(content)))
    told_in_one_line(lambda: unpack(tmp_path / "a.tar", tmp_path / "to"))
    assert {path.name for path in tmp_path.iterdir()} <= {"a.tar", "to"}
