"""A shipped space means what it meant: a changed default, range or plan is a changed file that a reviewer sees."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from search.space.shipped import shipped
from tests.golden.resolved import FOLDER, as_text, difference, resolved

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_a_changed_default_changes_the_golden_file_of_every_space_that_has_it(tmp_path) -> None:
    for part in ("search", "fgmodel", "cluster", "spaces", "tests/golden"):
        shutil.copytree(ROOT / part, tmp_path / part, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "tests" / "__init__.py").touch()
    for file, default, changed in (
        ("fgmodel/config.py", "weight_decay: float = Field(5e-4,", "weight_decay: float = Field(0.5,"),
        ("search/space/space.py", "retries: int = Field(3,", "retries: int = Field(7,"),
    ):
        text = (tmp_path / file).read_text()
        assert default in text
        (tmp_path / file).write_text(text.replace(default, changed))
    make = subprocess.run([sys.executable, "-m", "tests.golden"], cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(tmp_path)}, capture_output=True, text=True, check=False)
    assert make.returncode == 0, make.stderr
    for name in shipped():
        was, now = (json.loads((folder / f"{name}.json").read_text()) for folder in (FOLDER, tmp_path / "tests" / "golden"))
        assert now["settings"] == was["settings"] | {"optim.weight_decay": 0.5}, name
        assert now["search"] == was["search"] | {"retries": 7}, name


def test_what_changed_is_told_with_its_lines_and_the_command_that_accepts_it() -> None:
    told = difference("cub", as_text({"a": 1, "b": 2, "c": 3, "d": 4}), as_text({"a": 1, "b": 2, "c": 5, "d": 4}))
    assert "'cub' no longer means what it meant" in told
    assert '\n- "c": 3,\n+ "c": 5,\n' in told
    assert "make golden" in told
    assert '"a"' not in told


@pytest.mark.slow
@pytest.mark.parametrize("name", shipped())
def test_a_shipped_space_means_what_it_meant(name, tmp_path) -> None:
    golden = FOLDER / f"{name}.json"
    was, now = golden.read_text() if golden.exists() else "", as_text(resolved(name, tmp_path))
    if was != now:
        pytest.fail(difference(name, was, now), pytrace=False)


def test_every_golden_file_is_of_a_space_that_is_shipped() -> None:
    assert {path.stem for path in FOLDER.glob("*.json")} == shipped().keys()
