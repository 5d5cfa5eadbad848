import fcntl
import subprocess
import sys
from pathlib import Path
from threading import Event, Thread

import pytest

from search.errors import JournalError
from search.record.journal import Asked, Journal, Launched, Opened, OpenedTest, Reported, read
from search.show.status import running

OPENED = Opened(search="s", space={}, digest="sha256:0")


def filled(path: Path) -> Path:
    with Journal(path) as journal:
        journal.append(OPENED)
        journal.append(Asked(trial=0, settings={"loss.margin": 0.1}, by="tpe", job=0, to=1))
    return path


def test_what_was_appended_is_read_back_equal(tmp_path) -> None:
    path = tmp_path / "journal.jsonl"
    facts = [
        OPENED,
        Launched(trials=3, workers=1, version="0", commit=None, reference={"loss.margin": 0.5}, data={"split": "x"}),
        Asked(trial=0, settings={}, by="tpe", job=0, to=1),
        Reported(trial=0, epoch=1, job=0, attempt=1, metrics={"val/accuracy": 1 / 3}, seconds=0.1, checkpoint=None),
        OpenedTest(trial=0, seeds=(0, 1), images=243),
    ]
    with Journal(path) as journal:
        for fact in facts:
            journal.append(fact)
    assert read(path) == facts


def test_a_half_written_last_line_is_no_error_and_is_overwritten(tmp_path) -> None:
    path = filled(tmp_path / "journal.jsonl")
    path.write_bytes(path.read_bytes() + b'{"at":"2026-11-22T08:00:0')
    assert len(read(path)) == 2
    with Journal(path) as journal:
        journal.append(Asked(trial=1, settings={}, by="tpe", job=1, to=1))
    assert [fact.fact for fact in read(path)] == ["opened", "asked", "asked"]


@pytest.mark.parametrize(
    ("text", "line"),
    [
        pytest.param("hello\n", 1, id="not a journal"),
        pytest.param('{"fact":"asked","trial":0,"settings":{},"by":"x","job":0,"to":1}\n', 1, id="no opening line"),
        pytest.param(OPENED.model_dump_json() + "\n{}\n", 2, id="a fact without a kind"),
        pytest.param(
            OPENED.model_dump_json() + "\n\x00\x00\x00\n" + OPENED.model_dump_json() + "\n", 2, id="zeros in the middle"
        ),
        pytest.param(OPENED.model_dump_json() + "\n" + OPENED.model_dump_json() + "\n", 2, id="two openings"),
        pytest.param(OPENED.model_dump_json() + '\n{"at":"2026-11-25T08:00:00Z","fact":"asked","trial":0,"settings":{"loss.margin":NaN},"by":"x","job":0,"to":1}\n', 2, id="nan"),
        pytest.param(OPENED.model_dump_json() + '\n{"at":"2026-11-25T08:00:00Z","fact":"ended","trial":7,"job":0}\n', 2, id="a trial that was never begun"),
        pytest.param(OPENED.model_dump_json() + '\n{"fact":"finished","how":"complete"}\n', 2, id="a fact without a time"),
        pytest.param(OPENED.model_copy(update={"format": 9}).model_dump_json() + "\n", 1, id="a later format"),
    ],
)
def test_a_broken_line_is_named(text, line, tmp_path) -> None:
    path = tmp_path / "journal.jsonl"
    path.write_text(text)
    with pytest.raises(JournalError, match=f"^{path}:{line}: "):
        read(path)


@pytest.mark.slow
def test_a_second_process_is_refused(tmp_path) -> None:
    path = tmp_path / "journal.jsonl"
    with Journal(path):
        code = f"from search.record.journal import Journal; from pathlib import Path; Journal(Path({str(path)!r}))"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "another process is running this search" in done.stderr


def test_asking_whether_it_runs_never_locks_a_driver_out(tmp_path) -> None:
    path, over = tmp_path / "journal.jsonl", Event()

    def ask() -> None:
        while not over.is_set():
            running(path)

    askers = [Thread(target=ask) for _ in range(2)]
    for asker in askers:
        asker.start()
    try:
        for _ in range(200):
            with Journal(path):
                assert running(path)
    finally:
        over.set()
        for asker in askers:
            asker.join()
    assert not running(path)


def test_a_journal_that_an_older_version_writes_is_another_process_s(tmp_path) -> None:
    path = tmp_path / "journal.jsonl"
    with path.open("ab+") as theirs:
        fcntl.flock(theirs, fcntl.LOCK_EX)
        assert running(path)
        with pytest.raises(JournalError, match="another process is running this search; stop it first"):
            Journal(path)
    assert not running(path)
    with Journal(path):
        pass


def test_a_full_disk_is_one_line(tmp_path) -> None:
    path = tmp_path / "journal.jsonl"
    path.symlink_to("/dev/full")  # the kernel's own full disk
    journal = object.__new__(Journal)
    journal.path, journal._file = path, path.open("ab", buffering=0)
    with pytest.raises(JournalError, match="No space left on device"):
        journal.append(OPENED)
    journal._file.close()


def test_no_permission_is_one_line(tmp_path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(JournalError, match="cannot be opened for writing"):
        Journal(tmp_path / "file" / "journal.jsonl")


def test_nan_never_enters_a_journal() -> None:
    with pytest.raises(ValueError, match="finite number"):
        Reported(trial=0, epoch=1, job=0, attempt=1, metrics={"a": float("nan")}, seconds=0, checkpoint=None)
