"""The command line as a user meets it: help with an example everywhere, one clear line and status 2 for every mistake."""

import errno
import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from rich.console import Console
from typer.main import get_command

from search.cli import app
from search.decide.dispatch import Dispatcher
from search.record.journal import Journal, Launched, Opened
from search.space.file import read_space
from search.tracking.browse import show_pages
from tests.lab import SPACE
from tests.search.conftest import SPACES, run_to_end

CUB = SPACE.replace("data.dataset: finches", "data.dataset: cub\n  data.root: birds").replace("  data.finches_per_species: 8\n", "")
FOLDERS = CUB.replace("dataset: cub", "dataset: folders").replace("patches: parts", "patches: peaks")


@pytest.fixture
def here(tmp_path, monkeypatch) -> Path:
    """Return an empty working directory with the tiny space file in it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("FGSEARCH_HOME", raising=False)
    (tmp_path / "tiny.yaml").write_text(SPACE)
    return tmp_path


def searched(here: Path) -> Path:
    """Write the journal of a finished search, as the made-up trainer of these tests would."""
    space = read_space(here / "tiny.yaml")
    path = here / "fgsearch-home" / "searches" / "tiny" / "journal.jsonl"
    with Journal(path) as journal:
        from search.record.history import History

        dispatcher = Dispatcher(space, journal, History(), path.parent / "checkpoints")
        dispatcher.record(Opened(search="tiny", space=space.document(), digest=space.digest()))
        reference = dict(space.config(space.reference()).settings())
        data = {"fingerprint": "sha256:a", "split": "sha256:b", "patches": "sha256:c"}
        dispatcher.record(Launched(trials=6, workers=1, version="0.1.0", commit=None, reference=reference, data=data))
        run_to_end(dispatcher)
        dispatcher.finish("stopped")
    return path


@pytest.mark.parametrize("name", get_command(app).commands)
def test_every_command_has_help_with_an_example(name, fgsearch) -> None:
    status, said, _ = fgsearch(name, "--help")
    assert status == 0
    assert f"Example: fgsearch {name}" in said


def test_the_version_is_told(fgsearch) -> None:
    assert fgsearch("--version")[1].startswith("fgsearch 0.1.0")


def picture(path: Path, size: int = 32) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (size, size), (len(path.name) * 9 % 255, 80, 90)).save(path)


def pets(here: Path, classes: int = 2) -> None:
    (here / "tiny.yaml").write_text(FOLDERS)
    for label in range(classes):
        for number in range(12):
            picture(here / "birds" / f"class{label}" / f"{number}.png")


def released(here: Path, shuffle: bool = False, extra: int = 0, edge: int = 448) -> None:
    """Write two classes of ten train images and boxes in the released format for them, spoilt as asked."""
    pets(here)
    labels = np.repeat([0.0, 1.0], 10)
    rows = np.append(labels[::-1] if shuffle else labels, np.ones(extra))
    np.save(here / "train_patches.npy", np.stack([np.tile([0, edge, 0, edge, label], (10, 1)) for label in rows]).astype(float))


def break_journal(here: Path) -> None:
    path = searched(here)
    path.write_text(path.read_text() + "{}\nx\n")


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:40])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("make", "words", "said"),
    [
        pytest.param(lambda h: None, ("launch", "none.yaml"), "none.yaml: there is no such file", id="no space file"),
        pytest.param(lambda h: None, ("launch", "."), ".: is a folder", id="a folder as space file"),
        pytest.param(lambda h: None, ("launch", "tiny.yaml", "--name", "../x"), "--name '../x': a search's name has", id="a name that leaves the home"),
        pytest.param(lambda h: None, ("launch", "tiny.yaml", "--trials", "0"), "--set: 'search.trials': 0 is wrong", id="no trials"),
        pytest.param(lambda h: None, ("launch", "tiny.yaml", "--set", "search.workers=4000"), "search.resources.cpu: 4000 workers with 1 each do not fit", id="more workers than cores"),
        pytest.param(lambda h: None, ("check", "tiny.yaml", "--set", "search.resources.gpu=99"), "search.resources.gpu: 1 workers with 99 each do not fit", id="more GPUs than there are"),
        pytest.param(lambda h: None, ("check", "tiny.yaml", "--set", "model.local_backbone=resnet3"), "resnet3", id="unknown trunk"),
        pytest.param(lambda h: None, ("check", "tiny.yaml", "--set", "data.patches=nowhere"), "data.patches: 'nowhere' is neither a file, nor a folder, nor one of", id="no patch file"),
        pytest.param(lambda h: (h / "tiny.yaml").write_text(CUB), ("check", "tiny.yaml"), "birds", id="data root missing"),
        pytest.param(lambda h: ((h / "tiny.yaml").write_text(CUB), (h / "birds").mkdir()), ("check", "tiny.yaml"), "images.txt", id="not a CUB folder"),
        pytest.param(lambda h: pets(h, classes=1), ("check", "tiny.yaml"), "class", id="one class only"),
        pytest.param(lambda h: (pets(h), (h / "birds" / "class2").mkdir()), ("check", "tiny.yaml"), "class2", id="an empty class"),
        pytest.param(lambda h: (pets(h), truncate(h / "birds" / "class1" / "7.png")), ("launch", "tiny.yaml"), "class1/7.png", id="a truncated image"),
        pytest.param(lambda h: (pets(h), (h / "birds" / "class0" / "3.png").write_bytes(b"hello")), ("launch", "tiny.yaml"), "class0/3.png", id="an image that is none"),
        pytest.param(lambda h: (pets(h), picture(h / "birds" / "class0" / "1.png", 1)), ("launch", "tiny.yaml"), "class0/1.png", id="an image of one pixel"),
        pytest.param(lambda h: released(h, shuffle=True), ("check", "tiny.yaml", "--set", "data.patches=train_patches.npy"), "train_patches.npy: row 0 is of class 'class1', the data set's image of 'class0'", id="a shuffled patch file"),
        pytest.param(lambda h: released(h, extra=3), ("check", "tiny.yaml", "--set", "data.patches=train_patches.npy"), "train_patches.npy holds 23 images, the data set's split 20: it is of other data", id="patches of another data set"),
        pytest.param(lambda h: released(h, edge=449), ("check", "tiny.yaml", "--set", "data.patches=train_patches.npy"), "train_patches.npy: row 0, box 0: x 0..449, y 0..449 is empty or outside the 448x448 frame", id="a box outside the frame"),
        pytest.param(lambda h: None, ("status", "finchs"), "holds no search 'finchs'; there is none yet", id="no search at all"),
        pytest.param(searched, ("status", "tyni"), "holds no search 'tyni'; did you mean 'tiny'?", id="a search misspelt"),
        pytest.param(searched, ("export", "tiny", "--trial", "77"), "search 'tiny' has no trial #77; it has #0 to #5", id="no such trial"),
        pytest.param(searched, ("export", "tiny", "--out", "no/best.yaml"), "no/best.yaml: cannot be written: No such file or directory", id="no such folder to write to"),
        pytest.param(searched, ("export", "tiny", "--out", "/dev/full/best.yaml"), "/dev/full/best.yaml: cannot be written", id="a file as folder"),
        pytest.param(lambda h: searched(h).write_text("hello\n"), ("status", "tiny"), "journal.jsonl:1: is not a line of a search's journal", id="a foreign journal"),
        pytest.param(break_journal, ("launch", "tiny.yaml"), "is not a line of a search's journal", id="a broken journal"),
        pytest.param(searched, ("launch", "tiny.yaml", "--set", "loss.margin=0.1"), "search 'tiny' belongs to another space", id="a name taken by another space"),
        pytest.param(searched, ("export", "tiny", "--bundle", "no/best.zip"), "the images are not those of the search", id="a bundle of other images"),
        pytest.param(searched, ("export", "tyni", "--optuna", "search.db"), "holds no search 'tyni'; did you mean 'tiny'?", id="an Optuna storage of a search misspelt"),
        pytest.param(searched, ("export", "tiny", "--optuna", "/proc/search.db"), "/proc/search.db: cannot be written", id="a storage where nothing can be written"),
        pytest.param(lambda h: (h / "best.zip").write_text("x"), ("retrain", "best.zip"), "best.zip: is no whole zip file", id="a bundle that is no zip"),
        pytest.param(lambda h: (h / "best").mkdir(), ("retrain", "best"), "best: is a folder without manifest.json", id="a bundle that is any folder"),
        pytest.param(lambda h: None, ("retrain", "best.zip", "--ship"), "--ship: is for a job, with --address http://HEAD:8265", id="code shipped nowhere"),
        pytest.param(lambda h: None, ("retrain", "best.zip", "--address", "auto"), "--address auto: a retrain is a job on a cluster", id="a retrain driven from here"),
        pytest.param(searched, ("retrain", "tiny.yaml"), "is this a file of fgsearch export?", id="a space file for a bundle"),
        pytest.param(lambda h: None, ("launch", "tiny.yaml", "--home", "tiny.yaml"), "tiny.yaml", id="a file for a home"),
        pytest.param(lambda h: None, ("launch", "tiny.yaml", "--tracking-uri", "gopher://x"), "gopher", id="a tracking address that is none"),
    ],
)
def test_a_mistake_is_one_clear_line_and_status_two(make, words, said, here, fgsearch) -> None:
    make(here)
    status, _, errors = fgsearch(*words)
    assert status == 2
    assert said in errors
    assert "Traceback" not in errors
    lines = errors.strip().splitlines()
    assert len(lines) == 1 or lines[-1].endswith("nothing was started.")


def test_a_half_written_last_line_of_a_journal_is_no_error(here, fgsearch) -> None:
    path = searched(here)
    before = fgsearch("status", "tiny", "--json")
    with path.open("a") as file:
        file.write('{"fact": "rep')
    assert fgsearch("status", "tiny", "--json") == before


@pytest.mark.slow
def test_bad_images_are_left_out_when_asked(here, fgsearch) -> None:
    pets(here)
    words = ("check", "tiny.yaml", "--json", "--set", "data.bad_images=skip")
    whole = json.loads(fgsearch(*words)[1])["data"]["images"]
    truncate(here / "birds" / "class1" / "7.png")
    status, said, _ = fgsearch(*words)
    assert status == 0
    assert (whole, json.loads(said)["data"]["images"]) == (20, 19)  # of 12 + 12, two a class are for testing


@pytest.mark.slow
def test_check_starts_nothing_and_forecasts(here, fgsearch) -> None:
    status, said, _ = fgsearch("check", "tiny.yaml", "--json")
    told = json.loads(said)
    assert status == 0
    assert told["settings"]["loss.lambda_rank"] == 0.5
    assert told["forecast"]["epochs"] >= 6
    assert told["forecast"]["seconds"] > 0
    assert not (here / "fgsearch-home" / "searches").exists()


def test_an_export_is_what_the_journal_says_and_survives_a_round_trip(here, fgsearch) -> None:
    from search.decide.asha import Ladder
    from search.export.bundle import read_bundle
    from search.record.history import load, space_of

    path = searched(here)
    status, said, _ = fgsearch("export", "tiny")
    assert status == 0
    assert "retrain  fgsearch retrain best.yaml" in said
    history, bundle = load(path), read_bundle(here / "best.yaml")
    best = Ladder(space_of(history).search).leader(history)
    assert bundle.origin.trial == best.number
    assert bundle.config() == read_space(here / "tiny.yaml").config(best.settings)
    assert bundle.origin.data.fingerprint == "sha256:a"
    assert (here / "best.yaml").read_text().startswith("# best.yaml: trial")


@pytest.mark.slow
def test_browse_names_a_free_port_when_its_own_is_taken(here, fgsearch) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        status, _, errors = fgsearch("browse", "--port", str(port))
    assert (status, errors.strip()) == (2, f"port {port} is in use; try: fgsearch browse --port {port + 1}")


@pytest.mark.slow
def test_browse_says_when_a_port_is_not_ours_to_open(here, fgsearch, monkeypatch) -> None:
    class Refusing(socket.socket):
        def bind(self, _):
            raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr("search.tracking.browse.socket.socket", Refusing)
    status, _, errors = fgsearch("browse", "--port", "80")
    assert (status, errors.strip()) == (2, "port 80 cannot be used: Permission denied; try: fgsearch browse --port ANOTHER")


@pytest.mark.slow
@pytest.mark.parametrize(("name", "remedy"), [
    pytest.param("tine", "holds no search 'tine'; did you mean 'tiny'?", id="no such search"),
    pytest.param("tiny", "does not have search 'tiny' yet; launching the same name again writes it", id="a search that MLflow lacks"),
])
def test_browse_names_the_search_it_cannot_open(here, fgsearch, name, remedy) -> None:
    searched(here)
    status, _, errors = fgsearch("browse", name)
    assert status == 2
    assert remedy in errors
    assert errors.count("\n") == 1


@pytest.mark.parametrize("screen", [pytest.param({}, id="no screen"), pytest.param({"DISPLAY": ":9"}, id="no browser")])
def test_without_a_browser_the_pages_addresses_are_said_with_the_way_there(capsys, monkeypatch, screen) -> None:
    for name in ("BROWSER", "DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    for name, value in screen.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("search.tracking.browse.webbrowser.open", lambda _: False)
    monkeypatch.setattr("search.tracking.browse.sys.platform", "linux")
    console = Console(width=100)
    show_pages("http://127.0.0.1:5000", console, {"tiny": "#/experiments/1/runs/a", "trials": "#/b"}, show=True)
    first, second, third = capsys.readouterr().out.splitlines()
    assert first == "  tiny    http://127.0.0.1:5000/#/experiments/1/runs/a"
    assert second == "  trials  http://127.0.0.1:5000/#/b"
    assert third.startswith("no browser can be opened here; from another machine: ssh -L 5000:127.0.0.1:5000 ")


def test_output_that_has_no_greek_letters_shows_question_marks_and_goes_on(here) -> None:
    searched(here)
    code = "import sys; from search.cli import main; sys.argv = ['fgsearch', 'status', 'tiny']; main()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False, env={**os.environ, "PYTHONIOENCODING": "ascii"})
    assert (done.returncode, done.stderr) == (0, b"")
    assert b"? over t" in done.stdout


def test_help_and_version_do_not_load_the_heavy_libraries() -> None:
    code = "import sys, search.cli; print(sorted({'torch', 'ray', 'mlflow', 'optuna', 'timm'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_shipped_spaces_are_in_the_readme() -> None:
    readme = (SPACES.parent / "README.md").read_text()
    for path in SPACES.glob("*.yaml"):
        assert path.name in readme


def test_brackets_in_a_name_are_no_markup(here, fgsearch, monkeypatch) -> None:
    (here / "birds [old]").mkdir()
    monkeypatch.chdir(here / "birds [old]")
    _, said, _ = fgsearch("list")
    assert said.startswith(f"{here}/birds [old]/fgsearch-home holds no search yet")


def test_the_optuna_storage_is_followed_by_what_opens_it(here, fgsearch) -> None:
    searched(here)
    status, said, _ = fgsearch("export", "tiny", "--optuna", "search.db")
    assert status == 0
    assert said.splitlines()[-1] == "  open     optuna-dashboard sqlite:///search.db    pip install 'fgsearch[dashboard]'"
