"""What training in this process needs and leaves: nothing of Ray, nothing that only Unix has, and its threads as they were."""

import subprocess
import sys
import textwrap

import pytest
import torch

from tests.lab import SPACE, Lab, typed

UNIX = {"fcntl", "pwd", "grp", "resource", "termios"}


@pytest.mark.slow
def test_nothing_is_needed_that_only_unix_has_and_nothing_of_ray(tmp_path) -> None:
    (tmp_path / "tiny.yaml").write_text(SPACE)
    code = textwrap.dedent(f"""
        import builtins, sys
        real = builtins.__import__
        def as_on_windows(name, globals=None, *rest, **more):
            if name in {UNIX!r} and (globals or {{}}).get("__name__", "").split(".")[0] in ("search", "fgmodel", "cluster"):
                raise ImportError(name)
            return real(name, globals, *rest, **more)
        builtins.__import__ = as_on_windows
        from search.cli import main
        try:
            main()
        finally:
            print("ray" in sys.modules, file=sys.stderr)
    """)
    words = ["launch", "tiny.yaml", "--inline", "--trials", "2", "--set", "search.epochs=2", "--set", "search.rungs=[2]"]
    done = subprocess.run([sys.executable, "-c", code, *words], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "complete: best #" in done.stdout
    assert done.stderr.splitlines()[-1] == "False"


def test_the_threads_of_this_process_are_left_as_they_were(tmp_path) -> None:
    before, lab = torch.get_num_threads(), Lab(tmp_path / "lab").share()
    torch.set_num_threads(2)
    try:
        lab.run("launch", "tiny.yaml", "--trials", "1", "--set", "search.epochs=1", "--set", "search.rungs=[1]")
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize(("words", "said"), [
    pytest.param(("--address", "http://head:8265"), "--inline: is in this process; leave --address out", id="on a cluster"),
    pytest.param(("--set", "search.resources.gpu=1"), "search.resources.gpu: this machine has none; set it to 0", id="a GPU that is not there"),
])  # fmt: skip
def test_what_this_process_cannot_do_is_one_line(words, said, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiny.yaml").write_text(SPACE)
    assert typed("launch", "tiny.yaml", "--inline", *words) == (2, f"{said}\n")
