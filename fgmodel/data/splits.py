"""How the train split is divided for validation: one stratified cut, or k folds, and the hash that names it."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fgmodel.config import DataConfig
from fgmodel.errors import InputError


@dataclass(frozen=True)
class Fold:
    """One way to divide the train split: positions within it, sorted."""

    train: np.ndarray        # (a,) int64
    validation: np.ndarray   # (b,) int64


def divide(labels: np.ndarray, classes: Sequence[str], data: DataConfig) -> tuple[Fold, ...]:
    """Return the folds `data` asks for over the train split's labels, each class in its share (thesis §8.1).

    Only `data.seed` and `data.validation_seed` decide, never a trial's seed. Raises InputError: for a class with too
    few images.
    """
    if data.folds >= 2:
        return _k_folds(labels, classes, data)
    held_out = []
    for label, rows in _shuffled_classes(labels, data.seed, data.validation_seed):
        share = max(1, round(data.validation * len(rows)))
        if share >= len(rows):
            raise InputError(
                f"class '{classes[label]}' has {_count(rows)} to train on, too few to hold out {data.validation:g} "
                "for validation; lower data.validation or add images",
            )
        held_out.append(rows[:share])
    return (_fold(len(labels), np.concatenate(held_out)),)


def cut_test(labels: np.ndarray, classes: Sequence[str], seed: int, share: float = 0.2) -> np.ndarray:
    """Return which images are for training where a data set comes without a split: a stratified `share` is for test."""
    train = np.ones(len(labels), bool)
    for label, rows in _shuffled_classes(labels, seed):
        if len(rows) < 2:
            raise InputError(f"class '{classes[label]}' has one image; a test split needs a second")
        train[rows[: max(1, round(share * len(rows)))]] = False
    return train


def split_hash(names: Sequence[str], folds: Sequence[Fold]) -> str:
    """Return the name of a division of the images `names`: it follows their names in each part, nothing else."""
    parts = [[[names[i] for i in part] for part in (fold.train, fold.validation)] for fold in folds]
    return f"sha256:{hashlib.sha256(json.dumps(parts).encode()).hexdigest()}"


def _k_folds(labels: np.ndarray, classes: Sequence[str], data: DataConfig) -> tuple[Fold, ...]:
    fold_of = np.empty(len(labels), np.int64)
    for label, rows in _shuffled_classes(labels, data.seed, data.validation_seed):
        if len(rows) < data.folds:
            raise InputError(
                f"class '{classes[label]}' has {_count(rows)} to train on, fewer than data.folds: {data.folds}",
            )
        fold_of[rows] = (np.arange(len(rows)) + label) % data.folds   # each class begins elsewhere: folds of equal size
    return tuple(_fold(len(labels), np.flatnonzero(fold_of == k)) for k in range(data.folds))


def _shuffled_classes(labels: np.ndarray, *seeds: int) -> list[tuple[int, np.ndarray]]:
    """Return each class's rows in an order that only the seeds and the class decide."""
    return [
        (int(label), np.random.default_rng([seeds[0], label, *seeds[1:]]).permutation(np.flatnonzero(labels == label)))
        for label in np.unique(labels)
    ]


def _fold(n: int, validation: np.ndarray) -> Fold:
    return Fold(train=np.setdiff1d(np.arange(n), validation), validation=np.sort(validation))


def _count(rows: np.ndarray) -> str:
    return "1 image" if len(rows) == 1 else f"{len(rows)} images"
