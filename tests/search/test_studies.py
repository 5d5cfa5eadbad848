"""Studies: what they compare by hand, what they refuse, and a real one on drawn birds."""

import csv
import json
import signal
from functools import partial

import numpy as np
import pytest
from rich.console import Console

from fgmodel.analysis.claim import measure_areas
from search.errors import InputError, Problems
from search.record.history import load
from search.record.home import Home
from search.record.journal import OpenedTest, read
from search.space.file import read_space
from search.studies.curves import curves_figure
from search.studies.run_study import run_study
from search.studies.study import Row, _claim, _verdict, find_study, mcnemar, on_data, only, read_study
from tests.lab import Lab
from tests.search.conftest import SPACES

STUDIES = sorted((SPACES / "thesis").glob("*.yaml"))
TINY = {
    "data.finches_per_species": 8, "data.frame_size": 96, "data.image_size": 64, "data.patch_size": 64, "data.patches_per_image": 2,
    "data.patches": "parts", "model.global_backbone": "efficientnet_lite0", "model.local_backbone": "efficientnet_lite0",
    "model.freeze_backbones": "true", "model.hidden_size": 16, "search.resources.gpu": 0, "search.resources.cpu": 1,
}  # fmt: skip


def test_mcnemar_is_the_exact_binomial_of_the_images_only_one_tells_right() -> None:
    # nine images differ, eight of them told right by the first only: 2 (C(9,0) + C(9,1)) / 2^9 = 20/512
    mine = np.array([True] * 8 + [False] + [True] * 5 + [False] * 3)
    theirs = np.array([False] * 8 + [True] + [True] * 5 + [False] * 3)
    assert mcnemar(mine, theirs) == pytest.approx(20 / 512)
    assert mcnemar(mine, mine) == 1.0


@pytest.mark.parametrize("path", STUDIES, ids=lambda path: path.stem)
def test_every_study_we_ship_is_valid_and_trains_only_what_it_shows(path) -> None:
    study, space = read_study(path), read_space(path)
    assert space.search.final
    assert space.search.seeds == 3
    shown = {row.of or name for name, row in study.rows.items()}
    assert shown == set(space.rows)


@pytest.mark.parametrize("path", STUDIES, ids=lambda path: path.stem)
def test_a_study_on_finches_needs_no_gpu_no_second_core_and_no_download(path) -> None:
    space = read_space(path, [*on_data("finches"), "model.freeze_backbones=true"])
    assert (space.search.resources.cpu, space.search.resources.gpu) == (1, 0)
    model = space.config(space.reference()).model
    assert model.global_backbone == model.local_backbone == "efficientnet_lite0"  # its weights are a package of ours


@pytest.mark.parametrize(("setting", "said"), [
    pytest.param("data.patch_size=128", "4x4 cells in 'efficientnet_lite0', too coarse", id="coarse"),
    pytest.param("model.freeze_backbones=false", "drawn on frozen trunks only", id="trained end to end"),
])
def test_maps_that_cannot_be_drawn_are_refused_before_anything_is_trained(setting, said, tmp_path) -> None:
    home = Home(tmp_path)
    with pytest.raises(InputError, match=said):
        run_study("figures-5", "finches", [setting], None, home, pytest.fail, Console(quiet=True), as_json=False)
    assert not home.names()


def test_table_6_2_holds_the_published_sums() -> None:
    study = read_study(find_study("table-6.2"))
    sums = [study.rows[f"sum of steps 1 to {k}"].published for k in range(1, 11)]
    assert sums == [78.90, 78.78, 79.18, 78.75, 77.04, 75.32, 72.97, 71.01, 69.21, 67.64]  # thesis.md §5


def test_the_variants_of_table_6_1_are_the_thesis() -> None:
    space = read_space(find_study("table-6.1"))
    configs = {name[0]: space.config(space.listed(k)[1]) for k, name in list(enumerate(space.rows))[:4]}
    assert [configs[row].model.local_stream for row in "abcd"] == ["none", "trunk", "lstm", "lstm"]
    assert configs["c"].loss.every_step
    assert (configs["c"].model.attention, configs["d"].model.attention) == ("last", "per_step")


