"""A search by `fgsearch launch` against the plain Ray Tune script of peer.py: trials an hour, on real birds.

    python tests/bench/bench_search.py [--trials 8] [--epochs 9] [--skip-peer]

Each side is one process, timed from its start to its end: imports, Ray's start and MLflow's tables included. Timings
fail nothing; only a side that does not finish is an error.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import psutil

from search.decide.asha import Ladder
from search.record.history import load
from search.space.file import read_space
from search.space.space import Space

HERE = Path(__file__).parent
SPACE = HERE / "cub-bench.yaml"
AIMS = {"features computed": 10, "features cached": 40}  # times the peer's trials an hour


@dataclass(frozen=True)
class Timed:
    """What one side did, and how long it took."""

    side: str
    seconds: float
    trials: int
    epochs: int     # over all trials: ASHA that stops and ASHA that promotes train different numbers of them
    best: float     # validation accuracy, of the side's own cut: a sign of life, no comparison

    @property
    def hourly(self) -> float:
        """Trials an hour."""
        return 3600 * self.trials / self.seconds

    def row(self) -> str:
        """Return the table's line."""
        rates = f"{self.trials:>8}{self.hourly:>11.0f}{self.epochs:>9}{self.seconds / self.epochs:>12.2f}"
        return f"{self.side:<28}{self.seconds:>9.1f}{rates}{self.best:>10.3f}"


def main() -> None:
    given = arguments()
    data = birds()
    space = read_space(SPACE, [f"search.trials={given.trials}", f"search.epochs={given.epochs}"])
    print(machine())
    print(f"search     {given.trials} trials of at most {given.epochs} epochs, rungs {space.search.rungs}, {data}")
    before = load_average()
    with tempfile.TemporaryDirectory(prefix="fgsearch-bench-") as folder:
        ours = [run_ours(space, data, Path(folder), state) for state in AIMS]
        peer = None if given.skip_peer else run_peer(space, data, Path(folder), given)
    print(f"load       {before} before, {load_average()} after")
    report(ours, peer)


def run_ours(space: Space, data: Path, folder: Path, state: str) -> Timed:
    """Run `fgsearch launch`; the second search in a home finds the first one's features."""
    home, name = folder / "home", state.replace(" ", "-")
    settings = {
        "data.root": data, "data.patches": data / "train_patches.npy",
        "search.trials": space.search.trials, "search.epochs": space.search.epochs,
    }
    sets = [word for key, value in settings.items() for word in ("--set", f"{key}={value}")]
    fgsearch = Path(sys.executable).with_name("fgsearch")
    seconds = timed([fgsearch, "launch", SPACE, "--home", home, "--name", name, *sets], folder / f"{name}.log")
    history = load(home / "searches" / name / "journal.jsonl")
    epochs = sum(len(trial.reports) for trial in history.trials.values())
    best = Ladder(space.search).leader(history)
    accuracy = best.at(best.rung, "val/accuracy") if best else float("nan")
    return Timed(f"fgsearch, {state}", seconds, len(history.trials), epochs, accuracy)


def run_peer(space: Space, data: Path, folder: Path, given: argparse.Namespace) -> Timed:
    """Run the plain script over the same space."""
    words = {
        "--data": data, "--out": folder, "--trials": space.search.trials, "--epochs": space.search.epochs,
        "--trunk": given.peer_trunk, "--loaders": given.peer_loaders,
    }
    options = [word for pair in words.items() for word in pair]
    seconds = timed([sys.executable, HERE / "peer.py", SPACE, *options], folder / "peer.log")
    done = json.loads((folder / "peer.json").read_text())
    if done["errors"]:
        raise SystemExit(f"the peer lost {done['errors']} trials:\n{tail(folder / 'peer.log')}")
    return Timed(f"plain script, {given.peer_trunk} trunk", seconds, done["trials"], done["epochs"], done["best"])


def timed(command: list[object], log: Path) -> float:
    """Return the seconds a command took; it must succeed."""
    print(f"running    {' '.join(Path(str(word)).name for word in command[:2])} …", flush=True)
    with log.open("w") as file:
        start = time.perf_counter()
        done = subprocess.run([str(word) for word in command], stdout=file, stderr=subprocess.STDOUT, check=False)
        seconds = time.perf_counter() - start
    if done.returncode:
        raise SystemExit(f"it ended with status {done.returncode}:\n{tail(log)}")
    return seconds


def report(ours: list[Timed], peer: Timed | None) -> None:
    """Print every side, then the ratios of trials an hour, and of epochs an hour since the sides' epochs differ."""
    print(f"\n{'':<28}{'seconds':>9}{'trials':>8}{'trials/h':>11}{'epochs':>9}{'s an epoch':>12}{'best':>10}")
    for side in (*ours, *([peer] if peer else [])):
        print(side.row())
    for side, (state, aim) in zip(ours, AIMS.items(), strict=True):
        if peer:
            a_trial, an_epoch = side.hourly / peer.hourly, side.epochs * peer.seconds / side.seconds / peer.epochs
            print(f"{state}: {a_trial:.1f}x the trials an hour (aim {aim}x), {an_epoch:.1f}x the epochs an hour")
    print("timings fail nothing; on a machine that others share, compare ratios of one run only")


def machine() -> str:
    """Return what the numbers were measured on."""
    memory = psutil.virtual_memory().total / 2**30
    packages = ", ".join(f"{name} {version(name)}" for name in ("fgsearch", "torch", "ray", "optuna", "mlflow"))
    return (
        f"machine    {os.cpu_count()} cores, {memory:.0f} GiB, {platform.system()} {platform.machine()}\n"
        f"versions   Python {platform.python_version()}, {packages}"
    )


def load_average() -> str:
    return " ".join(f"{load:.2f}" for load in os.getloadavg())


def tail(log: Path) -> str:
    return "\n".join(log.read_text().splitlines()[-30:])


def birds() -> Path:
    """Return the folder of CUB's layout with the released patches; without one there is nothing to measure."""
    root = Path(os.environ.get("FGSEARCH_CUB") or HERE.parents[1] / "../shared/data/cub10").resolve()
    if not (root / "train_patches.npy").is_file():
        raise SystemExit(f"skipped: {root} holds no train_patches.npy; set FGSEARCH_CUB to a CUB folder with patches")
    return root


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Measure a search against the plain Ray Tune script.")
    parser.add_argument("--trials", type=int, default=8)
    parser.add_argument("--epochs", type=int, default=9, help="of a trial that is never stopped")
    parser.add_argument("--skip-peer", action="store_true", help="measure our side only")
    parser.add_argument("--peer-trunk", choices=("plain", "folded"), default="plain", help="folded: our faster one")
    parser.add_argument("--peer-loaders", type=int, default=0, help="worker processes of each DataLoader")
    return parser.parse_args()


if __name__ == "__main__":
    main()
