"""The whole bundle on disk: it comes back as it was written; whatever was done to it is refused, naming the file."""

import io
import json
import shutil
import struct
import tracemalloc
import zipfile
from pathlib import Path

import pytest

from search.errors import InputError
from search.export.bundle import write_bundle
from search.export.packing import BOXES, IMAGES, LARGEST, MANIFEST, SETTINGS, Image, lines, pack, unpack
from tests.search.test_properties_bundles import WHOLE

IMAGE_LIST = [Image(image="wren/Vögel 1.png", label="wren", part="train", fold=2, sha256="ab"), Image(image="wren/2.png", label="wren", part="test", sha256="cd")]
BESIDE = {IMAGES: lines(IMAGE_LIST), BOXES["train"]: b"boxes", "README.md": b"# Trial 3\n", "requirements.txt": b"torch==2\n", "code.diff": b"+ x\n"}


def same(bundle) -> bool:
    """Whether it is the one that was written; a list of milestones comes back as a list, in settings as in YAML."""
    return (bundle.origin, bundle.config()) == (WHOLE.origin, WHOLE.config())


@pytest.fixture
def folder(tmp_path) -> Path:
    pack(WHOLE, BESIDE, tmp_path / "best")
    return tmp_path / "best"


@pytest.fixture
def zipped(tmp_path) -> Path:
    pack(WHOLE, BESIDE, tmp_path / "best.zip")
    return tmp_path / "best.zip"


@pytest.mark.parametrize("name", ["best", "best.zip"])
def test_a_bundle_comes_back_as_it_was_written(name, tmp_path):
    pack(WHOLE, BESIDE, tmp_path / name)
    packed = unpack(tmp_path / name)
    assert same(packed.bundle)
    assert packed.images == tuple(IMAGE_LIST)
    assert packed.digests == {"wren/Vögel 1.png": "ab", "wren/2.png": "cd"}
    assert {file: packed.files[file] for file in BESIDE} == BESIDE


def test_a_lone_yaml_file_is_a_bundle_with_nothing_beside_it(tmp_path):
    write_bundle(WHOLE, tmp_path / "best.yaml")
    packed = unpack(tmp_path / "best.yaml")
    assert same(packed.bundle)
    assert (packed.images, packed.boxes(tmp_path)) == ((), None)


def test_the_same_bundle_is_the_same_zip(zipped, tmp_path):
    first = zipped.read_bytes()
    zipped.unlink()
    pack(WHOLE, BESIDE, zipped)
    assert zipped.read_bytes() == first


def test_a_folder_is_written_over_a_bundle_but_over_nothing_else(folder, tmp_path):
    pack(WHOLE, {}, folder)
    assert sorted(file.name for file in folder.iterdir()) == [SETTINGS, MANIFEST]
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.docx").touch()
    with pytest.raises(InputError, match="mine: holds other things than a bundle"):
        pack(WHOLE, BESIDE, tmp_path / "mine")
    assert [file.name for file in (tmp_path / "mine").iterdir()] == ["thesis.docx"]


def test_a_folder_that_was_half_written_is_no_bundle(folder):
    (folder / MANIFEST).unlink()
    with pytest.raises(InputError, match=r"best: is a folder without manifest.json; is it one that fgsearch export --bundle wrote\?$"):
        unpack(folder)


def test_boxes_are_put_where_a_patch_file_is_looked_for_and_left_alone_when_there(folder, tmp_path):
    place = unpack(folder).boxes(tmp_path / "model")
    written = (place / "train.npz").stat().st_mtime_ns
    assert (place / "train.npz").read_bytes() == b"boxes"
    unpack(folder).boxes(tmp_path / "model")
    assert (place / "train.npz").stat().st_mtime_ns == written


def test_a_folder_that_another_program_zipped_is_the_same_bundle(folder, tmp_path):
    path = Path(shutil.make_archive(str(tmp_path / "again"), "zip", folder))
    assert "patches/" in zipfile.ZipFile(path).namelist()   # an entry for the folder itself, which pack does not write
    assert unpack(path).files == unpack(folder).files


@pytest.mark.parametrize("name", sorted(LARGEST.keys() - {MANIFEST, BOXES["test"]}))
def test_a_file_changed_by_hand_is_named(name, folder):
    (folder / name).write_bytes((folder / name).read_bytes() + b" ")
    with pytest.raises(InputError, match=f"best: {name} was changed by hand: its sha256 is not that of manifest.json"):
        unpack(folder)


def test_a_file_taken_out_or_put_in_is_named(folder):
    (folder / IMAGES).unlink()
    with pytest.raises(InputError, match=r"best: images.jsonl is missing, which manifest.json lists"):
        unpack(folder)
    (folder / IMAGES).write_bytes(BESIDE[IMAGES])
    (folder / BOXES["test"]).write_bytes(b"mine")
    with pytest.raises(InputError, match=r"best: patches/test.npz was added by hand: manifest.json does not list it"):
        unpack(folder)


def test_a_link_in_a_folder_is_not_followed(folder, tmp_path):
    shutil.move(folder / IMAGES, tmp_path / "elsewhere")
    (folder / IMAGES).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(InputError, match=r"best: images.jsonl is no plain file"):
        unpack(folder)


