"""A small trained model, for tests of what models are used for."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from fgmodel.cache import Frames
from fgmodel.config import TrialConfig
from fgmodel.data.datasets import open_dataset
from fgmodel.extraction.finder import finder
from fgmodel.prepare import extraction_trunk, prepare, stream_trunks
from fgmodel.training import Run
from fgmodel.trial_data import TrialData, whole
from fgmodel.use.classifier import Classifier

SMALL = {
    "data.dataset": "folders", "data.patches": "peaks", "data.frame_size": 64, "data.image_size": 64, "data.patch_size": 64,
    "data.patches_per_image": 2, "data.validation": 0.25, "model.global_backbone": "efficientnet_lite0",
    "model.local_backbone": "efficientnet_lite0", "model.freeze_backbones": True, "model.hidden_size": 16, "model.time_steps": 3,
    "optim.epochs": 2, "optim.schedule": "cosine", "optim.batch_size": 8,
}  # fmt: skip


@dataclass(frozen=True)
class Trained:
    """A run that is over, its classifier, and the test split it is asked about."""

    run: Run
    classifier: Classifier
    test: TrialData
    files: list[Path]   # of the test split, in its order


def pets(root: Path) -> Path:
    """Paint two class folders of ten noisy pictures each, cats reddish and dogs bluish."""
    for name, tint in (("cat", (120, 0, 0)), ("dog", (0, 0, 120))):
        (root / name).mkdir(parents=True)
        for number in range(10):
            noise = np.random.default_rng([number, *tint]).integers(0, 135, (60, 70, 3)) + np.array(tint)
            Image.fromarray(noise.astype(np.uint8)).save(root / name / f"{number}.png")
    return root


def trained(root: Path, cache: Path, **changed: object) -> Trained:
    """Train a small model on the class folders in `root`; `changed` settings have __ for the dot."""
    settings = SMALL | {"data.root": str(root)} | {name.replace("__", "."): value for name, value in changed.items()}
    config = TrialConfig.from_settings({name: value for name, value in settings.items() if value is not None})
    data, test = prepare(config, cache), prepare(config, cache, "test")
    run = Run(config, whole(data))
    for _ in range(config.optim.epochs):
        run.train_epoch()
    dataset = open_dataset(config.data, cache)
    train = Frames(dataset, "train", config.data.frame_size, cache)
    finds = None if config.model.local_stream == "none" else finder(config, dataset, train, extraction_trunk(config))
    trunks = stream_trunks(config) if config.model.freeze_backbones else None
    classifier = Classifier(config, dataset.classes, run.models[0].eval(), trunks, finds)
    return Trained(run, classifier, test, [root / name for name in test.names])
