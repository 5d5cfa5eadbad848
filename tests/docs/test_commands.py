"""Every command that is shown exists as it is shown; those that can be tried in a minute are run, in the order of the README."""

import re
import shlex
from itertools import pairwise
from pathlib import Path

import pytest

from search.space.file import read_space
from tests.docs.shown import PAGES, ROOT, Shown, examples, parse, shown
from tests.lab import SPACE, TRAINS, Lab, typed

NOT_RUN = {     # what is shown and not run here: why, or which tests run its like
    r"cluster |.*--address|.*--follow|resume|extend|stop|\w+ tiny\b": "tests/search/test_cluster.py, on nodes of its own",
    r"services |.*--tracking-uri": "tests/cluster/test_services.py, with a database",
    r"data fetch": "a download; tests/search/test_fetch.py, from a server of its own",
    r"data check": "tests/search/test_data_check.py",
    r"patches ": "tests/search/test_cli_patches.py",
    r"study ": "minutes to days; tests/search/test_studies.py",
    r"convert|patches import": "files of the authors; tests/fgmodel/test_official.py",
    r"launch (?!spaces/finches)|launch .*--ship": "minutes; its space is read by the test above",
    r"browse": "runs until it is ended; tests/search/test_cli.py and test_search.py",
    r"new|report .*--watch|predict|explain|export-onnx|export .*--(bundle|optuna)|retrain best\.zip": "tests of their own",
    r"--install-completion": "test_completion.py",
    r"--|$": "help",
}
TINY = {"--trials 60": "--trials 7", "--seeds 3": "--seeds 1"}      # on tiny settings
TYPED = [each for each in shown() if each.kind == "typed"]


def reason(each: Shown) -> str | None:
    text = " ".join(each.words)
    return next((why for pattern, why in NOT_RUN.items() if re.match(pattern, text)), None)


def complete(words: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(word for word in words if word not in ("…", "[…]"))


@pytest.mark.parametrize("each", shown(), ids=str)
def test_a_command_that_is_shown_exists_with_its_options(each) -> None:
    parse(complete(each.words), whole=each.kind != "in prose")


def test_the_pages_show_what_there_is_to_do() -> None:
    told = {each.words[0] for each in TYPED if each.words}
    assert {path[0] for path, _ in examples()} <= told


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_other_commands_that_are_shown_are_there(page) -> None:
    text, made = page.read_text(), (ROOT / "Makefile").read_text()
    for target in re.findall(r"(?:^|`)make (\w+)", text, re.MULTILINE):
        assert f"\n{target}: " in made, f"make {target}"
    for module, path in re.findall(r"\.venv/bin/python (?:-m (\S+)|(\S+\.py))", text):
        assert (ROOT / (path or f"{module.replace('.', '/')}.py")).exists(), path or module


SPACES = sorted({each.words for each in TYPED if each.words[:1] in (("launch",), ("check",)) and each.words[1].startswith("spaces/")})


@pytest.mark.parametrize("words", SPACES, ids=shlex.join)
def test_the_space_and_the_settings_of_a_launch_are_right(words, monkeypatch) -> None:
    monkeypatch.chdir(ROOT)
    read_space(Path(words[1]), [value for option, value in pairwise(words) if option == "--set"])


def test_what_is_not_run_is_run_by_the_tests_named() -> None:
    for why in NOT_RUN.values():
        for path in re.findall(r"tests/\S+?\.py", why):
            assert (ROOT / path).exists(), path
    assert all(any(re.match(pattern, " ".join(each.words)) for each in TYPED) for pattern in NOT_RUN if pattern != r"--|$")


@pytest.mark.parametrize(("path", "example"), list(examples()), ids=lambda given: " ".join(given) if isinstance(given, tuple) else "")
def test_a_command_has_an_example_of_itself_in_its_help(path, example) -> None:
    assert example is not None, "no epilog 'Example: fgsearch …'"
    words = tuple(shlex.split(example))
    assert words[: len(path)] == path
    assert parse(words).command.name == path[-1]


@pytest.mark.slow
def test_the_commands_of_the_readme_and_the_pages_run_in_their_order(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("FGSEARCH_HOME", raising=False)
    Lab(tmp_path).share()
    (tmp_path / "spaces").mkdir()
    (tmp_path / "spaces" / "finches.yaml").write_text(SPACE)
    told = dict.fromkeys(each.words for each in TYPED if reason(each) is None)   # each once
    assert {words[0] for words in told} >= {"check", "launch", "status", "list", "logs", "export", "retrain"}
    for words in told:
        line = shlex.join(words)
        for shown_as, tiny in TINY.items():
            line = line.replace(shown_as, tiny)
        status, said = typed(*shlex.split(line), *(["--inline"] if words[0] in TRAINS else []))
        assert status == 0, f"fgsearch {line}\n{said}"
