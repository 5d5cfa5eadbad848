from pathlib import Path
from random import Random

import pytest

from search.errors import InputError, Problems
from search.space.file import read_space
from tests.search.conftest import SPACES

TUNED = {
    "loss.lambda_rank",
    "loss.lambda_local",
    "loss.margin",
    "model.time_steps",
    "optim.lr_global",
    "optim.lr_local",
}
TEXT = """\
fixed:
  data.dataset: finches
  optim.schedule: cosine
tune:
  loss.lambda_rank: {low: 0.0, high: 2.0}
  loss.margin: {low: 0.0, high: 1.0, when: {loss.lambda_rank: "> 0"}}
  optim.lr_local: {low: 1.0e-2, high: 0.3, log: true}
  model.time_steps: {low: 1, high: 6}
search:
  trials: 8
  epochs: 9
  rungs: [1, 3, 9]
  sampler: {name: tpe, seed: 0}
"""


def space_file(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    return path


@pytest.mark.parametrize("path", sorted(SPACES.glob("**/*.yaml")), ids=lambda path: path.stem)
def test_every_space_we_ship_is_valid_asks_a_question_and_tunes_the_six_or_lists_rows(path) -> None:
    space = read_space(path)
    assert space.question.endswith("?") or "?" in space.question
    assert space.rows or {parameter.name for parameter in space.tune} >= TUNED


def test_the_file_of_these_tests_is_valid(tmp_path) -> None:
    space = read_space(space_file(tmp_path, TEXT))
    assert space.search.rungs == (1, 3, 9)
    assert space.config({"loss.margin": 0.25}).loss.margin == 0.25


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        pytest.param(
            "optim.lr_local",
            "optim.lr_locl",
            "mine.yaml:7: 'optim.lr_locl' is not a setting; did you mean 'optim.lr_local'?",
            id="unknown key",
        ),
        pytest.param(
            "optim.schedule: cosine",
            "optim.schedul: cosine",
            "mine.yaml:3: 'optim.schedul' is not a setting; did you mean 'optim.schedule'?",
            id="unknown fixed key",
        ),
        pytest.param("search:", "serch:", "mine.yaml:9: 'serch' is not a part of a space file", id="unknown part"),
        pytest.param(
            "epochs: 9",
            "epoch: 9",
            "mine.yaml:11: 'search.epoch' is not a setting; did you mean 'epochs'?",
            id="unknown search key",
        ),
        pytest.param(
            "seed: 0",
            "sed: 0",
            "mine.yaml:13: 'search.sampler.sed' is not a setting; did you mean 'seed'?",
            id="unknown sampler key",
        ),
        pytest.param(
            "low: 1.0e-2",
            "low: 1e-2",
            "mine.yaml:7: 'optim.lr_local': 'low': '1e-2' is text to YAML; write 0.01",
            id="1e-2 is text",
        ),
        pytest.param(
            "optim.schedule: cosine",
            "optim.weight_decay: 1e-4",
            "mine.yaml:3: 'optim.weight_decay': '1e-4' is wrong",
            id="1e-4 fixed is text",
        ),
        pytest.param(
            "low: 1, high: 6",
            "low: 1.5, high: 6",
            "mine.yaml:8: 'model.time_steps': 'low': 1.5 must be a whole number",
            id="wrong type",
        ),
        pytest.param(
            "low: 1, high: 6",
            "low: 0, high: 6",
            "mine.yaml:8: 'model.time_steps': 0 is wrong: must be greater than or equal to 1",
            id="T = 0",
        ),
        pytest.param(
            "low: 1, high: 6",
            "low: 6, high: 6",
            "mine.yaml:8: 'model.time_steps': the range 6 … 6 is empty",
            id="empty range",
        ),
        pytest.param(
            "low: 1, high: 6",
            "low: 6, high: 1",
            "mine.yaml:8: 'model.time_steps': the range 6 … 1 is reversed",
            id="reversed range",
        ),
        pytest.param(
            "low: 1, high: 6",
            "low: 1, high: .nan",
            "mine.yaml:8: 'model.time_steps': 'high': nan is not a number",
            id="nan",
        ),
        pytest.param(
            "low: 1, high: 6",
            "low: yes, high: 6",
            "mine.yaml:8: 'model.time_steps': 'low': True is not a number",
            id="yes is a truth value",
        ),
        pytest.param(
            "low: 1, high: 6", "low: 1", "mine.yaml:8: 'model.time_steps': 'high' is missing", id="half a range"
        ),
        pytest.param(
            "low: 1, high: 6",
            "choices: []",
            "mine.yaml:8: 'model.time_steps': 'choices' must be a list that is not empty",
            id="no choice",
        ),
        pytest.param(
            "low: 1, high: 6",
            "choices: [1, 1]",
            "mine.yaml:8: 'model.time_steps': a choice is listed twice",
            id="a choice twice",
        ),
        pytest.param(
            "low: 1, high: 6",
            "choices: [1, x]",
            "mine.yaml:8: 'model.time_steps': 'x' is wrong: must be a valid integer",
            id="a wrong choice",
        ),
        pytest.param(
            "low: 1, high: 6",
            "low: 1, high: 6, stp: 2",
            "mine.yaml:8: 'model.time_steps': 'stp' is not part of a range",
            id="unknown range key",
        ),
        pytest.param(
            "{low: 1, high: 6}", "6", "mine.yaml:8: 'model.time_steps': 6 is no range", id="a value under tune"
        ),
        pytest.param(
            "low: 1.0e-2",
            "low: 0.0",
            "mine.yaml:7: 'optim.lr_local': a logarithmic range must start above 0, not at 0.0",
            id="log from 0",
        ),
        pytest.param(
            '"> 0"', '"> 2"', "mine.yaml:6: 'when loss.lambda_rank > 2.0' can never hold", id="impossible condition"
        ),
        pytest.param(
            '"> 0"',
            '"> zero"',
            "mine.yaml:6: 'loss.lambda_rank': '> zero' is not a comparison",
            id="condition with a word",
        ),
        pytest.param(
            "{loss.lambda_rank: ",
            "{loss.lambda_rnk: ",
            "mine.yaml:6: 'loss.lambda_rnk' is not a setting",
            id="condition on nothing",
        ),
        pytest.param(
            "{loss.lambda_rank: ",
            "{loss.margin: ",
            "mine.yaml:6: the conditions of 'loss.margin' wait for each other",
            id="condition on itself",
        ),
        pytest.param("rungs: [1, 3, 9]", "rungs: [3, 1, 9]", "mine.yaml:12: 'search.rungs' must rise", id="rungs fall"),
        pytest.param(
            "rungs: [1, 3, 9]",
            "rungs: [1, 3]",
            "mine.yaml:12: 'search.rungs' must end at search.epochs, 9",
            id="rungs end early",
        ),
        pytest.param(
            "trials: 8",
            "trials: 0",
            "mine.yaml:10: 'search.trials': 0 is wrong: must be greater than or equal to 1",
            id="no trials",
        ),
        pytest.param(
            "trials: 8",
            "trials: eight",
            "mine.yaml:10: 'search.trials': 'eight' is wrong: must be a valid integer",
            id="trials in words",
        ),
        pytest.param(
            "name: tpe",
            "name: tpx",
            "mine.yaml:13: 'search.sampler.name': 'tpx' is wrong: must be 'tpe', 'random', 'gp' or 'cmaes'",
            id="unknown sampler",
        ),
        pytest.param(
            "trials: 8",
            "trials: 8\n  start: [{loss.lambda_local: 1.0}]",
            "mine.yaml:11: 'loss.lambda_local' is not tuned here",
            id="start point of something fixed",
        ),
        pytest.param(
            "optim.schedule: cosine",
            "optim.lr_local: 0.1",
            "mine.yaml:3: 'optim.lr_local' is both fixed and tuned",
            id="fixed and tuned",
        ),
        pytest.param(
            "optim.schedule: cosine",
            "optim.epochs: 5",
            "mine.yaml:3: 'optim.epochs' is 'search.epochs' in a space file",
            id="epochs twice",
        ),
        pytest.param(
            "optim.schedule: cosine",
            "data.root: birds",
            "mine.yaml:3: 'data.root': 'birds' would be ignored: finches are drawn",
            id="a setting that would be ignored",
        ),
        pytest.param(
            "optim.schedule: cosine",
            "data.dataset: cub",
            "mine.yaml:3: 'data.dataset' is given twice",
            id="a key twice",
        ),
        pytest.param("finches", "!!python/object/apply:os.system [true]", "mine.yaml:2: has the YAML tag", id="a tag"),
        pytest.param("fixed:", "fixed: &a", "mine.yaml:1: has a YAML anchor or alias", id="an anchor, as bombs have"),
        pytest.param("fixed:", "fixed: [", "is not YAML", id="not YAML"),
        pytest.param("  data.dataset: finches", "\tdata.dataset: finches", "mine.yaml:2: is not YAML", id="tabs"),
        pytest.param(
            "finches",
            "[[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]]",
            "mine.yaml:2: is nested more than 12 levels deep",
            id="deep nesting",
        ),
        pytest.param(TEXT, "", "mine.yaml:1: holds no settings", id="an empty file"),
        pytest.param(TEXT, "- a\n- b\n", "mine.yaml:1: holds no settings", id="a list"),
        pytest.param(TEXT, "fixed: 3\n", "mine.yaml:1: 'fixed' must hold settings", id="a number for a part"),
    ],
)
def test_a_mistake_is_told_with_its_line_and_remedy(before, after, said, tmp_path) -> None:
    assert before in TEXT
    path = space_file(tmp_path, TEXT.replace(before, after, 1))
    with pytest.raises(InputError) as error:
        read_space(path)
    assert said in str(error.value)
    assert len(str(error.value).splitlines()) <= 3


