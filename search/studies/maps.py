"""Figures of a study: where the time steps of a row's model look, on test images, and whether they look ever finer.

They belong to the look at test that the row's trial has recorded: no other images, nothing is chosen by them.

n  images      T  time steps      P  pixels of a patch      D  channels of the trunk's map      h, w  its cells
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

from fgmodel.analysis.attention_record import alpha_by_class_csv, attention_record_figure, attention_record_text, record
from fgmodel.analysis.claim import Areas, answer, measure_areas
from fgmodel.analysis.gradcam import patch_cells, require_fine, step_maps
from fgmodel.analysis.intervals import mean_interval, null_interval
from fgmodel.analysis.movement import movement_text
from fgmodel.analysis.step_figures import (
    Curves,
    accuracy_figure,
    accuracy_text,
    fineness_figure,
    fineness_text,
    heatmap_figure,
    heatmap_text,
)
from fgmodel.cache import Frames
from fgmodel.config import TrialConfig
from fgmodel.data.datasets import Dataset, open_dataset
from fgmodel.errors import InputError
from fgmodel.extraction.quality import known_truth
from fgmodel.posthoc import ModelStates
from fgmodel.prepare import prepare, stream_trunks
from fgmodel.progress import Progress, silent
from fgmodel.training import Run
from fgmodel.trial_data import whole
from search.record.history import History, Trial
from search.record.home import Home
from search.space.space import Space

SHOWN, MOVED, MEASURED = 6, 16, 100   # images of the grid, of what is said of their moving, and of the claim's test
Drawing = tuple[str, Figure | str]   # a file's name and what it holds


@dataclass(frozen=True)
class MapsOfRow:
    """A row's model, and the best patch of some test images."""

    run: Run
    names: list[str]
    labels: Tensor             # n
    patches: np.ndarray        # n P P 3  uint8
    cells: Tensor              # n D h w
    truth: np.ndarray | None   # n 4  in pixels of the patch: the part that tells drawn birds apart, or CUB's bird
    states: ModelStates        # of all test images
    classes: tuple[str, ...]


def require_drawable(config: TrialConfig) -> None:
    """Raise InputError for trunks that are trained end to end, and for maps too coarse to be looked at."""
    if not config.model.freeze_backbones:
        raise InputError("model.freeze_backbones: a study's maps are drawn on frozen trunks only; set it to true")
    require_fine(stream_trunks(config)[1], config.data.patch_size)


def drawn(
    space: Space, history: History, row: str, name: str, home: Home, progress: Progress = silent,
) -> Iterator[Drawing]:
    """Yield the row's figures and texts with their file names; nothing where the row has no finished trial."""
    trial = next((t for t in history.trials.values() if t.by == row and t.checkpoint and t.predictions), None)
    if trial is None:
        return
    seen, label = _seen(space.config(trial.settings), trial, name, home, progress), row.replace(" ", "-")
    said: list[str] = []
    yield from _maps(seen, label, said, partial(_renamed, progress, label))
    held = record(seen.states)
    yield f"{label}-weights.png", attention_record_figure(held)
    yield f"{label}-alpha-by-class.csv", alpha_by_class_csv(held, seen.classes)
    yield f"{label}.txt", "\n".join([*said, attention_record_text(held)]) + "\n"


def _renamed(progress: Progress, label: str, what: str, done: int, total: int) -> None:
    progress(f"{label}: {what}", done, total)


def _maps(seen: MapsOfRow, label: str, said: list[str], progress: Progress) -> Iterator[Drawing]:
    stream = seen.run.models[0].eval().local_stream
    maps = step_maps(stream, seen.cells, seen.labels)
    correct = (maps.step_logits.argmax(dim=2) == seen.labels[:, None]).numpy()
    first, titles = slice(0, SHOWN), seen.names[:SHOWN]
    truth = None if seen.truth is None else seen.truth[first]
    grid = partial(heatmap_figure, seen.patches[first], correct=correct[first], names=titles, truth=truth)
    yield f"{label}-heatmaps.png", grid(maps=maps.maps[first])
    if maps.looks.numel():
        yield f"{label}-attention.png", grid(maps=maps.looks[first], label="spatial attention")
    areas = measure_areas(stream, seen.cells, seen.labels, progress=progress)
    panels = _panels(areas)
    yield f"{label}-fineness.png", fineness_figure(panels)
    yield f"{label}-steps.png", accuracy_figure(correct)
    said += [f"{label}: is attention ever finer? {answer(areas)}", heatmap_text(correct[first], titles)]
    said += [fineness_text(panels), movement_text(maps.maps[:MOVED], maps.looks[:MOVED]), accuracy_text(correct)]


def _panels(areas: Areas) -> dict[str, Curves]:
    measured = {"half_max_area": (areas.trained, areas.nulls), "entropy": (areas.entropy, areas.null_entropies)}
    return {
        measure: {"trained": mean_interval(trained), **{null: null_interval(draws) for null, draws in nulls.items()}}
        for measure, (trained, nulls) in measured.items()
    }


def _seen(config: TrialConfig, trial: Trial, name: str, home: Home, progress: Progress) -> MapsOfRow:
    assert trial.checkpoint
    run = Run(config, whole(prepare(config, home.cache)))
    run.load(home.checkpoints(name) / trial.checkpoint[1])
    test, dataset = prepare(config, home.cache, "test", progress), open_dataset(config.data, home.cache)
    frames = Frames(dataset, "test", config.data.frame_size, home.cache)
    chosen = np.random.default_rng(0).permutation(len(test.labels))[:MEASURED]
    trunk, size = stream_trunks(config)[1], config.data.patch_size
    parts = [patch_cells(trunk, frames.array[rows], test.boxes[rows, 0], size) for rows in np.array_split(chosen, 10)]
    cells, crops = (torch.cat(part) for part in zip(*parts, strict=True))
    pictures = (255 * crops.permute(0, 2, 3, 1)).round().byte().numpy()                    # n P P 3
    return MapsOfRow(
        run=run,
        names=[dataset.classes[label].partition(".")[2] or dataset.classes[label] for label in test.labels[chosen]],
        labels=torch.tensor(test.labels[chosen]),
        patches=pictures,
        cells=cells,
        truth=_truth(dataset, config, test.boxes[chosen, 0], chosen),
        states=run.states(test)[0],
        classes=tuple(dataset.classes),
    )


def _truth(dataset: Dataset, config: TrialConfig, boxes: np.ndarray, chosen: np.ndarray) -> np.ndarray | None:
    """Return the true boxes in pixels of the patches whose boxes (n 4, pixels of the frame) are given."""
    known = known_truth(dataset, "test", Path(config.data.root) if config.data.root else None)
    true = known.telling if known.telling is not None else known.birds                     # n_all 4  of the image
    if true is None:
        return None
    corner, side = np.tile(boxes[:, :2], 2), np.tile(boxes[:, 2:] - boxes[:, :2], 2)       # n 4  x1 y1 x1 y1; w h w h
    return np.asarray((config.data.frame_size * true[chosen] - corner) / side * config.data.patch_size)
