"""One way to hold a thing alone among processes; the operating system lets go of it when its holder dies."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from search.errors import InputError, writing


@contextmanager
def alone(path: Path, refusal: str) -> Iterator[None]:
    """Hold `path`, there or not, by a lock file beside it; raises InputError where another process does."""
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(path.with_name(f"{path.name}.lock"))
        try:
            lock.acquire(timeout=0)
        except Timeout:
            raise InputError(f"{path}: {refusal}") from None
    try:
        yield
    finally:
        lock.release()
