"""What the best trial's model says of its own validation images: who is taken for whom, and where the time steps look.

The model comes from the trial's checkpoint, the images from the search's cache. The test split is not opened.

n  validation images      T  time steps      P  pixels of a patch
"""

from collections import Counter
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from PIL import Image

from fgmodel.analysis.gradcam import COARSEST
from fgmodel.analysis.probe_images import Looks, probe_images_of
from fgmodel.analysis.step_figures import heatmap_figure, heatmap_text
from fgmodel.cache import Frames
from fgmodel.config import TrialConfig
from fgmodel.data.datasets import Dataset, open_dataset
from fgmodel.errors import InputError
from fgmodel.metrics import Evaluation
from fgmodel.preparation_forecast import pending
from fgmodel.prepare import prepare
from fgmodel.progress import Progress, silent
from fgmodel.training import Run, best_device
from search.record.history import Trial
from search.record.home import Home
from search.report.page import Gallery, Grid, Part, Picture, Words
from search.space.space import Space

EACH = 4           # images told right, and as many told wrong
PAIRS = 4          # of classes
SIDE = 170         # pixels of a picture
DPI = 90
PATIENCE = 30.0    # seconds that predicting, or computing again what a cache lost, may take
VALIDATING = 0.25  # of an epoch's time, at most: forward only, and on fewer images than are trained on


@dataclass(frozen=True)
class Predicted:
    """A trained model, and what it said of each validation image."""

    config: TrialConfig
    run: Run
    dataset: Dataset
    frames: np.ndarray         # n_train S S 3  uint8
    rows: np.ndarray           # n  their places among the train split's images
    seen: Evaluation           # n
    cache: Path
    device: str

    def name(self, label: int) -> str:
        """Return a class as a person writes it: CUB's numbers its classes."""
        whole = self.dataset.classes[label]
        return (whole.partition(".")[2] or whole).replace("_", " ")


def predicted(space: Space, trial: Trial, name: str, home: Home, progress: Progress = silent) -> Predicted:
    """Return what a trial's model says of its validation images; raises InputError where that cannot be had cheaply."""
    config = space.config(trial.settings)
    if not config.model.freeze_backbones:
        _require_cheap(space, trial)
    if trial.checkpoint is None or not (home.checkpoints(name) / trial.checkpoint[1]).is_file():
        raise InputError(f"the checkpoint of trial #{trial.number} is no longer there")
    missing = pending(config, home.cache)
    if sum(step.seconds for step in missing) > PATIENCE:
        raise InputError(f"the cache no longer holds {', '.join(step.what for step in missing)}")
    progress("validation images predicted", 0, 3)
    device = "cpu" if config.model.freeze_backbones else best_device()
    run = Run(config, prepare(config, home.cache, progress=progress), device)
    run.load(home.checkpoints(name) / trial.checkpoint[1])
    progress("validation images predicted", 1, 3)
    seen, rows = run.validated()
    progress("validation images predicted", 2, 3)
    dataset = open_dataset(config.data, home.cache, progress)
    frames = Frames(dataset, "train", config.data.frame_size, home.cache, progress).array
    progress("validation images predicted", 3, 3)
    return Predicted(config, run, dataset, frames, rows.numpy(), seen, home.cache, device)


def _require_cheap(space: Space, trial: Trial) -> None:
    """Raise InputError where trunks that were trained would take long over the validation images, by the trial."""
    if space.search.resources.gpu and best_device() == "cpu":
        raise InputError("its trunks were trained on a GPU, and this machine has none to predict again with")
    if (seconds := VALIDATING * trial.seconds / max(1, trial.rung)) > PATIENCE:
        raise InputError(f"its trunks were trained: predicting again would take about {seconds:.0f} s")


