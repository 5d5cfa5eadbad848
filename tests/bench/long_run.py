"""What a long search holds of memory, files and threads as it goes: its driver and its workers, looked at again and again.

    python -m tests.bench.long_run                  # 2,000 tiny jobs
    python -m tests.bench.long_run --minutes 60     # an hour of steady load, promotions among it
    python -m tests.bench.long_run --kept hour.csv --picture docs/long-run.png    # what an earlier run saw, drawn

Ends with an error unless the workers stay flat and the driver grows by no more than 30 kB a job. What is judged is the
second half: in the first one caches fill. The sampler is `random`: the question is what a job leaves behind, not what a
proposal costs.
"""

import argparse
import csv
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import psutil
from matplotlib.figure import Figure
from scipy.stats import theilslopes

from tests.lab import FGSEARCH, SPACE

MOST_A_JOB = 30e3        # bytes of driver memory
FLAT = 0.05              # share of its memory by which a worker may grow over the second half
PERIOD = 2.0             # seconds between two looks
WORKING = {"ray::TrialActor", "ray::ResourceTrainable.train", "ray::ResourceTrainable.reset"}  # how Ray names them
MANY = 100_000           # trials: the most a search may have, more than hours have room for
TINY = ("search.epochs=1", "search.rungs=[1]")  # one job a trial, one epoch a job; else rungs 1, 2 and 4


@dataclass(frozen=True)
class Watched:
    """One look at a process."""

    seconds: float       # since the search was launched
    jobs: int            # ended by then
    process: str         # "driver" or "worker PID"
    rss: int             # bytes, shared pages included
    pss: int             # bytes, a shared page divided among those who share it
    uss: int             # bytes that it alone holds: what is judged
    files: int
    threads: int


def main() -> None:
    """Run the search, or read what was kept of one; print the table, draw the picture, judge."""
    given = arguments()
    seen = read(given.kept) if given.kept and given.kept.exists() else run(given.jobs, given.minutes, given.workers, given.kept)
    by_process = {name: [s for s in seen if s.process == name] for name in sorted({s.process for s in seen})}
    print(f"{seen[-1].jobs} jobs in {seen[-1].seconds:.0f} s, {os.cpu_count()} cores")
    print(f"{'process':<14}{'jobs':>13}{'USS MB':>16}{'PSS MB':>16}{'RSS MB':>16}{'kB a job (95 %)':>24}{'files':>10}{'threads':>10}")
    problems = [problem for name, looks in by_process.items() for problem in report(name, looks, seen[-1].jobs)]
    if given.picture:
        draw(by_process, seen[-1].jobs).savefig(given.picture, dpi=110)
    sys.exit("\n".join(problems) or 0)


def run(jobs: int, minutes: float | None, workers: int, kept: Path | None) -> list[Watched]:
    """Return what was seen of a search of so many tiny jobs, or of so many minutes."""
    sets = ("search.sampler.name=random", f"search.workers={workers}")
    sets += TINY if minutes is None else (f"search.hours={minutes / 60}",)
    words = [FGSEARCH, "launch", "tiny.yaml", "--trials", str(jobs if minutes is None else MANY)]
    with tempfile.TemporaryDirectory(prefix="fgsearch-long-run-") as name, (Path(name) / "said.txt").open("w") as said:
        folder = Path(name)
        (folder / "tiny.yaml").write_text(SPACE)
        command = [*words, *(word for each in sets for word in ("--set", each))]
        driver = subprocess.Popen(command, cwd=folder, stdout=said, stderr=said)
        try:
            seen = list(watched(driver, folder, write(kept) if kept else lambda _: None))
        finally:
            driver.terminate()   # does nothing to one that has ended
            driver.wait()
        if driver.returncode or not seen:
            sys.exit((folder / "said.txt").read_text()[-2000:])
    return seen


def watched(driver: subprocess.Popen[bytes], folder: Path, keep: Callable[[Watched], None]) -> Iterator[Watched]:
    """Yield what the driver and its workers hold, again and again, until the driver ends."""
    journal, begun, jobs, offset = folder / "fgsearch-home" / "searches" / "tiny" / "journal.jsonl", time.monotonic(), 0, 0
    while driver.poll() is None:
        if journal.exists():
            with journal.open("rb") as file:
                file.seek(offset)
                whole = file.read().rpartition(b"\n")[0]
            jobs, offset = jobs + whole.count(b'"fact": "ended"'), offset + len(whole)
        for look in looks(driver.pid, jobs, time.monotonic() - begun) if jobs else ():
            keep(look)
            yield look
        time.sleep(PERIOD)


