"""The whole bundle: a folder or a zip with all that repeats a result, each file with its digest in manifest.json.

    README.md           what this is, how to use it, whose the parts are
    bundle.yaml         the configuration and its origin: search, seeds, digests, versions, journal
    images.jsonl        every image: class, part (train or test), validation fold, sha256
    patches/*.npz       the boxes of the train split; of test too where they came from a file
    requirements.txt    every installed package, as pip reads it
    code.diff           what was not committed of the code that ran
    manifest.json       sha256 of each of these

Only these names are read, each no larger than it can need to be, none unpickled; nothing is unpacked by a name that the
zip gives.
"""

import hashlib
import json
import shutil
import struct
import zipfile
import zlib
from collections.abc import Iterable, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from pydantic import ValidationError

from fgmodel import atomic
from fgmodel.frozen import Frozen
from search.errors import InputError, writing
from search.export.bundle import Bundle, as_yaml, bundle_of, write_bundle
from search.space.yaml_lines import document_of

MANIFEST, SETTINGS, IMAGES = "manifest.json", "bundle.yaml", "images.jsonl"
BOXES = {"train": "patches/train.npz", "test": "patches/test.npz"}
LARGEST = {  # bytes; a million images have 200 MB of names and digests
    MANIFEST: 1 << 16, "README.md": 1 << 16, SETTINGS: 1 << 17, IMAGES: 1 << 28, "requirements.txt": 1 << 20,
    "code.diff": 1 << 23, BOXES["train"]: 1 << 28, BOXES["test"]: 1 << 28,
}
FOLDERS = ("patches/",)  # entries that other programs write when they zip a folder; they hold nothing
_WHEN = (1980, 1, 1, 0, 0, 0)  # a zip's smallest: the same content is the same file
_FORMAT = 1
_BROKEN = (
    zipfile.BadZipFile, zipfile.LargeZipFile, zlib.error, struct.error, EOFError, NotImplementedError, RuntimeError,
)


class Image(Frozen):
    """A line of images.jsonl."""

    image: str
    label: str
    part: Literal["train", "test"]
    fold: int | None = None  # in which it validates
    sha256: str


@dataclass(frozen=True)
class Packed:
    """A bundle with what lay beside it; of a lone bundle.yaml that is nothing."""

    bundle: Bundle
    images: tuple[Image, ...] = ()
    files: Mapping[str, bytes] = field(default_factory=dict)

    @property
    def digests(self) -> dict[str, str]:
        """The sha256 of every image by its name."""
        return {each.image: each.sha256 for each in self.images}

    def copy(self, folder: Path) -> Path:
        """Return a copy below `folder`, one file."""
        path = folder / ("bundle.zip" if self.files else SETTINGS)
        with writing(path):
            folder.mkdir(parents=True, exist_ok=True)
            _write_zip(self.files, path) if self.files else write_bundle(self.bundle, path)
        return path

    def boxes(self, folder: Path) -> Path | None:
        """Return a folder with the patch files, written below `folder`; None where the bundle brings none."""
        brought = {name: self.files[name] for name in BOXES.values() if name in self.files}
        for name, content in brought.items():
            path = folder / name
            if not path.is_file() or path.read_bytes() != content:  # a new time would have features looked for again
                atomic.write(path, content)
        return folder / "patches" if brought else None


def pack(bundle: Bundle, beside: Mapping[str, bytes], to: Path) -> None:
    """Write a bundle with the files `beside` it: as a zip where `to` ends in .zip, else as a folder.

    Raises InputError: where it cannot be written, or something lies there that is no bundle.
    """
    files = {SETTINGS: as_yaml(bundle, to.name).encode(), **beside}
    assert files.keys() <= LARGEST.keys()
    digests = {name: _sha256(content) for name, content in sorted(files.items())}
    files[MANIFEST] = json.dumps({"format": _FORMAT, "files": digests}, indent=1).encode() + b"\n"
    with writing(to):
        _write_zip(files, to) if to.suffix == ".zip" else _write_folder(files, to)


def unpack(path: Path) -> Packed:
    """Return the bundle at `path`: a zip, a folder, or a lone YAML file.

    Raises InputError: naming the file in it that was changed by hand, is missing or does not belong there.
    """
    if path.is_dir():
        files = _verified(path, _of_folder(path))
    elif path.suffix == ".zip" or zipfile.is_zipfile(path):
        files = _verified(path, _of_zip(path))
    else:
        return Packed(bundle_of(document_of(str(path), _of_file(path))))
    bundle = bundle_of(document_of(f"{path}/{SETTINGS}", files[SETTINGS]))
    return Packed(bundle, tuple(_images(path, files.get(IMAGES, b""))), files)


def lines(images: Iterable[Image]) -> bytes:
    """Return images.jsonl."""
    return b"".join(each.model_dump_json(exclude_none=True).encode() + b"\n" for each in images)


# --- reading ----------------------------------------------------------------------------------------------------------

