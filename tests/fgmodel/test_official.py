"""The authors' checkpoints, made here under their names: what fits gives their logits, what does not is told."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from fgmodel.config import ModelConfig, TrialConfig
from fgmodel.config import official as preset
from fgmodel.errors import InputError
from fgmodel.model import TwoStream
from fgmodel.use import official

VGG19 = (64, 64, "M", 128, 128, "M", 256, 256, 256, 256, "M", 512, 512, 512, 512, "M", 512, 512, 512, 512, "M")
MEAN, STD = torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1), torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)
HERE = Path("theirs.pth")


def trunk() -> nn.Sequential:
    """Return VGG19's 37 layers, so initialised that a picture still matters at their end."""
    layers, width = [], 3
    for step in VGG19:
        if step == "M":
            layers.append(nn.MaxPool2d(2))
            continue
        conv = nn.Conv2d(width, step, 3, padding=1)
        nn.init.kaiming_normal_(conv.weight, nonlinearity="relu")
        layers += [conv, nn.ReLU()]
        width = step
    return nn.Sequential(*layers)


class Theirs(nn.Module):
    """The released architecture as the specification's §1 table describes it, written without our modules."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.img_features, self.patch_features = trunk(), trunk()[:-1]
        self.add_on = nn.Sequential(nn.Conv2d(512, 1024, 1), nn.ReLU(), nn.Conv2d(1024, 1024, 1), nn.ReLU())
        self.img_classifier = nn.Linear(1024, classes)
        self.lstm = nn.LSTM(512, 512, 2, batch_first=True)
        self.attention = nn.ModuleDict({"att_len": nn.Linear(512, 1)})
        self.fc = nn.Linear(512, classes)

    def forward(self, image, patch, steps):
        x = self.patch_features((patch - MEAN) / STD).mean((2, 3))
        states, _ = self.lstm(x[:, None].expand(-1, steps, -1))
        alpha = self.attention["att_len"](states).softmax(1)
        z_global = self.img_classifier(self.add_on(self.img_features((image - MEAN) / STD)).mean((2, 3)))
        return z_global, self.fc((alpha * states).sum(1))


@pytest.fixture(scope="module")
def theirs():
    torch.manual_seed(0)
    return Theirs(200).eval()


@pytest.fixture(scope="module")
def state(theirs):
    return theirs.state_dict()


@pytest.fixture(scope="module")
def ours():
    """Return our model of the preset; its random weights are of no matter."""
    return TwoStream(preset().model.model_copy(update={"weights": "random"}), 200).eval()


@pytest.mark.slow    # two VGG19, each drawn at random
def test_their_model_has_the_size_of_the_specification(theirs, ours):
    assert sum(p.numel() for p in theirs.parameters()) == 46_134_289   # specification, §1
    assert sum(p.numel() for p in ours.parameters()) == 46_134_289


@pytest.mark.slow    # two VGG19, each drawn at random
@torch.inference_mode()
def test_the_translated_weights_give_their_logits(theirs, state, ours):
    ours.load_state_dict(official.translated(HERE, state, ours.state_dict()))   # every name, or it raises
    image, patch = torch.rand(2, 3, 64, 64), torch.rand(2, 3, 32, 32)
    z_global, z_local = theirs(image, patch, steps=10)
    out = ours(*ours.features(image, patch[:, None]))
    torch.testing.assert_close(out.global_logits, z_global, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(out.local_logits[:, 0], z_local, atol=1e-5, rtol=1e-4)
    assert z_global.std(dim=0).mean() > 1e-3    # the pictures differ, and it shows
    assert z_local.std(dim=0).mean() > 1e-4


# --- a small model of the same names: what is read, and what is refused, does not hang on its size -----------------------

SMALL = {
    "img_features.0.weight": (4, 3, 3, 3), "img_features.0.bias": (4,),
    "add_on.0.weight": (6, 4, 1, 1), "img_classifier.weight": (5, 6), "img_classifier.bias": (5,),
    "patch_features.0.weight": (4, 3, 3, 3), "lstm.weight_ih_l0": (16, 4),
    "attention.att_len.weight": (1, 4), "attention.att_len.bias": (1,), "fc.weight": (5, 4), "fc.bias": (5,),
}
OURS = {
    "global_stream.trunk.trunk.features.0.weight": (4, 3, 3, 3), "global_stream.trunk.trunk.features.0.bias": (4,),
    "global_stream.addon.0.weight": (6, 4, 1, 1), "global_stream.head.weight": (5, 6), "global_stream.head.bias": (5,),
    "local_stream.trunk.trunk.features.0.weight": (4, 3, 3, 3), "local_stream.lstm.weight_ih_l0": (16, 4),
    "local_stream.attention.score.weight": (1, 4), "local_stream.attention.score.bias": (1,),
    "local_stream.head.weight": (5, 4), "local_stream.head.bias": (5,),
}


def small(**change):
    torch.manual_seed(0)
    made = {name: torch.rand(shape) for name, shape in SMALL.items()} | change
    return {name: value for name, value in made.items() if value is not None}


class SmallModel(TwoStream):
    """Stands for TwoStream: parameters of our names, in small."""

    def __init__(self, config: ModelConfig, classes: int) -> None:
        nn.Module.__init__(self)
        assert (config.weights, classes) == ("random", 5)
        self.values = {name: torch.zeros(shape) for name, shape in OURS.items()}

    def state_dict(self):
        return self.values

    def load_state_dict(self, state):
        assert state.keys() == self.values.keys()
        self.values = state


@pytest.fixture
def stand_in(monkeypatch):
    monkeypatch.setattr(official, "TwoStream", SmallModel)


def prefixed(state):
    return {f"module.{name}": value for name, value in state.items()}


@pytest.mark.parametrize("wrap", [
    pytest.param(lambda s: {"start_epoch": 3, "model": prefixed(s), "optimizer": {"state": {}, "param_groups": []}, "best_acc": 0.79}, id="as their script writes it"),
    pytest.param(lambda s: {"model": s}, id="without DataParallel"),
    pytest.param(prefixed, id="the state dict alone"),
    pytest.param(lambda s: {name: value.half() for name, value in s.items()}, id="half precision"),
])
@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "before PyTorch 1.6"])
def test_their_file_is_read(tmp_path, stand_in, wrap, legacy):
    state = small()
    torch.save(wrap(state), tmp_path / "x.pth", _use_new_zipfile_serialization=not legacy)
    model, config = official.convert(tmp_path / "x.pth", tmp_path / "out.safetensors"), preset()
    for (their, value), our in zip(state.items(), OURS, strict=True):
        torch.testing.assert_close(model.state_dict()[our], value, atol=1e-3, rtol=0)
        assert model.state_dict()[our].dtype == torch.float32, their
    kept = load_file(tmp_path / "out.safetensors")
    assert {name.removeprefix("fold0/model/") for name in kept} == set(OURS)
    assert config.model.time_steps == 10


def test_safetensors_are_read_and_t_is_the_callers(tmp_path, stand_in):
    save_file(small(), tmp_path / "x.safetensors")
    _, config = official.read_official(tmp_path / "x.safetensors", time_steps=4)
    assert config == TrialConfig.from_settings({
        "model.attention": "shared", "loss.lambda_rank": 0.0, "model.global_addon": True,
        "optim.lr_local": 0.001, "optim.schedule": "milestones", "model.time_steps": 4,
    })


@pytest.mark.parametrize(("state", "says"), [
    pytest.param(small(**{"lstm.weight_ih_l0": None}), "it lacks lstm.weight_ih_l0", id="a name missing"),
    pytest.param(small(**{"fc2.weight": torch.zeros(1)}), "it has besides fc2.weight", id="a name too many"),
    pytest.param(small(**{"add_on.0.weight": torch.zeros(4, 4, 1, 1)}), "it has in another shape add_on.0.weight (4x4x1x1, not 6x4x1x1)", id="another shape"),
    pytest.param({f"layer{i}.w": torch.zeros(1) for i in range(9)} | {k: torch.zeros(5) for k in ("fc.bias", "img_classifier.bias")}, "and 6 more", id="another network with such heads"),
    pytest.param({"conv1.weight": torch.zeros(2, 2)}, "it lacks fc.bias and img_classifier.bias", id="another network"),
    pytest.param(small(**{"fc.bias": torch.zeros(120), "fc.weight": torch.zeros(120, 4)}), "its local head has 120 classes, its global head 5", id="heads of different classes"),
    pytest.param(small(**{"fc.bias": torch.zeros(1), "img_classifier.bias": torch.zeros(1)}), "its heads have 1 classes", id="one class"),
    pytest.param(small(**{"fc.bias": torch.zeros(1).expand(10**9), "img_classifier.bias": torch.zeros(1).expand(10**9)}), "its heads have 1000000000 classes", id="a billion classes"),
    pytest.param(small(**{"fc.bias": torch.full((5,), float("nan"))}), "fc.bias is no tensor of finite real numbers", id="not finite"),
    pytest.param(small(**{"fc.bias": torch.ones(5, dtype=torch.int64)}), "fc.bias is no tensor of finite real numbers", id="integers"),
    pytest.param({}, "holds no state dict", id="empty"),
    pytest.param({"model": [1, 2]}, "holds no state dict", id="a list for a model"),
    pytest.param(torch.zeros(3), "holds no state dict", id="a tensor"),
    pytest.param({"model": {3: torch.zeros(3)}}, "holds no state dict", id="numbers for names"),
])
def test_another_models_checkpoint_is_refused_in_one_line(tmp_path, stand_in, state, says):
    torch.save(state, tmp_path / "x.pth")
    refused(tmp_path / "x.pth", says)


class Code:
    """An object whose reading would run code."""

    def __reduce__(self):
        return Path.touch, (Path("ran"),)


def test_a_checkpoint_that_holds_code_is_refused_and_nothing_is_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"model": Code()}, tmp_path / "x.pth")
    refused(tmp_path / "x.pth", "only plain tensors are read")
    assert not Path("ran").exists()


@pytest.mark.parametrize("suffix", ["pth", "safetensors"])
@pytest.mark.parametrize("content", [
    pytest.param(b"", id="empty"),
    pytest.param(b"hello", id="text"),
    pytest.param(b"PK\x03\x04" + bytes(60), id="a broken zip"),
    pytest.param(b"\x80\x04\x95" + bytes(80), id="a broken pickle"),
    pytest.param(b"\xff" * 64, id="a header of the largest size"),
])
def test_a_file_that_is_no_checkpoint_is_refused(tmp_path, suffix, content):
    (tmp_path / f"x.{suffix}").write_bytes(content)
    refused(tmp_path / f"x.{suffix}", "x.")


def test_a_missing_file_and_a_folder_are_refused(tmp_path):
    refused(tmp_path / "none.pth", "there is no such file")
    refused(tmp_path, "is neither a readable PyTorch checkpoint")


def refused(path, says):
    with pytest.raises(InputError) as error:
        official.read_official(path)
    assert says in str(error.value)
    assert str(error.value).startswith(f"{path}: ")
    assert "\n" not in str(error.value)
