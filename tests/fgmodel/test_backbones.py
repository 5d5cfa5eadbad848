import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from fgmodel.errors import InputError
from fgmodel.trunks.backbones import backbone, freeze
from fgmodel.trunks.timm_trunks import lite0_classifier


def test_an_albatross_is_one_to_the_classifier_that_ships_in_a_package(cub10):
    path = cub10 / "images" / "001.Black_footed_Albatross" / "Black_Footed_Albatross_0001_796111.jpg"
    pixels = Image.open(path).convert("RGB").resize((224, 224), Image.Resampling.BICUBIC)
    x = (torch.from_numpy(np.array(pixels)).permute(2, 0, 1)[None].float() - 127) / 128
    with torch.inference_mode():
        probability = lite0_classifier().eval()(x).softmax(dim=1)
    assert probability.argmax() == 146   # ImageNet's albatross
    assert probability.max().item() == pytest.approx(0.986, abs=0.001)


def test_a_backbone_normalises_by_itself():
    trunk = backbone("efficientnet_lite0", "imagenet").eval()
    x = torch.rand(1, 3, 64, 64)
    with torch.inference_mode():
        torch.testing.assert_close(trunk(x), trunk.trunk((255 * x - 127) / 128), rtol=1e-3, atol=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "width", "cells"), [
    pytest.param("efficientnet_lite0", 1280, 4, id="the package's"),
    pytest.param("resnet18", 512, 4, id="torchvision, ends in layer4"),
    pytest.param("densenet121", 1024, 4, id="torchvision, pools by a function"),
    pytest.param("shufflenet_v2_x0_5", 1024, 4, id="torchvision, pools by mean"),
    pytest.param("timm/resnet18", 512, 4, id="timm's of the same name"),
    pytest.param("vit_tiny_patch16_224", 192, 8, id="timm, tokens"),
    pytest.param("swin_tiny_patch4_window7_224", 768, 4, id="timm, channels last"),
])
def test_every_trunk_gives_a_map_of_its_width(name, width, cells):
    trunk = backbone(name, "random").eval()
    with torch.inference_mode():
        assert trunk(torch.rand(1, 3, 128, 128)).shape == (1, width, cells, cells)
    assert trunk.width == width


@pytest.mark.slow
@pytest.mark.parametrize(("name", "width"), [
    pytest.param("efficientnet_lite0", 112, id="the package's"),
    pytest.param("resnet34", 256, id="torchvision"),
    pytest.param("timm/resnet18", 256, id="timm"),
])
def test_the_stride_16_map_has_14_cells_at_224_pixels(name, width):
    trunk = backbone(name, "random", stride16=True).eval()
    with torch.inference_mode():
        assert trunk(torch.rand(1, 3, 224, 224)).shape == (1, width, 14, 14)


@pytest.mark.slow
def test_resnet34_keeps_stride_16_by_the_two_convolutions_the_specification_names():
    strides = [
        {name: m.stride for name, m in backbone("resnet34", "random", unstrided=on).named_modules() if isinstance(m, nn.Conv2d)}
        for on in (False, True)
    ]
    changed = {name for name, stride in strides[0].items() if strides[1][name] != stride}
    assert changed == {"trunk.layer4.0.conv1", "trunk.layer4.0.downsample.0"}       # §1


@pytest.mark.slow
@pytest.mark.parametrize(("name", "width"), [
    pytest.param("efficientnet_lite0", 1280, id="the package's"),
    pytest.param("resnet34", 512, id="torchvision"),
    pytest.param("timm/resnet18", 512, id="timm"),
])
def test_an_unstrided_trunk_has_all_its_stages_and_14_cells_at_224_pixels(name, width):
    trunk = backbone(name, "random", unstrided=True).eval()
    assert trunk.weights_id == backbone(name, "random").weights_id                  # strides are no weights
    with torch.inference_mode():
        assert trunk(torch.rand(1, 3, 224, 224)).shape == (1, width, 14, 14)


@pytest.mark.slow
@pytest.mark.parametrize("name", [
    pytest.param("vgg19", id="a pool"), pytest.param("swin_t", id="no convolution"),
    pytest.param("test_resnet", id="a pool beside the convolution"), pytest.param("densenet121", id="a pool in between"),
])
def test_a_trunk_that_cannot_keep_stride_16_says_so_in_one_line(name):
    with pytest.raises(InputError, match=f"model.local_stride16: '{name}' does not come to stride 32 by") as refused:
        backbone(name, "random", unstrided=True)
    assert "\n" not in str(refused.value)


