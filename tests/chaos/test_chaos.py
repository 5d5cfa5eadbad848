"""A short round of the cheap disturbances, on this machine alone: `make chaos` plays all of them for an hour or two."""

import json
from datetime import UTC, datetime
from pathlib import Path
from random import Random

import pytest

from tests.chaos.kinds import ANYWHERE
from tests.chaos.ledger import Ledger, trained_again
from tests.chaos.play import Play
from tests.chaos.stage import Stage

pytestmark = pytest.mark.slow
SHORT = ("trial actor, kill -9", "last line of the journal cut", "second driver", "checkpoints deleted")


def test_a_disturbed_search_ends_as_the_undisturbed_one_with_everything_once(tmp_path: Path) -> None:
    with Stage(tmp_path / "chaos", trials=9) as stage:
        play = Play(stage, seed=0, log=tmp_path / "chaos.jsonl")
        play.begin("undisturbed", 1)
        assert play.end(compared=False)["wrong"] == {}
        play.undisturbed = stage.ledger()
        play.begin("disturbed", 1)
        played = [name for name in Random(0).sample(SHORT, len(SHORT)) if play.disturb(name, ANYWHERE[name][0])]
        end = play.end(compared=True)
    assert len(played) == len(SHORT)
    assert '"wrong": ["' not in play.log.read_text()
    assert end["wrong"] == {}


def _told(**fact: object) -> bytes:
    return json.dumps({"at": "2026-11-25T13:00:10Z", "trial": 0, "checkpoint": None, **fact}).encode() + b"\n"


@pytest.mark.parametrize(
    ("begun", "deleted", "again", "too_many"),
    [
        pytest.param([1, 2, 3, 2, 3], (), 2, 0, id="from the rung's checkpoint"),
        pytest.param([1, 2, 3, 1, 2, 3], (), 3, 1, id="from the start, although there was a checkpoint"),
        pytest.param([1, 2, 3, 1, 2, 3], ("a",), 3, 0, id="from the start: the checkpoint was deleted"),
        pytest.param([1, 2, 3], (), 0, 0, id="nothing"),
    ],
)
def test_epochs_trained_again_are_counted_from_what_workers_were_seen_to_begin(begun, deleted, again, too_many, tmp_path) -> None:
    settings = {"optim.lr_global": 0.1}
    ledger = Ledger(_told(fact="asked", settings=settings) + _told(fact="reported", epoch=1, checkpoint="a"))
    at = datetime(2026, 11, 25, 13, 0, 20, tzinfo=UTC).timestamp()
    lines = [{"at": at + n, "epoch": epoch, "settings": settings | {"seed": 0}} for n, epoch in enumerate(begun)]
    (tmp_path / "epochs").write_text("".join(json.dumps(line) + "\n" for line in lines))
    found = trained_again(ledger, tmp_path / "epochs", frozenset(deleted))
    assert (found.epochs, found.too_many) == (again, too_many)