def test_every_mistake_of_a_file_is_told_at_once(tmp_path) -> None:
    text = (
        TEXT.replace("optim.lr_local", "optim.lr_locl")
        .replace("low: 1, high: 6", "low: 6, high: 1")
        .replace("trials: 8", "trials: 0")
    )
    with pytest.raises(InputError) as error:
        read_space(space_file(tmp_path, text))
    lines = str(error.value).splitlines()
    assert [line.partition(": ")[0].rpartition(":")[2] for line in lines[:-1]] == ["10", "7", "8"]
    assert lines[-1] == "3 problems; nothing was started."


@pytest.mark.parametrize(
    ("make", "said"),
    [
        pytest.param(lambda _: None, "cannot be read: No such file or directory", id="missing"),
        pytest.param(lambda p: p.mkdir(), "is a folder", id="a folder"),
        pytest.param(
            lambda p: p.write_bytes(bytes(Random(0).randbytes(10_000_000))),
            "is larger than 100 kB",
            id="ten megabytes of noise",
        ),
        pytest.param(
            lambda p: p.write_bytes(bytes(Random(0).randbytes(10_000))), "is not", id="ten kilobytes of noise"
        ),
        pytest.param(lambda p: p.write_bytes(b"fixed: {}\n\x00"), "is not YAML", id="a zero byte"),
    ],
)
def test_a_file_that_is_no_space_is_one_line(make, said, tmp_path) -> None:
    path = tmp_path / "mine.yaml"
    make(path)
    with pytest.raises(InputError) as error:
        read_space(path)
    assert str(error.value).startswith(str(path))
    assert said in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("override", "holds"),
    [
        pytest.param("optim.batch_size=64", lambda s: s.config({}).optim.batch_size == 64, id="fixes a setting"),
        pytest.param(
            "loss.margin=0.3",
            lambda s: s.config({}).loss.margin == 0.3 and "loss.margin" not in s.reference(),
            id="fixes a tuned setting",
        ),
        pytest.param(
            "search.epochs=4",
            lambda s: s.search.rungs == (1, 3, 4) and s.config({}).optim.epochs == 4,
            id="shortens the search",
        ),
        pytest.param(
            "search.sampler.seed=7",
            lambda s: s.search.sampler.seed == 7 and s.search.sampler.name == "tpe",
            id="reaches below search",
        ),
    ],
)
def test_set_reaches_every_dotted_setting(override, holds, tmp_path) -> None:
    assert holds(read_space(space_file(tmp_path, TEXT), [override]))


