"""A home that an earlier version left (tests/homes: journal, list of images, MLflow's tables, the export of its best)."""

import gzip
import json
import shutil
from pathlib import Path

import pytest
import yaml

from search.decide.sampler import propose
from search.record.history import History, load, space_of
from search.record.journal import Asked, read
from tests.lab import Lab

HOMES = sorted((Path(__file__).parents[1] / "homes").iterdir())


@pytest.fixture(params=HOMES, ids=lambda path: path.name)
def old(request, tmp_path) -> Lab:
    """Return a lab whose home an earlier version made; what it was when it was left is beside it."""
    lab, kept = Lab(tmp_path / "lab"), request.param
    shutil.copy(kept / "tiny.yaml", lab.folder / "tiny.yaml")
    lab.share()
    lab.journal.parent.mkdir(parents=True)
    for name in ("journal.jsonl", "images.json"):
        shutil.copy(kept / name, lab.journal.with_name(name))
    lab.database.write_bytes(gzip.decompress((kept / "mlflow.db.gz").read_bytes()))
    lab.kept = kept
    return lab


def plan(lab: Lab) -> tuple[str, ...]:
    """Return the settings that its launch was given beside the file."""
    search = space_of(load(lab.journal)).search
    return ("--set", f"search.finalists={search.finalists}", "--set", f"search.seeds={search.seeds}")


def test_it_is_listed_with_its_best_trial(old) -> None:
    (listed,) = json.loads(old.run("list", "--json"))
    best = yaml.safe_load((old.kept / "exported.yaml").read_text())["origin"]
    assert (listed["state"], listed["best"]["trial"]) == ("complete", best["trial"])
    assert listed["best"]["value"] == best["validation"]["value"]


def test_its_best_is_exported_as_it_was_then(old) -> None:
    old.run("export", "tiny", "--out", "best.yaml")
    then, now = (yaml.safe_load(path.read_text()) for path in (old.kept / "exported.yaml", old.folder / "best.yaml"))
    assert now["settings"] == then["settings"]
    for part in ("search", "trial", "by", "validation", "data", "seeds", "journal", "resources"):
        assert now["origin"][part] == then["origin"][part]


def test_every_configuration_is_proposed_again_as_it_was(old) -> None:
    facts, history = read(old.journal), History()
    space = space_of(History.of(facts))
    for fact in facts:
        if isinstance(fact, Asked):
            assert propose(space, history) == (fact.settings, fact.by)
        history.see(fact)


def test_launched_again_it_is_complete_and_nothing_is_written_twice(old) -> None:
    before, runs, rows = old.journal.read_bytes(), sorted(old.runs()), sorted(old.rows())
    assert "complete: best #" in old.run("launch", "tiny.yaml", *plan(old))
    assert old.journal.read_bytes() == before
    assert (sorted(old.runs()), sorted(old.rows())) == (runs, rows)


@pytest.mark.slow
def test_it_is_extended(old) -> None:
    before = load(old.journal)
    old.run("extend", "tiny", "--trials", "+2")
    after = load(old.journal)
    assert len(after.candidates) == len(before.candidates) + 2
    assert all(after.trials[t.number].reports.items() >= t.reports.items() for t in before.trials.values())
    assert after.finished.how == "complete"
