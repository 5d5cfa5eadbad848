"""The sections that need the model itself, made by a process of their own while the parent makes all the others.

Both load for seconds, torch here and the charts' packages there, and together they take as long as the longer one.
"""

import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from multiprocessing.connection import Connection

from fgmodel.progress import Progress
from search.decide import race
from search.errors import InputError
from search.record.history import space_of
from search.record.home import Home
from search.report.page import Part, Section

MAPS = partial(Section, "heatmaps", "Where the time steps look")
PAIRS = partial(Section, "confusions", "The most mistaken classes")


@dataclass(frozen=True)
class Drawn:
    """What the best trial's model says of its own validation images."""

    whose: str            # the trial and its images
    maps: Section
    pairs: list[Part]     # of classes that are mistaken
    right: int            # images told right by both streams together
    images: int


class Pictures:
    """Sections that are being drawn."""

    def __init__(self, end: Connection, progress: Progress) -> None:
        self._end, self._progress = end, progress

    def sections(self) -> list[Section]:
        """Return them once they are drawn; what could not be says so in a line."""
        try:
            while isinstance(said := self._end.recv(), tuple):
                self._progress(*said)
        except (EOFError, OSError):   # between two messages, or within one
            said = "the process that draws it was ended"
        if isinstance(said, str):
            return not_drawn(said)
        assert isinstance(said, Drawn)
        lead = f"{said.whose}, by both streams together: {_told_right(said.right, said.images)}."
        return [said.maps, PAIRS(lead, said.pairs)]


def _told_right(right: int, images: int) -> str:
    """Say how many were told right, with Wilson's 95 % interval: what other images of the kind would give."""
    from scipy.stats import binomtest  # noqa: PLC0415  half a second, in the process that has it already

    low, high = binomtest(right, images).proportion_ci(method="wilson")
    return f"{right} of {images} told right, {right / images:.3f} (95 % interval {low:.3f} to {high:.3f})"


@contextmanager
def drawing(home: Home, name: str, progress: Progress) -> Iterator[Pictures]:
    """Draw the pictures of a search's best trial for as long as this lasts."""
    context = get_context("spawn")   # a fork would share the parent's threads
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_draw, args=(theirs, home, name), daemon=True)
    process.start()
    theirs.close()
    try:
        yield Pictures(ours, progress)
    finally:
        process.terminate()
        process.join()


def not_drawn(why: str) -> list[Section]:
    """Return the sections without their pictures, and why."""
    return [MAPS(f"Not drawn: {why}."), PAIRS(f"Not drawn: {why}.")]


def _draw(end: Connection, home: Home, name: str) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)   # Ctrl-C is the parent's business
    with suppress(BrokenPipeError):                # it was killed
        try:
            end.send(_drawn(home, name, lambda *said: end.send(said)))
        except InputError as error:
            end.send(str(error))


def _drawn(home: Home, name: str, progress: Progress) -> Drawn:
    from search.report.answers import confusion_parts, heatmap_parts, predicted  # noqa: PLC0415  torch: in here only

    history = home.history(name)
    space = space_of(history)
    trial = race.best(space.search, history)
    if trial is None:
        raise InputError("no trial has finished a rung yet")
    held = predicted(space, trial, name, home, progress)
    whose = f"Trial #{trial.number} on the {held.seen.n} validation images of its own cut"
    lead = (
        f"{whose}. Grad-CAM on the best patch: which part of it speaks for the true class at each time step; ✓ and ✗ "
        "tell whether that step alone names the class. Drawn by lot among the images told right, and those told wrong."
    )
    try:
        maps = MAPS(lead, heatmap_parts(held))
    except InputError as error:
        maps = MAPS(f"Not drawn: {error}.")
    right = int((held.seen.predictions == held.seen.labels).sum())
    return Drawn(whose, maps, confusion_parts(held), right, held.seen.n)
