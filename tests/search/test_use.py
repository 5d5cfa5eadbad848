"""`fgsearch predict` and `explain` on a small model: what they say, and one line for each mistake."""

import csv
import io
import json
import shutil

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from fgmodel.use.saved import save_model
from search.models.predict import BATCH, Prediction, predictions, table
from tests.models import pets, trained


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """Return the folder of a model in a home, and the run it is of."""
    home = tmp_path_factory.mktemp("home")
    run = trained(pets(home / "pets"), home / "cache")
    folder = home / "models" / "pets-3"
    folder.mkdir(parents=True)
    save_model(folder / "model.safetensors", run.classifier, {"search": "pets", "trial": 3, "seed": 0, "epochs": 2}, {})
    return folder, run


@pytest.mark.slow
def test_json_csv_and_the_run_itself_agree(model, fgsearch):
    folder, run = model
    expected = run.run.test(run.test)
    status, said, _ = fgsearch("predict", folder, *run.files, "--json")
    told = json.loads(said)
    assert status == 0
    assert [each["class"] for each in told["images"]] == [("cat", "dog")[k] for k in expected.predictions]
    assert [each["local"]["class"] for each in told["images"]] == [("cat", "dog")[k] for k in expected.predictions_local]
    rows = list(csv.DictReader(io.StringIO(fgsearch("predict", folder, *run.files, "--csv")[1])))
    assert [float(row["probability"]) for row in rows] == [each["probability"] for each in told["images"]]
    assert [row["image"] for row in rows] == list(map(str, run.files))


def test_probabilities_of_two_classes_sum_to_one_and_boxes_lie_on_the_image(model, fgsearch):
    (image,) = json.loads(fgsearch("predict", model[0], model[1].files[0], "--json")[1])["images"]
    assert [each["class"] for each in image["top"]] in (["cat", "dog"], ["dog", "cat"])
    assert sum(each["probability"] for each in image["top"]) == pytest.approx(1)
    assert np.shape(image["boxes"]) == (2, 4)
    assert 0 <= np.min(image["boxes"]) < np.max(image["boxes"]) <= 1


def test_a_person_reads_a_table_and_how_boxes_were_found(model, fgsearch):
    status, said, _ = fgsearch("predict", model[0], model[1].files[0])
    assert status == 0
    assert said.splitlines()[0].split("  ")[0] == "image"
    assert said.splitlines()[-1] == "boxes: found by peaks, as in training"


def test_the_table_names_a_streams_class_only_where_it_is_another():
    one = Prediction("a.png", (("wren", 0.75), ("robin", 0.25)), ("wren", 0.9), ("robin", 0.6), ())
    console = Console(file=io.StringIO(), width=120)
    console.print(table([one]))
    assert console.file.getvalue().splitlines()[1].split() == ["a.png", "wren", "0.750", "agrees", "0.90", "robin", "0.60", "robin", "0.25"]


@pytest.mark.slow
def test_a_folder_is_answered_image_by_image_in_order(model, fgsearch):
    status, said, _ = fgsearch("predict", "pets-3", model[1].files[0].parents[1], "--home", model[0].parents[1], "--csv")
    names = [row["image"] for row in csv.DictReader(io.StringIO(said))]
    assert status == 0
    assert len(names) == 20
    assert names == sorted(names)


@pytest.mark.slow
def test_more_images_than_a_batch_are_each_answered_as_if_alone(model, tmp_path):
    _, run = model
    files = [run.files[k % 4] for k in range(BATCH + 3)]
    (tmp_path / "bad.png").write_text("no image")
    found = list(predictions(run.classifier, [*files[:BATCH], tmp_path / "bad.png", *files[BATCH:]]))
    assert found.pop(BATCH).line == f"{tmp_path / 'bad.png'} is not an image"
    assert all(isinstance(each, Prediction) for each in found)
    for k, each in enumerate(found):
        assert each.image == str(files[k])
        assert each.top[0][1] == pytest.approx(found[k % 4].top[0][1], abs=1e-5)


