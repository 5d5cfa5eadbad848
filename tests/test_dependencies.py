"""What is imported is declared, and who installed without extras is told what to install."""

import ast
import re
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
OURS = ("search", "cluster", "fgmodel")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
FILES = [file for part in OURS for file in sorted((ROOT / part).rglob("*.py"))]
KNOWN = packages_distributions()
HIDING = "import sys; sys.modules.update(dict.fromkeys({hidden})); sys.argv[1:] = {words}; from search.cli import main; main()"


def distributions(*requirements: str) -> set[str]:
    return {re.split(r"[\[<>=!~; ]", line)[0].lower().replace("_", "-") for line in requirements}


def imported(nodes) -> set[str]:
    found = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            found |= {name.name.partition(".")[0] for name in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module.partition(".")[0])
    return found - sys.stdlib_module_names - set(OURS)


def undeclared(found: set[str], declared: set[str]) -> set[str]:
    return {name for name in found if not declared & distributions(*KNOWN.get(name, ()))}


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(ROOT)))
def test_what_is_imported_is_declared_and_at_the_top_of_a_file_only_what_everybody_has(file):
    tree, core = ast.parse(file.read_text()), distributions(*PROJECT["dependencies"])
    extras = PROJECT["optional-dependencies"]
    offered = distributions(*(line for name in ("cmaes", "services", "onnx", "dashboard") for line in extras[name]))
    assert undeclared(imported(tree.body), core) == set()
    assert undeclared(imported(ast.walk(tree)), core | offered) == set()



@pytest.fixture
def without(tmp_path):
    def run(hidden: tuple[str, ...], *words: str) -> subprocess.CompletedProcess:
        code = HIDING.format(hidden=hidden, words=list(words))
        return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=tmp_path)
    (tmp_path / "tiny.yaml").write_text(
        "fixed: {data.dataset: finches, data.finches_per_species: 8, model.freeze_backbones: true}\n"
        "tune: {loss.margin: {low: 0, high: 1}}\n"
        "search: {trials: 2, epochs: 1, sampler: {name: cmaes}}\n",
    )
    return run


@pytest.mark.slow
@pytest.mark.parametrize("command", ["check", "launch"])
def test_a_sampler_whose_package_is_missing_is_one_line_before_anything_starts(command, without, tmp_path):
    done = without(("cmaes",), command, "tiny.yaml")
    assert done.returncode == 2
    assert done.stderr.strip().endswith("'search.sampler.name': cmaes needs the package cmaes: pip install 'fgsearch[cmaes]'")
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "fgsearch-home" / "searches").exists()


def test_services_whose_packages_are_missing_are_one_line(without, tmp_path):
    done = without(("flask_wtf", "psycopg"), "services", "up")
    assert done.returncode == 2
    assert done.stderr.strip().endswith("fgsearch services needs the packages flask_wtf, psycopg: pip install 'fgsearch[services]'")
    assert not (tmp_path / "fgsearch-home" / "services").exists()


@pytest.mark.slow
def test_who_has_no_services_still_checks_a_space(without, tmp_path):
    text = (tmp_path / "tiny.yaml").read_text()
    (tmp_path / "tiny.yaml").write_text(text.replace("cmaes", "tpe"))
    done = without(("flask_wtf", "psycopg", "cmaes", "onnx"), "check", "tiny.yaml", "--set", "model.global_backbone=efficientnet_lite0",
                   "--set", "model.local_backbone=efficientnet_lite0", "--set", "data.patches=peaks")
    assert done.returncode == 0, done.stderr
