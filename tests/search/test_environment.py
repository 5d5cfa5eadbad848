"""What may change a last bit is named, a line each."""

import pytest

from search.export.environment import Environment, differences, here, lock, requirements

THEN = Environment(python="3.12.1", packages={"torch": "2.9.0", "timm": "1.0"}, code="abc", processor="x86_64 AVX512", device="cpu", threads=2)


@pytest.mark.parametrize(("change", "line"), [
    pytest.param({"packages": {"torch": "2.8.0", "timm": "1.0"}}, "torch: 2.9.0 then, 2.8.0 now", id="another version"),
    pytest.param({"packages": {"torch": "2.9.0"}}, "timm: 1.0 then, absent now", id="a package that is missing"),
    pytest.param({"python": "3.11.9"}, "python: 3.12.1 then, 3.11.9 now", id="another Python"),
    pytest.param({"code": "def"}, "code: abc then, def now", id="other code"),
    pytest.param({"processor": "aarch64 DEFAULT"}, "processor: x86_64 AVX512 then, aarch64 DEFAULT now", id="another processor"),
    pytest.param({"device": "NVIDIA H100"}, "device: cpu then, NVIDIA H100 now", id="a GPU"),
    pytest.param({"threads": 1}, "threads: 2 then, 1 now; --threads 2 makes them the same", id="another number of threads"),
])  # fmt: skip
def test_each_difference_is_a_line(change, line):
    assert differences(THEN, THEN.model_copy(update=change)) == [line]


def test_the_same_place_differs_in_nothing():
    assert differences(here(), here()) == []
    assert differences(here(threads=1), here(threads=3)) == ["threads: 1 then, 3 now; --threads 1 makes them the same"]


def test_the_lock_names_every_package_once():
    lines = requirements().splitlines()
    assert lines[0].startswith("# python 3.")
    assert f"torch=={lock()['torch']}" in lines
    assert len({line.partition("==")[0] for line in lines}) == len(lines) > 50
