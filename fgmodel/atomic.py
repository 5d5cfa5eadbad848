"""Arrays and files on disk that several processes may build at once and any of them may be killed while building.

A finished file has its final name; anything else never counts. One process builds at a time (a file
lock, which the operating system releases when its holder dies), the others wait and then find the file.
"""

import contextlib
import errno
import math
import os
import secrets
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import IO, TypeAlias

import numpy as np
from filelock import Timeout

from fgmodel.arrays import map_npy
from fgmodel.errors import InputError, NoRoomError
from fgmodel.lock import lock
from fgmodel.progress import Progress, silent

Compute: TypeAlias = Callable[[int, int], Iterable[np.ndarray]]
"""Gives rows a..b of an array in pieces, in order."""


def array(
    path: Path, shape: tuple[int, ...], dtype: type, compute: Compute, *,
    step: int, what: str, progress: Progress = silent,
) -> np.ndarray:
    """Return the array kept at `path`, read-only and memory-mapped; it is computed first where it is not there.

    `compute` is asked for `step` rows at a time; a build that was killed is taken up before the last step it had
    begun. Raises InputError: on a full disk, and for a file that is not this array.
    """
    wanted = _Array(shape, np.dtype(dtype), compute, step, what, progress)
    with building(path, what, progress) as must_build:
        if must_build:
            wanted.build(path)
    return wanted.opened(path)


@contextlib.contextmanager
def building(path: Path, what: str, progress: Progress = silent) -> Iterator[bool]:
    """Hold the right to build `path`; gives False, and holds nothing, where it is already there."""
    if path.exists():
        yield False
        return
    with _no_room(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    mine = lock(path)
    while not mine.is_locked:
        try:
            with _no_room(path):
                mine.acquire(timeout=0.5)
        except Timeout:
            progress(f"{what}: another process is at it", 0, 1)
    try:
        yield not path.exists()
    finally:
        mine.release()


def write(path: Path, content: bytes | Callable[[IO[bytes]], object], *, private: bool = False) -> None:
    """Write a file whole or not at all, its folder too where that is missing; raises NoRoomError on a full disk.

    `content` is what it will hold, or fills it. A private one is at no moment for others to read.
    """
    with _no_room(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with whole(path, private=private) as file:
            _ = file.write(content) if isinstance(content, bytes) else content(file)


@contextlib.contextmanager
def whole(path: Path, *, private: bool = False) -> Iterator[IO[bytes]]:
    """Give a file that becomes `path`, synced and renamed, when the block ends well; else nothing is left of it.

    Its name is that of no other process on any node, is hidden, and ends as no file does that is looked for: what a
    killed process leaves is taken for nothing.
    """
    unfinished = path.with_name(f".{path.name[:40]}-{secrets.token_hex(8)}.part")
    mode = 0o600 if private else 0o666   # less what the umask takes
    with open(unfinished, "x+b", opener=lambda name, flags: os.open(name, flags, mode)) as file:
        try:
            yield file
            file.flush()
            os.fsync(file.fileno())
        except BaseException:
            unfinished.unlink(missing_ok=True)
            raise
    unfinished.replace(path)   # closed: Windows renames no open file
    _sync_folder(path.parent)


@dataclass(frozen=True)
class _Array:
    shape: tuple[int, ...]
    dtype: np.dtype
    compute: Compute
    step: int
    what: str
    progress: Progress

    def build(self, path: Path) -> None:
        unfinished = path.with_name(path.name + ".part")   # always this one: the next process goes on in it
        with _no_room(path):
            with unfinished.open("r+b" if unfinished.exists() else "w+b") as file:
                for a in range(self._resume(file), self.shape[0], self.step):
                    self._append(file, a, min(a + self.step, self.shape[0]))
            unfinished.replace(path)
            _sync_folder(path.parent)

    def opened(self, path: Path) -> np.ndarray:
        try:
            kept = map_npy(path)
        except (OSError, ValueError) as error:
            raise InputError(f"{path} is damaged ({error}); delete it to have it computed again") from None
        if kept.shape != self.shape or kept.dtype != self.dtype:
            raise InputError(f"{path} is {kept.dtype} {kept.shape}, not {self.dtype} {self.shape}; delete it")
        return kept

    def _append(self, file: IO[bytes], a: int, b: int) -> None:
        done = a
        for piece in self.compute(a, b):
            assert piece.shape[1:] == self.shape[1:]
            file.write(np.ascontiguousarray(piece, self.dtype).tobytes())
            done += len(piece)
            self.progress(self.what, done, self.shape[0])
        assert done == b
        file.flush()
        os.fsync(file.fileno())   # so that only the last step can be half on disk, whatever happens

    def _resume(self, file: IO[bytes]) -> int:
        """Set `file` up to be appended to; return the rows it holds, less its last full step, which may be torn."""
        header = self._header()
        file.seek(0)
        begun = file.read(len(header)) == header
        row_bytes = self.dtype.itemsize * math.prod(self.shape[1:])
        steps = (file.seek(0, os.SEEK_END) - len(header)) // (row_bytes * self.step) if begun else 0
        done = max(0, steps - 1) * self.step
        file.seek(0)
        file.write(header)
        file.truncate(len(header) + done * row_bytes)
        file.seek(0, os.SEEK_END)
        return done

    def _header(self) -> bytes:
        start = BytesIO()
        described = np.lib.format.dtype_to_descr(self.dtype)
        np.lib.format.write_array_header_1_0(
            start, {"shape": self.shape, "fortran_order": False, "descr": described},
        )
        return start.getvalue()


@contextlib.contextmanager
def _no_room(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES):
            raise
        raise NoRoomError(f"{path} cannot be written: {error.strerror}; free space or give another home") from None


def _sync_folder(folder: Path) -> None:
    if os.name == "nt":
        return   # Windows opens no folder
    opened = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(opened)   # the new name, too, must survive a power cut
    finally:
        os.close(opened)
