"""How long the report of a finished search takes, without the pictures of images: python -m tests.bench.bench_report."""

import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

from search.space_file import read_space
from tests.search.made_search import MadeSearch

SPACE = Path(__file__).parents[2] / "spaces" / "finches.yaml"


def main() -> None:
    for trials in map(int, sys.argv[1:] or ["1000"]):
        with TemporaryDirectory() as folder:
            space = read_space(SPACE, [f"search.trials={trials}"])
            MadeSearch(Path(folder) / "searches" / "made" / "journal.jsonl", space).whole()
            begun = time.monotonic()
            subprocess.run([sys.executable, "-m", "search.cli", "report", "made", "--home", folder, "--no-images", "--no-log"], check=True)
            print(f"{trials:,} trials: {time.monotonic() - begun:.1f} s for the whole command")


if __name__ == "__main__":
    main()