def test_a_row_leaves_out_what_its_variant_does_not_have(tmp_path) -> None:
    space = read_space(find_study("table-6.1"), ["model.hidden_size=64", "optim.lr_local=0.1"])
    first, last = (space.config(space.listed(k)[1]) for k in (0, 4))
    assert (first.model.hidden_size, last.model.hidden_size) == (512, 64)
    assert (first.optim.lr_local, last.optim.lr_local) == (0.01, 0.1)


@pytest.mark.parametrize(("difference", "p", "claim"), [
    pytest.param(2.0, 0.01, "holds", id="the thesis' way"),
    pytest.param(-2.0, 0.01, "contrary", id="the other way"),
    pytest.param(1.0, 0.2, "not decided", id="noise"),
    pytest.param(-1.5, 0.2, "does not hold", id="noise, and the published 2 points are further than that"),
])  # fmt: skip
def test_a_claim_holds_only_where_the_difference_is_the_thesis_way_and_no_noise(difference, p, claim) -> None:
    rows = read_study(find_study("table-5.1")).rows
    assert _claim(rows["both streams"], rows["global stream only"], difference, p, 3.0) == claim


@pytest.mark.parametrize(("ours", "verdict"), [
    pytest.param(79.0, "reproduced (within ±1.1)", id="within two standard errors of 5,794 images"),
    pytest.param(78.0, "not reproduced (beyond ±1.1)", id="beyond"),
])  # fmt: skip
def test_a_number_is_reproduced_within_two_standard_errors(ours, verdict) -> None:
    rows = read_study(find_study("table-5.1")).rows
    assert _verdict(rows["both streams"], (ours, ours), 5794, "") == verdict  # thesis.md §5: ±1.1 points on CUB


def test_an_unknown_study_is_told_with_the_nearest() -> None:
    with pytest.raises(InputError, match=r"'table-51' is no study; did you mean 'table-5.1'\?"):
        find_study("table-51")


def test_a_study_of_rows_that_are_not_there_is_refused(tmp_path) -> None:
    text = find_study("table-5.1").read_text().replace("against: global stream only", "against: nothing")
    (tmp_path / "mine.yaml").write_text(text)
    with pytest.raises(Problems, match=r"mine.yaml:9: 'against': 'nothing' is no row of the study"):
        read_study(tmp_path / "mine.yaml")


def test_the_layout_of_a_folder_is_recognised(tiny_cub, folders) -> None:
    assert on_data(str(tiny_cub)) == ["data.dataset=cub", f"data.root={tiny_cub}"]
    assert on_data(str(folders)) == ["data.dataset=folders", f"data.root={folders}"]


@pytest.mark.slow
def test_a_study_opens_test_once_a_trial_and_shows_our_numbers_beside_the_published_ones(tmp_path) -> None:
    lab = Lab(tmp_path / "lab")
    words = ("study", "table-6.2", "--data", "finches", "--epochs", "2", "--seeds", "2", *(w for k, v in TINY.items() for w in ("--set", f"{k}={v}")))
    said = lab.run(*words)
    assert "Table 6.2" in said
    assert "not comparable: 24 test images, not 5794" in said
    folder = lab.folder / "fgsearch-home" / "searches" / "table-6.2"
    facts = read(folder / "journal.jsonl")
    openings = [fact for fact in facts if isinstance(fact, OpenedTest)]
    assert sorted(o.trial for o in openings) == list(range(12))
    history = load(folder / "journal.jsonl")
    with (folder / "table.csv").open() as file:
        table = {row["row"]: row for row in csv.DictReader(file)}
    attention = [t.at(2, "test/accuracy") for t in history.trials.values() if t.by == "attention"]
    assert float(table["attention"]["mean"]) == pytest.approx(100 * np.mean(attention), abs=0.01)
    assert float(table["sum of steps 1 to 10"]["published"]) == 67.64
    again = lab.run(*words, "--json")
    assert len(json.JSONDecoder().raw_decode(again[again.index("{"):])[0]["rows"]) == 29
    assert len(read(folder / "journal.jsonl")) == len(facts)


