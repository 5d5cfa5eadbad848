"""Whatever bytes a file consists of: strategies that spoil a real one, and what must become of it.

A reader must take the file or refuse it with our InputError: each problem one printable line that begins with the
place, within two seconds of the processor. `in_a_gigabyte` adds the memory, in a process of its own.
"""

import re
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from fgmodel.errors import InputError
from search.errors import Problems

SECONDS, GIGABYTE = 2.0, 1 << 30
HOSTILE = (   # what text files are spoilt with: numbers without end, control codes, bombs, other encodings
    b"\x00", b"\xff\xfe", b"\xef\xbb\xbf", b"\r", b"\r\n", b"\x1b[31m", b"\xe2\x80\xa8", b"\xc2\x85", b"\xed\xa0\x80", b"\t",
    b"1e400", b"-1.0e+400", b".nan", b"NaN", b"Infinity", b"9" * 5000, b"0x" + b"f" * 5000, b"1:59" * 300, b"2026-13-45",
    b"[" * 300, b"{" * 300, b"- " * 300, b"? " * 300, b"&a [*a]", b"*a", b"!!python/name:os.system ", b"<<: ", b'"\\ud800"',
    b'"\\n"', b"x" * 20_000, b"../../../etc/passwd", b"\xf0\x9f\x90\xa6", b"null", b"true", b"''", b"%", b"'", b'"',
)


def often(cases: int) -> settings:
    """Return how a property is tried; the readers' own time is measured by `outcome`, the test's is not."""
    return settings(
        max_examples=cases, deadline=None,
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large],
    )


def changed(content: bytes) -> st.SearchStrategy[bytes]:
    """Return a strategy of `content` with bytes replaced, cut out or put in, and with lines doubled, lost or swapped."""
    places, lines = st.integers(0, len(content)), content.splitlines(keepends=True) or [b""]
    which = st.integers(0, len(lines) - 1)
    new = st.one_of(st.binary(max_size=12), st.integers(0, len(HOSTILE) - 1).map(HOSTILE.__getitem__))
    edits = st.lists(st.tuples(places, st.integers(0, 12), new), min_size=1, max_size=4)
    moves = st.lists(st.tuples(which, which, st.sampled_from(("double", "lose", "swap"))), min_size=1, max_size=3)

    def edited(changes: list[tuple[int, int, bytes]]) -> bytes:
        now = bytearray(content)
        for at, gone, put in changes:
            now[at : at + gone] = put
        return bytes(now)

    def moved(changes: list[tuple[int, int, str]]) -> bytes:
        now = list(lines)
        for a, b, how in changes:
            if how == "swap":
                now[a], now[b] = now[b], now[a]
            else:
                now[a] = 2 * now[a] if how == "double" else b""
        return b"".join(now)

    def flipped(at: int, bit: int) -> bytes:
        now = bytearray(content or b"\0")
        now[at % len(now)] ^= 1 << bit
        return bytes(now)

    whole = [content.replace(b"\n", b"\r\n"), content.replace(b"\n", b"\r"), b"\xef\xbb\xbf" + content,
             content.decode("latin-1").encode("utf-16"), content * 2, content[::-1], b"", content.rstrip()]
    return st.one_of(
        edits.map(edited), edits.map(edited), moves.map(moved), st.builds(flipped, places, st.integers(0, 7)),
        places.map(lambda n: content[:n]), st.sampled_from(whole), st.binary(max_size=300),
    )


def outcome(work: Callable[[], Any], place: str | Path) -> Any:
    """Return what `work` gives, or the error with which it refuses; every line must begin with `place`, a text or a regex."""
    begun = time.process_time()
    try:
        result = work()
    except InputError as error:
        lines = str(error).split("\n")
        _require_readable(lines[:-1] if isinstance(error, Problems) else lines, str(place))
        result = error
    assert time.process_time() - begun < SECONDS
    return result


def refused(result: object) -> bool:
    """Whether `outcome` was a refusal."""
    return isinstance(result, InputError)


def _require_readable(lines: list[str], place: str) -> None:
    assert lines
    for line in lines:
        assert re.match(place, line), (place, line)
        assert line.isprintable()
        assert len(line) < 1200


def in_a_gigabyte(call: str, *words: str | Path) -> str:
    """Return what a process says that calls `module:function` with `words` and may take a gigabyte beyond its imports."""
    code = f"import sys; from tests.hostile import limited; limited({call!r}, sys.argv[1:])"
    done = subprocess.run([sys.executable, "-c", code, *map(str, words)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def limited(call: str, words: list[str]) -> None:
    """Call a function of `words` with no more than a gigabyte beyond what importing it took."""
    module, _, function = call.partition(":")
    work = getattr(__import__(module, fromlist=[function]), function)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    most = pages * resource.getpagesize() + GIGABYTE
    resource.setrlimit(resource.RLIMIT_AS, (most, most))
    work(*words)
