"""What a model says of image files: read one after another, answered in batches, told as a table, JSON or CSV."""

import csv
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from io import BytesIO, StringIO
from pathlib import Path
from typing import Any

from jaxtyping import Float
from PIL import Image
from rich.table import Table
from torch import Tensor

from fgmodel.data.images import NotAnImage, is_image_name, read_rgb
from fgmodel.progress import Progress, silent
from fgmodel.use.classifier import Answers, Classifier
from search.errors import InputError

BATCH = 64    # images in memory at once
TOP = 5
WORTH_TELLING = 0.005    # the least probability that a person's table says of another class: less is 0.00


@dataclass(frozen=True)
class Prediction:
    """What a model says of one image: classes with their probabilities, the likeliest first."""

    image: str
    top: tuple[tuple[str, float], ...]               # of both streams together, five at most
    global_stream: tuple[str, float]
    local_stream: tuple[str, float] | None           # None without that stream
    boxes: tuple[tuple[float, ...], ...]             # x1 y1 x2 y2 of the patches, as fractions of the image

    def row(self) -> dict[str, str | float]:
        """Return the same as one flat row: of a CSV file, of a served model's answer."""
        (name, probability), *others = self.top
        named: dict[str, str | float] = {"class": name, "probability": probability}
        streams = {"global": self.global_stream, **({"local": self.local_stream} if self.local_stream else {})}
        for stream, (name, probability) in streams.items():
            named |= {f"{stream}_class": name, f"{stream}_probability": probability}
        for place, (name, probability) in enumerate(others, 2):
            named |= {f"class_{place}": name, f"probability_{place}": probability}
        return named

    def document(self) -> dict[str, Any]:
        """Return the same for a script that reads JSON."""
        def told(each: tuple[str, float]) -> dict[str, Any]:
            return {"class": each[0], "probability": each[1]}

        return {
            "image": self.image, **told(self.top[0]), "top": [told(each) for each in self.top],
            "global": told(self.global_stream), "local": told(self.local_stream) if self.local_stream else None,
            "boxes": [list(box) for box in self.boxes],
        }


@dataclass(frozen=True)
class Unusable:
    """A file no answer can be given for, in one line."""

    line: str


def image_files(given: Sequence[Path]) -> list[Path]:
    """Return the images meant: files as they are given, and those below folders, in order of name.

    Raises InputError: where there is no such file, or a folder holds no image.
    """
    found: list[Path] = []
    for path in given:
        if path.is_dir():
            below = sorted(file for file in path.rglob("*") if is_image_name(file) and file.is_file())
            if not below:
                raise InputError(f"{path}: this folder holds no image")
            found += below
        elif path.exists():
            found.append(path)
        else:
            raise InputError(f"{path}: there is no such file")
    return found


def predictions(
    classifier: Classifier, files: Sequence[Path], progress: Progress = silent,
) -> Iterator[Prediction | Unusable]:
    """Yield what the model says of each file, in order."""
    for start in range(0, len(files), BATCH):
        held = [_read(path) for path in files[start : start + BATCH]]
        images = [image for image in held if isinstance(image, Image.Image)]
        names = [str(path) for path, image in zip(files[start:], held, strict=False) if isinstance(image, Image.Image)]
        told = iter(predict(classifier, images, names))
        yield from (image if isinstance(image, Unusable) else next(told) for image in held)
        progress("images", min(start + BATCH, len(files)), len(files))


def predict(classifier: Classifier, images: Sequence[Image.Image], names: Sequence[str]) -> list[Prediction]:
    """Return what the model says of decoded images."""
    if not images:
        return []
    return _told(classifier, classifier.answer(images, names), names)


def read_bytes(content: bytes, name: str) -> Image.Image:
    """Return the image in a file's content. Raises InputError: where it is none."""
    try:
        return read_rgb(BytesIO(content))
    except NotAnImage as problem:
        raise InputError(f"{name} {problem}") from None


def as_csv(rows: Iterable[Prediction]) -> str:
    """Return the predictions as CSV, an image a line."""
    held = [{"image": each.image, **each.row()} for each in rows]
    text = StringIO()
    writer = csv.DictWriter(text, list(held[0]) if held else ["image"], lineterminator="\n")
    writer.writeheader()
    writer.writerows(held)
    return text.getvalue()


def table(rows: Iterable[Prediction]) -> Table:
    """Return the predictions for a person."""
    view = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("image", "class", "prob.", "global stream", "local stream", "then"):
        view.add_column(title, justify="right" if title == "prob." else "left", overflow="fold")
    for each in rows:
        name, probability = each.top[0]
        streams = [_said(stream, name) if stream else "–" for stream in (each.global_stream, each.local_stream)]
        then = "\n".join(_said(other) for other in each.top[1:] if other[1] >= WORTH_TELLING)
        view.add_row(each.image, name, f"{probability:.3f}", *streams, then)
    return view


def _said(told: tuple[str, float], answer: str = "") -> str:
    return f"{'agrees' if told[0] == answer else told[0]} {told[1]:.2f}"


def _read(path: Path) -> Image.Image | Unusable:
    try:
        return read_rgb(path)
    except NotAnImage as problem:
        return Unusable(f"{path} {problem}")


def _told(classifier: Classifier, answers: Answers, names: Sequence[str]) -> list[Prediction]:
    classes, frame = classifier.classes, classifier.config.data.frame_size
    probabilities, order = answers.fused.topk(min(TOP, len(classes)), dim=1)
    tops = [
        tuple((classes[label], p) for label, p in zip(labels, ps, strict=True))
        for labels, ps in zip(order.tolist(), probabilities.tolist(), strict=True)
    ]
    whole = _likeliest(answers.global_stream, classes)
    patch = None if answers.local_stream is None else _likeliest(answers.local_stream, classes)
    boxes = (answers.boxes / frame).tolist()
    return [
        Prediction(name, tops[i], whole[i], patch[i] if patch else None, tuple(map(tuple, boxes[i])))
        for i, name in enumerate(names)
    ]


def _likeliest(probabilities: Float[Tensor, "B C"], classes: Sequence[str]) -> list[tuple[str, float]]:
    found, labels = probabilities.max(dim=1)
    return [(classes[label], p) for label, p in zip(labels.tolist(), found.tolist(), strict=True)]
