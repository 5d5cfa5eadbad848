"""What is read in a process of its own or unpacked: whatever the bytes, the answer is a data set or one line."""

import numpy as np
import pytest
import scipy.io
from hypothesis import given
from hypothesis import strategies as st

from fgmodel.data.dogs import list_dogs
from fgmodel.data.matlab import read_matlab
from search.data.fetch import unpack
from tests.fgmodel.test_dogs import TRAIN, cells, lay_out
from tests.hostile import changed, often, outcome, refused
from tests.search.test_fetch import packed


@pytest.fixture(scope="module")
def mats(tmp_path_factory):
    """Return a training list as MATLAB writes it, plain and compressed."""
    made = {"file_list": cells(TRAIN), "annotation_list": cells([n[:-4] for n in TRAIN]), "labels": [[2.0]] * 4 + [[1.0]] * 4}
    folder = tmp_path_factory.mktemp("mats")
    for compress in (False, True):
        scipy.io.savemat(folder / f"{compress}.mat", made, do_compression=compress)
    return [(folder / f"{compress}.mat").read_bytes() for compress in (False, True)]


@pytest.mark.slow
@often(15)   # each reads in a process of its own
@given(draw=st.data())
def test_the_lists_of_dogs(tmp_path, paint, mats, draw):
    root = tmp_path / "dogs"
    if not root.exists():
        lay_out(root, paint)
    real = draw.draw(st.sampled_from(mats))
    rest = st.binary(max_size=200).map(lambda rest: real[:128] + rest)
    (root / "lists" / "train_list.mat").write_bytes(draw.draw(st.one_of(changed(real), rest)))
    outcome(lambda: list_dogs(root), root)


@pytest.mark.slow
@pytest.mark.parametrize("compress", [True, False])
def test_no_list_of_dogs_takes_more_than_a_gigabyte(tmp_path, compress):
    """Numbers that unpack to 320 MB, which are ten times that as Python's: their reader has a gigabyte."""
    scipy.io.savemat(tmp_path / "x.mat", {"labels": np.zeros(40_000_000 if compress else 10)}, do_compression=compress)
    assert refused(outcome(lambda: read_matlab(tmp_path / "x.mat", ("labels",)), tmp_path / "x.mat")) == compress


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["w", "w:gz"])
@often(200)
@given(draw=st.data())
def test_archives(tmp_path, mode, draw):
    content = packed({"birds/images.txt": b"1 a.png\n", "birds/images/a.png": b"x" * 600}, mode)
    (tmp_path / "a.tar").write_bytes(draw.draw(changed(content)))
    outcome(lambda: unpack(tmp_path / "a.tar", tmp_path / "to"), tmp_path / "a.tar")
    assert {path.name for path in tmp_path.iterdir()} <= {"a.tar", "to"}