def looks(pid: int, jobs: int, seconds: float) -> list[Watched]:
    """Return a look at each process; one that ends meanwhile is left out."""
    found = []
    try:
        driver = psutil.Process(pid)
        for process in [driver, *driver.children(recursive=True)]:
            named = "driver" if process == driver else f"worker {process.pid}"
            if process == driver or set(process.cmdline()[:1]) & WORKING:
                held = process.memory_full_info()
                files, threads = process.num_fds(), process.num_threads()
                if held.uss:  # else it is just ending
                    found.append(Watched(round(seconds, 1), jobs, named, held.rss, held.pss, held.uss, files, threads))
    except psutil.NoSuchProcess:
        return []
    return found


def report(name: str, looks: list[Watched], jobs: int) -> list[str]:
    """Print a process' line of the table; return what is wrong with it."""
    half = [s for s in looks if s.jobs >= jobs / 2]
    if len(half) < 10 or len({s.jobs for s in half}) < 3:
        return [] if name != "driver" else ["the driver was not seen: more jobs are needed"]
    slope, low, high = growth(half)
    wrong = []
    row = f"{name:<14}{f'{half[0].jobs}-{half[-1].jobs}':>13}"
    for what in ("uss", "pss", "rss"):
        row += f"{f'{getattr(half[0], what) / 1e6:.1f} - {getattr(half[-1], what) / 1e6:.1f}':>16}"
    row += f"{f'{slope / 1e3:.2f} ({low / 1e3:.2f} .. {high / 1e3:.2f})':>24}"
    for what in ("files", "threads"):
        held = [getattr(s, what) for s in half]
        row += f"{f'{min(held)}-{max(held)}':>10}"
        third = len(held) // 3
        if np.median(held[-third:]) > np.median(held[:third]) + 3:
            wrong.append(f"{name} gathers {what}: {held[0]} at first, {held[-1]} at last")
    print(row)
    if name == "driver" and slope > MOST_A_JOB:
        wrong.append(f"the driver grows by {slope / 1e3:.1f} kB a job")
    if name != "driver" and slope * (half[-1].jobs - half[0].jobs) > FLAT * half[0].uss:
        wrong.append(f"{name} grows by {slope / 1e3:.1f} kB a job")
    return wrong


def growth(looks: list[Watched]) -> tuple[float, float, float]:
    """Return bytes a job and the 95 % interval: the median slope of all pairs of looks, which no single step decides."""
    thinned = looks[::max(1, len(looks) // 600)]
    slope = theilslopes([s.uss for s in thinned], [s.jobs for s in thinned])
    return float(slope.slope), float(slope.low_slope), float(slope.high_slope)


def draw(by_process: dict[str, list[Watched]], jobs: int) -> Figure:
    """Return memory, files and threads over the jobs; grey is what is not judged."""
    figure = Figure(figsize=(10, 4.2), layout="constrained")
    left, middle, right = figure.subplots(1, 3)
    for name, looks in by_process.items():
        if looks[-1].jobs > jobs / 2:
            at = [s.jobs for s in looks]
            left.plot(at, [s.uss / 1e6 for s in looks], label=name)
            middle.plot(at, [s.files for s in looks], label=name)
            right.plot(at, [s.threads for s in looks], label=name)
    for axes, title in ((left, "memory of its own, MB"), (middle, "file handles"), (right, "threads")):
        axes.set(title=title, xlabel="jobs ended", ylim=(0, None), xlim=(0, jobs))
        axes.axvspan(0, jobs / 2, color="0.93", zorder=0)
        axes.grid(alpha=0.3)
    right.legend()
    return figure


def write(path: Path) -> Callable[[Watched], None]:
    """Return what appends a look to a CSV file, so that a run that is cut off can be judged too."""
    file = path.open("w", newline="", buffering=1)
    writer = csv.DictWriter(file, list(Watched.__annotations__))
    writer.writeheader()
    return lambda look: writer.writerow(asdict(look))


def read(path: Path) -> list[Watched]:
    """Return the looks of such a file."""
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    return [Watched(float(r["seconds"]), int(r["jobs"]), r["process"], *(int(r[k]) for k in ("rss", "pss", "uss", "files", "threads"))) for r in rows]


def arguments() -> argparse.Namespace:
    """Return what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=2000)
    parser.add_argument("--minutes", type=float, help="search for so long instead")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--kept", type=Path, help="a CSV file of all that is seen; one that exists is read, nothing is run")
    parser.add_argument("--picture", type=Path, help="a PNG file to draw")
    return parser.parse_args()


if __name__ == "__main__":
    main()
