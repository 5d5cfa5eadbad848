"""The thesis' tables and figures: searches over fixed lists, our numbers beside the published ones.

A study is a space file with `rows`, each trained with every seed on train and validation, and a part `study`: what
the thesis published of which row, and which row each is compared with. Test is opened once a trial, at its end, and
recorded.
"""

import csv
import io
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import Field, ValidationError
from rich.console import Group
from rich.table import Table
from rich.text import Text
from scipy.stats import binomtest

from fgmodel.config import TrialConfig, require_setting
from fgmodel.frozen import Frozen, mistakes
from fgmodel.test_split import right
from search.errors import InputError, Problems, SettingError
from search.record.history import History, Trial
from search.space.shipped import STUDIES, find_space, named
from search.space.space import Space
from search.space.yaml_lines import read_document

SIGNIFICANT = 0.05
METRIC = "test/accuracy"
OWN = Path("spaces/thesis")  # of whoever works here: studies that are not shipped
FINCHES = {
    "data.dataset": "finches", "data.root": "''", "data.patches": "peaks", "data.patches_per_image": 4,
    "data.frame_size": 256, "data.image_size": 160, "data.patch_size": 224,  # of which maps have 7x7 cells
    "model.global_backbone": "efficientnet_lite0", "model.local_backbone": "efficientnet_lite0",  # nothing to download
    "search.resources.cpu": 1, "search.resources.gpu": 0,
}  # fmt: skip


class Compared(Frozen, allow_inf_nan=False):
    """What the thesis says of a row, in percent, and the row it is held against."""

    published: float | None = Field(None, ge=0, le=100)
    against: str | None = None
    of: str | None = None       # a row that is not trained: another way to read this one
    metric: str = METRIC        # ... by this metric


class Study(Frozen):
    """The part `study` of a file."""

    title: str
    comparable: dict[str, Any]  # the settings under which the published numbers were measured
    images: int = Field(ge=1)   # of the test split they were measured on
    rows: dict[str, Compared]
    maps: tuple[str, ...] = ()  # the trained rows whose time steps are drawn


@dataclass(frozen=True)
class Row:
    """A line of a study's table; accuracies in percent."""

    name: str
    published: float | None
    values: tuple[float, ...]             # ours, one a seed
    images: int
    against: str | None
    difference: float | None              # to the row it is compared with, in points
    p: float | None                       # exact McNemar test of that, the median over the seeds
    verdict: str                          # on the published number
    why: str                              # where it is not comparable
    claim: str                            # on the published difference, which also other data can bear out

    @property
    def mean(self) -> float:
        """Return our mean over the seeds."""
        return float(np.mean(self.values)) if self.values else math.nan

    @property
    def sd(self) -> float:
        """Return the standard deviation over the seeds."""
        return float(np.std(self.values, ddof=1)) if len(self.values) > 1 else math.nan


def find_study(name: str) -> Path:
    """Return the file of a study by its name or path; raises InputError naming the nearest."""
    return find_space(name, {**named(OWN), **named(STUDIES)}, "study")


def on_data(data: str) -> list[str]:
    """Return the settings that run a study on other data: a folder, or the drawn finches and what suits them."""
    if data == "finches":
        return [f"{key}={value}" for key, value in FINCHES.items()]
    root = Path(data).expanduser()
    layouts = (("cub", "images.txt"), ("dogs", "lists"), ("dogs", "train_list.mat"))
    dataset = next((name for name, sign in layouts if (root / sign).exists()), "folders")
    return [f"data.dataset={dataset}", f"data.root={data}"]


