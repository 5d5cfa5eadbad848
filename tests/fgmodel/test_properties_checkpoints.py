"""Checkpoints and our own memories, 1,900 of them: each is what was written, or refused in a line, or made anew."""

import json
import struct
import zipfile
from types import SimpleNamespace

import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from safetensors.torch import save, save_file

from fgmodel import atomic, checkpoint
from fgmodel.data.digests import examine
from fgmodel.use import official
from search.errors import InputError
from search.record import manifest
from search.record.home import Home
from tests.fgmodel.test_official import small
from tests.hostile import changed, in_a_gigabyte, often, outcome, refused

TENSORS = {"fold0/model/weight": torch.arange(6.0).view(2, 3), "fold0/model/count": torch.tensor(4)}
IDENTITY = {"optim.lr_local": 0.1, "optim.milestones": (30, 60), "model.fusion_weight": None, "data.root": "näh"}


@pytest.fixture(autouse=True)
def no_waiting_for_the_disk(monkeypatch):
    monkeypatch.setattr(atomic.os, "fsync", lambda _: None)


def whole(run: object) -> bytes:
    return save(TENSORS, {"run": run if isinstance(run, str) else json.dumps(run)})


REAL = whole({"format": 1, "epoch": 7, "identity": IDENTITY})


def judged(folder, content: bytes):
    path = folder / "epoch7.safetensors"
    path.write_bytes(content)
    held = outcome(lambda: checkpoint.read(path, IDENTITY, TENSORS), str(path))
    if not refused(held):
        tensors, epoch = held
        assert 0 <= epoch < 1_000_000
        assert {name: (t.shape, t.dtype) for name, t in tensors.items()} == {name: (t.shape, t.dtype) for name, t in TENSORS.items()}
    return held


@pytest.mark.slow
@often(500)
@given(content=changed(REAL))
@example(REAL)
def test_a_real_checkpoint_spoilt(tmp_path, content):
    judged(tmp_path, content)


anything = st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=6), lambda i: st.lists(i, max_size=3) | st.dictionaries(st.text(max_size=4), i, max_size=3), max_leaves=5)


@pytest.mark.slow
@often(300)
@given(run=st.fixed_dictionaries({"format": st.just(1), "epoch": st.integers(-2, 9) | anything, "identity": st.just(IDENTITY) | anything}) | anything)
@example('{"format": 1, "epoch": 1, "identity": ' + "[" * 100_000)
@example('{"format": 1, "epoch": ' + "9" * 10_000 + ', "identity": {}}')
@example({"format": 1, "epoch": -1, "identity": IDENTITY})
@example({"format": 1, "epoch": True, "identity": IDENTITY})
@example({"format": 1, "epoch": 1, "identity": {"a\n\x1b[31m": "x" * 100_000}})
def test_whatever_a_checkpoint_says_of_itself(tmp_path, run):
    judged(tmp_path, whole(run))


@often(200)
@given(shapes=st.dictionaries(st.text(max_size=6), st.lists(st.integers(0, 3), max_size=3), max_size=3), epoch=st.integers(0, 10_000),
       kind=st.sampled_from([torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.bool, torch.float64]))  # fmt: skip
def test_what_is_written_comes_back(tmp_path, shapes, epoch, kind):
    tensors = {f"fold0/{name}": torch.ones(shape, dtype=kind) for name, shape in shapes.items()}
    checkpoint.write(tmp_path / "x.safetensors", tensors, IDENTITY, epoch)
    read, at = checkpoint.read(tmp_path / "x.safetensors", IDENTITY, tensors)
    assert at == epoch
    assert all(torch.equal(read[name], value) for name, value in tensors.items())


@pytest.fixture(scope="module")
def theirs(tmp_path_factory):
    """Return the authors' checkpoint, small, in each of the three formats."""
    folder, state = tmp_path_factory.mktemp("checkpoints"), small()
    torch.save({"model": state, "best_acc": 0.8}, folder / "zip.pth")
    torch.save({"model": state, "best_acc": 0.8}, folder / "old.pth", _use_new_zipfile_serialization=False)
    save_file(state, folder / "x.safetensors")
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.slow
@often(400)
@given(data=st.data())
def test_a_checkpoint_of_the_authors_spoilt(tmp_path, theirs, data):
    name = data.draw(st.sampled_from(sorted(theirs)))
    (tmp_path / name).write_bytes(data.draw(changed(theirs[name])))
    outcome(lambda: official._classes(tmp_path / name, official._plain(tmp_path / name, official._read(tmp_path / name))), tmp_path / name)


