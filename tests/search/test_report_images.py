"""The report's pictures of validation images, from a real checkpoint: trunks frozen and trained."""

import io
import os
import shutil
from dataclasses import replace
from datetime import UTC, datetime
from multiprocessing import Pipe, active_children

import numpy as np
import pytest
from PIL import Image

from fgmodel.preparation_forecast import pending
from fgmodel.prepare import prepare
from fgmodel.progress import silent
from fgmodel.training import Run
from search.errors import InputError
from search.record.history import Trial
from search.record.home import Home
from search.report.answers import confusion_parts, heatmap_parts, predicted
from search.report.page import Gallery, Grid, Picture, Words
from search.report.pictures import Pictures, drawing
from search.space.space import Plan, Space
from tests.models import SMALL, pets

TRAINED = SMALL | {
    "model.freeze_backbones": False, "model.global_backbone": "test_resnet", "model.local_backbone": "test_resnet",
    "model.weights": "random", "data.patches": "center",
}


@pytest.fixture(params=[pytest.param(SMALL, id="frozen"), pytest.param(TRAINED, id="end to end")])
def searched(request, tmp_path):
    """A home, its space and the best trial: two epochs of a small model, and its checkpoint."""
    space = Space("pets", "Cats or dogs?", request.param | {"data.root": str(pets(tmp_path / "pets"))}, (), Plan(trials=1, epochs=2, rungs=(2,)))
    home, config = Home(tmp_path / "home"), space.config({})
    run = Run(config, prepare(config, home.cache))
    run.train_epoch()
    run.train_epoch()
    checkpoint = home.checkpoints("pets") / "0" / "epoch2.safetensors"
    checkpoint.parent.mkdir(parents=True)
    run.save(checkpoint)
    trial = Trial(0, {}, "reference", datetime(2026, 11, 22, tzinfo=UTC), rung=2, seconds=4.0, checkpoint=(2, "0/epoch2.safetensors"))
    return home, space, trial, run


def test_the_report_predicts_what_the_run_did_and_tells_who_is_taken_for_whom(searched) -> None:
    home, space, trial, run = searched
    held, (seen, rows) = predicted(space, trial, "pets", home), run.validated()
    assert held.seen.predictions.tolist() == seen.predictions.tolist()
    assert held.rows.tolist() == rows.tolist()
    wrong = int((seen.predictions != seen.labels).sum())
    first = confusion_parts(held)[0]
    if wrong:
        assert isinstance(first, Grid)
        assert first.rows[0][:2] == ["cat and dog", str(wrong)]
        assert any(isinstance(part, Gallery) for part in confusion_parts(held))
    else:
        assert isinstance(first, Words)


def test_heatmaps_show_images_told_right_and_wrong_and_say_how_coarse_they_are(searched) -> None:
    home, space, trial, _ = searched
    held = predicted(space, trial, "pets", home)
    forced = replace(held.seen, predictions=np.where(np.arange(held.seen.n) % 2, held.seen.labels, 1 - held.seen.labels))
    right, wrong = heatmap_parts(replace(held, seen=forced))
    for part, word in ((right, "right"), (wrong, "wrong")):
        assert isinstance(part, Picture)
        assert part.caption.startswith(f"Told {word} by the whole model.")
        assert part.caption.endswith("Maps of 2x2 cells say where a step looks, not how finely.")
        assert Image.open(io.BytesIO(part.data)).width > 300
    assert "taken for" in wrong.said


def test_trunks_that_would_take_long_or_want_a_gpu_are_left_with_the_reason(searched, monkeypatch) -> None:
    home, space, trial, _ = searched
    trial.seconds = 2 * 240.0     # two epochs of four minutes: a quarter of one is 60 s
    if space.fixed["model.freeze_backbones"]:
        predicted(space, trial, "pets", home)
        return
    with pytest.raises(InputError, match="its trunks were trained: predicting again would take about 60 s"):
        predicted(space, trial, "pets", home)
    trial.seconds = 4.0
    monkeypatch.setattr("search.report.answers.best_device", lambda: "cpu")
    on_gpus = replace(space, search=space.search.model_copy(update={"resources": space.search.resources.model_copy(update={"gpu": 1.0})}))
    with pytest.raises(InputError, match="this machine has none to predict again with"):
        predicted(on_gpus, trial, "pets", home)


def test_a_drawing_process_that_is_killed_costs_the_pictures_and_says_so(tmp_path) -> None:
    with drawing(Home(tmp_path), "none", silent) as pictures:
        (child,) = [process for process in active_children() if process.daemon]
        child.kill()
        assert [section.lead for section in pictures.sections()] == ["Not drawn: the process that draws it was ended."] * 2
    assert not child.is_alive()


def test_a_message_cut_short_is_a_drawing_that_was_ended() -> None:
    ours, theirs = Pipe(duplex=False)
    os.write(theirs.fileno(), (1000).to_bytes(4, "big") + b"part")
    theirs.close()
    assert [section.lead for section in Pictures(ours, silent).sections()] == ["Not drawn: the process that draws it was ended."] * 2


def test_frames_that_were_deleted_count_as_pending_though_the_features_are_recorded(searched) -> None:
    home, space, _, _ = searched
    config = space.config({})
    assert pending(config, home.cache) == ()
    shutil.rmtree(home.cache / "frames")
    assert [step.what for step in pending(config, home.cache)][:1] == ["16 images"]
