"""The wheel that is built from this tree holds all that the program needs, and runs where there is no checkout."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from zipfile import ZipFile

import pytest

ROOT = Path(__file__).parents[1]
PARTS = ("search", "cluster", "fgmodel", "spaces")
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a wheel built with what is installed, of a copy: building leaves its own folders behind."""
    tree, made = tmp_path_factory.mktemp("tree"), tmp_path_factory.mktemp("made")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tree)
    for part in PARTS:
        shutil.copytree(ROOT / part, tree / part, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
    pip = [sys.executable, "-m", "pip", "wheel", str(tree), "--no-deps", "--no-build-isolation", "--no-index", "--wheel-dir", str(made)]
    done = subprocess.run(pip, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return next(made.glob("fgsearch-*.whl"))


@pytest.fixture(scope="module")
def unpacked(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site-packages")
    with ZipFile(wheel) as file:
        file.extractall(folder)
    return folder


@pytest.fixture
def python(unpacked: Path, tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Return a function that runs Python in an empty folder, with the wheel's modules before those of the checkout."""
    environment = {**os.environ, "PYTHONPATH": str(unpacked), "HOME": str(tmp_path), "FGSEARCH_HOME": "", "OMP_NUM_THREADS": "1"}

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, *words]
        return subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300, check=False)

    return run


def test_a_wheel_holds_every_file_of_the_sources_and_the_spaces_beneath_them(wheel) -> None:
    git = ["git", "-C", str(ROOT), "ls-files", "--cached", "--others", "--exclude-standard", *PARTS]
    listed = subprocess.run(git, capture_output=True, text=True, check=False)
    if listed.returncode:
        pytest.skip("not a git checkout: nobody knows which files there should be")
    wanted = {name.replace("spaces/", "search/shipped/", 1) if name.startswith("spaces/") else name for name in listed.stdout.split()}
    with ZipFile(wheel) as file:
        held = {name for name in file.namelist() if ".dist-info/" not in name}
    assert held == wanted - {"search/shipped"}   # the link itself
    assert {"search/shipped/finches.yaml", "search/report/page.html", "cluster/mlflow_app.py"} <= held


def test_the_unpacked_wheel_checks_a_shipped_space_by_name_in_another_folder(python, unpacked) -> None:
    where = python("-c", "import search, cluster, fgmodel; print(search.__file__, cluster.__file__, fgmodel.__file__)")
    assert where.stdout.split() == [str(unpacked / part / "__init__.py") for part in ("search", "cluster", "fgmodel")]
    done = python("-m", "search.cli", "check", "finches", "--json")
    assert (done.returncode, done.stderr) == (0, "")
    told, golden = json.loads(done.stdout), json.loads((ROOT / "tests" / "golden" / "finches.json").read_text())
    assert told | {"forecast": {"epochs": told["forecast"]["epochs"]}} == golden   # the rest of the forecast is of the hour


def test_the_unpacked_wheel_helps_finds_studies_and_names_its_own_files(python, unpacked) -> None:
    assert "launch" in python("-m", "search.cli", "--help").stdout
    study = python("-c", "from search.studies.study import find_study; print(find_study('table-5.1'))")
    assert study.stdout.strip() == str(unpacked / "search" / "shipped" / "thesis" / "table-5.1.yaml")
    wrong = python("-m", "search.cli", "check", "dogs", "--set", "model.local_stream=none")
    assert wrong.stderr.startswith(f"{unpacked}/search/shipped/dogs.yaml:")
