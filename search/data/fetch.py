"""Downloads a published data set and unpacks it: whole under its name, or not there at all."""

import gzip
import lzma
import shutil
import tarfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from fgmodel.lock import Held, hold
from fgmodel.progress import Progress, silent
from search.data.download import Remote, download
from search.errors import InputError, writing

MOST_FILES = 200_000            # in an archive
MOST_UNPACKED = 16 << 30        # bytes of an archive, unpacked
_UNPACKED = 1.1                 # of an archive's size: pictures are compressed already


@dataclass(frozen=True)
class Archive:
    """A published tar file; size and sha256 are those that TensorFlow Datasets records for it."""

    file: str
    size: int
    sha256: str


@dataclass(frozen=True)
class Source:
    """A data set as it is published."""

    title: str
    url: str                        # of the folder that holds the archives
    archives: tuple[Archive, ...]
    folder: str                     # its name here
    space: str                      # that searches on it
    inner: str = ""                 # the folder within the archives that becomes it; the rest is not kept

    @property
    def size(self) -> int:
        """Bytes to download."""
        return sum(archive.size for archive in self.archives)


SOURCES = {
    "cub": Source(
        "CUB-200-2011", "https://data.caltech.edu/records/65de6-vp158/files/",
        (Archive(
            "CUB_200_2011.tgz", 1_150_585_339,
            "0c685df5597a8b24909f6a7c9db6d11e008733779a671760afef78feb49bf081",
        ),),
        "CUB_200_2011", "cub-frozen", "CUB_200_2011",
    ),
    "dogs": Source(
        "Stanford Dogs", "http://vision.stanford.edu/aditya86/ImageNetDogs/",
        (
            Archive(
                "images.tar", 793_579_520,
                "a443fc2f9a851aa1a7b8e4fa4af94b8459fce2c9f5a2f4dd4669cf9673a4ec58",
            ),
            Archive(
                "lists.tar", 481_280,
                "34b47cacd9a98b5d150e084f24d29391c084c55272295ec65c85651bc35f4d6c",
            ),
        ),
        "stanford_dogs", "dogs",
    ),
}
"""By `data.dataset`. Stanford serves without TLS, so the sha256 is all that vouches for its files."""


def fetch(
    source: Source, to: Path, *, url: str | None = None, accepted: Sequence[str] = (), progress: Progress = silent,
) -> Path:
    """Return the folder of the data set below `to`, downloaded and unpacked unless it is there already.

    `url` is a mirror's folder; `accepted` are further sha256 that its archives may have. Killed at any moment, the
    next call goes on. Raises InputError.
    """
    root = to / source.folder
    if root.exists():
        return root
    with _alone(to, source):
        _require_room(source, to)
        for archive in source.archives:
            address = f"{(url or source.url).removesuffix(archive.file).rstrip('/')}/{archive.file}"
            size = None if accepted else archive.size
            download(Remote(address, size, (archive.sha256, *accepted)), to / archive.file, progress)
        with writing(root):
            _unpack_all(source, to, root, progress)
            for archive in source.archives:
                (to / archive.file).unlink()
    return root


def _alone(to: Path, source: Source) -> Held:
    """Keep another process from fetching the same into the same folder."""
    with writing(to):
        to.mkdir(parents=True, exist_ok=True)
        return hold(to / f".{source.folder}", InputError(f"{to}: another process is fetching {source.title} to it"))


def _require_room(source: Source, to: Path) -> None:
    here = sum((to / f"{a.file}{end}").stat().st_size for a in source.archives for end in ("", ".part")
               if (to / f"{a.file}{end}").exists())
    needed, free = int(source.size * (1 + _UNPACKED)) - here, shutil.disk_usage(to).free
    if needed > free:
        raise InputError(f"{to}: {source.title} needs {needed / 1e9:.1f} GB and {free / 1e9:.1f} GB are free")


def _unpack_all(source: Source, to: Path, root: Path, progress: Progress) -> None:
    unpacked = to / f"{source.folder}.part"
    shutil.rmtree(unpacked, ignore_errors=True)   # of a process that was killed
    unpacked.mkdir()
    for archive in source.archives:
        unpack(to / archive.file, unpacked, progress)
    if not (unpacked / source.inner).is_dir():
        raise InputError(f"{to / source.archives[0].file}: holds no {source.inner}/")
    (unpacked / source.inner).replace(root)   # not synced file by file: fgsearch data check decodes every image
    shutil.rmtree(unpacked, ignore_errors=True)


def unpack(archive: Path, to: Path, progress: Progress = silent) -> None:
    """Unpack a tar file of plain files into `to`; nothing it holds can reach outside or grow beyond bounds.

    Raises InputError: for a name that leaves `to`, a link or a device, an archive too large or damaged.
    """
    try:
        with archive.open("rb") as raw, tarfile.open(fileobj=raw, mode="r:*") as tar:
            size, whole = 0, archive.stat().st_size
            for count, member in enumerate(tar, 1):
                size += member.size
                _require_plain(archive, member, count, size)
                tar.extract(member, to, filter="data")
                progress(f"{archive.name} unpacked", min(raw.tell(), whole - 1), whole)   # it is read ahead
            progress(f"{archive.name} unpacked", whole, whole)
    except tarfile.FilterError as error:
        raise InputError(f"{archive}: holds {error.tarinfo.name!r}, which would be unpacked elsewhere") from None
    except (tarfile.TarError, EOFError, zlib.error, lzma.LZMAError, gzip.BadGzipFile) as error:
        raise InputError(f"{archive}: is damaged, or no tar file ({' '.join(str(error).split())}); delete it") from None


def _require_plain(archive: Path, member: tarfile.TarInfo, count: int, size: int) -> None:
    if not (member.isreg() or member.isdir()):
        raise InputError(f"{archive}: holds {member.name!r}, which is neither a file nor a folder")
    if count > MOST_FILES or size > MOST_UNPACKED:
        raise InputError(f"{archive}: unpacks to more than {MOST_FILES:,} files or {MOST_UNPACKED >> 30} GB")
