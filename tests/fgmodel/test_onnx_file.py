"""The exported file computes what the model computes, for any number of images."""

import numpy as np
import pytest

from fgmodel.data.images import read_rgb
from fgmodel.trunks.frozen_trunk import pixels
from fgmodel.use.onnx_file import export_onnx
from tests.models import pets, trained

pytestmark = pytest.mark.slow
onnxruntime = pytest.importorskip("onnxruntime")


@pytest.mark.parametrize("changed", [
    pytest.param({}, id="frozen trunks"),
    pytest.param({"model__freeze_backbones": False, "data__image_size": 48, "data__patches": "grid"}, id="end to end"),
    pytest.param({"model__local_stream": "none", "model__hidden_size": None, "model__time_steps": None}, id="no local stream"),
])
def test_onnxruntime_gives_the_answers_of_pytorch(changed, tmp_path):
    run = trained(pets(tmp_path / "pets"), tmp_path / "cache", **changed)
    checked = export_onnx(run.classifier, tmp_path / "m.onnx")
    assert checked.difference < 1e-4
    images = [read_rgb(file) for file in run.files]
    expected = run.classifier.answer(images, [file.name for file in run.files])
    frames = pixels(run.classifier.frames(images, [file.name for file in run.files]).array, "cpu").numpy()
    session = onnxruntime.InferenceSession(tmp_path / "m.onnx")
    given = {"frame": frames, "boxes": expected.boxes.astype(np.float32)}
    found = session.run(["probability"], {each.name: given[each.name] for each in session.get_inputs()})[0]
    assert np.allclose(found, expected.fused.numpy(), atol=1e-4)
