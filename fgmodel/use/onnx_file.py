"""A trained model as an ONNX file: pixels and boxes in, probabilities out, for programs without PyTorch.

B  images      N  patches of each      S  pixels of the frame      C  classes      T  time steps
Finding boxes stays outside: it is no network. What the file computes is compared with PyTorch before it counts.
"""

import warnings
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from fgmodel import atomic
from fgmodel.errors import InputError, require_packages
from fgmodel.trunks.frozen_trunk import HeldTrunk
from fgmodel.use.classifier import Classifier

TOLERANCE = 1e-3    # of a probability
NEEDED = ("onnx", "onnxscript", "onnxruntime")
OPSET = 20


class Checked(NamedTuple):
    """What the comparison with PyTorch came to."""

    difference: float   # the largest of any probability
    images: int


@dataclass(frozen=True)
class _Direct(HeldTrunk):
    """A trunk that is one graph: no batches of its own, which depend on how many images there are."""

    def maps(self, images: Float[Tensor, "B 3 s s"]) -> Float[Tensor, "B D h w"]:
        cells: Tensor = self.model(images)
        return cells


class _Whole(nn.Module):
    """From the frame's pixels and boxes to probabilities: resizing, cutting, both streams, their fusion."""

    def __init__(self, classifier: Classifier) -> None:
        super().__init__()
        self.model = classifier.model   # named, for the exporter to find their weights
        self.trunks = nn.ModuleList()
        if classifier.trunks:
            whole, local = classifier.trunks
            used = [whole.model, (local if classifier.finder else whole).model]   # without a stream its trunk is none
            self.trunks.extend(used)
            whole, local = (_Direct(t.name, t.weights, held=m) for t, m in zip((whole, local), used, strict=True))
            classifier = replace(classifier, trunks=(whole, local))
        self.classifier = classifier
        for module in self.modules():
            if "inplace" in vars(module):   # the same numbers; with ReLUs in place tracing takes twice as long
                vars(module)["inplace"] = False

    def forward(self, frame: Float[Tensor, "B 3 S S"], boxes: Float[Tensor, "B N 4"]) -> tuple[Tensor, ...]:
        seen = self.classifier.seen(frame, boxes)
        logits = self.classifier.logits(seen.outputs)
        local = () if logits.local_stream is None else (logits.local_stream.softmax(dim=1), seen.outputs.alpha)
        return logits.fused.softmax(dim=1), logits.global_stream.softmax(dim=1), *local


def export_onnx(classifier: Classifier, to: Path) -> Checked:
    """Write the model and return how far onnxruntime's answers are from PyTorch's, on frames of noise.

    Inputs: `frame`, RGB in 0..1, squashed to the frame's size; `boxes`, `data.patches_per_image` of x1 y1 x2 y2 in its
    pixels. Outputs: `probability`, `probability_global`, `probability_local` (B C) and `alpha` (B N T).
    Raises InputError: where a package is missing, or the answers differ.
    """
    require_packages("export-onnx", "onnx", *NEEDED)
    whole = _Whole(classifier).eval()
    inputs = _noise(classifier, 2)
    names = ["probability", "probability_global", *(["probability_local", "alpha"] if classifier.finder else [])]
    batch = torch.export.Dim("B", min=1)
    with warnings.catch_warnings():
        # it warns of any sampling ratio but 0; torchvision's -1 means the same: as many samples as the box asks for
        warnings.filterwarnings("ignore", "ONNX export for RoIAlign", UserWarning)
        warnings.filterwarnings("ignore", "# The axis name: B", UserWarning)  # frames and boxes share it
        program = torch.onnx.export(
            whole, inputs, dynamo=True, opset_version=OPSET, input_names=["frame", "boxes"], output_names=names,
            dynamic_shapes=({0: batch}, {0: batch}), verbose=False,
        )
    assert program is not None
    content = program.model_proto.SerializeToString()
    checked = _compare(content, whole, _noise(classifier, 3))
    if not checked.difference < TOLERANCE:
        differs = f"onnxruntime's probabilities differ from PyTorch's by {checked.difference:.1g}"
        raise InputError(f"{to}: not written: {differs}")
    atomic.write(to, content)
    return checked


def _noise(classifier: Classifier, images: int) -> tuple[Tensor, Tensor]:
    """Return frames and boxes of chance, the boxes as large as a patch and less than that."""
    data, chance = classifier.config.data, torch.Generator().manual_seed(images)
    size = data.frame_size
    count = 0 if classifier.finder is None else 1 if data.evaluation_patches == "top1" else data.patches_per_image
    corner = torch.rand(images, count, 2, generator=chance) * size / 2
    side = size / 8 + torch.rand(images, count, 2, generator=chance) * size * 3 / 8
    return torch.rand(images, 3, size, size, generator=chance), torch.cat([corner, corner + side], dim=2).round()


def _compare(content: bytes, whole: _Whole, inputs: tuple[Tensor, Tensor]) -> Checked:
    import onnxruntime  # noqa: PLC0415  an extra

    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    given = {"frame": inputs[0].numpy(), "boxes": inputs[1].numpy()}
    wanted = {entry.name for entry in session.get_inputs()}
    found = session.run(None, {name: value for name, value in given.items() if name in wanted})
    with torch.inference_mode():
        expected = whole(*inputs)
    differences = [np.abs(a - b.numpy()).max() for a, b in zip(found, expected, strict=True) if b.numel()]
    return Checked(float(max(differences)), len(inputs[0]))
