"""TAB in the shell knows the commands."""

import os
import subprocess
from pathlib import Path

from tests.search.test_search import FGSEARCH

PRESSED = 'source "$HOME"/.bash_completions/fgsearch.sh; COMP_WORDS=(fgsearch la) COMP_CWORD=1; _fgsearch_completion fgsearch'


def test_completion_is_installed_into_the_home_and_completes(tmp_path) -> None:
    path = f"{Path(FGSEARCH).parent}:{os.environ['PATH']}"
    environment = {**os.environ, "HOME": str(tmp_path), "SHELL": "/bin/bash", "PATH": path}

    def bash(line: str) -> str:
        return subprocess.run(["bash", "-c", line], env=environment, capture_output=True, text=True, check=True).stdout

    assert "bash completion installed" in bash("fgsearch --install-completion; true")   # it asks which shell started it
    assert str(tmp_path / ".bash_completions" / "fgsearch.sh") in (tmp_path / ".bashrc").read_text()
    assert bash(f'{PRESSED}; echo "${{COMPREPLY[@]}}"').split() == ["launch"]
