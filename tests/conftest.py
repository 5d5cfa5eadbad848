"""Shapes are checked in every test; real birds where they are at hand; a few pictures where they are not."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from pkgutil import iter_modules
from typing import Any

import numpy as np
import pytest
from jaxtyping import install_import_hook
from PIL import Image

# Before the first import of fgmodel. Without config, which has no tensors but typing.Self, which beartype cannot check there.
MODULES = [m.name for m in iter_modules([str(Path(__file__).parents[1] / "fgmodel")]) if m.name != "config"]
install_import_hook([f"fgmodel.{name}" for name in MODULES], "beartype.beartype")


@pytest.fixture(scope="session")
def cub10() -> Path:
    """Return ten classes of CUB-200-2011 with their original files and the released patch boxes."""
    beside = Path(__file__).parents[2] / "shared" / "data" / "cub10"
    root = Path(os.environ.get("FGSEARCH_CUB", beside))
    if not (root / "images.txt").exists():
        pytest.skip(f"no CUB-200-2011 images at {root}; set FGSEARCH_CUB")
    return root


@dataclass(frozen=True)
class TrueBirds:
    """Where cub10's birds are, in the 448 px frame the images are squashed to."""

    root: Path

    def boxes(self, dataset: Any, split: str) -> np.ndarray:
        """Return the birds' boxes (n 4) of a split."""
        number = {path: i for i, path in self._rows("images.txt")}
        box = {i: np.array(values.split(), float) for i, values in self._rows("bounding_boxes.txt")}
        placed = []
        for row in dataset.rows(split).tolist():
            x, y, width, height = box[number[dataset.names[row]]]
            placed.append(np.array([x, y, x + width, y + height]) / np.array(dataset.image(row).size * 2))
        return 448 * np.array(placed)

    def share_inside(self, boxes: np.ndarray, dataset: Any, split: str) -> float:
        """Return the mean over boxes (n N 4) of the share of their area that lies inside the bird's."""
        true = self.boxes(dataset, split)[:, None]
        low, high = np.maximum(boxes[..., :2], true[..., :2]), np.minimum(boxes[..., 2:], true[..., 2:])
        return float((np.clip(high - low, 0, None).prod(-1) / (boxes[..., 2:] - boxes[..., :2]).prod(-1)).mean())

    def _rows(self, name: str) -> list[list[str]]:
        return [line.split(maxsplit=1) for line in (self.root / name).read_text().splitlines()]


@pytest.fixture(scope="session")
def true_birds(cub10: Path) -> TrueBirds:
    """Return where cub10's birds are."""
    return TrueBirds(cub10)


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
