"""Python loads this at the start of every process of a stage: it notes each epoch that any run begins to train.

The journal cannot tell of an epoch trained a second time, since it keeps the first report alone. A line an epoch in the
file FGSEARCH_CHAOS_WITNESS: when, which epoch, with what settings.
"""

# ruff: noqa: INP001  a folder on PYTHONPATH, no package
import importlib.util
import json
import os
import sys
import time
from functools import wraps
from importlib.abc import MetaPathFinder
from pathlib import Path

WATCHED = "fgmodel.training"


class Witness(MetaPathFinder):
    """Puts a note before the first line of `Run.train_epoch`, when its module is imported."""

    def find_spec(self, name, path, target=None):
        del path, target
        if name != WATCHED:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        execute = spec.loader.exec_module

        def watched(module):
            execute(module)
            module.Run.train_epoch = noting(module.Run.train_epoch)

        spec.loader.exec_module = watched
        return spec


def noting(train):
    """Return a `train_epoch` that notes the epoch it begins."""

    @wraps(train)
    def noted(run):
        line = {"at": time.time(), "epoch": run.epoch + 1, "settings": dict(run.config.settings())}
        with Path(os.environ["FGSEARCH_CHAOS_WITNESS"]).open("a") as file:
            file.write(json.dumps(line) + "\n")
        return train(run)

    return noted


if "FGSEARCH_CHAOS_WITNESS" in os.environ:
    sys.meta_path.insert(0, Witness())
