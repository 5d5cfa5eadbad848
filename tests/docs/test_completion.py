"""TAB in the shell knows the commands."""

import os
import subprocess
from pathlib import Path

from tests.search.test_search import FGSEARCH


def test_completion_is_installed_into_the_home_and_completes(tmp_path) -> None:
    environment = {**os.environ, "HOME": str(tmp_path), "SHELL": "/bin/bash", "_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"}
    said = subprocess.run([FGSEARCH, "--install-completion", "bash"], env=environment, capture_output=True, text=True, check=True)
    assert "bash completion installed" in said.stdout
    script = next(tmp_path.glob(".bash_completions/fgsearch.sh"))
    assert str(script) in (tmp_path / ".bashrc").read_text()
    asked = f"source {script}; COMP_WORDS=(fgsearch la) COMP_CWORD=1; _fgsearch_completion; echo ${{COMPREPLY[@]}}"
    path = f"{Path(FGSEARCH).parent}:{os.environ['PATH']}"
    found = subprocess.run(["bash", "-c", asked], env={**environment, "PATH": path}, capture_output=True, text=True, check=True)
    assert found.stdout.split() == ["launch"]
