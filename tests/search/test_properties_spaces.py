"""Space files, 3,300 of them: each is a search that its own document gives back, or is refused with its lines."""

import json
import re

import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st

from fgmodel.config import DEFAULTS, setting_type
from search.errors import InputError
from search.space import file
from search.space.file import read_space, stored_space
from search.space.space import Plan
from search.space.yaml_lines import read_document, read_set
from tests.hostile import changed, often, outcome, refused
from tests.search.conftest import SPACES

REAL = [path.read_bytes() for path in sorted(SPACES.glob("**/*.yaml"))]
NUMBERS = {   # tuned settings with two ends their configuration allows
    "loss.lambda_rank": (0.0, 2.0), "loss.lambda_local": (0.5, 100), "loss.margin": (0, 1.0), "optim.lr_global": (1e-6, 10.0),
    "optim.lr_local": (1e-300, 1e-2), "optim.weight_decay": (0.0, 1e-3), "model.time_steps": (1, 64), "model.hidden_size": (1, 4096),
    "optim.batch_size": (1, 4096), "seed": (0, 2**62), "model.fusion_weight": (0.0, 100.0), "optim.clip_norm": (5e-324, 1.7e308),
}


@pytest.fixture(autouse=True)
def few_draws(monkeypatch):
    monkeypatch.setattr(file, "DRAWS", 8)   # how many are tried out is another test's question


def comes_back(space):
    """Require that the space's document, as the journal keeps it, describes the very same search."""
    document = json.loads(json.dumps(space.document(), allow_nan=False))
    again = stored_space(space.name, space.question, document)
    assert (again.fixed, again.tune, again.rows) == (space.fixed, space.tune, space.rows)
    assert json.loads(json.dumps(again.document())) == document
    assert again.digest() == space.digest()
    return True


def judged(folder, content: bytes) -> bool:
    path = folder / "mine.yaml"
    path.write_bytes(content)
    space = outcome(lambda: read_space(path), rf"{path}:\d+: ")
    return not refused(space) and comes_back(space)


@st.composite
def ranges(draw):
    name = draw(st.sampled_from(sorted(NUMBERS)))
    low, high = NUMBERS[name]
    some = st.integers(int(low), int(high)) if setting_type(name) is int else st.floats(low, high)
    a, b = sorted((draw(some), draw(some)))
    if draw(st.booleans()) or a == b:
        return name, {"choices": draw(st.lists(some, min_size=1, max_size=4, unique=True))}
    return name, {"low": a, "high": b, **({"log": True} if a > 0 and draw(st.booleans()) else {})}


@st.composite
def searches(draw):
    """Return a space file that is right, but for combinations that `_try_out` refuses."""
    tune = dict(draw(st.lists(ranges(), max_size=5)))
    for name, shape in tune.items():
        other = draw(st.sampled_from(["", *sorted(tune)]))
        if other and other != name:
            compare = draw(st.sampled_from([">", ">=", "<", "<=", "!=", "=="]))
            value = draw(st.one_of(st.floats(0, 10).map(repr), st.integers(0, 9).map(str), st.just("null")))
            shape["when"] = {other: draw(st.sampled_from([f"{compare} {value}", f"{compare}{value}", value]))}
    epochs = draw(st.integers(1, 100))
    search = {"trials": draw(st.integers(1, 100_000)), "epochs": epochs, "reduction": draw(st.integers(2, 16)),
              "sampler": {"name": draw(st.sampled_from(["tpe", "random", "gp", "cmaes"])), "seed": draw(st.integers(0, 2**62))},
              "objective": draw(st.sampled_from(["val/accuracy", "val/nll"])), "hours": draw(st.none() | st.floats(0.1, 1e300))}
    rungs = sorted(draw(st.sets(st.integers(1, 100), max_size=4)))
    search |= {"rungs": [*(r for r in rungs if r < epochs), epochs]} if rungs else {}
    return {"fixed": {"data.dataset": "finches"}, "tune": tune, "search": search}


