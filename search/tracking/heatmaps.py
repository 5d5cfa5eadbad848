"""A trial's heatmaps as files of MLflow's image grid, which steps through them by epoch, and by time step.

MLflow knows such an image by its file's name: key, step, time and a token of its own. Ours follow from the trial, so
that a replay writes the same files; and a trial's are written in one call.

n  images      T  time steps      P  pixels of a picture
"""

import uuid
from collections.abc import Mapping
from datetime import datetime
from functools import cache
from pathlib import Path

import matplotlib as mpl
import numpy as np
import torch
from matplotlib import colormaps
from PIL import Image, ImageDraw, ImageFont

from fgmodel.analysis.gradcam import min_max, upsampled
from fgmodel.analysis.probe_images import Looks
from fgmodel.palette import BLUE, VERMILION
from search.tracking.pages import BY_EPOCH, BY_STEP

SIDE, LARGE, HEAD, GAP = 96, 160, 18, 3   # pixels: a picture among all, one step's; the line above; between them
RIGHT, WRONG = "✓", "✗"


def write_images(folder: Path, trial: str, looks: Mapping[int, Looks], times: Mapping[int, datetime]) -> None:
    """Write a trial's heatmaps by epoch, and the last epoch's by time step, as MLflow's image grid finds them.

    `trial` tells it from all others; `times` are those of its epochs.
    """
    folder.mkdir(parents=True, exist_ok=True)
    last = max(looks)
    for epoch, seen in looks.items():
        _save(sheet(seen), folder, trial, BY_EPOCH, epoch, times[epoch])
    drawn = _heated(looks[last], LARGE)                                            # n T P P 3
    for step in range(1, drawn.shape[1] + 1):
        _save(one_step(looks[last], drawn[:, step - 1], step), folder, trial, BY_STEP, step, times[last])


def sheet(seen: Looks) -> Image.Image:
    """Return the patches and beneath them, a row a time step, each under that step's map, with ✓ or ✗."""
    steps = seen.maps.shape[1]
    drawn = _heated(seen, SIDE)                                                    # n T P P 3
    rows: list[tuple[np.ndarray, str, np.ndarray | None]] = [(_pictures(seen, SIDE), "patch", None)]
    rows += [(drawn[:, t], f"t = {t + 1}", seen.right[:, t]) for t in range(steps)]
    edge = 44
    paper = Image.new("RGB", (edge + len(drawn) * (SIDE + GAP), len(rows) * (SIDE + GAP)), "white")
    pen = ImageDraw.Draw(paper)
    for number, (pictures, label, right) in enumerate(rows):
        top = number * (SIDE + GAP)
        pen.text((2, top + SIDE // 2 - 6), label, "black", _font(12))
        for column, picture in enumerate(pictures):
            paper.paste(Image.fromarray(picture), (edge + column * (SIDE + GAP), top))
            if right is not None:
                _mark(pen, edge + column * (SIDE + GAP), top, right=bool(right[column]))
    return paper


def one_step(seen: Looks, drawn: np.ndarray, step: int) -> Image.Image:
    """Return what one time step sees of each image (n P P 3), in two columns, with the class and ✓ or ✗."""
    down = (len(drawn) + 1) // 2
    paper = Image.new("RGB", (2 * (LARGE + GAP) - GAP, HEAD + down * (LARGE + HEAD + GAP)), "white")
    pen = ImageDraw.Draw(paper)
    right, steps = int(seen.right[:, step - 1].sum()), seen.maps.shape[1]
    pen.text((2, 1), f"time step {step} of {steps}: {right} of {len(drawn)} right alone", "black", _font(12))
    for number, picture in enumerate(drawn):
        left, top = number % 2 * (LARGE + GAP), HEAD + number // 2 * (LARGE + HEAD + GAP)
        paper.paste(Image.fromarray(picture), (left, top + HEAD))
        pen.text((left + 2, top + 2), _short(seen.names[number]), "black", _font(11))
        _mark(pen, left, top + HEAD, right=bool(seen.right[number, step - 1]))
    return paper


def _heated(seen: Looks, side: int) -> np.ndarray:
    """Return each map over its grey patch, scaled to 0..1 by itself as in `step_figures`: n T P P 3."""
    heat = min_max(upsampled(torch.from_numpy(seen.maps), side)).numpy()           # n T P P  NaN: all zero
    colours = (255 * colormaps["viridis"](np.nan_to_num(heat))[..., :3]).astype(np.float32)
    grey = _pictures(seen, side).mean(axis=3, dtype=np.float32)[:, None, :, :, None]   # n 1 P P 1
    over: np.ndarray = np.where(np.isnan(heat)[..., None], grey, 0.4 * grey + 0.6 * colours)
    return over.astype(np.uint8)


def _pictures(seen: Looks, side: int) -> np.ndarray:
    return np.stack([np.asarray(Image.fromarray(p).resize((side, side))) for p in seen.pictures])   # n P P 3


def _mark(pen: ImageDraw.ImageDraw, left: int, top: int, *, right: bool) -> None:
    pen.rectangle((left, top, left + 15, top + 15), "white")
    pen.text((left + 2, top), RIGHT if right else WRONG, BLUE if right else VERMILION, _font(13))


def _save(picture: Image.Image, folder: Path, trial: str, key: str, step: int, at: datetime) -> None:
    token = uuid.uuid5(uuid.NAMESPACE_OID, f"{trial} {key} {step}")
    stem = f"{key}+step+{step}+timestamp+{round(at.timestamp() * 1000)}+{token}"
    picture.save(folder / f"{stem}.png")
    picture.save(folder / f"{stem}+compressed.webp", quality=80)


def _short(name: str) -> str:
    return (name.partition(".")[2] or name).replace("_", " ")[:24]


@cache
def _font(size: int) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(str(Path(mpl.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"), size)
