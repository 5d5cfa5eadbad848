"""Shapes are checked in every test; real birds where they are at hand; a few pictures where they are not."""

import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from pkgutil import iter_modules
from typing import Any

import numpy as np
import pytest
from hypothesis import configuration, settings
from jaxtyping import install_import_hook
from PIL import Image

if processes := os.environ.get("PYTEST_XDIST_WORKER_COUNT"):  # before torch: else each of them, and each program that a
    os.environ["OMP_NUM_THREADS"] = str(max(1, (os.cpu_count() or 1) // int(processes)))  # test starts, spins on every core
# Before the first import of fgmodel. Without config, which has no tensors but typing.Self, which beartype cannot check there.
MODULES = [m.name for m in iter_modules([str(Path(__file__).parents[1] / "fgmodel")]) if m.name != "config"]
install_import_hook([f"fgmodel.{name}" for name in MODULES], "beartype.beartype")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
SCREENSHOTS = Path(__file__).parent / "screenshots"
settings.register_profile("same", derandomize=True, database=None, print_blob=False)   # the same cases in every run
settings.load_profile("same")


def pytest_configure(config: pytest.Config) -> None:
    if not config.getoption("numprocesses", None):  # a process that tests, and not one that only hands tests out
        # The hook keeps bytecode of its own, also for whatever a module of fgmodel imports first: 1,400 modules of these
        # would be compiled anew, 5 s in each process.
        import timm  # noqa: F401
        import torchvision  # noqa: F401
    configuration.set_hypothesis_home_dir(config.rootpath / ".pytest_cache" / "hypothesis")   # not a folder of its own


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Have the files with most long tests begin: a process is given a whole file. Within a file the order stays."""
    slow = Counter(item.path for item in items if item.get_closest_marker("slow"))
    items.sort(key=lambda item: -slow[item.path])


@pytest.fixture(scope="session")
def cub10() -> Path:
    """Return ten classes of CUB-200-2011 with their original files and the released patch boxes."""
    beside = Path(__file__).parents[2] / "shared" / "data" / "cub10"
    root = Path(os.environ.get("FGSEARCH_CUB", beside))
    if not (root / "images.txt").exists():
        pytest.skip(f"no CUB-200-2011 images at {root}; set FGSEARCH_CUB")
    return root


@pytest.fixture(scope="session")
def true_birds(cub10: Path) -> Callable[..., Any]:
    """Return a function that tells where the birds and their parts are in a split of images of cub10's."""
    from fgmodel.extraction.quality import known_truth

    return lambda dataset, split: known_truth(dataset, split, cub10)


@pytest.fixture(scope="session")
def official() -> Path:
    """Return the folder of the patch boxes the authors released for all of CUB-200-2011."""
    beside = Path(__file__).parents[2] / "shared" / "data" / "official_patches"
    folder = Path(os.environ.get("FGSEARCH_OFFICIAL_PATCHES", beside))
    if not (folder / "train_patches.npy").exists():
        pytest.skip(f"no released patch boxes of CUB-200-2011 at {folder}; set FGSEARCH_OFFICIAL_PATCHES")
    return folder


@pytest.fixture
def paint() -> Callable[..., Path]:
    """Return a function that writes a small noisy picture; the same path gives the same pixels."""

    def painted(path: Path, size: tuple[int, int] = (24, 20)) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        chance = np.random.default_rng(list(f"{path.parent.name}/{path.name}".encode()))
        Image.fromarray(chance.integers(0, 255, (size[1], size[0], 3), np.uint8)).save(path)
        return path

    return painted


@pytest.fixture
def folders(tmp_path: Path, paint: Callable[..., Path]) -> Path:
    """Return a folder with two class folders of ten pictures each, without a split."""
    for name in ("cat", "dog"):
        for number in range(10):
            paint(tmp_path / "pets" / name / f"{number}.png")
    return tmp_path / "pets"


@pytest.fixture
def tiny_cub(tmp_path: Path, paint: Callable[..., Path]) -> Path:
    """Return a folder in CUB-200-2011's layout: two classes, four images for training and two for testing in each."""
    root = tmp_path / "birds"
    classes = ("001.Wren", "002.Robin")
    images = [(f"{name}/{name[4:]}_{k}.png", label + 1, int(k < 4)) for label, name in enumerate(classes) for k in range(6)]
    for path, _, _ in images:
        paint(root / "images" / path)
    numbered = list(enumerate(images, 1))
    (root / "classes.txt").write_text("".join(f"{i} {name}\n" for i, name in enumerate(classes, 1)))
    (root / "images.txt").write_text("".join(f"{i} {path}\n" for i, (path, _, _) in numbered))
    (root / "image_class_labels.txt").write_text("".join(f"{i} {label}\n" for i, (_, label, _) in numbered))
    (root / "train_test_split.txt").write_text("".join(f"{i} {train}\n" for i, (_, _, train) in numbered))
    return root


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """Return Debian's `chromium` (`make test` installs it where it may), driven by playwright, whose own browsers are not used."""
    playwright = pytest.importorskip("playwright.sync_api", reason="no playwright: pages are not looked at")
    if CHROMIUM is None:
        pytest.skip("no chromium, and none could be installed: pages are not looked at")
    with playwright.sync_playwright() as running:
        chromium = running.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield chromium
        chromium.close()


@pytest.fixture
def page(browser: Any, request: pytest.FixtureRequest) -> Iterator[Any]:
    """Return a page of which a picture is kept, where nothing it asks for may be missing and no script may fail."""
    opened = browser.new_page(viewport={"width": 1600, "height": 1100})
    opened.set_default_timeout(60_000)
    broken: list[str] = []
    opened.on("response", lambda r: broken.append(f"{r.status} {r.url}") if r.status >= 400 and "users/current" not in r.url else None)
    opened.on("pageerror", lambda error: broken.append(str(error)))
    yield opened
    SCREENSHOTS.mkdir(exist_ok=True)
    opened.screenshot(path=SCREENSHOTS / f"{request.node.name.removeprefix('test_')}.png")
    opened.close()
    assert broken == []