def test_set_takes_a_setting_out_of_the_start_points_too(tmp_path) -> None:
    text = TEXT.replace("trials: 8", "trials: 8\n  start: [{loss.margin: 0.1, model.time_steps: 2}]")
    space = read_space(space_file(tmp_path, text), ["loss.margin=0.3"])
    assert space.search.start == ({"model.time_steps": 2},)


@pytest.mark.parametrize(
    ("override", "said"),
    [
        pytest.param("optim.batch_size", "--set optim.batch_size: write it as key=value", id="no value"),
        pytest.param(
            "optim.batchsize=64",
            "--set: 'optim.batchsize' is not a setting; did you mean 'optim.batch_size'?",
            id="unknown",
        ),
        pytest.param("optim.batch_size=a", "--set: 'optim.batch_size': 'a' is wrong", id="wrong type"),
        pytest.param(
            "search.trails=3",
            "--set: 'search.trails' is not a setting; did you mean 'trials'?",
            id="unknown under search",
        ),
        pytest.param(
            "optim.lr_local=1e-3",
            "--set: 'optim.lr_local': '1e-3' is wrong: must be a valid number; '1e-3' is text, write 0.001",
            id="1e-3 is text",
        ),
    ],
)
def test_a_wrong_set_is_told(override, said, tmp_path) -> None:
    with pytest.raises(InputError) as error:
        read_space(space_file(tmp_path, TEXT), [override])
    assert said in str(error.value)


