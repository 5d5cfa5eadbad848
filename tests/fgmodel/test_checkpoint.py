import pytest
import torch
from safetensors.torch import save_file

from fgmodel import checkpoint
from fgmodel.errors import InputError

TENSORS = {"fold0/model/weight": torch.arange(6.0).view(2, 3), "fold0/model/count": torch.tensor(4)}
IDENTITY = {"optim.lr_local": 0.1, "optim.milestones": (30, 60), "model.fusion_weight": None}


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "trial-3" / "epoch-7.safetensors"
    checkpoint.write(path, TENSORS, IDENTITY, 7)
    return path


def test_what_was_written_is_read(path):
    tensors, epoch = checkpoint.read(path, IDENTITY, TENSORS)
    assert epoch == 7
    assert all(torch.equal(tensors[name], value) for name, value in TENSORS.items())


def test_the_same_run_writes_the_same_bytes(path):
    before = path.read_bytes()
    checkpoint.write(path, TENSORS, IDENTITY, 7)
    assert path.read_bytes() == before


def test_only_the_checkpoint_itself_is_left_in_its_folder(path):
    assert list(path.parent.iterdir()) == [path]


def test_a_tensor_that_is_not_contiguous_is_kept(path):
    turned = torch.rand(2, 3, 4, 5).to(memory_format=torch.channels_last)
    checkpoint.write(path, {"w": turned}, IDENTITY, 7)
    assert torch.equal(checkpoint.read(path, IDENTITY, {"w": turned})[0]["w"], turned)


def damaged(path):
    content = path.read_bytes()
    return {
        "truncated": content[:-5],
        "cut in its header": content[:40],
        "garbage": b"no checkpoint at all",
        "empty": b"",
        "a pickle": b"\x80\x04\x95" + bytes(80),
    }


@pytest.mark.parametrize("damage", ["truncated", "cut in its header", "garbage", "empty", "a pickle"])
def test_a_damaged_checkpoint_is_refused_in_one_line_that_names_it(path, damage):
    path.write_bytes(damaged(path)[damage])
    refused(path, IDENTITY, TENSORS, "not a readable checkpoint")


def test_a_missing_checkpoint_is_refused(tmp_path):
    refused(tmp_path / "none.safetensors", IDENTITY, TENSORS, "not a readable checkpoint")


@pytest.mark.parametrize(
    "metadata",
    [
        pytest.param(None, id="none"),
        pytest.param({"run": "[]"}, id="another shape"),
        pytest.param({"run": "{"}, id="no json"),
        pytest.param({"run": '{"format": 2, "epoch": 1, "identity": {}}'}, id="a later format"),
    ],
)
def test_weights_of_something_else_are_refused(path, metadata):
    save_file(TENSORS, path, metadata)
    refused(path, IDENTITY, TENSORS, "not a checkpoint of a run")


def test_another_configurations_checkpoint_is_refused_with_the_setting_that_differs(path):
    refused(path, IDENTITY | {"optim.lr_local": 0.2}, TENSORS, "optim.lr_local is 0.1 there, 0.2 here")


@pytest.mark.parametrize(
    "expected",
    [
        pytest.param({"fold0/model/weight": torch.zeros(3, 2), "fold0/model/count": torch.tensor(0)}, id="shape"),
        pytest.param({"fold0/model/weight": torch.zeros(2, 3), "fold0/model/count": torch.tensor(0.0)}, id="type"),
        pytest.param(TENSORS | {"fold1/model/weight": torch.zeros(2, 3)}, id="names"),
    ],
)
def test_tensors_of_another_model_are_refused(path, expected):
    refused(path, IDENTITY, expected, "not those of this configuration's model")


def refused(path, identity, expected, said):
    with pytest.raises(InputError) as error:
        checkpoint.read(path, identity, expected)
    assert said in str(error.value)
    assert str(error.value).startswith(f"{path}: ")
    assert "\n" not in str(error.value)
