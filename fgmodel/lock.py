"""One way to hold a thing alone among processes; the operating system lets go of it when its holder dies.

A lock file beside the thing is what is held. To ask whether it is, it is held, together with all others who ask, for an
instant; so whoever wants it alone tries for a moment before giving up.
"""

from pathlib import Path
from typing import TypeAlias

from filelock import AcquireReturnProxy, FileLock, Timeout

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]
MOMENT = 1.0  # seconds
Held: TypeAlias = AcquireReturnProxy[FileLock]


def lock(path: Path) -> FileLock:
    """Return the lock of `path`, which need not be there; `with` it waits for as long as another process holds it."""
    return FileLock(_beside(path), thread_local=False)


def hold(path: Path, refusal: Exception, patience: float = MOMENT) -> Held:
    """Return what holds `path` until its `with` or its lock ends; raises `refusal` after `patience` seconds in vain."""
    try:
        return lock(path).acquire(timeout=patience, poll_interval=0.01)
    except Timeout:
        raise refusal from None


def held(path: Path) -> bool:
    """Whether a process holds `path` now, by the file beside it or, as older versions held journals, itself."""
    if fcntl:
        return flocked(_beside(path)) or flocked(path)
    try:
        if _beside(path).exists():
            lock(path).acquire(timeout=0).lock.release()
    except Timeout:
        return True
    return False


def flocked(file: Path) -> bool:
    """Whether a process has locked this very file now."""
    try:
        with file.open("rb") as asked:
            fcntl.flock(asked, fcntl.LOCK_SH | fcntl.LOCK_NB)  # filelock cannot ask, and knows no lock that many share
    except BlockingIOError:
        return True
    except FileNotFoundError:
        return False
    return False


def _beside(path: Path) -> Path:
    return path.with_name(f"{path.name}.lock")
