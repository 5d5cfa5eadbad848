"""Figures of a study: where the time steps of a row's model look, on test images, and whether they look ever finer.

They belong to the look at test that the row's trial has recorded: no other images, nothing is chosen by them.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

from fgmodel.cache import Frames
from fgmodel.claim import answer, measure_areas
from fgmodel.config import TrialConfig
from fgmodel.datasets import open_dataset
from fgmodel.errors import InputError
from fgmodel.figures import (
    accuracy_figure,
    accuracy_text,
    fineness_figure,
    fineness_text,
    heatmap_figure,
    heatmap_text,
)
from fgmodel.gradcam import patch_cells, step_maps
from fgmodel.intervals import mean_interval, null_interval
from fgmodel.prepare import prepare, stream_trunks
from fgmodel.training import Run
from fgmodel.trial_data import whole
from search.history import History, Trial
from search.home import Home
from search.space import Space

SHOWN, MEASURED = 6, 100   # images of the grid, and of the claim's test


@dataclass(frozen=True)
class Seen:
    """A row's model and what it is shown: the best patch of some test images."""

    run: Run
    names: list[str]
    labels: Tensor      # n
    patches: np.ndarray  # n P P 3  uint8
    cells: Tensor       # n D h w


def drawn(space: Space, history: History, row: str, name: str, home: Home) -> Iterator[tuple[str, Figure | str]]:
    """Yield the row's figures and texts with their file names; nothing where the row has no finished trial.

    Raises InputError: for trunks that are trained end to end, and for maps too coarse to be looked at.
    """
    trial = next((t for t in history.trials.values() if t.by == row and t.checkpoint and t.predictions), None)
    if trial is None:
        return
    seen = _seen(space.config(trial.settings), trial, name, home)
    stream = seen.run.models[0].eval().local_stream
    maps = step_maps(stream, seen.cells, seen.labels)
    correct = (maps.step_logits.argmax(dim=2) == seen.labels[:, None]).numpy()
    first, label = slice(0, SHOWN), row.replace(" ", "-")
    titles = seen.names[:SHOWN]
    yield f"{label}-heatmaps.png", heatmap_figure(seen.patches[first], maps.maps[first], correct[first], titles)
    if maps.looks.numel():
        looks = heatmap_figure(seen.patches[first], maps.looks[first], correct[first], titles, "spatial attention")
        yield f"{label}-attention.png", looks
    areas = measure_areas(stream, seen.cells, seen.labels)
    nulls = {null: null_interval(draws) for null, draws in areas.nulls.items()}
    panels = {"half_max_area": {"trained": mean_interval(areas.trained), **nulls}}
    yield f"{label}-fineness.png", fineness_figure(panels)
    yield f"{label}-steps.png", accuracy_figure(correct)
    said = [f"Is attention ever finer? {answer(areas)}", heatmap_text(correct[first], titles), fineness_text(panels)]
    yield f"{label}.txt", "\n".join([*said, accuracy_text(correct)]) + "\n"


def _seen(config: TrialConfig, trial: Trial, name: str, home: Home) -> Seen:
    if not config.model.freeze_backbones:
        raise InputError("model.freeze_backbones: a study's maps are drawn on frozen trunks only; set it to true")
    assert trial.checkpoint
    run = Run(config, whole(prepare(config, home.cache)))
    run.load(home.checkpoints(name) / trial.checkpoint[1])
    test = prepare(config, home.cache, "test")
    frames = Frames(open_dataset(config.data, home.cache), "test", config.data.frame_size, home.cache)
    chosen = np.random.default_rng(0).permutation(len(test.labels))[:MEASURED]
    trunk, size = stream_trunks(config)[1], config.data.patch_size
    parts = [patch_cells(trunk, frames.array[rows], test.boxes[rows, 0], size) for rows in np.array_split(chosen, 10)]
    cells, crops = (torch.cat(part) for part in zip(*parts, strict=True))
    pictures = (255 * crops.permute(0, 2, 3, 1)).round().byte().numpy()                    # n P P 3
    names = [Path(test.names[i]).parent.name.partition(".")[2] or test.names[i] for i in chosen]
    return Seen(run, names, torch.tensor(test.labels[chosen]), pictures, cells)
