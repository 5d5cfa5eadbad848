"""`make chaos`: searches on a real cluster with real services, disturbed at random moments for an hour or two.

Every disturbance and every search that ended is a line of the log; a harness that is killed loses nothing.
"""

import argparse
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from random import Random

from tests.chaos.kinds import ANYWHERE, NEED_A_DISK, ON_CLUSTER, Kind
from tests.chaos.ledger import Ledger
from tests.chaos.play import LostError, Play
from tests.chaos.stage import ClusterStage, CommandError, Stage
from tests.chaos.table import document

REPORT = Path(__file__).parents[2] / "docs" / "reliability.md"


def main() -> None:
    """Play until the decks are dealt or the time is over, then write the table."""
    options = _options()
    if options.rounds:
        _play(options)
    if options.table:
        REPORT.write_text(document(options.log, REPORT.read_text()))


def _play(options: argparse.Namespace) -> None:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended by SIGTERM"))  # so that the cluster ends too
    folder = options.folder or Path(tempfile.mkdtemp(prefix="fgsearch-chaos-"))
    folder.mkdir(parents=True, exist_ok=True)
    until = time.monotonic() + 3600 * options.hours
    kinds = ANYWHERE if options.local else ON_CLUSTER
    kinds = {name: kind for name, kind in kinds.items() if any(word in name for word in options.only.split(","))}
    with Stage(folder, options.trials) if options.local else ClusterStage(folder, options.trials, options.port) as stage:
        play = Play(stage, options.seed, options.log)
        mounted = getattr(stage, "mounted", set())
        skipped = {name for name, disk in NEED_A_DISK.items() if name in kinds and disk not in mounted}
        for name in skipped:
            print(f"skipped: {name}: a small disk cannot be mounted here", flush=True)
        cards = _cards({name: kind for name, kind in kinds.items() if name not in skipped}, options.rounds, options.seed)
        _perform(play, cards, until, options.one_worker)
    if options.folder is None:
        shutil.rmtree(folder, ignore_errors=True)


def _perform(play: Play, cards: Iterator[tuple[str, Kind]], until: float, one_worker: bool) -> None:
    kept = play.stage.folder / "undisturbed.jsonl"
    if not kept.exists():
        play.begin("undisturbed", 1)
        play.end(compared=False)
        shutil.copy(play.stage.journal, kept)
    play.undisturbed = Ledger.of(kept)
    number, card = 0, next(cards, None)
    while card and time.monotonic() < until:
        number += 1
        workers = 1 if one_worker else 1 + number % 2
        try:
            play.begin(f"chaos-{os.getpid()}-{number}", workers)
            while card and not play.over and time.monotonic() < until:
                time.sleep(play.scene.chance.uniform(0, 4))
                if not play.over and play.disturb(*card):
                    card = next(cards, None)
            play.end(compared=workers == 1)
        except (CommandError, LostError) as error:
            print(f"given up: {error}", flush=True)
            play.stage.tried("stop", play.stage.name)
            card = next(cards, None)


def _cards(kinds: dict[str, tuple[Kind, int]], rounds: int, seed: int) -> Iterator[tuple[str, Kind]]:
    """Yield every kind as often as it is in a deck, deck after deck, each shuffled."""
    for number in range(rounds):
        deck = [(name, kind) for name, (kind, count) in kinds.items() for _ in range(count)]
        Random(f"{seed}-{number}").shuffle(deck)
        yield from deck


def _options() -> argparse.Namespace:
    asked = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    asked.add_argument("--rounds", type=int, default=4, help="decks of disturbances, every kind in each; 0: only --table")
    asked.add_argument("--seed", type=int, default=0, help="of the order and the moments")
    asked.add_argument("--only", default="", help="kinds with one of these words in their names: head,raylet,disk")
    asked.add_argument("--hours", type=float, default=2.0, help="after which no further search begins")
    asked.add_argument("--trials", type=int, default=60, help="of a search")
    asked.add_argument("--port", type=int, default=8475, help="of the cluster; MLflow takes the next one")
    asked.add_argument("--log", type=Path, default=Path("chaos.jsonl"), help="a line a disturbance; appended to")
    asked.add_argument("--folder", type=Path, help="where to play, kept afterwards")
    asked.add_argument("--local", action="store_true", help="one machine, one worker: no cluster and no services")
    asked.add_argument("--one-worker", action="store_true", help="every search is compared with the undisturbed one")
    asked.add_argument("--table", action="store_true", help="write the table of docs/reliability.md from the log")
    options = asked.parse_args()
    options.one_worker |= options.local
    return options


main()