def test_the_others_are_answered_where_a_file_is_no_image(model, fgsearch, tmp_path):
    (tmp_path / "note.png").write_text("no image")
    shutil.copy(model[1].files[0], tmp_path / "bird.png")
    status, said, wrong = fgsearch("predict", model[0], tmp_path, "--csv")
    assert status == 2
    assert wrong == f"{tmp_path / 'note.png'} is not an image\n"
    assert len(said.splitlines()) == 2


@pytest.mark.slow
@pytest.mark.parametrize(("words", "said"), [
    pytest.param(["predict", "pets-4", "IMAGE"], "'pets-4' is no model; did you mean 'pets-3'?", id="another name"),
    pytest.param(["predict", "zzz", "IMAGE"], "'zzz' is no model; there are pets-3", id="no such name"),
    pytest.param(["predict", "HOME", "IMAGE"], "holds no model.safetensors", id="another folder"),
    pytest.param(["predict", "IMAGE", "IMAGE"], "is no readable model file", id="an image for a model"),
    pytest.param(["predict", "pets-3", "no.png"], "no.png: there is no such file", id="no such image"),
    pytest.param(["predict", "pets-3", "EMPTY"], "this folder holds no image", id="an empty folder"),
    pytest.param(["predict", "pets-3", "IMAGE", "--json", "--csv"], "--json and --csv: give one", id="two formats"),
    pytest.param(["explain", "pets-3", "IMAGE", "--out", "IMAGE/x"], "cannot be written: Not a directory", id="no folder to write to"),
    pytest.param(["export-onnx", "pets-3", "--out", "IMAGE/x.onnx"], "cannot be written", id="no file to write to", marks=pytest.mark.slow),
    pytest.param(["predict", "models:/fgsearch pets", "IMAGE"], "write it as models:/fgsearch-NAME@best", id="no address"),
    pytest.param(["predict", "models:/fgsearch-pets@best", "IMAGE"], "has no model 'fgsearch-pets'; there is none yet", id="no such model"),
])  # fmt: skip
def test_a_mistake_is_one_line_and_status_2(words, said, model, fgsearch, tmp_path):
    (tmp_path / "empty").mkdir()
    shutil.copytree(model[0].parent, tmp_path / "models")
    places = {"IMAGE": str(model[1].files[0]), "HOME": str(tmp_path), "EMPTY": str(tmp_path / "empty")}
    words = [places.get(part, part) for part in words]
    words = [part.replace("IMAGE/", f"{places['IMAGE']}/") for part in words]
    status, out, wrong = fgsearch(*words, "--home", tmp_path)
    assert status == 2
    assert said in wrong
    assert len(wrong.splitlines()) == 1
    assert not out.strip()


# --- explain ----------------------------------------------------------------------------------------------------------

@pytest.mark.slow
def test_an_explanation_is_a_picture_and_a_sentence_for_each_image(model, fgsearch, tmp_path):
    folder, run = model
    status, said, _ = fgsearch("explain", folder, run.files[0], run.files[-1], "--out", tmp_path / "out")
    assert status == 0
    lines = said.splitlines()
    assert len(lines) == 2
    for line, file in zip(lines, (run.files[0], run.files[-1]), strict=True):
        picture = tmp_path / "out" / f"{file.stem}.png"
        assert line.startswith(f"{picture}: ")
        assert " decided" in line
        with Image.open(picture) as drawn:
            assert drawn.width > 900
            assert len(np.unique(np.asarray(drawn.convert("L")))) > 100


@pytest.mark.slow
def test_images_of_the_same_name_do_not_overwrite_each_other(model, fgsearch, tmp_path):
    root = model[1].files[0].parents[1]
    fgsearch("explain", model[0], root / "cat" / "0.png", root / "dog" / "0.png", "--out", tmp_path)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["0-1.png", "0.png"]


@pytest.mark.slow
def test_a_model_without_time_steps_has_none_to_explain(fgsearch, tmp_path):
    run = trained(pets(tmp_path / "pets"), tmp_path / "cache", model__local_stream="trunk", model__hidden_size=None, model__time_steps=None)
    save_model(tmp_path / "m.safetensors", run.classifier, {}, {})
    status, _, wrong = fgsearch("explain", tmp_path / "m.safetensors", run.files[0], "--out", tmp_path / "out")
    assert status == 2
    assert wrong == "model.local_stream: this model's is 'trunk', without time steps to explain\n"