@pytest.mark.slow
@often(400)
@given(document=searches())
@example({"fixed": {"data.dataset": "finches", "model.fusion_weight": None}, "tune": {"loss.margin": {"low": 0, "high": 1, "when": {"model.fusion_weight": None}}}})
@example({"fixed": {"data.dataset": "finches"}, "tune": {"loss.margin": {"low": 0, "high": 1, "when": {"loss.lambda_rank": "> 0"}}, "loss.lambda_rank": {"low": 0.0, "high": 1.0}}})
@example({"fixed": {"data.dataset": "finches", "loss.lambda_rank": 1.0}, "tune": {"loss.margin": {"low": 0, "high": 1, "when": {"loss.lambda_rank": True}}}})
@example({"fixed": {"data.dataset": "finches", "model.freeze_backbones": True}, "tune": {"loss.margin": {"low": 0, "high": 1, "when": {"model.freeze_backbones": 1}}}})
@example({"fixed": {"data.dataset": "finches"}, "tune": {"loss.margin": {"low": 0, "high": 1, "when": {"model.fusion_weight": "> 1"}}}})
def test_a_search_is_what_its_document_gives_back(tmp_path, document):
    judged(tmp_path, yaml.safe_dump(document, sort_keys=False).encode())


odd = st.recursive(
    st.one_of(
        st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=8), st.dates(), st.integers(-(2**70), 2**70), st.integers(0, 20),
        st.floats(0, 1), st.sampled_from(["finches", "> 0", "cosine", "tpe", "lstm", "1e-3", "== 2", "val/nll", 10**400, float("inf")]),
    ),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["low", "high", "log", "step", "choices", "when", "x", "seed"]), inner, max_size=4),
    max_leaves=6,
)
settings_of = st.dictionaries(st.sampled_from(sorted(DEFAULTS)) | st.text(max_size=5), odd, max_size=4)
ranges_of = st.dictionaries(
    st.sampled_from(sorted(DEFAULTS)),
    st.fixed_dictionaries({"low": odd, "high": odd}, optional={"log": odd, "step": odd, "when": st.dictionaries(st.sampled_from(sorted(DEFAULTS)), odd, max_size=2)})
    | st.fixed_dictionaries({"choices": st.lists(odd, max_size=3)}, optional={"when": settings_of}) | odd,
    max_size=3,
)
search_of = st.dictionaries(st.sampled_from([*Plan.model_fields, "x"]), odd, max_size=3)


@pytest.mark.slow
@often(1000)
@given(document=st.fixed_dictionaries({}, optional={
    "fixed": settings_of | odd, "tune": ranges_of | odd, "rows": st.dictionaries(st.text(max_size=4), settings_of, max_size=3) | odd,
    "search": search_of | odd, "study": odd, "x": odd,
}))  # fmt: skip
@example({"tune": {"loss.margin": {"low": 0.0, "high": 1.0, "step": 5e-324}}})
@example({"tune": {"optim.milestones": {"low": 1, "high": 2}}})
@example({"tune": {"loss.margin": {"choices": [1, 1.0]}}})
@example({"tune": {"loss.margin": {"low": 0, "high": 10**400}}})
@example({"tune": {"loss.margin": {"low": 0, "high": 1, "when": {"optim.milestones": "> 3"}}}})
@example({"tune": {"loss.margin": {"low": 0, "high": 1, "when": {"loss.lambda_rank": "!= nan"}}}})
@example({"fixed": {"data.root": "\ud800"}})
@example({"fixed": {"a\nb": 1, "\x1b[31m": 1, "x" * 5000: 1}})
@example({"rows": [1], "study": {}})
def test_whatever_values_a_file_holds(tmp_path, document):
    judged(tmp_path, yaml.safe_dump(document, sort_keys=False).encode("utf-8", "surrogatepass"))


@pytest.mark.slow
@often(1000)
@given(content=st.sampled_from(REAL).flatmap(changed))
@example(REAL[0].replace(b"0.5", b"1:59" * 300 + b".5"))
@example(REAL[0].replace(b"fixed:", b"? [a, b]\n: 1\nfixed:"))
@example(b"".join(b"  k%d: 1\n" % k for k in range(9000)).join([b"fixed:\n", b""]))
def test_a_real_file_spoilt(tmp_path, content):
    judged(tmp_path, content)


