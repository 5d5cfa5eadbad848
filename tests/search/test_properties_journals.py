"""Journals, 2,900 of them: each tells the same history however often it is read, or is refused with the line."""

import json
import re
from dataclasses import asdict

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from search.decide import race
from search.decide.asha import Ladder
from search.decide.dispatch import Dispatcher
from search.errors import InputError
from search.export import best
from search.record.history import History, load, space_of
from search.record.home import Home
from search.record.journal import FORMAT, Journal, Launched, Opened, OpenedTest, Reader, read
from search.show.status import summary
from search.space.file import read_space
from tests.hostile import changed, often, outcome, refused
from tests.search.conftest import SPACES, train


@pytest.fixture(scope="module")
def real(tmp_path_factory) -> bytes:
    """Return the journal of a search of five trials, two finalists, a worker that vanished and a look at test."""
    folder = tmp_path_factory.mktemp("real")
    space = read_space(SPACES / "finches.yaml", ["search.trials=5", "search.epochs=3", "search.seeds=1", "search.finalists=2"])
    with Journal(folder / "journal.jsonl") as journal:
        dispatcher = Dispatcher(space, journal, History(), folder / "checkpoints")
        dispatcher.record(Opened(search="s", question="Which?", space=space.document(), digest=space.digest()))
        launched = {"trials": 5, "workers": 1, "finalists": 2, "seeds": 1, "version": "0", "commit": None}
        data = {"fingerprint": "sha256:0", "split": "sha256:1", "patches": "sha256:2"}
        dispatcher.record(Launched(**launched, reference=dict(space.config(space.reference()).settings()), data=data))
        lost = dispatcher.next()
        dispatcher.lose(lost.job, lost.attempt, "the worker process died")
        while order := dispatcher.next():
            train(dispatcher, order)
        dispatcher.finish("stopped")
        journal.append(OpenedTest(trial=0, seeds=(0, 1), images=243))
    return re.sub(rb'"at": "[^"]*"', b'"at": "2026-11-25T08:00:00Z"', (folder / "journal.jsonl").read_bytes())   # the same in every run


def asked_of(history: History):
    """Return what the commands read off a history."""
    if history.opened is None:
        return None
    search = space_of(history).search
    states = [history.state(trial, search.epochs) for trial in history.trials.values()]
    best = race.best(search, history)
    return states, best and best.number, race.due(search, history), Ladder(search).next(history)


def told(folder, content: bytes):
    """Return a journal's facts, or its refusal."""
    path = folder / "journal.jsonl"
    path.write_bytes(content)
    facts = outcome(lambda: read(path), rf"{path}:\d+: ")
    if refused(facts):
        return facts
    once, twice = History.of(facts), load(path)
    assert asdict(once) == asdict(twice)
    answers = outcome(lambda: asked_of(once), r"journal of search '.*':1: ")
    assert repr(outcome(lambda: asked_of(twice), "journal")) == repr(answers)
    return facts


@pytest.mark.slow
@often(1200)
@given(data=st.data())
def test_a_real_journal_spoilt(tmp_path, real, data):
    told(tmp_path, data.draw(changed(real)))


@pytest.mark.slow
@often(500)
@given(cut=st.integers(0, 2**20), pieces=st.lists(st.integers(1, 3000), max_size=3))
def test_a_journal_that_grows_is_read_as_if_it_had_been_whole(tmp_path, real, cut, pieces):
    path, at = tmp_path / "journal.jsonl", cut % len(real)
    path.write_bytes(real[:at])
    reader, facts = Reader(path), []
    for size in (0, *pieces, len(real)):
        at = min(at + size, len(real))
        path.write_bytes(real[:at])
        facts += reader.new()
    (tmp_path / "whole").write_bytes(real)
    assert facts == read(tmp_path / "whole")