@pytest.mark.slow
def test_a_study_with_maps_draws_where_the_steps_look_and_answers_whether_ever_finer(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("search.studies.maps.measure_areas", partial(measure_areas, draws=3))   # of 40: how many is tests/fgmodel/test_claim.py's matter
    lab, settings = Lab(tmp_path / "lab"), TINY | {"data.patch_size": 224, "search.seeds": 1, "search.epochs": 1}
    words = ("study", "chapter-7", "--data", "finches", *(w for k, v in settings.items() for w in ("--set", f"{k}={v}")))
    said = lab.run(*words)
    assert "self-attention-between-steps: is attention ever finer?" in said
    folder = lab.folder / "fgsearch-home" / "searches" / "chapter-7" / "figures"
    grids = {path.name for path in folder.glob("self-attention-between-steps-*")}
    kinds = ("alpha-by-class.csv", "attention.png", "fineness.png", "heatmaps.png", "steps.png", "weights.png")
    assert grids == {f"self-attention-between-steps-{kind}" for kind in kinds}
    assert not (folder / "without-self-attention-attention.png").exists()
    text = (folder / "without-self-attention.txt").read_text()
    assert "Attention on 24 images" in text
    with (folder / "without-self-attention-alpha-by-class.csv").open() as file:
        weights = [[float(value) for key, value in row.items() if key != "class"] for row in csv.DictReader(file)]
    assert np.allclose(np.sum(weights, axis=1), 1, atol=1e-3)
    logged = {path.name for path in (lab.folder / "fgsearch-home" / "artifacts").rglob("*")}
    assert {"table.csv", "without-self-attention-heatmaps.png"} <= logged


@pytest.mark.slow
def test_a_study_stopped_by_ctrl_c_says_so_draws_nothing_and_goes_on(tmp_path) -> None:
    lab, settings = Lab(tmp_path / "lab"), TINY | {"data.patch_size": 224, "search.epochs": 40}
    words = ("study", "figure-6.2", "--data", "finches", *(w for k, v in settings.items() for w in ("--set", f"{k}={v}")))
    process = lab.start(*words, "--name", "tiny", "--inline")
    lab.wait_for_reports(process, 1)
    process.send_signal(signal.SIGINT)
    said, _ = process.communicate(timeout=100)
    assert process.returncode == 130, said
    assert "stopped; everything reported is kept, and the same command goes on" in said
    assert "Traceback" not in said
    assert not (lab.folder / "fgsearch-home" / "searches" / "tiny" / "figures").exists()


def test_only_some_rows_are_trained_with_what_is_read_off_them_and_compared_where_the_other_is_there() -> None:
    path = find_study("table-6.1")
    study, space = only(["a global stream only", "d attention"], read_study(path), read_space(path))
    assert list(space.rows) == list(study.rows) == ["a global stream only", "d attention"]
    assert study.rows["d attention"].against is None
    assert space.search.trials == 6
    with pytest.raises(InputError, match=r"'d atention' is no row of table-6\.1; did you mean 'd attention'"):
        only(["d atention"], study, space)


def test_curves_by_time_step_are_the_rows_that_read_a_step_with_the_published_ones_beside() -> None:
    study = read_study(find_study("table-6.2"))
    rows = [Row(name, said.published, (70.0, 72.0), 5794, None, None, None, "", "", "") for name, said in study.rows.items()]
    axes = curves_figure(study, rows).axes[0]
    lines = {line.get_label(): line.get_ydata() for line in axes.lines}
    assert list(lines["attention: sum of steps 1 to t, ours"]) == [71] * 10
    assert lines["sum of steps 1 to t, thesis"][-1] == 67.64
    assert sum("thesis" in label for label in lines) == 1


def test_a_study_without_rows_by_time_step_has_no_curves() -> None:
    study = read_study(find_study("table-5.1"))
    rows = [Row(name, None, (70.0,), 5794, None, None, None, "", "", "") for name in study.rows]
    assert curves_figure(study, rows) is None
