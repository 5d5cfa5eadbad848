import os
import subprocess
import sys
import zlib

import numpy as np
import pytest
from PIL import Image

from fgmodel.config import DataConfig
from fgmodel.data.datasets import cut_validation, open_dataset, split_hash
from fgmodel.data.images import NotAnImage, read_rgb
from fgmodel.errors import InputError


def cub(root, **more):
    return DataConfig(dataset="cub", root=str(root), **more)


def pets(root, **more):
    return DataConfig(dataset="folders", root=str(root), **more)


# --- what is read -----------------------------------------------------------------------------------------------------

@pytest.mark.slow
def test_cub10_has_its_official_split(cub10, tmp_path):
    dataset = open_dataset(cub(cub10), tmp_path)
    assert (len(dataset.rows("train")), len(dataset.rows("test"))) == (300, 243)
    assert len(dataset.classes) == 10
    assert dataset.classes[0] == "001.Black_footed_Albatross"
    assert list(dataset.names) == sorted(dataset.names)


def test_a_cub_folder_is_read_as_its_lists_say(tiny_cub, tmp_path):
    dataset = open_dataset(cub(tiny_cub), tmp_path)
    assert dataset.classes == ("001.Wren", "002.Robin")
    assert dataset.names[:2] == ("001.Wren/Wren_0.png", "001.Wren/Wren_1.png")
    assert dataset.labels.tolist() == [0] * 6 + [1] * 6
    assert dataset.train.tolist() == [True] * 4 + [False] * 2 + [True] * 4 + [False] * 2
    assert dataset.image(0).size == (24, 20)


def test_folders_without_a_split_give_a_fifth_of_each_class_to_test(folders, tmp_path):
    dataset = open_dataset(pets(folders), tmp_path)
    assert np.bincount(dataset.labels[~dataset.train]).tolist() == [2, 2]


def test_the_test_split_of_plain_folders_follows_the_data_seed_and_is_in_the_fingerprint(folders, tmp_path):
    first, again, other = (open_dataset(pets(folders, seed=seed), tmp_path) for seed in (0, 0, 1))
    assert first.names_of("test") == again.names_of("test") != other.names_of("test")
    assert first.fingerprint == again.fingerprint != other.fingerprint


@pytest.mark.parametrize("held_out", ["test", "val"])
def test_train_and_test_folders_are_the_split(held_out, tmp_path, paint):
    for split, count in (("train", 3), (held_out, 1)):
        for name in ("b", "a"):
            for number in range(count):
                paint(tmp_path / "set" / split / name / f"{number}.png")
    dataset = open_dataset(pets(tmp_path / "set"), tmp_path)
    assert dataset.classes == ("a", "b")
    assert dataset.names_of("train")[:2] == ("train/a/0.png", "train/a/1.png")
    assert dataset.names_of("test") == (f"{held_out}/a/0.png", f"{held_out}/b/0.png")


def test_a_changed_file_changes_the_fingerprint_and_a_touched_one_does_not(tiny_cub, tmp_path, paint):
    before = open_dataset(cub(tiny_cub), tmp_path).fingerprint
    image = tiny_cub / "images" / "001.Wren" / "Wren_0.png"
    os.utime(image, ns=(1, 1))
    assert open_dataset(cub(tiny_cub), tmp_path).fingerprint == before
    paint(image, size=(30, 30))
    assert open_dataset(cub(tiny_cub), tmp_path).fingerprint != before


def test_files_are_examined_once(tiny_cub, tmp_path):
    told = []
    for _ in range(2):
        open_dataset(cub(tiny_cub), tmp_path, lambda *told_now: told.append(told_now))
    assert [done for what, done, _ in told if what == "images examined"][-1] == 12
    assert sum(done == 12 for _, done, _ in told) == 1


def test_a_damaged_index_is_worked_out_again(tiny_cub, tmp_path):
    before = open_dataset(cub(tiny_cub), tmp_path).fingerprint
    (index,) = (tmp_path / "digests").glob("*.json")
    index.write_text('{"001.Wren/Wren_0.png": [1')
    assert open_dataset(cub(tiny_cub), tmp_path).fingerprint == before


