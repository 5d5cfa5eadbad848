"""The versions that `make setup` installs are written down for every package that pyproject.toml asks for; `make lock` writes them."""

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
LOCKS = sorted((ROOT / "constraints").glob("py*.txt"))
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
ASKED = [Requirement(each) for part in (PROJECT["dependencies"], *PROJECT["optional-dependencies"].values()) for each in part]


@pytest.mark.parametrize("lock", LOCKS, ids=lambda path: path.stem)
def test_every_package_asked_for_is_pinned_to_a_version_within_its_range(lock) -> None:
    pins = [Requirement(line) for line in lock.read_text().splitlines()]
    version = {canonicalize_name(pin.name): str(pin.specifier).removeprefix("==") for pin in pins}
    for asked in ASKED:
        if asked.name != "fgsearch":   # an extra of our own, whose packages are asked for too
            assert asked.specifier.contains(version.get(canonicalize_name(asked.name), "0")), f"{asked}: make lock"


@pytest.mark.parametrize("lock", LOCKS, ids=lambda path: path.stem)
def test_a_lock_holds_names_and_versions_and_no_place_to_get_them_from(lock) -> None:
    for line in lock.read_text().splitlines():
        assert re.fullmatch(r"[a-z0-9-]+==[a-z0-9.!+]+( ; .*)?", line), line
        assert "//" not in line


def test_the_pythons_that_are_tested_have_a_lock() -> None:
    assert [path.stem for path in LOCKS] == ["py311", "py312"]