@pytest.mark.slow
def test_vgg19_is_the_thesis_trunk_and_can_drop_its_last_pool():
    trunk = backbone("vgg19", "random")
    assert sum(p.numel() for p in trunk.parameters()) == 20_024_384
    without = backbone("vgg19", "random", drop_last_pool=True)
    x = torch.rand(1, 3, 64, 64)
    with torch.inference_mode():
        assert trunk(torch.rand(1, 3, 448, 448)).shape == (1, 512, 14, 14)
        whole, fine = trunk(x), without(x)
    assert fine.shape == (1, 512, 4, 4)
    assert torch.equal(torch.nn.functional.max_pool2d(fine, 2), whole)


@pytest.mark.slow
def test_a_trunk_without_a_last_pool_has_none_to_drop():
    x = torch.rand(1, 3, 64, 64)
    with torch.inference_mode():
        kept, dropped = (backbone("resnet18", "random", drop_last_pool=drop).eval()(x) for drop in (False, True))
    assert torch.equal(kept, dropped)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["efficientnet_lite0", "resnet18", "timm/resnet18", "densenet121"])
def test_freezing_changes_speed_and_not_the_map(name):
    trunk = backbone(name, "imagenet" if name == "efficientnet_lite0" else "random").eval()
    x = torch.rand(2, 3, 96, 96)
    with torch.inference_mode():
        before = trunk(x)
        after = freeze(trunk)(x)
    torch.testing.assert_close(after, before, rtol=1e-4, atol=1e-4 * before.abs().max().item())
    assert not any(p.requires_grad for p in trunk.parameters())


def test_a_frozen_trunk_stays_in_eval_mode():
    trunk = freeze(backbone("densenet121", "random"))
    trunk.train()
    assert not any(module.training for module in trunk.modules())


@pytest.mark.slow
def test_weights_are_known_by_their_content():
    random, again = backbone("resnet18", "random"), backbone("resnet18", "random")
    other = backbone("timm/resnet18", "random")
    assert random.weights_id == again.weights_id
    assert random.weights_id.split(":")[-1] != other.weights_id.split(":")[-1]
    assert torch.equal(next(random.parameters()), next(again.parameters()))


def test_a_backbone_leaves_the_random_state_alone():
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    backbone("resnet18", "random")
    assert torch.equal(torch.rand(1), expected)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "options", "says"), [
    pytest.param("resnet43", {}, "'resnet43' is no trunk of torchvision or timm; near it are 'resnet34'", id="misspelt"),
    pytest.param("vit_b_16", {}, "reads one image size only", id="fixed size"),
    pytest.param("swin_t", {"stride16": True}, "has no map of stride 16", id="no stride-16 map"),
])
def test_an_unusable_name_is_one_line(name, options, says):
    with pytest.raises(InputError) as refused:
        backbone(name, "random", **options)
    assert says in str(refused.value)
    assert "\n" not in str(refused.value)


def test_weights_that_cannot_be_downloaded_are_one_line(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")   # nobody listens there
    with pytest.raises(InputError, match="'resnet18' are neither in the cache nor downloadable") as refused:
        backbone("resnet18", "imagenet")
    assert "\n" not in str(refused.value)
    assert "efficientnet_lite0" in str(refused.value)


def test_a_damaged_weight_file_is_one_line(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    checkpoints = tmp_path / "hub" / "checkpoints"
    checkpoints.mkdir(parents=True)
    (checkpoints / "resnet18-f37072fd.pth").write_bytes(b"not weights")
    with pytest.raises(InputError, match="'resnet18'"):
        backbone("resnet18", "imagenet")


def test_weights_in_the_torch_cache_are_used(tmp_path, monkeypatch):
    from torchvision.models import resnet18

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    torch.manual_seed(5)
    whole = resnet18()
    checkpoints = tmp_path / "hub" / "checkpoints"
    checkpoints.mkdir(parents=True)
    torch.save(whole.state_dict(), checkpoints / "resnet18-f37072fd.pth")
    assert torch.equal(backbone("resnet18", "imagenet").trunk.conv1.weight, whole.conv1.weight)
