"""The code of the page on Python runs as it is shown, in its order, as a script of a user's."""

import os
import re
import subprocess
import sys

import pytest

from tests.docs.shown import ROOT
from tests.lab import SPACE

CODE = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)


@pytest.mark.slow
def test_the_code_of_the_page_runs_in_its_order(tmp_path) -> None:
    (tmp_path / "tiny.yaml").write_text(SPACE)
    blocks = CODE.findall((ROOT / "docs" / "python.md").read_text())
    script = "\n".join(blocks).replace('search.launch("finches", name="pilot", trials=8', 'search.launch("tiny.yaml", name="pilot", trials=3')   # seconds, not minutes
    (tmp_path / "script.py").write_text(script)
    words = [sys.executable, "script.py"]
    done = subprocess.run(words, cwd=tmp_path, env={**os.environ, "FGSEARCH_HOME": ""}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.rstrip().endswith("complete False")
    assert "Traceback" not in done.stderr
