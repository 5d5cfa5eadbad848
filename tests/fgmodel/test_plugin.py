"""The local stream beside another classifier, as the README and docs/use.md show it."""

import re
from pathlib import Path

import pytest
import torch
from torch import nn

from fgmodel.errors import InputError
from fgmodel.losses import two_stream_loss
from fgmodel.use.plugin import PluggedIn

ROOT = Path(__file__).parents[2]


def example(page: str = "README.md") -> str:
    (code,) = [block for block in re.findall(r"```python\n(.*?)```", (ROOT / page).read_text(), re.DOTALL) if "PluggedIn" in block]
    return code


def two_birds():
    """Return batches of bright pictures and dark ones, noisy."""
    chance = torch.Generator().manual_seed(0)
    labels = torch.arange(8) % 2
    return [(0.4 * torch.rand(8, 3, 96, 96, generator=chance) + 0.5 * labels[:, None, None, None], labels)] * 12


@pytest.mark.slow
def test_the_example_in_the_readme_runs_and_learns():
    given = {"batches": two_birds()}
    code = example()
    assert code == example("docs/use.md")
    assert len([line for line in code.splitlines() if line.strip() and "import" not in line]) == 10
    exec(code.replace("num_classes=200", "num_classes=2").replace("classes=200", "classes=2"), given)  # as a reader would
    both = given["both"]
    images, labels = given["batches"][0]
    with torch.no_grad():
        loss = nn.functional.cross_entropy(both(images).local_logits.mean(dim=1), labels)
    assert loss < 0.5   # of two classes told by chance, ln 2 = 0.69


def test_logits_are_summed_as_in_the_thesis():
    both = PluggedIn(Bright(), classes=2, hidden_size=4, time_steps=2, patches=2, patch_size=64, weight=0.5).eval()
    images = torch.rand(3, 3, 96, 96)
    with torch.no_grad():
        outputs = both(images)
        assert torch.allclose(both.fused(outputs), Bright()(images) + 0.5 * outputs.local_logits.mean(dim=1))


def test_boxes_of_your_own_are_looked_at_instead():
    both = PluggedIn(Bright(), classes=2, hidden_size=4, time_steps=2, patch_size=64).eval()
    images = torch.zeros(1, 3, 96, 96)
    images[..., 48:] = 1
    left, right = torch.tensor([[[0.0, 0, 40, 90]]]), torch.tensor([[[56.0, 0, 96, 90]]])
    with torch.no_grad():
        first, again, other = both(images, left), both(images, left), both(images, right)
    assert torch.equal(first.local_logits, again.local_logits)
    assert not torch.allclose(first.local_logits, other.local_logits)


def test_only_what_can_learn_has_gradients():
    both = PluggedIn(Bright(), classes=2, hidden_size=4, time_steps=2, patches=1, patch_size=64)
    from fgmodel.config import LossConfig

    outputs = both(torch.rand(2, 3, 96, 96))
    labels = torch.tensor([0, 1])
    torch.autograd.backward(two_stream_loss(outputs.global_logits, outputs.local_logits[:, 0], labels, LossConfig()).total)
    assert all(p.grad is None for p in both.local_stream.trunk.parameters())
    assert all(p.grad is not None for name, p in both.local_stream.named_parameters() if not name.startswith("trunk"))


@pytest.mark.parametrize(("images", "boxes", "said"), [
    pytest.param((2, 3, 96, 96), None, r"the classifier gives (2, 2) for 2 images, the local stream has 5 classes: PluggedIn(…, classes=2)", id="of other classes"),
    pytest.param((2, 3, 96, 80), None, "images: (2, 3, 96, 80) is not (B, 3, S, S)", id="not square"),
    pytest.param((3, 96, 96), None, "images: (3, 96, 96) is not (B, 3, S, S)", id="no batch"),
    pytest.param((2, 3, 96, 96), (2, 4), "boxes: (2, 4) is not (2, N, 4)", id="boxes without images"),
])
def test_what_does_not_fit_is_said_in_one_line(images, boxes, said) -> None:
    both = PluggedIn(Bright(), classes=5, hidden_size=4, time_steps=2, patches=1, patch_size=64)
    with torch.no_grad(), pytest.raises(InputError, match=re.escape(said)):
        both(torch.zeros(images), None if boxes is None else torch.zeros(boxes))


def test_a_local_stream_without_a_time_step_is_refused() -> None:
    with pytest.raises(InputError, match=re.escape("PluggedIn: time_steps=0: at least 1 is needed")):
        PluggedIn(Bright(), classes=2, time_steps=0)


class Bright(nn.Module):
    """A classifier of two classes: dark and bright."""

    def forward(self, images):
        mean = images.mean(dim=(1, 2, 3))
        return torch.stack([1 - mean, mean], dim=1)


@pytest.fixture(autouse=True)
def _same():
    torch.manual_seed(0)