# --- the validation cut -----------------------------------------------------------------------------------------------

@pytest.mark.slow
def test_a_validation_cut_takes_its_share_of_each_class(tmp_path):
    data = DataConfig(dataset="finches", validation=0.2)
    dataset = open_dataset(data, tmp_path)
    (fold,) = cut_validation(dataset, data)
    labels = dataset.labels[dataset.train]
    assert (len(fold.train), len(fold.validation)) == (504, 126)   # of 630
    assert set(np.bincount(labels[fold.validation])) == {10, 11}   # a fifth of 52 and of 53
    assert sorted([*fold.train, *fold.validation]) == list(range(630))


def test_folds_validate_on_each_image_once(tiny_cub, tmp_path):
    data = cub(tiny_cub, folds=4)
    folds = cut_validation(open_dataset(data, tmp_path), data)
    assert sorted(np.concatenate([fold.validation for fold in folds])) == list(range(8))
    for fold in folds:
        assert not set(fold.train) & set(fold.validation)
        assert [int(row >= 4) for row in fold.validation] == [0, 1]   # one of each class


def test_the_split_hash_follows_the_images_in_each_part(tiny_cub, tmp_path):
    def hash_of(**settings):
        data = cub(tiny_cub, **settings)
        dataset = open_dataset(data, tmp_path)
        return split_hash(dataset.names_of("train"), cut_validation(dataset, data))

    assert hash_of() == hash_of()
    assert len({hash_of(), hash_of(folds=2), hash_of(folds=4), hash_of(validation=0.5)}) == 4
    assert hash_of().startswith("sha256:")


@pytest.mark.parametrize(("settings", "says"), [
    pytest.param({"validation": 0.9}, "class '001.Wren' has 4 images to train on, too few to hold out 0.9", id="share"),
    pytest.param({"folds": 5}, "class '001.Wren' has 4 images to train on, fewer than data.folds: 5", id="folds"),
])
def test_too_few_images_to_validate_are_refused(tiny_cub, tmp_path, settings, says):
    data = cub(tiny_cub, **settings)
    with pytest.raises(InputError, match=says):
        cut_validation(open_dataset(data, tmp_path), data)


# --- what is refused --------------------------------------------------------------------------------------------------

def append(file, line):
    with file.open("a") as opened:
        opened.write(line)


