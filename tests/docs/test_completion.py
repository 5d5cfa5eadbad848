"""TAB in the shell knows the commands, the searches of the home and its models."""

import os
import subprocess
from pathlib import Path

import pytest

from search.record.home import Home
from search.space.file import read_space
from tests.lab import FGSEARCH
from tests.search.made_search import MadeSearch

ROOT = Path(__file__).parents[2]
PRESSES = {
    "fgsearch la": ["launch"],
    "fgsearch status f": ["finches"],
    "fgsearch launch cub": ["cub", "cub-frozen"],
    "fgsearch browse f": ["finches"],
    "fgsearch predict f": ["finches-22"],
    "fgsearch status --home /nowhere f": [],
}

PRESSED = 'source "$HOME"/.bash_completions/fgsearch.sh; COMP_WORDS=({0}) COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1)); _fgsearch_completion fgsearch'


@pytest.mark.slow
def test_completion_is_installed_into_the_home_and_completes(tmp_path) -> None:
    path = f"{Path(FGSEARCH).parent}:{os.environ['PATH']}"
    home = Home(tmp_path / "home")
    MadeSearch(home.journal("finches"), read_space(ROOT / "spaces" / "finches.yaml", [])).journal.close()
    (home.path / "models" / "finches-22").mkdir(parents=True)
    (home.path / "models" / "finches-22" / "model.safetensors").touch()
    (home.path / "models" / "finches-4").mkdir()
    (home.path / "models" / "finches-4" / "seed0.safetensors").touch()   # a retrain that was killed: no model yet
    environment = {**os.environ, "HOME": str(tmp_path), "FGSEARCH_HOME": str(home.path), "SHELL": "/bin/bash", "PATH": path}

    def bash(line: str) -> str:
        return subprocess.run(["bash", "-c", line], env=environment, capture_output=True, text=True, check=True).stdout

    assert "bash completion installed" in bash("fgsearch --install-completion; true")   # it asks which shell started it
    assert str(tmp_path / ".bash_completions" / "fgsearch.sh") in (tmp_path / ".bashrc").read_text()
    for words, offered in PRESSES.items():
        told = bash(PRESSED.format(words) + '; echo "${COMPREPLY[@]}"').split()
        assert told == offered, words
