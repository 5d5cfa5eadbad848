"""A space file fitted to a folder of images: what is fixed follows from what lies there and from this machine.

Every value has its reason beside it in the file, so that whoever knows better can see what to change. What is not said
here is as in spaces/cub-frozen.yaml and spaces/cub.yaml, which were tried on real birds.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from search.data.inventory import DataReport
from search.errors import InputError

MOST_TRIALS, FEWEST_TRIALS = 32, 12
FEW = 2000         # train images, below which each of them should validate once
TOO_FEW = 1000     # to train a trunk on, end to end
_LOOKED_AT = 200   # images whose size is read
_RATES = "low: 1.0e-3, high: 5.0e-2"  # end to end, both streams


@dataclass(frozen=True)
class Facts:
    """What decides a space: the images of the train split, and the machine."""

    root: str
    layout: Literal["cub", "dogs", "folders"]
    classes: int
    train: int
    test: int
    smallest: int       # train images of the class that has fewest
    side: int           # px: the median image's shorter side
    skipped: int        # files that are no usable images
    cut: bool           # no test split was given: a part of each class is held out
    cpus: int
    gpus: int

    @property
    def frozen(self) -> bool:
        """Whether trials train on features computed once: without a GPU, or with too few images for a trunk."""
        return not self.gpus or self.train < TOO_FEW


def facts(found: DataReport, gpus: int) -> Facts:
    """Return what was found in a folder; raises InputError, with what to do, where no search could start on it."""
    there = found.dataset
    if there is None:
        raise InputError(f"{found.problem}{_nested(found.root)}")
    counts = np.bincount(there.labels[there.train], minlength=len(there.classes))
    few = int(counts.argmin())
    if counts[few] < 2:
        said = f"class '{there.classes[few]}' has {counts[few]} image to train on; it needs 2, and 10 to be learnt"
        raise InputError(f"{found.root}: {said}; add images, or take the class out")
    sides = [min(there.image(int(i)).size) for i in np.linspace(0, len(there.names) - 1, _LOOKED_AT).astype(int)]
    return Facts(
        root=str(found.root), layout=found.layout, classes=len(there.classes), train=int(there.train.sum()),
        test=int((~there.train).sum()), smallest=int(counts[few]), side=int(np.median(sides)),
        skipped=len(there.skipped), cut=found.layout == "folders" and not (found.root / "train").is_dir(),
        cpus=os.cpu_count() or 1, gpus=gpus,
    )


def space_text(name: str, given: Facts, trials: int = MOST_TRIALS) -> str:
    """Return the space file of a search called `name`."""
    head = [
        f"# Which loss weights, time steps and learning rates tell the {given.classes} classes of {name} apart best?",
        f"# Written by fgsearch new for {given.train} train images of about {given.side} px and {_machine(given)}.",
        "# Change what you know better: each line says why it is so.",
    ]
    parts = {"fixed": _fixed(given), "tune": _tune(given), "search": _search(given, trials)}
    lines = [line for part, rows in parts.items() for line in (f"{part}:", *(_row(*row) for row in rows))]
    start = "    - {loss.lambda_rank: 0.5, loss.lambda_local: 1.0, loss.margin: 0.5, model.time_steps: 6, "
    rate = 0.05 if given.frozen else 0.01
    lines += ["  start:  # tried right after trial 0: the thesis' losses at rates that suit",
              f"{start}optim.lr_global: {rate}, optim.lr_local: {rate}}}"]
    return "\n".join([*head, *lines]) + "\n"


def fitting_trials(seconds: Callable[[int], float], limit: float) -> int:
    """Return how many trials fit into `limit` seconds by a forecast, in steps that people choose."""
    steps = [FEWEST_TRIALS, 16, 24, MOST_TRIALS]
    return max((n for n in steps if seconds(n) <= limit), default=FEWEST_TRIALS)


def _fixed(given: Facts) -> list[tuple[str, str, str]]:
    frame, image, patch = _sizes(given)
    rows = [
        ("data.dataset", given.layout, f"{'a fifth of each class' if given.cut else 'its own part'} is for test"),
        ("data.root", _quoted(given.root), "take the whole path to launch from elsewhere or on a cluster"),
    ]
    if given.skipped:
        rows.append(("data.bad_images", "skip", f"{given.skipped} files are no usable images"))
    rows += [
        ("data.frame_size", str(frame), f"px: images are kept so; yours have about {given.side}"),
        ("data.image_size", str(image), "px: what the global stream sees"),
        ("data.patch_size", str(patch), "px: what the local stream sees of a patch"),
        ("data.patches", *_method(given)),
        ("data.patches_per_image", str(_patches(given)), "N"),
        _validation(given),
        ("model.global_backbone", "efficientnet_lite0", "its weights came with fgsearch; any of torchvision or timm"),
        ("model.local_backbone", "efficientnet_lite0", "the thesis has vgg19 twice: 550 MB to download, a GPU"),
    ]
    rows += _frozen(given) if given.frozen else _end_to_end()
    return [*rows, ("optim.batch_size", str(_batch(given)), "so that an epoch has ten steps or more"),
            ("optim.schedule", "cosine", "over all epochs, whatever the rung")]


def _frozen(given: Facts) -> list[tuple[str, str, str]]:
    why = "no GPU here" if not given.gpus else f"fewer than {TOO_FEW} images to train on"
    return [
        ("model.freeze_backbones", "true", f"{why}: features are computed once, trials train what is above"),
        ("model.dropout", "0.5", "few images for 1,280 features"),
        ("loss.label_smoothing", "0.1", "likewise"),
    ]


def _end_to_end() -> list[tuple[str, str, str]]:
    return [
        ("data.augmentation", "standard", "crops and flips; none where left and right differ"),
        ("optim.warmup_epochs", "1", "keeps high rates trainable"),
        ("optim.clip_norm", "5.0", "likewise"),
        ("optim.precision", "bf16", "of the trunks only"),
    ]


def _tune(given: Facts) -> list[tuple[str, str, str]]:
    whole, local = ("low: 3.0e-3, high: 0.1", "low: 1.0e-2, high: 0.3") if given.frozen else (_RATES, _RATES)
    return [
        ("loss.lambda_rank", "{low: 0.0, high: 2.0}", "λ: how hard the local stream must beat the global one"),
        ("loss.lambda_local", "{low: 0.5, high: 2.0}", "λ': what the local stream weighs"),
        ("loss.margin", '{low: 0.0, high: 1.0, when: {loss.lambda_rank: "> 0"}}', "by how much it must beat it"),
        ("model.time_steps", "{low: 1, high: 6}", "T: how often it looks at a patch"),
        ("optim.lr_global", f"{{{whole}, log: true}}", "decides most"),
        ("optim.lr_local", f"{{{local}, log: true}}", "likewise"),
    ]


def _search(given: Facts, trials: int) -> list[tuple[str, str, str]]:
    epochs, rungs = _rungs(given)
    workers = max(1, given.gpus) if not given.frozen else min(given.cpus, 16)
    each = min(4, max(1, given.cpus // max(1, given.gpus)))
    resources = "{cpu: 1, gpu: 0}" if given.frozen else f"{{cpu: {each}, gpu: 1}}"
    return [
        ("trials", str(trials), "more later: fgsearch extend"),
        ("epochs", str(epochs), "of those that reach the last rung"),
        ("rungs", str(rungs), "epochs at which the best third goes on"),
        ("finalists", "3", "the best few, again over fresh seeds and validation cuts"),
        ("seeds", "3", "of each finalist"),
        ("workers", str(workers), "trials at a time: this machine's cores" if given.frozen else "one a GPU"),
        ("resources", resources, "of a trial"),
    ]


def _sizes(given: Facts) -> tuple[int, int, int]:
    """Return frame, image and patch in px: enough for what the images hold, few enough for the machine."""
    if given.side <= 64:
        return 128, 96, 64     # they are enlarged: a trunk's cell is 32 px
    if given.side <= 200:
        return 192, 128, 96
    if given.side <= 280:
        return 256, 160, 128   # as spaces/finches.yaml
    return (448, 320, 160) if given.frozen else (448, 448, 224)  # as spaces/cub-frozen.yaml, cub.yaml


def _method(given: Facts) -> tuple[str, str]:
    if given.side <= 64:
        return "peaks", "boxes where a trunk responds most; docs/patches.md compares the methods"
    return "ddt", "boxes on what the images share; docs/patches.md compares the methods"


def _patches(given: Facts) -> int:
    """Return N: each patch costs a pass of the trunk, once."""
    return 10 if given.train < 1000 or given.gpus else 6 if given.train < 5000 else 4


def _validation(given: Facts) -> tuple[str, str, str]:
    if given.train < FEW:
        folds = min(3, given.smallest)
        return "data.folds", str(folds), "cross-validation: so few images cannot spare a part of them"
    share = 0.2 if given.train < 10_000 else 0.1
    return "data.validation", str(share), "of train, held out to compare trials by"


def _batch(given: Facts) -> int:
    return next(size for size, least in ((32, 480), (16, 160), (8, 0)) if given.train >= least)


def _rungs(given: Facts) -> tuple[int, list[int]]:
    if not given.frozen:
        return 20, [2, 6, 20]
    return (12, [4, 12]) if given.train >= 20_000 else (27, [9, 27])  # docs/decisions.md: earlier epochs say little


def _machine(given: Facts) -> str:
    graphics = f"{given.gpus} GPU{'s' if given.gpus > 1 else ''}" if given.gpus else "no GPU"
    return f"{given.cpus} core{'s' if given.cpus > 1 else ''}, {graphics}"


def _row(name: str, value: str, why: str) -> str:
    return f"  {f'{name}: {value}':<70} # {why}"


def _quoted(path: str) -> str:
    return "'" + path.replace("'", "''") + "'"


def _nested(root: Path) -> str:
    """Return where the class folders are instead: one folder further down; or how to lay them out."""
    below = sorted(entry for entry in root.iterdir() if entry.is_dir())
    deeper = [entry for entry in below if sum(inner.is_dir() for inner in entry.iterdir()) >= 2]
    if len(below) == 1 and deeper:
        return f"; did you mean {deeper[0]}?"
    return "; fgsearch new wants one folder a class with its images in it" if len(below) < 2 else ""