def drop_robin(root):
    for name in ("images.txt", "image_class_labels.txt", "train_test_split.txt", "classes.txt"):
        lines = (root / name).read_text().splitlines(keepends=True)
        (root / name).write_text("".join(lines[: len(lines) // 2]))
    for image in (root / "images" / "002.Robin").iterdir():
        image.unlink()


def no_training_robins(root):
    split = (root / "train_test_split.txt").read_text().splitlines()
    (root / "train_test_split.txt").write_text("\n".join(split[:6] + [f"{i} 0" for i in range(7, 13)]))


@pytest.mark.parametrize(("spoil", "says"), [
    pytest.param(lambda r: (r / "images.txt").unlink(), "is no CUB-200-2011 folder: images.txt missing", id="no list"),
    pytest.param(lambda r: (r / "classes.txt").write_text(""), "classes.txt is empty", id="empty list"),
    pytest.param(lambda r: append(r / "images.txt", "nonsense\n"), r"images.txt:13: 'nonsense' should be", id="no pair"),
    pytest.param(lambda r: append(r / "images.txt", "1 a.png\n"), "images.txt:13: '1 a.png' should be an id not used",
                 id="id twice"),
    pytest.param(lambda r: append(r / "image_class_labels.txt", "99 1\n"),
                 "image 99 is in image_class_labels.txt but not in images.txt", id="ids differ"),
    pytest.param(lambda r: append(r / "images.txt", "13 002.Robin/x.png\n"),
                 "image 13 is in images.txt but not in image_class_labels.txt", id="label missing"),
    pytest.param(lambda r: (r / "classes.txt").write_text("1 001.Wren\n"), "has '2', which is no class of classes.txt",
                 id="unknown class"),
    pytest.param(lambda r: (r / "train_test_split.txt").write_text("".join(f"{i} 2\n" for i in range(1, 13))),
                 r"has '2', which is neither 1 \(train\) nor 0 \(test\)", id="unknown split"),
    pytest.param(lambda r: (r / "images/001.Wren/Wren_1.png").unlink(),
                 r"images.txt lists 001.Wren/Wren_1.png, which is not in images/ \(1 such\)", id="file missing"),
    pytest.param(lambda r: (r / "images/001.Wren/Wren_1.png").copy(r / "images/001.Wren/new.png")
                 if hasattr(r, "copy") else (r / "images/001.Wren/new.png").write_bytes(b"x"),
                 r"images/001.Wren/new.png is not listed in images.txt \(1 such\)", id="file not listed"),
    pytest.param(drop_robin, "holds one class, '001.Wren'; at least two", id="one class"),
    pytest.param(no_training_robins, "class '002.Robin' has no usable train image", id="class without training images"),
])
def test_a_folder_that_is_no_cub_is_refused(tiny_cub, tmp_path, spoil, says):
    spoil(tiny_cub)
    with pytest.raises(InputError, match=says) as refused:
        open_dataset(cub(tiny_cub), tmp_path)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(("data", "says"), [
    pytest.param(cub("nowhere"), "data.root: 'nowhere' is no folder; give the one that holds images.txt", id="missing"),
    pytest.param(cub(""), "data.root is not set", id="not set"),
    pytest.param(pets("nowhere"), "data.root: 'nowhere' is no folder; give the one that holds train/", id="folders"),
])
def test_a_missing_root_is_refused(data, says, tmp_path):
    with pytest.raises(InputError, match=says):
        open_dataset(data, tmp_path)


def test_folders_are_refused_for_what_they_lack(tmp_path, paint):
    root = tmp_path / "set"
    root.mkdir()
    with pytest.raises(InputError, match="holds no folders named after classes"):
        open_dataset(pets(root), tmp_path)
    paint(root / "train" / "a" / "0.png")
    with pytest.raises(InputError, match="holds train/ but neither test/ nor val/"):
        open_dataset(pets(root), tmp_path)
    paint(root / "test" / "b" / "0.png")
    with pytest.raises(InputError, match="class 'a' is not in both train/ and test/"):
        open_dataset(pets(root), tmp_path)
    (root / "test" / "a").mkdir()
    with pytest.raises(InputError, match="class 'a' is empty"):
        open_dataset(pets(root), tmp_path)


def test_a_class_of_one_image_cannot_be_split(folders, tmp_path, paint):
    paint(folders / "emu" / "0.png")
    with pytest.raises(InputError, match="class 'emu' has one image"):
        open_dataset(pets(folders), tmp_path)


# --- files that are no usable image -----------------------------------------------------------------------------------

def truncated(path):
    path.write_bytes(path.read_bytes()[:400])


def bomb(path):
    def chunk(kind, body):
        return len(body).to_bytes(4, "big") + kind + body + zlib.crc32(kind + body).to_bytes(4, "big")

    header = (30_000).to_bytes(4, "big") + (30_000).to_bytes(4, "big") + bytes([8, 0, 0, 0, 0])
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"") + chunk(b"IEND", b""))


def folder_instead(path):
    path.unlink()
    path.symlink_to(path.parent)


BAD_FILES = [
    pytest.param(truncated, "cannot be decoded", id="truncated"),
    pytest.param(lambda p: p.write_text("hello"), "is not an image", id="no image"),
    pytest.param(lambda p: p.write_bytes(b""), "is not an image", id="empty"),
    pytest.param(lambda p: Image.new("RGB", (1, 1)).save(p), "is 1x1 pixels; at least 8x8", id="1x1"),
    pytest.param(lambda p: Image.new("RGB", (300, 7)).save(p), "is 300x7 pixels", id="thin"),
    pytest.param(bomb, "claims more than 89,478,485 pixels", id="bomb"),
    pytest.param(lambda p: Image.fromarray(np.zeros((9, 9), np.float32)).save(p, "TIFF"), "holds floating-point", id="float"),
]


@pytest.mark.parametrize(("spoil", "says"), BAD_FILES)
def test_an_unusable_file_is_named_or_left_out(tiny_cub, tmp_path, spoil, says):
    name = "001.Wren/Wren_0.png"
    spoil(tiny_cub / "images" / name)
    with pytest.raises(InputError) as refused:
        open_dataset(cub(tiny_cub), tmp_path)
    assert f"{name} {says}" in str(refused.value)
    assert "data.bad_images: skip" in str(refused.value)
    assert "\n" not in str(refused.value)
    dataset = open_dataset(cub(tiny_cub, bad_images="skip"), tmp_path)
    assert len(dataset.names) == 11
    assert len(dataset.skipped) == 1
    assert name in dataset.skipped[0]


def test_a_file_that_may_not_be_read_is_named(tiny_cub, tmp_path):
    tmp_path.chmod(0o777)
    (tiny_cub / "images" / "001.Wren" / "Wren_0.png").chmod(0)
    script = (
        "import os, sys\n"
        "from fgmodel.data.images import NotAnImage, read_rgb\n"
        "from pathlib import Path\n"
        "if os.geteuid() == 0: os.seteuid(65534)\n"
        "try: read_rgb(Path(sys.argv[1]))\n"
        "except NotAnImage as problem: print(problem)\n"
    )
    path = tiny_cub / "images" / "001.Wren" / "Wren_0.png"
    for folder in path.parents:
        if folder != folder.parent and "pytest" in str(folder):
            folder.chmod(0o755)
    told = subprocess.run([sys.executable, "-c", script, path], capture_output=True, text=True, check=True)
    assert told.stdout.strip() == "may not be read; check its permissions"


def test_a_class_emptied_by_skipping_is_refused(tiny_cub, tmp_path):
    for k in range(4):
        (tiny_cub / "images" / "001.Wren" / f"Wren_{k}.png").write_text("hello")
    with pytest.raises(InputError, match=r"class '001.Wren' has no usable train image"):
        open_dataset(cub(tiny_cub, bad_images="skip"), tmp_path)


def test_a_file_repaired_is_looked_at_again(tiny_cub, tmp_path, paint):
    path = tiny_cub / "images" / "001.Wren" / "Wren_0.png"
    path.write_text("hello")
    with pytest.raises(InputError):
        open_dataset(cub(tiny_cub), tmp_path)
    paint(path)
    assert len(open_dataset(cub(tiny_cub), tmp_path).names) == 12


def shades(mode):
    """A picture whose left half is black and whose right half is a middle grey, in that mode."""
    grey = Image.new("L", (16, 16))
    grey.paste(128, (8, 0, 16, 16))
    if mode == "I;16":
        return Image.fromarray(np.asarray(grey).astype(np.uint16) * 257)
    if mode == "P":
        return grey.convert("RGB").quantize(2)
    return grey.convert("RGB").convert(mode) if mode in ("CMYK", "RGBA", "YCbCr") else grey.convert(mode)


@pytest.mark.parametrize(("mode", "suffix"), [
    ("L", "png"), ("P", "png"), ("RGBA", "png"), ("I;16", "png"), ("I;16", "tiff"), ("CMYK", "tiff"), ("CMYK", "jpg"),
    ("LA", "png"), ("YCbCr", "jpg"),
])
def test_every_mode_becomes_rgb_of_the_same_shades(mode, suffix, tmp_path):
    path = tmp_path / f"picture.{suffix}"
    shades(mode).save(path)
    image = read_rgb(path)
    assert image.mode == "RGB"
    assert image.getpixel((2, 8)) == pytest.approx((0, 0, 0), abs=3)
    assert image.getpixel((13, 8)) == pytest.approx((128, 128, 128), abs=3)


def test_transparency_shows_white(tmp_path):
    path = tmp_path / "picture.png"
    Image.new("RGBA", (16, 16), (255, 0, 0, 0)).save(path)
    assert read_rgb(path).getpixel((8, 8)) == (255, 255, 255)


def test_32_bit_pixels_are_no_image(tmp_path):
    path = tmp_path / "picture.tiff"
    Image.fromarray(np.full((9, 9), 1 << 20, np.int32)).save(path)
    with pytest.raises(NotAnImage, match="32-bit"):
        read_rgb(path)
