"""How long the report of a finished search takes, with the pictures of images: python -m tests.bench.bench_report [TRIALS…].

The journal is made up; the best trial's checkpoint is a real one of an epoch, on drawn finches, whose features are
computed before (a minute; FGSEARCH_CACHE keeps them for the next time).
"""

import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

from fgmodel.prepare import prepare
from fgmodel.training import Run
from search.decide import race
from search.record.home import Home
from search.space.file import read_space
from tests.search.made_search import MadeSearch

SPACE = Path(__file__).parents[2] / "spaces" / "finches.yaml"


def made(home: Home, trials: int) -> None:
    """Write a finished search, and train its best trial for an epoch."""
    space = read_space(SPACE, [f"search.trials={trials}"])
    MadeSearch(home.journal("made"), space).whole()
    best = race.best(space.search, home.history("made"))
    assert best
    assert best.checkpoint
    config = space.config(best.settings)
    run = Run(config, prepare(config, home.cache))
    run.train_epoch()
    path = home.checkpoints("made") / best.checkpoint[1]
    path.parent.mkdir(parents=True)
    run.save(path)


def main() -> None:
    for trials in map(int, sys.argv[1:] or ["1000"]):
        with TemporaryDirectory() as folder:
            made(Home(Path(folder)), trials)
            for images in ("--images", "--no-images"):
                begun = time.monotonic()
                subprocess.run([sys.executable, "-m", "search.cli", "report", "made", "--home", folder, images, "--no-log"], check=True)
                print(f"{trials:,} trials, {images}: {time.monotonic() - begun:.1f} s for the whole command")


if __name__ == "__main__":
    main()
