"""One file over HTTP: taken up where it was cut, bounded, and of the content it should have or not there at all."""

import hashlib
import http.client
import re
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Collection
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import IO

from fgmodel.progress import Progress, silent
from search.errors import InputError, writing

TIMEOUT = 30.0          # seconds without a byte
TRIES = 5               # in a row that bring no byte, after the first byte came; before that one is enough
PAUSE = 1.0             # seconds before another try; doubled each time
LARGEST = 16 << 30      # bytes of a file whose size is not known beforehand
_TEMPORARY = (408, 425, 429, 500, 502, 503, 504)
_CHUNK = 1 << 18


@dataclass(frozen=True)
class Remote:
    """A file elsewhere; `sha256` are the digests it may have, `size` its bytes, None where any size will do."""

    url: str
    size: int | None
    sha256: Collection[str]


class _Cut(Exception):
    """No more bytes for now; another try may bring them."""


def download(remote: Remote, path: Path, progress: Progress = silent) -> None:
    """Bring `remote` to `path`, by way of PATH.part, where a later call goes on.

    Raises InputError: for an address that serves no such file, a server that stays away, a full disk, other content.
    """
    part = path.with_name(path.name + ".part")   # always this one: the next process goes on in it
    with writing(part):
        part.parent.mkdir(parents=True, exist_ok=True)
        if path.exists() and _digest(path) in remote.sha256:
            return
        _complete(remote, part, progress)
        _require_content(remote, part)
        part.replace(path)


def _complete(remote: Remote, part: Path, progress: Progress) -> None:
    left = 1
    while True:
        before = _size(part)
        try:
            return _append(remote, part, progress)
        except _Cut as cut:
            left = TRIES if _size(part) > before else left - 1
            if not left:
                kept = f"; {_size(part):,} bytes are kept, and the same command goes on there" if _size(part) else ""
                raise InputError(f"{remote.url}: {cut}{kept}; --url takes a mirror") from None
            time.sleep(PAUSE * 2.0 ** (TRIES - left))


def _append(remote: Remote, part: Path, progress: Progress) -> None:
    """Ask for what `part` lacks and write it; raises _Cut where that was not all."""
    have = _size(part)
    if have and have == remote.size:
        return
    answer = _ask(remote.url, have, part)
    if answer is None:
        return
    with answer:
        start, total = _extent(remote, answer, have)
        with part.open("r+b" if start else "wb") as file:   # a server that knows no Range begins again
            file.seek(start)
            _copy(remote, answer, file, total, progress)


def _ask(url: str, have: int, part: Path) -> http.client.HTTPResponse | None:
    """Return the answer to a request for all but the first `have` bytes; None where there are no more."""
    try:
        answer: http.client.HTTPResponse = urllib.request.urlopen(_request(url, have), timeout=TIMEOUT)  # noqa: S310  _request looks at the scheme
    except urllib.error.HTTPError as error:
        error.close()
        if error.code == http.client.REQUESTED_RANGE_NOT_SATISFIABLE:
            if error.headers.get("Content-Range") == f"bytes */{have}":
                return None
            part.unlink()
            raise _Cut("the part kept here is longer than the file there") from None
        if error.code in _TEMPORARY:
            raise _Cut(f"{error.code} {error.reason}") from None
        raise InputError(f"{url}: {error.code} {error.reason}; --url takes a mirror") from None
    except (http.client.InvalidURL, ValueError) as error:
        raise InputError(f"{url!r}: is no address: {_said(error)}") from None
    except (OSError, http.client.HTTPException) as error:
        raise _Cut(_said(error)) from None
    return answer


def _request(url: str, have: int) -> urllib.request.Request:
    if urllib.parse.urlsplit(url).scheme not in ("http", "https"):
        raise InputError(f"{url}: is no http or https address")
    headers = {"User-Agent": f"fgsearch/{version('fgsearch')}", "Accept-Encoding": "identity"}
    return urllib.request.Request(url, headers=headers | ({"Range": f"bytes={have}-"} if have else {}))  # noqa: S310


def _extent(remote: Remote, answer: http.client.HTTPResponse, have: int) -> tuple[int, int | None]:
    """Return where the answer's bytes begin and how many the whole file has, None where the server does not say."""
    if answer.status == http.client.PARTIAL_CONTENT:
        told = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", answer.headers.get("Content-Range", ""))
        if told is None or int(told[1]) != have:
            raise InputError(f"{remote.url}: was asked for bytes from {have:,} and answered with others")
        start, total = have, None if told[2] == "*" else int(told[2])
    else:
        length = answer.headers.get("Content-Length", "")
        start, total = 0, int(length) if length.isdecimal() else None
    if total is not None and remote.size not in (None, total):
        raise InputError(f"{remote.url}: has {total:,} bytes, not {remote.size:,}: another file, or an error page")
    return start, total if total is not None else remote.size


def _copy(
    remote: Remote, answer: http.client.HTTPResponse, file: IO[bytes], total: int | None, progress: Progress,
) -> None:
    name, done = Path(urllib.parse.urlsplit(remote.url).path).name, file.tell()
    file.truncate()
    while chunk := _read(answer):
        done += len(chunk)
        if done > (total or LARGEST):
            raise InputError(f"{remote.url}: sends more than {total or LARGEST:,} bytes")
        file.write(chunk)
        progress(name, done, total or done)
    if total is not None and done < total:
        raise _Cut(f"the connection ended after {done:,} of {total:,} bytes")


def _read(answer: http.client.HTTPResponse) -> bytes:
    try:
        return answer.read1(_CHUNK)
    except (OSError, http.client.HTTPException, ValueError) as error:   # ValueError: a chunk's length that is no number
        raise _Cut(_said(error)) from None


def _require_content(remote: Remote, part: Path) -> None:
    digest = _digest(part)
    if digest not in remote.sha256:
        part.unlink()
        raise InputError(
            f"{remote.url}: has the sha256 {digest}, not {' or '.join(remote.sha256)}; it was deleted. "
            "Try again, or accept it with --sha256, if you trust where it comes from",
        )


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _said(error: Exception) -> str:
    reason = getattr(error, "reason", error)
    text = getattr(reason, "strerror", None) or str(reason)
    return " ".join(text.split()) or type(error).__name__