@pytest.mark.parametrize("manifest", [b"", b"[]", b"{}", b"null", b'{"format": 2, "files": {}}', b'{"format": 1, "files": [1]}', b'{"format": 1, "files": {"a": 1}}', b"[" * 10_000])
def test_a_manifest_that_is_none_is_named(manifest, folder):
    (folder / MANIFEST).write_bytes(manifest)
    with pytest.raises(InputError, match=rf"^{folder}: .*{MANIFEST}") as refusal:
        unpack(folder)
    assert "\n" not in str(refusal.value)


def zip_of(members: dict[str, bytes], change=lambda entry: None) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            entry = zipfile.ZipInfo(name)
            change(entry)
            archive.writestr(entry, content, zipfile.ZIP_DEFLATED)
    return file.getvalue()


def lying_about_its_size(size: int) -> bytes:
    """Return a zip whose README.md inflates to 64 MB and says it has `size` bytes."""
    content = bytearray(zip_of({"README.md": bytes(64 << 20)}))
    central = content.index(b"PK\x01\x02")
    struct.pack_into("<I", content, central + 24, size)
    struct.pack_into("<I", content, 22, size)
    return bytes(content)


OUTSIDE = ["../../outside.yaml", "/etc/passwd", "bundle.yaml/../../x", "..\\x", "best/bundle.yaml", "C:\\x", "./bundle.yaml", ""]


@pytest.mark.parametrize("name", OUTSIDE)
def test_a_zip_cannot_name_a_file_outside_itself(name, tmp_path):
    (tmp_path / "in").mkdir()
    path = tmp_path / "in" / "best.zip"
    path.write_bytes(zip_of({name: b"x"}))
    with pytest.raises(InputError, match="does not belong in a bundle; it has"):
        unpack(path)
    assert [file.name for file in tmp_path.rglob("*") if file.is_file()] == ["best.zip"]


@pytest.mark.parametrize(("content", "said"), [
    pytest.param(b"hello", "is no whole zip file", id="no zip"),
    pytest.param(b"", "is no whole zip file", id="empty"),
    pytest.param(zip_of({"README.md": bytes(1 << 20)}), r"README.md has 1,048,576 bytes; in a bundle it has 65,536 at most", id="a bomb"),
    pytest.param(lying_about_its_size(1000), "is no whole zip file: Bad CRC-32 for file 'README.md'", id="a bomb that says it is small"),
    pytest.param(zip_of({"README.md": b"x"})[:-30], "is no whole zip file", id="cut short"),
    pytest.param(zip_of({"README.md": b"x"}), "has no manifest.json", id="no manifest"),
    pytest.param(zip_of({MANIFEST: b'{"format": 1, "files": {}}'}), "has no bundle.yaml", id="nothing but a manifest"),
    pytest.param(zip_of({"README.md": b"x"}).replace(b"\x00\x00\x08\x00", b"\x01\x00\x08\x00"), "README.md is encrypted", id="encrypted"),
])  # fmt: skip
def test_a_zip_that_is_none_of_ours_is_refused_in_one_line(content, said, tmp_path):
    path = tmp_path / "best.zip"
    path.write_bytes(content)
    with pytest.raises(InputError, match=said) as refusal:
        unpack(path)
    assert str(refusal.value).startswith(f"{path}: ")
    assert "\n" not in str(refusal.value)


def test_two_members_of_one_name_are_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "best.zip", "w") as archive:
        archive.writestr("README.md", b"x")
        with pytest.warns(UserWarning, match="Duplicate"):
            archive.writestr("README.md", b"y")
    with pytest.raises(InputError, match="holds two files of one name"):
        unpack(tmp_path / "best.zip")


def test_a_bomb_is_not_inflated(tmp_path):
    path = tmp_path / "best.zip"
    path.write_bytes(lying_about_its_size(1000))
    tracemalloc.start()
    with pytest.raises(InputError):
        unpack(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4 << 20


def test_a_list_of_images_that_is_none_is_refused_with_its_line(tmp_path):
    pack(WHOLE, {**BESIDE, IMAGES: BESIDE[IMAGES] + b'{"image": 1}\n'}, tmp_path / "best")
    with pytest.raises(InputError, match=r"best: images.jsonl:3: is no image of a bundle"):
        unpack(tmp_path / "best")


def test_what_cannot_be_written_is_one_line(tmp_path):
    (tmp_path / "file").touch()
    for to in ("file/best.zip", "file/best", "missing/best.zip", "missing/best"):
        with pytest.raises(InputError, match=rf"^{tmp_path / to}: cannot be written: "):
            pack(WHOLE, BESIDE, tmp_path / to)


def test_the_manifest_gives_the_digest_of_every_file(folder):
    told = json.loads((folder / MANIFEST).read_text())["files"]
    assert told.keys() == BESIDE.keys() | {SETTINGS}
    assert told["requirements.txt"] == "c49345c98c684410a2c0b2cb96c5408c3593ef84b18d67055b373ea4a37d557d"  # sha256sum's
