"""The tree in the docs is the tree there is."""

import ast

import pytest

from tests.docs.tree import PAGE, ROOT, page


@pytest.mark.slow
def test_the_page_names_every_module_with_its_first_sentence() -> None:
    assert PAGE.read_text() == page(), "a module came, went or says something else of itself: make tree"


def test_no_two_modules_have_one_name_but_those_that_do_one_thing_to_several() -> None:
    seen: dict[str, list[str]] = {}
    for package in ("fgmodel", "cluster", "search"):
        for path in (ROOT / package).rglob("*.py"):
            seen.setdefault(path.stem, []).append(str(path.relative_to(ROOT)))
    twice = {name: paths for name, paths in seen.items() if len(paths) > 1 and name not in ("__init__", "errors")}
    assert twice == {}


def test_no_two_classes_have_one_name() -> None:
    seen: dict[str, list[str]] = {}
    for package in ("fgmodel", "cluster", "search"):
        for path in (ROOT / package).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.ClassDef):
                    seen.setdefault(node.name, []).append(str(path.relative_to(ROOT)))
    assert {name: paths for name, paths in seen.items() if len(paths) > 1} == {}
