"""Bundles and study files, 1,500 of them: each is read as it was written, or is refused with its lines."""

import os
from datetime import date

import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st

from fgmodel.config import DEFAULTS, TrialConfig
from search.errors import InputError
from search.export.bundle import Bundle, Code, Confirmation, DataIdentity, Origin, Validation, read_bundle, write_bundle
from search.export.packing import IMAGES, Image, lines, pack, unpack
from search.record.history import History
from search.record.journal import OpenedTest
from search.space.file import read_space
from search.studies.study import as_csv, find_study, read_study, table, view
from tests.hostile import changed, often, outcome, refused
from tests.search.conftest import SPACES

STUDIES = [path.read_bytes() for path in sorted((SPACES / "thesis").glob("*.yaml"))]
SETTINGS = {"data.dataset": "finches", "loss.margin": 0.25, "optim.schedule": "milestones", "optim.milestones": (3, 6), "model.freeze_backbones": True}
ORIGIN = Origin(
    search="finches", trial=3, by="tpe", exported=date(2026, 11, 22), seeds={"sampler": 0, "data": 0, "trial": 0},
    validation=Validation(objective="val/accuracy", value=0.5, nll=0.7, epochs=2, kind="single cut", trials=4,
                          confirmed=Confirmation(mean=0.5, sd=0.01, seeds=3, finalists=4)),
    data=DataIdentity(fingerprint="sha256:0", split="sha256:1", patches="sha256:2"), code=Code(version="0.1.0", commit=None, dirty=False),
    packages={"torch": "2"},
)  # fmt: skip
WHOLE = Bundle(settings=TrialConfig.from_settings(SETTINGS).settings(), origin=ORIGIN)


@pytest.fixture(autouse=True)
def no_waiting_for_the_disk(monkeypatch):
    monkeypatch.setattr(os, "fsync", lambda _: None)


def content_of(bundle: Bundle, path) -> bytes:
    write_bundle(bundle, path)
    return path.read_bytes()


def judged(folder, content: bytes) -> None:
    """Require that a bundle that is read is written so that it is read again the same."""
    path, again = folder / "best.yaml", folder / "again" / "best.yaml"
    again.parent.mkdir(exist_ok=True)
    path.write_bytes(content)
    bundle = outcome(lambda: read_bundle(path), rf"{path}:\d+: ")
    if refused(bundle):
        return
    write_bundle(bundle, again)
    assert repr(read_bundle(again)) == repr(bundle)
    assert read_bundle(again).config() == bundle.config()
    assert (folder / bundle.origin.search).parent == folder   # retrain names a folder so


@pytest.mark.slow
@often(400)
@given(data=st.data())
def test_a_real_bundle_spoilt(tmp_path, data):
    judged(tmp_path, data.draw(changed(content_of(WHOLE, tmp_path / "x.yaml"))))


@pytest.mark.slow
@often(300)
@given(data=st.data())
def test_a_whole_bundle_spoilt(tmp_path, data):
    path = tmp_path / "best.zip"
    pack(WHOLE, {"README.md": b"# Trial 3\n" * 50, IMAGES: lines([Image(image="a.png", label="a", part="train", sha256="ab")])}, path)
    path.write_bytes(data.draw(changed(path.read_bytes())))
    packed = outcome(lambda: unpack(path), rf"{path}: ")
    if not refused(packed):
        assert (packed.bundle.origin, packed.bundle.config()) == (WHOLE.origin, WHOLE.config())


texts = st.text(max_size=8) | st.sampled_from(["\x85", "\ud800", "\ufeff", "null", "1e3", "- a", "a: b", "\n", "'", "2026-11-22", "../../x", "a/b", ".."])
values = st.one_of(texts, st.integers(-(2**63), 2**63), st.floats(), st.none(), st.booleans(), st.dates(), st.lists(st.integers(0, 9), max_size=3))


@pytest.mark.slow
@often(200)
@given(free=st.lists(texts.filter(str.isascii) | st.text(max_size=8), min_size=7, max_size=7), numbers=st.lists(st.floats(allow_nan=False), min_size=4, max_size=4), trial=st.integers(0, 2**63 - 1), day=st.dates())
@example(["data/Vögel", "a\x85b", "\ufeff", "\u2028", "", "null", "1e3"], [0.0, 1e-300, 1e22, -0.0], 0, date(1, 1, 1))
def test_a_bundle_of_any_names_and_numbers_comes_back(tmp_path, free, numbers, trial, day):
    root, patches, by, print_, split, version, commit = free
    settings = TrialConfig.from_settings({"data.root": root, "data.patches": patches}).settings()
    validation = Validation(objective="val/nll", value=numbers[0], nll=numbers[1], epochs=9, kind="cross-validation", trials=4,
                            confirmed=Confirmation(mean=numbers[2], sd=numbers[3], seeds=3, finalists=4))
    origin = ORIGIN.model_copy(update={
        "trial": trial, "by": by, "exported": day, "validation": validation, "data": DataIdentity(fingerprint=print_, split=split, patches=patches),
        "code": Code(version=version, commit=commit, dirty=True), "packages": {by: version},
    })
    bundle = Bundle(settings=settings, origin=origin)
    write_bundle(bundle, tmp_path / "best.yaml")
    read = read_bundle(tmp_path / "best.yaml")
    assert (read.origin, read.config()) == (bundle.origin, bundle.config())


