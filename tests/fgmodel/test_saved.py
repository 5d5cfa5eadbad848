"""A model file is enough by itself: it answers as the run it was kept from did on test, without the data."""

import json
import shutil

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from fgmodel.cache import Frames
from fgmodel.config import TrialConfig
from fgmodel.data.boxes_file import read_patches, write_patches
from fgmodel.data.datasets import open_dataset
from fgmodel.data.images import read_rgb
from fgmodel.errors import InputError
from fgmodel.extraction.finder import finder
from fgmodel.prepare import extraction_trunk
from fgmodel.use.saved import read_model, save_model
from tests.models import SMALL, pets, trained

TRIED = {"search": "pets", "trial": 3, "seed": 0, "epochs": 2}


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    """Return a model's file and the run it is of; what it was trained on is gone."""
    place = tmp_path_factory.mktemp("kept")
    run = trained(pets(place / "pets"), place / "cache", data__patches="ddt")
    save_model(place / "model.safetensors", run.classifier, TRIED, {"test/accuracy": 0.5})
    shutil.rmtree(place / "cache")
    return place / "model.safetensors", run


def answers(saved, run):
    return saved.classifier.answer([read_rgb(file) for file in run.files], [file.name for file in run.files])


def nll(probabilities, labels):
    return -probabilities[torch.arange(len(labels)), torch.tensor(labels)].log().mean().item()


def test_it_answers_as_the_run_did_on_test(kept):
    path, run = kept
    expected, found = run.run.test(run.test), answers(read_model(path), run)
    assert np.array_equal(found.fused.argmax(dim=1), expected.predictions)
    assert np.array_equal(found.global_stream.argmax(dim=1), expected.predictions_global)
    assert np.array_equal(found.local_stream.argmax(dim=1), expected.predictions_local)
    assert nll(found.fused, run.test.labels) == pytest.approx(expected.nll, abs=1e-4)


@pytest.mark.slow
def test_boxes_of_new_images_are_those_of_the_test_split(kept):
    path, run = kept
    assert np.array_equal(answers(read_model(path), run).boxes, run.test.boxes)


@pytest.mark.slow
def test_it_says_what_it_is(kept):
    about = read_model(kept[0]).about
    assert about.classes == ("cat", "dog")
    assert about.trained == TRIED
    assert about.settings["data.root"] == ""
    assert about.boxes.model_dump() == {"method": "ddt", "instead_of": None, "scale": 1.5}   # thesis.md §9


def test_trunks_that_are_the_same_are_kept_once(kept):
    about = read_model(kept[0]).about
    assert about.trunks["global"] == about.trunks["local"] == about.trunks["boxes"]   # ddt reads the last map, too
    assert kept[0].stat().st_size < 20e6                                              # Lite0 is 13.5 MB without its head


@pytest.mark.slow
@pytest.mark.parametrize("changed", [
    pytest.param({"model__freeze_backbones": False, "data__patches": "grid"}, id="trained end to end"),
    pytest.param({"model__local_stream": "none", "model__hidden_size": None, "model__time_steps": None}, id="no local stream"),
    pytest.param({"data__evaluation_patches": "top1"}, id="the best patch alone"),
    pytest.param({"model__spatial_attention": "between_steps", "model__fusion": "probs"}, id="spatial attention"),
    pytest.param({"data__patches": "cam"}, id="a method with a head"),
])
def test_every_kind_of_model_answers_as_its_run_did(changed, tmp_path):
    run = trained(pets(tmp_path / "pets"), tmp_path / "cache", **changed)
    save_model(tmp_path / "model.safetensors", run.classifier, TRIED, {})
    expected, found = run.run.test(run.test), answers(read_model(tmp_path / "model.safetensors"), run)
    assert nll(found.fused, run.test.labels) == pytest.approx(expected.nll, abs=2e-3)   # maps were kept in half precision


