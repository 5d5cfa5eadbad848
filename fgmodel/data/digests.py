"""What is known of each image file: its sha256 and whether it decodes, worked out once for each version of the file."""

import hashlib
import json
import os
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from fgmodel import atomic
from fgmodel.data.images import NotAnImage, read_rgb
from fgmodel.progress import Progress, silent


@dataclass(frozen=True)
class Known:
    """A file as it was when last looked at; `problem` is empty for a usable image."""

    size: int
    mtime_ns: int
    sha256: str
    problem: str


def examine(root: Path, names: Sequence[str], cache: Path, progress: Progress = silent) -> list[Known]:
    """Return what is known of each file, reading and decoding only those that are new or have changed.

    Both splits are decoded: a broken test image must not come to light after days of search.
    """
    index = cache / "digests" / f"{hashlib.sha256(os.fsencode(root.resolve())).hexdigest()[:16]}.json"
    known = _load(index)
    stale = [name for name in names if not _is_current(root / name, known.get(name))]
    if stale:
        known |= _examined(root, stale, progress)
        kept = json.dumps({name: list(vars(entry).values()) for name, entry in known.items()})
        atomic.write(index, kept.encode())
    return [known[name] for name in names]


def _load(index: Path) -> dict[str, Known]:
    """Return the index, or an empty one where there is none or it is not ours: it is only a memory of work done."""
    try:
        return {name: Known(*entry) for name, entry in json.loads(index.read_text()).items()}
    except (OSError, ValueError, TypeError, AttributeError, RecursionError):
        return {}


def _is_current(path: Path, entry: Known | None) -> bool:
    if entry is None:
        return False
    try:
        now = path.stat()
    except OSError:
        return False
    return (now.st_size, now.st_mtime_ns) == (entry.size, entry.mtime_ns)


def _examined(root: Path, names: list[str], progress: Progress) -> dict[str, Known]:
    found, told = {}, 0.0
    with ThreadPoolExecutor(os.cpu_count()) as pool:   # reading, hashing and decoding all release the interpreter
        for name, entry in zip(names, pool.map(lambda name: _look(root / name), names), strict=True):
            found[name] = entry
            if time.monotonic() - told > 0.25 or len(found) == len(names):
                told = time.monotonic()
                progress("images examined", len(found), len(names))
    return found


def _look(path: Path) -> Known:
    try:
        status = path.stat()
        sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        return Known(-1, -1, "", f"cannot be read: {error.strerror}")   # never current: looked at again next time
    try:
        read_rgb(path)
    except NotAnImage as problem:
        return Known(status.st_size, status.st_mtime_ns, sha256, str(problem))
    return Known(status.st_size, status.st_mtime_ns, sha256, "")