@pytest.mark.slow
@often(400)
@given(settings=st.dictionaries(st.sampled_from(sorted(DEFAULTS)) | texts, values, max_size=3), origin=st.dictionaries(st.sampled_from([*Origin.model_fields, "x"]), values, max_size=2),
       deep=st.dictionaries(st.sampled_from([*Validation.model_fields, *DataIdentity.model_fields, *Code.model_fields]), values, max_size=2))  # fmt: skip
@example({}, {"search": "../../x"}, {})
@example({}, {"search": "a\n# b"}, {})
@example({}, {"exported": 10**18}, {})
@example({}, {}, {"value": float("nan")})
@example({"data.root": "\ud800\x85\ufeff"}, {}, {})
def test_whatever_values_a_bundle_holds(tmp_path, settings, origin, deep):
    document = WHOLE.model_dump(mode="json")
    document["settings"] |= settings
    for part in ("validation", "data", "code"):
        document["origin"][part] |= {name: value for name, value in deep.items() if name in document["origin"][part]}
    document["origin"] |= origin
    judged(tmp_path, yaml.safe_dump(document).encode("utf-8", "surrogatepass"))


def tabled(folder, content: bytes):
    """Read a study and draw its table where there is one; a space that is refused has no table."""
    path = folder / "mine.yaml"
    path.write_bytes(content)
    study = outcome(lambda: read_study(path), rf"{path}:\d+: ")
    space = outcome(lambda: read_space(path), rf"{path}:\d+: ")
    if refused(study) or refused(space):
        return
    history = History.of([OpenedTest(trial=0, seeds=(0,), images=240)])
    rows = outcome(lambda: table(study, space, history, folder), str(path))
    assert as_csv(rows)
    assert view(study, rows)


@pytest.mark.slow
@often(300)
@given(content=st.sampled_from(STUDIES).flatmap(changed))
def test_a_real_study_spoilt(tmp_path, content):
    tabled(tmp_path, content)


said = st.fixed_dictionaries({}, optional={"published": values, "against": st.sampled_from(["a", "b", "c"]) | values, "of": st.sampled_from(["a", "x"]), "metric": texts})
@pytest.mark.slow
@often(200)
@given(study=st.fixed_dictionaries({}, optional={"title": texts, "comparable": st.dictionaries(st.sampled_from(sorted(DEFAULTS)) | texts, values, max_size=2),
                                                 "images": values, "rows": st.dictionaries(st.sampled_from("abc"), said, max_size=3), "maps": values}),
       rows=st.just({"a": {}, "b": {"model.time_steps": 1}}) | values)  # fmt: skip
@example({"title": "t", "comparable": {"modl.x": 1}, "images": 1, "rows": {"a": {}}}, {"a": {}})
@example({"title": "t", "comparable": {}, "images": 0, "rows": {"a": {"published": 150}}}, {"a": {}})
@example({"title": "t", "comparable": {}, "images": 1, "rows": {"a": {"published": 50}}}, [1])
@example({"title": "t", "comparable": {}, "images": 1, "rows": {"a": {}}, "maps": ["a"]}, None)
def test_whatever_a_study_holds(tmp_path, study, rows):
    whole = {"title": "t", "comparable": {}, "images": 1, "rows": {"a": {}}} | study
    document = {"fixed": {"data.dataset": "finches"}, "rows": rows, "study": whole, "search": {"objective": "test/accuracy", "seeds": 1}}
    tabled(tmp_path, yaml.safe_dump(document).encode("utf-8", "surrogatepass"))


@pytest.mark.parametrize(("before", "after", "said"), [
    pytest.param("images: 5794", "images: 0", r":\d+: 'study.images'", id="no images"),
    pytest.param("published: 7", "published: 707", r":\d+: 'study.rows.*published'", id="more than all of them"),
])  # fmt: skip
def test_a_study_of_impossible_numbers_is_refused(before, after, said, tmp_path):
    text = find_study("table-5.1").read_text()
    assert before in text
    (tmp_path / "mine.yaml").write_text(text.replace(before, after, 1))
    with pytest.raises(InputError, match=said):
        read_study(tmp_path / "mine.yaml")