@often(500)
@given(content=st.one_of(st.text(alphabet="abf:- \n{}[],#&*!|>'\"%@`?<=0.~\t\\x", max_size=60).map(str.encode), st.text(max_size=60).map(str.encode), st.binary(max_size=60)))
@example(b"\xef\xbb\xbf# Which?\nfixed: {}\n")
@example("# Which?\nfixed: {}\n".encode("utf-16"))
@example(b"fixed: " + b"[" * 50_000)
@example(b"fixed: &a [*a, *a]\nb: &b [*a, *a]\n")
@example(b"a: " + b"9" * 10_000)
@example(b"a: 0x" + b"f" * 10_000)
@example(b"a: 2026-13-45")
@example(b"a: \x00")
@example(b"? [a]\n: 1")
@example(b"a: <<")
@example(b"a: [" + b"1," * 49_000 + b"]")
def test_whatever_a_file_consists_of(tmp_path, content):
    path = tmp_path / "mine.yaml"
    path.write_bytes(content)
    outcome(lambda: read_document(path), rf"{path}:\d+: ")


@pytest.mark.slow
@often(400)
@given(text=st.one_of(st.text(max_size=20), st.builds("{}={}".format, st.sampled_from([*sorted(DEFAULTS), "search.epochs", "search.sampler", "search.x.y", "search."]), st.text(max_size=12) | odd.map(repr))))
@example("data.root=2026-13-45")
@example("loss.margin=&a [*a]")
@example("search.epochs=" + "9" * 10_000)
@example("loss.margin=1\nx")
def test_whatever_is_set(tmp_path, text):
    (tmp_path / "mine.yaml").write_bytes(REAL[3])
    space = outcome(lambda: read_space(tmp_path / "mine.yaml", [text]), rf"--set|{tmp_path}/mine.yaml:\d+: ")
    if not refused(space):
        comes_back(space)


@pytest.mark.parametrize(("before", "after", "said"), [
    pytest.param("{low: 0.0, high: 1.0", "{low: 0.0, high: 1.0, step: 1.0e-9", "'loss.margin': the step 1e-09 cuts 0.0 … 1.0 into more than 1,000,000 parts; leave it out", id="a step too fine"),
    pytest.param("high: 2.0", "high: 0x" + "f" * 4000, "has a number too large for any setting: 0xfff", id="a number Python does not print"),
    pytest.param("dataset: finches", "dataset: 2026-13-45", "has '2026-13-45', which is no value; put it in quotes if it is text", id="a day that is none"),
    pytest.param("fixed:", "? [a]\n: 1\nfixed:", "has a list or a mapping for a key; write a name", id="a list for a key"),
    pytest.param("fixed:", "fixed: {" + "a: 1, " * 2000 + "}\n_:", "holds more than 3000 values", id="thousands of values"),
    pytest.param("dataset: finches", "dataset: finches \x07", "is not YAML: unacceptable character #x0007", id="a control code"),
    pytest.param("fixed:", '"\\n\\e[31m": 1\nfixed:', r"'\n\x1b[31m' is not a part of a space file", id="a key with control codes"),
])  # fmt: skip
def test_what_would_have_ended_in_a_traceback_is_told_with_its_line(before, after, said, tmp_path):
    text = (SPACES / "finches.yaml").read_text()
    assert before in text
    line = text[: text.index(before)].count("\n") + 1
    (tmp_path / "mine.yaml").write_text(text.replace(before, after, 1))
    with pytest.raises(InputError, match=rf"mine.yaml:{line}: .*{re.escape(said)}"):
        read_space(tmp_path / "mine.yaml")


def test_a_bom_does_not_hide_the_question(tmp_path):
    (tmp_path / "mine.yaml").write_bytes(b"\xef\xbb\xbf# Which?\nfixed: {}\n")
    assert read_document(tmp_path / "mine.yaml").remark == "Which?"


def test_set_reads_values_as_files_do():
    assert read_set("loss.margin=0.5") == ("loss.margin", 0.5)
    assert read_set("data.root=") == ("data.root", None)
    assert read_set("optim.milestones=[3, 6]") == ("optim.milestones", [3, 6])