def read_study(path: Path) -> Study:
    """Return the part `study` of a space file; raises Problems with the line of what is wrong."""
    document = read_document(path)
    try:
        study = Study.model_validate(document.values.get("study", {}))
    except ValidationError as error:
        found = mistakes(error)
        raise Problems([f"{document.named('study', *wrong.keys)}: {wrong.must}" for wrong in found]) from None
    trained = document.values.get("rows", {})
    if not isinstance(trained, dict):
        raise Problems([f"{document.where('rows')}: 'rows' must hold settings"])
    for name in study.comparable:
        try:
            require_setting(name)
        except SettingError as error:
            raise Problems([f"{document.where('study', 'comparable', name)}: {error}"]) from None
    for name, row in study.rows.items():
        where = document.where("study", "rows", name)
        if (row.of or name) not in trained:
            raise Problems([f"{where}: '{row.of or name}' is none of the file's rows: {', '.join(trained)}"])
        if row.against is not None and row.against not in study.rows:
            raise Problems([f"{where}: 'against': '{row.against}' is no row of the study"])
    if unknown := [name for name in study.maps if name not in trained]:
        where = document.where("study", "maps")
        raise Problems([f"{where}: 'maps': '{unknown[0]}' is none of the file's rows: {', '.join(trained)}"])
    return study


def only(wanted: Sequence[str], study: Study, space: Space) -> tuple[Study, Space]:
    """Return the study with these trained rows and what is read off them; raises InputError naming the nearest."""
    for name in wanted:
        if name not in space.rows:
            near = get_close_matches(name, space.rows, n=1, cutoff=0.3)
            meant = f"; did you mean '{near[0]}'?" if near else ""
            raise InputError(f"--row: '{name}' is no row of {space.name}{meant}")
    rows = {name: row for name, row in space.rows.items() if name in wanted}
    left = {name: said for name, said in study.rows.items() if (said.of or name) in wanted}
    compared = {
        name: said if said.against in left else said.model_copy(update={"against": None}) for name, said in left.items()
    }
    maps = tuple(name for name in study.maps if name in wanted)
    search = space.search.model_copy(update={"trials": len(rows) * space.search.seeds})
    return study.model_copy(update={"rows": compared, "maps": maps}), replace(space, rows=rows, search=search)


def table(study: Study, space: Space, history: History, predictions: Path) -> list[Row]:
    """Return the study's rows; those whose trials have not all ended have what there is so far."""
    images = history.tests[0].images if history.tests else 0
    return [_row(name, study, space, history, predictions, images) for name in study.rows]


def view(study: Study, rows: list[Row]) -> Group:
    """Return the table for a person."""
    shown = Table(title=study.title, title_justify="left", box=None, header_style="bold")
    for title in ("row", "thesis %", "ours %", "against", "difference", "p", "claim", "verdict"):
        shown.add_column(title, justify="left" if title in ("row", "against", "claim", "verdict") else "right")
    for r in rows:
        ours = _shown(r.mean, 2) + (f" ± {r.sd:.2f}" if len(r.values) > 1 else "")
        difference = "" if r.difference is None else f"{r.difference:+.2f}"
        compared = (r.against or "", difference, _shown(r.p, 3), r.claim)
        shown.add_row(r.name, _shown(r.published, 2), ours, *compared, r.verdict)
    seeds, images = max((len(r.values) for r in rows), default=0), rows[0].images if rows else 0
    reasons = sorted({r.why for r in rows if r.why})
    notes = [
        f"{seeds} seeds, {images} test images; p: exact McNemar test, the median over the seeds",
        "claim: where our difference is significant (p < 0.05), whether it is the thesis' way; elsewhere, whether the",
        "       published one lies further from ours than two standard errors (does not hold)",
        *(f"not comparable: {why}" for why in reasons),
    ]
    return Group(shown, *(Text(note) for note in notes))


def document(study: Study, rows: list[Row]) -> dict[str, Any]:
    """Return the table for a script."""
    return {"study": study.title, "rows": [asdict(r) | {"mean": r.mean, "sd": r.sd} for r in rows]}


def mcnemar(mine: np.ndarray, theirs: np.ndarray) -> float:
    """Return the p-value of the exact McNemar test: both arguments say of each image whether it was told right."""
    only_mine, only_theirs = int((mine & ~theirs).sum()), int((~mine & theirs).sum())
    if only_mine + only_theirs == 0:
        return 1.0
    return float(binomtest(only_mine, only_mine + only_theirs, 0.5).pvalue)