def _of_file(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(LARGEST[SETTINGS])
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from None


def _of_folder(path: Path) -> dict[str, bytes]:
    if not (path / MANIFEST).is_file():
        raise InputError(f"{path}: is a folder without {MANIFEST}; is it one that fgsearch export --bundle wrote?")
    found: dict[str, bytes] = {}
    for name, largest in LARGEST.items():
        file = path / name
        if file.is_symlink() or (file.exists() and not file.is_file()):
            raise InputError(f"{path}: {name} is no plain file")
        if file.is_file():
            _require_size(path, name, file.stat().st_size, largest)
            try:
                found[name] = file.read_bytes()
            except OSError as error:
                raise InputError(f"{path}: {name} cannot be read: {error.strerror}") from None
    return found


def _of_zip(path: Path) -> dict[str, bytes]:
    try:
        with closing(zipfile.ZipFile(path)) as archive:
            held = [each for each in archive.infolist() if each.filename not in FOLDERS]
            _require_members(path, held)
            return {each.filename: _of_member(archive, each) for each in held}
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror or error}") from None
    except (*_BROKEN, ValueError) as error:
        raise InputError(f"{path}: is no whole zip file: {str(error).splitlines()[0]}") from None


def _of_member(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> bytes:
    with archive.open(member) as file:
        return file.read(member.file_size + 1)  # inflated no further, whatever it would come to; its CRC is checked


def _require_members(path: Path, held: list[zipfile.ZipInfo]) -> None:
    if len({each.filename for each in held}) < len(held):
        raise InputError(f"{path}: holds two files of one name")
    for each in held:
        if each.filename not in LARGEST:
            raise InputError(f"{path}: {each.filename!r} does not belong in a bundle; it has {', '.join(LARGEST)}")
        _require_size(path, each.filename, each.file_size, LARGEST[each.filename])
        if each.flag_bits & 1:
            raise InputError(f"{path}: {each.filename} is encrypted")
        if each.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise InputError(f"{path}: {each.filename} is packed in a way that fgsearch export does not use")


def _require_size(path: Path, name: str, size: int, largest: int) -> None:
    if size > largest:
        raise InputError(f"{path}: {name} has {size:,} bytes; in a bundle it has {largest:,} at most")


def _verified(path: Path, files: dict[str, bytes]) -> dict[str, bytes]:
    """Return the files once each has the digest that the manifest gives, and none is missing or added."""
    digests = _manifest(path, files)
    for name in sorted(digests.keys() | files.keys() - {MANIFEST}):
        if name not in files:
            raise InputError(f"{path}: {name} is missing, which {MANIFEST} lists; export it again")
        if name not in digests:
            raise InputError(f"{path}: {name} was added by hand: {MANIFEST} does not list it; take it out")
        if _sha256(files[name]) != digests[name]:
            said = f"{name} was changed by hand: its sha256 is not that of {MANIFEST}"
            raise InputError(f"{path}: {said}; export it again, or give a changed {SETTINGS} to retrain by itself")
    if SETTINGS not in files:
        raise InputError(f"{path}: has no {SETTINGS}; is it one that fgsearch export --bundle wrote?")
    return files


def _manifest(path: Path, files: Mapping[str, bytes]) -> dict[str, str]:
    try:
        said = json.loads(files[MANIFEST])
        if said["format"] == _FORMAT and all(isinstance(value, str) for value in said["files"].values()):
            return dict(said["files"])
    except KeyError:
        raise InputError(f"{path}: has no {MANIFEST}; is it one that fgsearch export --bundle wrote?") from None
    except (ValueError, TypeError, AttributeError, RecursionError):
        pass  # said below: it is one mistake, however it shows
    raise InputError(f"{path}: {MANIFEST} is not as fgsearch export writes it (format {_FORMAT})")


def _images(path: Path, content: bytes) -> Iterable[Image]:
    for number, line in enumerate(content.splitlines(), 1):
        try:
            yield Image.model_validate_json(line)
        except ValidationError:
            raise InputError(f"{path}: {IMAGES}:{number}: is no image of a bundle") from None


# --- writing ----------------------------------------------------------------------------------------------------------

def _write_zip(files: Mapping[str, bytes], to: Path) -> None:
    with atomic.whole(to) as file, zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in sorted(files.items()):
            entry = zipfile.ZipInfo(name, _WHEN)
            entry.external_attr = 0o644 << 16
            archive.writestr(entry, content, zipfile.ZIP_DEFLATED)


def _write_folder(files: Mapping[str, bytes], to: Path) -> None:
    if to.exists() and not (to.is_dir() and (not any(to.iterdir()) or (to / MANIFEST).is_file())):
        raise InputError(f"{to}: holds other things than a bundle; name a new folder, or a file that ends in .zip")
    to.mkdir(exist_ok=True)
    (to / MANIFEST).unlink(missing_ok=True)  # what is half written is no bundle: the manifest comes last
    for name in LARGEST.keys() - files.keys():
        (to / name).unlink(missing_ok=True)
    for name in sorted(files, key=lambda name: name == MANIFEST):
        atomic.write(to / name, files[name])
    for empty in {(to / name).parent for name in BOXES.values()}:
        if empty.is_dir() and not any(empty.iterdir()):
            shutil.rmtree(empty)


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
