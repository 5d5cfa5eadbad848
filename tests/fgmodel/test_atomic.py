import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from fgmodel import atomic

KILLED = """
import os, pathlib, sys
from fgmodel import atomic
with atomic.whole(pathlib.Path(sys.argv[1])) as file:
    file.write(b"half")
    file.flush()
    os.kill(os.getpid(), 9)
"""


@pytest.mark.parametrize(("private", "mode"), [(False, 0o640), (True, 0o600)])
def test_a_file_has_the_mode_that_the_umask_gives_and_a_private_one_is_its_owner_s(private, mode, tmp_path):
    before = os.umask(0o027)
    try:
        atomic.write(tmp_path / "x", b"one", private=private)
    finally:
        os.umask(before)
    assert (tmp_path / "x").stat().st_mode & 0o777 == mode


def test_a_private_file_was_never_another_s_to_read(tmp_path):
    with atomic.whole(tmp_path / "x", private=True) as file:
        assert Path(file.name).stat().st_mode & 0o777 == 0o600


def test_writers_of_one_name_and_one_process_id_never_share_a_file(tmp_path):
    contents = [bytes([n]) * 300_000 for n in range(16)]
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda content: atomic.write(tmp_path / "x", content), contents))
    assert (tmp_path / "x").read_bytes() in contents
    assert list(tmp_path.iterdir()) == [tmp_path / "x"]


def test_what_a_killed_process_leaves_is_found_by_no_one_who_looks_for_such_files(tmp_path):
    (tmp_path / "seed0.safetensors").write_bytes(b"old")
    done = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path / "seed0.safetensors")], check=False)
    assert done.returncode == -9
    left = [path.name for path in tmp_path.iterdir() if path.name != "seed0.safetensors"]
    assert len(left) == 1
    assert left[0].startswith(".")
    assert list(tmp_path.glob("*.safetensors")) == [tmp_path / "seed0.safetensors"]
    assert (tmp_path / "seed0.safetensors").read_bytes() == b"old"


def test_a_name_as_long_as_the_disk_allows_is_written(tmp_path):
    atomic.write(tmp_path / ("x" * 255), b"one")
    assert (tmp_path / ("x" * 255)).read_bytes() == b"one"
