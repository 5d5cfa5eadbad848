"""A contact sheet: twenty images with their numbered boxes, and the true one where it is known."""

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from fgmodel.data.boxes_file import Patches
from fgmodel.data.datasets import Dataset, Split
from fgmodel.extraction.quality import Truth
from fgmodel.palette import SIX, YELLOW

SHOWN, COLUMNS, SIDE, GAP = 20, 5, 320, 4
TRUE = "#FFFFFF"                                                        # with a black edge: seen on any picture
COLOURS = (*SIX, YELLOW)


def contact_sheet(dataset: Dataset, split: Split, patches: Patches, truth: Truth, shown: int = SHOWN) -> Image.Image:
    """Return `shown` images spread evenly over the split, squashed to squares as the boxes see them."""
    rows = np.unique(np.linspace(0, len(patches.boxes) - 1, shown).round().astype(int))
    lines = -(-len(rows) // COLUMNS)
    sheet = Image.new("RGB", (COLUMNS * (SIDE + GAP) - GAP, lines * (SIDE + GAP) - GAP), "white")
    images = dataset.rows(split)
    for place, row in enumerate(rows.tolist()):
        picture = dataset.image(int(images[row])).resize((SIDE, SIDE), Image.Resampling.BILINEAR)
        _draw(ImageDraw.Draw(picture), patches.boxes[row] / patches.frame, _true(truth, row))
        sheet.paste(picture, (place % COLUMNS * (SIDE + GAP), place // COLUMNS * (SIDE + GAP)))
    return sheet


def _true(truth: Truth, row: int) -> np.ndarray | None:
    known = truth.birds if truth.birds is not None else truth.telling
    return None if known is None else known[row]


def _draw(ink: ImageDraw.ImageDraw, boxes: np.ndarray, true: np.ndarray | None) -> None:
    """Draw an image's boxes (N 4, fractions), the best last and so on top; its number stands in the upper left."""
    font = ImageFont.load_default(14)
    if true is not None:
        for width, colour in ((5, "black"), (2, TRUE)):
            ink.rectangle(_pixels(true), outline=colour, width=width)
    for number in reversed(range(len(boxes))):
        x1, y1, x2, y2 = _pixels(boxes[number])
        colour = COLOURS[number % len(COLOURS)]
        ink.rectangle((x1, y1, x2, y2), outline=colour, width=2)
        corner = max(x1, 0) + 3, max(y1, 0) + 2
        ink.rectangle(ink.textbbox(corner, str(number + 1), font=font), fill=colour, outline=colour, width=1)
        ink.text(corner, str(number + 1), fill="black", font=font)


def _pixels(box: np.ndarray) -> tuple[float, float, float, float]:
    """Return a box in a picture's pixels; it may reach beyond it."""
    x1, y1, x2, y2 = (box * SIDE).tolist()
    return x1, y1, max(x1, x2 - 1), max(y1, y2 - 1)