TIMES = st.sampled_from(["2026-11-25T08:00:00Z", "2026-11-25T08:00:00.123+05:30", "0001-01-01T00:00:00Z", "2026-11-25T08:00:00", "1e400", "x"])
numbers = st.one_of(st.integers(0, 3), st.integers(0, 3), st.integers(-5, 2**70), st.sampled_from([True, "1", 1.5, None, 10**4000, -1]))
anything = st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8), lambda i: st.lists(i, max_size=3) | st.dictionaries(st.text(max_size=5), i, max_size=3), max_leaves=5)
values = st.one_of(st.floats(0, 1), st.floats(), st.integers(), st.text(max_size=3))
names = st.one_of(st.none(), st.sampled_from(["0/epoch1-job0.1.safetensors", "../../etc/passwd", "/etc/passwd", "a/../b", "", "a\x00b"]), st.text(max_size=6))
maps = st.dictionaries(st.sampled_from(["loss.margin", "val/accuracy", "val/nll", "x"]), values, max_size=3)
FIELDS = {
    "launched": {"trials": numbers, "workers": numbers, "version": st.text(max_size=4), "commit": st.none(), "reference": maps, "data": st.dictionaries(st.text(max_size=3), st.text(max_size=3), max_size=2)},
    "asked": {"trial": numbers, "settings": maps, "by": st.text(max_size=4), "job": numbers, "to": numbers},
    "repeated": {"trial": numbers, "of": numbers, "settings": maps, "job": numbers, "to": numbers},
    "promoted": {"trial": numbers, "rung": numbers, "job": numbers, "to": numbers},
    "reissued": {"trial": numbers, "job": numbers, "attempt": numbers},
    "reported": {"trial": numbers, "epoch": numbers, "job": numbers, "attempt": numbers, "metrics": maps, "seconds": values, "checkpoint": names},
    "ended": {"trial": numbers, "job": numbers},
    "lost": {"trial": numbers, "job": numbers, "attempt": numbers, "why": st.text(max_size=5)},
    "stopped": {"trial": numbers, "rung": numbers},
    "failed": {"trial": numbers, "job": numbers, "reason": st.sampled_from(["divergence", "error", "lost", "x"]), "why": st.text(max_size=5)},
    "finished": {"how": st.sampled_from(["complete", "stopped", "budget", "x"])},
    "test_opened": {"trial": numbers, "seeds": st.lists(numbers, max_size=2), "images": numbers},
}
lines = st.sampled_from(sorted(FIELDS)).flatmap(lambda kind: st.fixed_dictionaries({"fact": st.just(kind), **FIELDS[kind]}, optional={"at": TIMES, "x": st.none()}))
AT = {"at": "2026-11-25T08:00:00Z"}
OPENED = {**AT, "fact": "opened", "search": "s", "space": {}, "digest": "sha256:0"}


def written(facts) -> bytes:
    return "".join(json.dumps(fact) + "\n" for fact in facts).encode("utf-8", "surrogatepass")


@pytest.mark.slow
@often(1000)
@given(facts=st.lists(lines, max_size=6), space=st.just({}) | anything)
@example([{"fact": "ended", "trial": 7, "job": 0}], {})
@example([{"fact": "repeated", "trial": 7, "of": 7, "settings": {}, "job": 0, "to": 1}], {})
@example([{"fact": "asked", "trial": 0, "settings": {"loss.margin": float("nan")}, "by": "x", "job": 0, "to": 1}], {})
@example([{"fact": "finished", "how": "complete", "at": "2026-11-25T08:00:00"}], {})
@example([], {"tune": {"loss.margin": 3}, "x\n": 1})
def test_whatever_facts_a_journal_has(tmp_path, facts, space):
    told(tmp_path, written([OPENED | {"space": space}, *(AT | fact for fact in facts)]))


@often(100)
@given(line=st.binary(max_size=80) | anything.map(lambda value: json.dumps(value).encode()))
@example(b'{"a":' * 50_000)
@example(b"[" * 1_000_000)
@example(b'{"fact":"opened","search":"s","space":{"a":' + b"9" * 100_000 + b'},"digest":""}')
@example(json.dumps(OPENED | {"space": {"a": "x" * 10_000_000}}).encode())
@example(json.dumps(OPENED | {"format": FORMAT + 1}).encode())
def test_whatever_lines_a_journal_has(tmp_path, line):
    told(tmp_path, line + b"\n")


@pytest.mark.slow
@often(100)
@given(data=st.data())
def test_what_status_and_export_say_of_a_spoilt_journal(tmp_path, real, monkeypatch, data):
    monkeypatch.setattr(best, "code_version", lambda: ("0", None, False))
    monkeypatch.setattr(best, "packages", lambda: {"torch": "2"})
    monkeypatch.setattr(best.environment, "here", lambda **_: None)
    home = Home(tmp_path / "home")
    home.journal("s").parent.mkdir(parents=True, exist_ok=True)
    spoilt = data.draw(changed(real))
    if data.draw(st.booleans()):   # a line of settings or data that no longer fits
        spoilt = real.replace(data.draw(st.sampled_from([b"fingerprint", b'"tune"', b'"loss.margin":', b'"launched"', b"val/accuracy"])), b"x")
    home.journal("s").write_bytes(spoilt)
    place = rf"({home.path}|journal of search|search 's'|'.*' (is|must))"
    outcome(lambda: summary(home, "s"), place)
    for number in (None, 0):
        outcome(lambda: best.export(home, "s", tmp_path / "best.yaml", number), place)  # noqa: B023 called here


def test_a_journal_torn_in_its_first_line_is_no_search_yet(tmp_path, real):
    home = Home(tmp_path)
    home.journal("s").parent.mkdir(parents=True)
    home.journal("s").write_bytes(real[:100])
    assert home.names() == []
    with pytest.raises(InputError, match="holds no search 's'"):
        home.history("s")


def test_carriage_returns_do_not_shift_the_lines(tmp_path, real):
    first, second, rest = real.split(b"\n", 2)
    (tmp_path / "journal.jsonl").write_bytes(b"\n".join([first.replace(b",", b",\r", 1), second, b"{}", rest]))
    with pytest.raises(InputError, match=r"journal\.jsonl:3: "):
        read(tmp_path / "journal.jsonl")