# --- boxes a new image cannot have ------------------------------------------------------------------------------------

def test_true_parts_of_drawn_birds_are_replaced_by_peaks(tmp_path):
    config = TrialConfig.from_settings({"data.dataset": "finches", "data.finches_per_species": 8, "data.patches": "parts",
                                        "model.local_backbone": "efficientnet_lite0"})
    dataset = open_dataset(config.data, tmp_path)
    found = finder(config, dataset, Frames(dataset, "train", 64, tmp_path), extraction_trunk(config))
    assert (found.method, found.instead_of, found.scale) == ("peaks", "parts", 1.8)     # thesis.md §9
    assert found.said() == "found by peaks; the model was trained and tested on boxes of parts"


@pytest.mark.slow
@pytest.mark.parametrize(("made_by", "method"), [("grid", "grid"), ("released", "ddt")])
def test_boxes_of_a_file_are_replaced_by_the_method_that_made_it_or_ddt(made_by, method, tmp_path):
    from dataclasses import replace

    root = pets(tmp_path / "pets")
    config = TrialConfig.from_settings(SMALL | {"data.root": str(root), "data.patches": str(tmp_path)})
    dataset = open_dataset(config.data, tmp_path / "cache")
    train = Frames(dataset, "train", 64, tmp_path / "cache")
    from fgmodel.extraction import extract

    boxes = replace(extract("grid", train, train, extraction_trunk(config), 2), method=made_by)
    write_patches(tmp_path / "train.npz", boxes, train.names, "")
    assert read_patches(tmp_path / "train.npz", train.names).method == made_by
    assert finder(config, dataset, train, extraction_trunk(config)).method == method


# --- files that are none ----------------------------------------------------------------------------------------------

def rewritten(path, to, change):
    with safe_open(path, framework="pt") as file:
        about, tensors = json.loads(file.metadata()["model"]), {n: file.get_tensor(n) for n in file.keys()}  # noqa: SIM118
    change(about, tensors)
    save_file(tensors, to, {"model": json.dumps(about)})


@pytest.mark.parametrize(("change", "said"), [
    pytest.param(lambda about, _: about["classes"].append("cow"), "its tensors are not those of 3 classes", id="a class too many"),
    pytest.param(lambda about, _: about.update(format=9), "a model in format 9; this version reads 1", id="a later format"),
    pytest.param(lambda about, _: about["settings"].update({"loss.margin": 7.0}), "'loss.margin': 7.0 is wrong", id="a setting"),
    pytest.param(lambda about, _: about["boxes"].update(method="dtd"), "'dtd', that is none", id="a method that is none"),
    pytest.param(lambda about, _: about.pop("classes"), "its header is not that of a model", id="no classes"),
    pytest.param(lambda _, tensors: tensors.pop("model/global_stream.head.bias"), "not those of 2 classes", id="a tensor less"),
    pytest.param(lambda about, _: about["trunks"].update({"global": "x"}), "not those of the global trunk", id="another trunk"),
])  # fmt: skip
def test_a_file_changed_by_hand_is_refused_in_one_line(change, said, kept, tmp_path):
    rewritten(kept[0], tmp_path / "m.safetensors", change)
    with pytest.raises(InputError) as error:
        read_model(tmp_path / "m.safetensors")
    assert said in str(error.value)
    assert "\n" not in str(error.value)


def test_a_checkpoint_is_no_model(kept, tmp_path):
    kept[1].run.save(tmp_path / "seed0.safetensors")
    with pytest.raises(InputError, match=r"is a run's checkpoint, no model; fgsearch retrain writes model\.safetensors"):
        read_model(tmp_path / "seed0.safetensors")


def test_a_damaged_file_is_refused(kept, tmp_path):
    (tmp_path / "m.safetensors").write_bytes(kept[0].read_bytes()[:5000])
    with pytest.raises(InputError, match="is no readable model file"):
        read_model(tmp_path / "m.safetensors")