def confusion_parts(held: Predicted) -> list[Part]:
    """Return the class pairs mistaken most, in a table and in pictures: mistaken ones beside those told right."""
    labels, said = held.seen.labels, held.seen.predictions
    pairs = zip(labels.tolist(), said.tolist(), strict=True)
    wrong = Counter((min(pair), max(pair)) for pair in pairs if pair[0] != pair[1])
    if not wrong:
        return [Words(f"None: all {len(labels)} validation images were told right.")]
    rows: list[list[str]] = []
    parts: list[Part] = []
    for (a, b), count in wrong.most_common(PAIRS):
        there, back = (int(((labels == x) & (said == y)).sum()) for x, y in ((a, b), (b, a)))
        sizes = [int((labels == x).sum()) for x in (a, b)]
        pair = f"{held.name(a)} and {held.name(b)}"
        rows.append([pair, str(count), f"{there} of {sizes[0]}", f"{back} of {sizes[1]}"])
        parts.append(Gallery(pair, _pair_pictures(held, a, b)))
    head = ["classes", "mistakes", "the first taken for the second", "the second taken for the first"]
    note = f"Of {len(labels)} validation images {int((labels != said).sum())} were told wrong."
    return [Grid("The most mistaken pairs", head, rows, note), *parts]


def heatmap_parts(held: Predicted) -> list[Part]:
    """Return the best patch of some images told right and of some told wrong, with Grad-CAM of each time step.

    Raises InputError: where the local stream has no time steps.
    """
    if held.config.model.local_stream != "lstm":
        raise InputError("the best trial's local stream has no time steps")
    mine = np.isin(held.rows, held.run.data.folds[0].validation)                          # n  the first fold's
    right = held.seen.predictions == held.seen.labels
    kinds = [_by_lot(told & mine) for told in (right, ~right)]
    chosen = np.concatenate(kinds)
    probe = probe_images_of(held.rows[chosen], held.config, held.run.data, held.cache, held.device)
    looks = probe.looks(held.run, SIDE)
    parts: list[Part] = []
    for places, word in zip(np.split(np.arange(len(chosen)), [len(kinds[0])]), ("right", "wrong"), strict=True):
        parts.append(_heatmaps(held, chosen, looks, places, word) if len(places) else _none(word))
    return parts


def _by_lot(told: np.ndarray) -> np.ndarray:
    """Return the places of a few of them: not the prettiest."""
    return np.sort(np.random.default_rng(0).permutation(np.flatnonzero(told))[:EACH])


def _none(word: str) -> Words:
    return Words(f"No validation image was told {word}.")


def _heatmaps(held: Predicted, chosen: np.ndarray, looks: Looks, places: np.ndarray, word: str) -> Picture:
    said = zip(*(told[chosen[places]].tolist() for told in (held.seen.labels, held.seen.predictions)), strict=True)
    names = [held.name(a) if a == b else f"{held.name(a)}\ntaken for {held.name(b)}" for a, b in said]
    maps, correct, file = looks.maps[places], looks.right[places], BytesIO()
    figure = heatmap_figure(looks.pictures[places], torch.from_numpy(maps), correct, names)
    figure.set_dpi(DPI)
    FigureCanvasAgg(figure).print_png(file)  # type: ignore[no-untyped-call]  # savefig draws twice
    text = heatmap_text(correct, [name.replace("\n", ", ") for name in names]) + _coarse(*maps.shape[2:])
    return Picture(f"Images told {word}. {text}", file.getvalue(), caption=f"Told {word} by the whole model. {text}")


def _coarse(h: int, w: int) -> str:
    return "" if min(h, w) >= COARSEST else f" Maps of {h}x{w} cells say where a step looks, not how finely."


def _pair_pictures(held: Predicted, a: int, b: int) -> list[Picture]:
    """Return up to two mistaken images each way, and beside them one of each class that was told right."""
    labels, said = held.seen.labels, held.seen.predictions
    mistaken = ((a, b, f"taken for {held.name(b)}"), (b, a, f"taken for {held.name(a)}"))
    kinds = ((a, a, "told right"), *mistaken, (b, b, "told right"))
    pictures = []
    for label, given, what in kinds:
        for place in np.flatnonzero((labels == label) & (said == given))[: 1 if label == given else 2]:
            text = f"{held.name(label)}, {what}"
            pictures.append(Picture(text, _jpeg(held.frames[held.rows[place]]), "image/jpeg", text))
    return pictures


def _jpeg(frame: np.ndarray) -> bytes:
    file = BytesIO()
    Image.fromarray(frame).resize((SIDE, SIDE), Image.Resampling.LANCZOS).save(file, "JPEG", quality=85)
    return file.getvalue()