def test_a_condition_that_does_not_hold_leaves_its_parameter_out(space) -> None:
    assert "loss.margin" in space.active({"loss.lambda_rank": 0.1, "loss.margin": 0.2})
    assert "loss.margin" not in space.active({"loss.lambda_rank": 0.0, "loss.margin": 0.2})


def test_launches_that_differ_in_trials_and_workers_are_the_same_search(space) -> None:
    other = type(space)(
        space.name,
        "",
        space.fixed,
        space.tune,
        space.search.model_copy(update={"trials": 99, "workers": 1, "hours": 2.0}),
    )
    assert other.digest() == space.digest()


def test_launches_that_differ_in_a_range_are_not(space) -> None:
    assert type(space)(space.name, "", space.fixed, space.tune[1:], space.search).digest() != space.digest()


ROWS = "# Which row wins?\nfixed: {data.dataset: finches}\nrows:\n  one step: {model.time_steps: 1}\n  ten steps: {}\nsearch: {epochs: 4, seeds: 3}\n"


def rows(tmp_path, text: str = ROWS):
    (tmp_path / "rows.yaml").write_text(text)
    return read_space(tmp_path / "rows.yaml")


def test_rows_are_a_list_tried_with_every_seed(tmp_path) -> None:
    space = rows(tmp_path)
    assert (space.search.trials, space.search.rungs) == (6, (4,))
    assert [space.listed(k) for k in range(4)] == [
        ("one step", {"model.time_steps": 1, "seed": 0}), ("ten steps", {"seed": 0}),
        ("one step", {"model.time_steps": 1, "seed": 1}), ("ten steps", {"seed": 1}),
    ]  # fmt: skip


@pytest.mark.parametrize(("before", "after", "said"), [
    pytest.param("time_steps: 1", "time_steps: 0", "rows.yaml:4: 'model.time_steps': 0 is wrong", id="a wrong value in a row"),
    pytest.param("time_steps", "time_step", "rows.yaml:4: 'model.time_step' is not a setting; did you mean 'model.time_steps'?", id="an unknown setting in a row"),
    pytest.param("ten steps: {}", "ten steps: 3", "rows.yaml:5: 'rows': 'ten steps' must hold settings, {} for none", id="a row that holds none"),
    pytest.param("search:", "tune: {loss.margin: {low: 0.0, high: 1.0}}\nsearch:", "'rows' lists configurations and 'tune' draws them; leave one out", id="both rows and tune"),
])  # fmt: skip
def test_a_mistake_in_rows_is_told_with_its_line(before, after, said, tmp_path) -> None:
    with pytest.raises(Problems) as problem:
        rows(tmp_path, ROWS.replace(before, after))
    assert said in str(problem.value)


def test_an_objective_that_would_not_be_measured_is_named_with_its_line(tmp_path) -> None:
    alone = TEXT.replace("  optim.schedule: cosine", "  optim.schedule: cosine\n  model.local_stream: none")
    tuned = "  optim.lr_global: {low: 1.0e-3, high: 0.1, log: true}\nsearch:\n  objective: val/accuracy_local\n"
    text = alone[: alone.index("  loss.lambda_rank")] + tuned + "  trials: 8\n"
    with pytest.raises(InputError, match=r"mine.yaml:8: 'val/accuracy_local' is not measured where model.local_stream is none"):
        read_space(space_file(tmp_path, text))
    assert read_space(space_file(tmp_path, text.replace("val/accuracy_local", "val/accuracy"))).search.trials == 8


def test_a_space_may_compare_variants_and_tune_what_each_of_them_uses(tmp_path) -> None:
    text = """\
fixed: {data.dataset: finches}
tune:
  model.local_stream: {choices: [lstm, trunk, none]}
  model.time_steps: {low: 1, high: 6, when: {model.local_stream: "== lstm"}}
  loss.lambda_rank: {low: 0.0, high: 2.0, when: {model.local_stream: "!= none"}}
"""
    space = read_space(space_file(tmp_path, text))
    drawn = [space.draw(Random(seed)) for seed in range(50)]
    assert {frozenset(d) for d in drawn} == {
        frozenset({"model.local_stream"}), frozenset({"model.local_stream", "loss.lambda_rank"}),
        frozenset({"model.local_stream", "loss.lambda_rank", "model.time_steps"}),
    }
