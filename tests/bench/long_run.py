"""2,000 tiny jobs in one search: what its driver and its workers hold of memory, files and threads as they go.

    python tests/bench/long_run.py [--jobs 2000] [--workers 2]

Ends with an error unless the workers stay flat and the driver grows by no more than 30 kB a job. The sampler is `random`:
the question is what a job leaves behind, not what a proposal costs.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil

from tests.search.test_search import FGSEARCH, SPACE

MOST_A_JOB = 30e3        # bytes of driver memory
FLAT = 0.10              # share of its memory by which a worker may grow over the run
WARM = 0.2               # of the jobs: caches fill, nothing is judged
PERIOD = 2.0             # seconds between two looks


@dataclass(frozen=True)
class Seen:
    """One look at a process."""

    jobs: int            # ended by then
    process: str         # "driver" or "worker PID"
    memory: int          # bytes that it alone holds
    files: int
    threads: int


def main() -> None:
    """Run the search, print the table and judge it."""
    given = arguments()
    with tempfile.TemporaryDirectory(prefix="fgsearch-long-run-") as folder:
        seen, seconds = run(Path(folder), given.jobs, given.workers)
    by_process = {name: [s for s in seen if s.process == name] for name in sorted({s.process for s in seen})}
    print(f"{seen[-1].jobs} jobs in {seconds:.0f} s, {given.workers} workers, {os.cpu_count()} cores")
    print(f"{'process':<16}{'jobs':>12}{'memory MB':>18}{'kB a job':>10}{'files':>12}{'threads':>12}")
    problems = [problem for name, looks in by_process.items() for problem in report(name, looks, given.jobs)]
    sys.exit("\n".join(problems) or 0)


def run(folder: Path, jobs: int, workers: int) -> tuple[list[Seen], float]:
    """Return what was seen of a search of so many trials of one epoch, and how long it took."""
    (folder / "tiny.yaml").write_text(SPACE)
    sets = ("search.epochs=1", "search.rungs=[1]", "search.sampler.name=random", f"search.workers={workers}")
    words = [FGSEARCH, "launch", "tiny.yaml", "--trials", str(jobs), *(w for s in sets for w in ("--set", s))]
    begun = time.monotonic()
    with (folder / "said.txt").open("w") as said:
        driver = subprocess.Popen(words, cwd=folder, stdout=said, stderr=said)
        try:
            seen = [look for looks in watched(driver, folder) for look in looks]
        finally:
            driver.terminate()   # does nothing to one that has ended
            driver.wait()
    if driver.returncode or not seen:
        sys.exit((folder / "said.txt").read_text()[-2000:])
    return seen, time.monotonic() - begun


def watched(driver: subprocess.Popen[bytes], folder: Path) -> Iterator[list[Seen]]:
    """Yield what the driver and its workers hold, again and again, until the driver ends."""
    journal = folder / "fgsearch-home" / "searches" / "tiny" / "journal.jsonl"
    while driver.poll() is None:
        jobs = journal.read_bytes().count(b'"fact": "ended"') if journal.exists() else 0
        if jobs:
            yield looks(driver.pid, jobs)
        time.sleep(PERIOD)


def looks(pid: int, jobs: int) -> list[Seen]:
    """Return a look at each process; one that ends meanwhile is left out."""
    found = []
    try:
        driver = psutil.Process(pid)
        for process in [driver, *driver.children(recursive=True)]:
            named = "driver" if process == driver else f"worker {process.pid}"
            if process == driver or "TrialActor" in " ".join(process.cmdline()):
                memory = process.memory_full_info().uss
                found.append(Seen(jobs, named, memory, process.num_fds(), process.num_threads()))
    except psutil.NoSuchProcess:
        return []
    return found


def report(name: str, looks: list[Seen], jobs: int) -> list[str]:
    """Print a process' line of the table; return what is wrong with it."""
    judged = [s for s in looks if s.jobs >= WARM * jobs]
    if len(judged) < 3:
        return [] if name != "driver" else ["the driver was not seen: more jobs are needed"]
    slope, first, last = growth(judged), judged[0], judged[-1]
    files, threads = ((min(n), max(n)) for n in ([s.files for s in judged], [s.threads for s in judged]))
    print(
        f"{name:<16}{f'{first.jobs}-{last.jobs}':>12}{f'{first.memory / 1e6:.1f} - {last.memory / 1e6:.1f}':>18}"
        f"{slope / 1e3:>10.2f}{f'{files[0]}-{files[1]}':>12}{f'{threads[0]}-{threads[1]}':>12}"
    )
    wrong = []
    if name == "driver" and slope > MOST_A_JOB:
        wrong.append(f"the driver grows by {slope / 1e3:.1f} kB a job")
    if name != "driver" and slope * (last.jobs - first.jobs) > FLAT * first.memory:
        wrong.append(f"{name} grows by {slope / 1e3:.1f} kB a job")
    for what, held in (("files", [s.files for s in judged]), ("threads", [s.threads for s in judged])):
        third = len(held) // 3
        if np.median(held[-third:]) > np.median(held[:third]) + 3:
            wrong.append(f"{name} gathers {what}: {held[0]} at first, {held[-1]} at last")
    return wrong


def growth(looks: list[Seen]) -> float:
    """Return bytes a job, by least squares."""
    return float(np.polyfit([s.jobs for s in looks], [s.memory for s in looks], 1)[0])


def arguments() -> argparse.Namespace:
    """Return what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=2000)
    parser.add_argument("--workers", type=int, default=2)
    return parser.parse_args()


if __name__ == "__main__":
    main()