@pytest.mark.slow
@often(250)
@given(data=st.data())
@example(None)
def test_the_memory_of_digests_is_no_more_than_a_memory(tiny_cub, tmp_path, data):
    names = ["001.Wren/Wren_0.png"]
    (fresh,) = examine(tiny_cub / "images", names, tmp_path / "cache")
    (index,) = (tmp_path / "cache" / "digests").glob("*.json")
    index.write_bytes(data.draw(changed(b'{"001.Wren/Wren_0.png": [900, 1, "ab", ""]}') | anything.map(lambda a: json.dumps(a).encode())) if data else b"[" * 100_000)
    (again,) = examine(tiny_cub / "images", names, tmp_path / "cache")
    assert again == fresh


@pytest.mark.slow
@often(250)
@given(data=st.data())
@example(None)
def test_the_list_of_a_searchs_images(tmp_path, monkeypatch, data):
    now = {"a.png": "0", "b.png": "1"}
    monkeypatch.setattr(manifest, "_digests", lambda config, home: now)
    home = Home(tmp_path)
    manifest.write_manifest(home, "s", SimpleNamespace())
    path = tmp_path / "searches" / "s" / "images.json"
    path.write_bytes(data.draw(changed(path.read_bytes()) | anything.map(lambda a: json.dumps(a).encode())) if data else b"[" * 100_000)
    said = outcome(lambda: manifest.difference(home, "s", SimpleNamespace()), path)
    assert refused(said) or isinstance(said, str)


# --- memory -----------------------------------------------------------------------------------------------------------

def hungry(folder: str) -> None:
    """Read checkpoints that ask for far more than a gigabyte; called in a process that has no more."""
    from pathlib import Path

    for path in sorted(Path(folder).iterdir()):
        said = outcome(lambda p=path: official._read(p), path)
        assert refused(said)
        assert "compressed" in str(said) or path.suffix == ".safetensors"
        assert refused(outcome(lambda p=path: checkpoint.read(p, IDENTITY, TENSORS), path))
        print(path.name)


@pytest.mark.slow
def test_no_checkpoint_takes_more_than_a_gigabyte(tmp_path):
    tensor = {"w": {"dtype": "F32", "shape": [10**12], "data_offsets": [0, 4 * 10**12]}}
    said = json.dumps(tensor).encode()
    (tmp_path / "claim.safetensors").write_bytes(struct.pack("<Q", len(said)) + said)
    (tmp_path / "header.safetensors").write_bytes(struct.pack("<Q", 10**12))
    torch.save({"model": {"fc.bias": torch.zeros(4)}}, tmp_path / "x.pth")
    with zipfile.ZipFile(tmp_path / "x.pth") as real, zipfile.ZipFile(tmp_path / "bomb.pth", "w", zipfile.ZIP_DEFLATED, compresslevel=1) as bomb:
        for member in real.infolist():
            with bomb.open(member.filename, "w", force_zip64=True) as file:
                file.write(real.read(member))
                for _ in range(80 * member.filename.endswith("data/0")):
                    file.write(bytes(1 << 24))
    (tmp_path / "x.pth").unlink()
    assert len(in_a_gigabyte("tests.fgmodel.test_properties_checkpoints:hungry", tmp_path).split()) == 3


def test_a_refusal_of_another_configuration_is_one_line_however_long_the_setting(tmp_path):
    (tmp_path / "x.safetensors").write_bytes(whole({"format": 1, "epoch": 1, "identity": IDENTITY | {"data.root": "x\n" * 50_000}}))
    with pytest.raises(InputError) as error:
        checkpoint.read(tmp_path / "x.safetensors", IDENTITY, TENSORS)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 1100
