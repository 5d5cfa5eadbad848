import subprocess
import sys
from pathlib import Path

import pytest

from fgmodel.errors import InputError
from fgmodel.lock import held, hold

HOLDS = """
import pathlib, sys, time
from fgmodel.lock import lock
with lock(pathlib.Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def another(tmp_path):
    words = [sys.executable, "-c", HOLDS, str(tmp_path / "x")]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def test_what_another_process_holds_is_refused_and_free_when_it_is_killed(another, tmp_path):
    assert held(tmp_path / "x")
    with pytest.raises(InputError, match="taken"):
        hold(tmp_path / "x", InputError("taken"), patience=0.0)
    another.kill()
    another.wait()
    assert not held(tmp_path / "x")
    with hold(tmp_path / "x", InputError("taken"), patience=0.0):
        assert held(tmp_path / "x")
    assert not held(tmp_path / "x")


def test_to_ask_makes_no_file(tmp_path):
    assert not held(tmp_path / "x")
    assert list(tmp_path.iterdir()) == []


def test_who_waits_gets_it_when_the_other_is_done(another, tmp_path):
    another.kill()
    with hold(tmp_path / "x", InputError("taken"), patience=30.0):
        pass
    assert Path(tmp_path / "x.lock").exists()