def as_csv(rows: list[Row]) -> str:
    """Return the table for a spreadsheet."""
    text = io.StringIO()
    writer = csv.writer(text)
    measured = ["published", "mean", "sd", "seeds", "images"]
    writer.writerow(["row", *measured, "against", "difference", "p", "claim", "verdict", "why"])
    for r in rows:
        shown = [_shown(r.published, 2), _shown(r.mean, 2), _shown(r.sd, 2), len(r.values), r.images]
        compared = [r.against or "", _shown(r.difference, 2), _shown(r.p, 4), r.claim]
        writer.writerow([r.name, *shown, *compared, r.verdict, r.why])
    return text.getvalue()


def _row(name: str, study: Study, space: Space, history: History, predictions: Path, images: int) -> Row:
    said = study.rows[name]
    mine = _trials(said.of or name, space, history)
    values = tuple(100 * t.at(space.search.epochs, said.metric) for t in mine)
    difference = p = error = None
    other = study.rows[said.against] if said.against is not None else None
    if other is not None:
        theirs = _trials(other.of or str(said.against), space, history)
        pairs = list(zip(mine, theirs, strict=False))
        difference, p, error = _compared(pairs, said.metric, other.metric, space, predictions)
    why = _incomparable(study, space.config(space.rows[said.of or name]), images)
    verdict = _verdict(said, values, images, why)
    claim = _claim(said, other, difference, p, error)
    return Row(name, said.published, values, images, said.against, difference, p, verdict, why, claim)


def _compared(
    pairs: list[tuple[Trial, Trial]], metric: str, other: str, space: Space, predictions: Path,
) -> tuple[float | None, float | None, float | None]:
    """Return the mean difference in points, the median p-value, and two standard errors of one pair's difference.

    Pairs are trials of the same seed, told apart by the same images.
    """
    if not pairs:
        return None, None, None
    epochs = space.search.epochs
    differences = [100 * (a.at(epochs, metric) - b.at(epochs, other)) for a, b in pairs]
    told = [(_right(a, predictions, metric), _right(b, predictions, other)) for a, b in pairs]
    errors = [200 * float(np.std(mine.astype(float) - theirs)) / math.sqrt(len(mine)) for mine, theirs in told]
    tests = [mcnemar(mine, theirs) for mine, theirs in told]
    return float(np.mean(differences)), float(np.median(tests)), float(np.mean(errors))


def _trials(row: str, space: Space, history: History) -> list[Trial]:
    """Return a row's trials that ended, by seed."""
    mine = [t for t in history.trials.values() if t.by == row and t.rung >= space.search.epochs and not t.reason]
    return sorted(mine, key=lambda t: int(t.settings["seed"]))


def _right(trial: Trial, predictions: Path, metric: str) -> np.ndarray:
    assert trial.predictions is not None
    path = predictions / trial.predictions
    try:
        return right(path, metric)
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read: {error}; delete the study's folder and run it again") from None


def _claim(
    said: Compared, other: Compared | None, difference: float | None, p: float | None, error: float | None,
) -> str:
    """Return whether the published difference of two rows is there in ours."""
    if said.published is None or other is None or other.published is None:
        return ""
    if difference is None or p is None or error is None:
        return ""
    published = said.published - other.published
    if p >= SIGNIFICANT:
        return "does not hold" if abs(difference - published) > error else "not decided"
    return "holds" if (difference > 0) == (published > 0) else "contrary"


def _verdict(said: Compared, values: tuple[float, ...], images: int, why: str) -> str:
    if said.published is None:
        return ""
    if not values:
        return "not run"
    if why:
        return "not comparable"
    errors = 2 * 100 * math.sqrt(said.published / 100 * (1 - said.published / 100) / images)  # two standard errors
    near = abs(np.mean(values) - said.published) <= errors
    return f"reproduced (within ±{errors:.1f})" if near else f"not reproduced (beyond ±{errors:.1f})"


def _incomparable(study: Study, config: TrialConfig, images: int) -> str:
    settings = config.settings()
    wanted = study.comparable.items()
    differs = [f"{name} {settings[name]}, not {value}" for name, value in wanted if settings[name] != value]
    if images != study.images:
        differs.insert(0, f"{images} test images, not {study.images}")
    return "; ".join(differs[:3])


def _shown(value: float | None, digits: int) -> str:
    return "" if value is None or math.isnan(value) else f"{value:.{digits}f}"

