"""The journal as MLflow shows it: one parent run a search, one child a trial.

MLflow is a projection, rebuilt by reading the journal as often as one likes. Points carry the journal's times, so one
written twice is one row; a run's tags say how much of it is written, so what is complete is left alone; and every
value is a function of the journal alone, so half of it and then the rest show what the whole would.
"""

import gc
import json
import time
from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory

from fgmodel.lock import Held, hold
from search.decide import race
from search.decide.asha import Ladder
from search.record.history import History, Trial
from search.record.journal import Ended, Failed, Opened, Reader, Reported, Stopped
from search.show.charts.chart import Chart
from search.space.space import Space
from search.tracking.entry import AwayError, Point, RefusedError, Status, TrackedData, TrackedRun
from search.tracking.pages import description, linked_runs, view
from search.tracking.rows import colours, epochs, flat, points, race_points, search_id, search_tags, standing, texts
from search.tracking.store import Store

FIGURE = "attention.png"
NOTE = "mlflow.note.content"
SUMMARY = ("val/accuracy", "val/accuracy_global", "val/accuracy_local", "val/nll")  # of the best trial, at the parent
GLANCE_SECONDS = 60.0   # between two drawings of a running search; longer where drawing takes long


class Projection:
    """A journal, read as far as it goes, and the runs it becomes."""

    def __init__(self, journal_path: Path, space: Space, store: Store) -> None:
        self._space, self._store = space, store
        self._reader = Reader(journal_path)
        self._looks = journal_path.with_name("looks")
        self._next_glance = 0.0
        self._held: Held | None = None
        self._writer = journal_path.with_name("mlflow")   # what is held: two writers would each create a run
        self._history = History()
        self._heard: dict[int, datetime] = {}             # of a trial, last
        self._best: Trial | None = None
        self._race: dict[int, race.Confirmed] = {}     # finalists whose repeats are over, by trial
        self._colours: dict[int, dict[str, str]] = {}     # of those at the last rung, by trial
        self._bests: list[Point] = []                     # the search's best, each time it changed
        self._bests_written = 0
        self._runs: dict[int | None, TrackedRun] | None = None   # what MLflow has; None: to be looked up

    def read(self) -> None:
        """Take in what the journal says by now; raises JournalError."""
        for fact in self._reader.new():
            self._history.see(fact)
            if isinstance(fact, Reported | Ended | Failed | Stopped):
                self._heard[fact.trial] = fact.at
                self._follow_best(fact)
                if isinstance(fact, Ended | Failed) and self._history.trials[fact.trial].repeats is not None:
                    self._race = {c.trial.number: c for c in race.confirmed(self._space.search, self._history)}

    def write(self) -> list[str]:
        """Bring MLflow to where the journal was read; returns what it refused of single trials; raises StoreError."""
        if self._history.opened is None:
            return []
        self._hold()
        runs, self._runs = self._runs, None  # unless all goes well, what MLflow has is uncertain and is looked up again
        if runs is None:
            runs, self._bests_written = self._store.runs(search_id(self._history.opened)), 0
        parent = self._write_search(self._history.opened, runs)
        self._colours = colours(self._space, self._history)
        refusals: list[str] = []
        for trial in self._history.trials.values():
            try:
                self._write_trial(trial, parent, runs)
            except RefusedError as error:
                refusals.append(f"trial #{trial.number}: {error}")
        refusals += self._write_glance(self._history.opened, parent, runs)
        if not refusals:
            self._runs = runs
        return refusals

    def close(self) -> None:
        """Let another process write this search."""
        if self._held:
            self._held.lock.release()
            self._held = None

    def _hold(self) -> None:
        refusal = AwayError("another process is writing this search to MLflow")
        try:
            self._held = self._held or hold(self._writer, refusal, patience=0.0)
        except OSError as error:
            raise AwayError(f"{self._writer}.lock: cannot be locked: {error.strerror}") from None

    def _follow_best(self, fact: Reported | Ended | Failed | Stopped) -> None:
        """Note the best trial as `Ladder.best` would name it, without ranking all of them at each fact."""
        ladder, trial = Ladder(self._space.search), self._history.trials[fact.trial]
        if isinstance(fact, Failed) and trial is self._best:
            self._best = ladder.leader(self._history)
        elif isinstance(fact, Ended) and trial.repeats is None and not trial.reason:
            self._best = min((self._best or trial, trial), key=lambda t: (-t.rung, ladder.key(t, t.rung)))
        else:
            return
        if self._best:
            at_rung, step = self._best.reports.get(self._best.rung, {}), epochs(self._history)  # the search's own time
            # An `ended` line that a crash tore is written again, at another time; the epoch it ends keeps its own.
            at = trial.reported.get(trial.rung, fact.at) if isinstance(fact, Ended) else fact.at
            found = [Point(f"best/{name}", at_rung[name], at, step) for name in SUMMARY if name in at_rung]
            self._bests += _changed(self._bests, found)

    def _write_search(self, opened: Opened, runs: dict[int | None, TrackedRun]) -> TrackedRun:
        finished, tags = self._history.finished, search_tags(self._history, self._leader())
        status: Status = "RUNNING" if finished is None else "FINISHED" if finished.how == "complete" else "KILLED"
        run, params = runs.get(None), {}
        if run is None:
            run = runs[None] = self._store.create(opened.search, opened.at, self._identity(opened, "search"))
        if "fgsearch.state" not in run.tags:
            params = texts(flat(opened.space))
            self._store.keep_view(search_id(opened), view(self._space, search_id(opened)))
            self._link(run)
        if not run.shows(status, tags):
            self._store.write(run, self._bests[self._bests_written:], params, tags)
        self._bests_written = len(self._bests)
        if run.status != status:
            self._store.set_status(run, status, finished.at if finished else opened.at)
        return run

    def _leader(self) -> Trial | None:
        return race.best(self._space.search, self._history) if self._race else self._best

    def _write_glance(self, opened: Opened, parent: TrackedRun, runs: Mapping[int | None, TrackedRun]) -> list[str]:
        """Draw the search and describe it, if it is time; returns what was refused."""
        drawn = {"fgsearch.drawn": f"{self._history.facts} facts"}
        early = self._history.finished is None and time.monotonic() < self._next_glance
        gone = linked_runs(parent.tags.get(NOTE, "")) - {run.id for run in runs.values()}  # deleted by hand
        if early or (drawn.items() <= parent.tags.items() and not gone):
            return []
        began = time.monotonic()
        refusals: list[str] = []
        charts: list[Chart] = []
        try:
            charts = self._draw(parent)
        except RefusedError as error:
            refusals.append(f"the search's figures: {error}")
        ids = {number: run.id for number, run in runs.items()}
        note = description(self._space, self._history, search_id(opened), self._store.experiment(), ids, charts)
        self._store.write(parent, [], {}, {NOTE: note} | ({} if refusals else drawn))
        self._next_glance = time.monotonic() + max(GLANCE_SECONDS, 50 * (time.monotonic() - began))
        return refusals

    def _draw(self, parent: TrackedRun) -> list[Chart]:
        """Keep the search's figures with its run; returns what they show."""
        from search.tracking.figures import figures  # noqa: PLC0415 when there is something to draw

        with TemporaryDirectory() as folder:
            kept = Path(folder) / "figures"
            kept.mkdir()
            charts = []
            for chart, figure in figures(self._space, self._history):
                figure.savefig(kept / f"{chart.name}.png")
                charts.append(chart)
            if charts:
                self._store.attach_folder(parent, Path(folder))
        return charts

    def _link(self, run: TrackedRun) -> None:
        """Show which images a run was trained on, where the journal tells."""
        data = self._history.launched.data if self._history.launched else {}
        if "fingerprint" in data:
            settings = self._space.config(self._space.reference()).settings()
            name, root = str(settings["data.dataset"]), str(settings["data.root"] or "drawn, not read")
            self._store.link(run, TrackedData(name, data["fingerprint"], root, dict(data)))

    def _write_trial(self, trial: Trial, parent: TrackedRun, runs: dict[int | None, TrackedRun]) -> None:
        race = self._race.get(trial.number)
        status, tags = standing(self._space, self._history, trial, race)
        tags |= self._colours.get(trial.number, {})
        run, drawn = runs.get(trial.number), self._drawn_of(trial)
        if run and not run.began(trial.asked):  # of an `asked` line that a crash tore: settings may differ
            self._store.delete(run)
            run = None
        written = int(run.tags.get("fgsearch.epochs", 0)) if run else 0
        if written > len(trial.reports):  # the journal lost its last line, torn: told again, the epoch is there already
            tags["fgsearch.epochs"] = str(written)
        if run and run.shows(status, tags | drawn):
            return
        if run is None:
            assert self._history.opened is not None
            identity = self._identity(self._history.opened, "trial")
            identity |= {"fgsearch.trial": str(trial.number), "fgsearch.by": trial.by, "mlflow.parentRunId": parent.id}
            name = f"#{trial.number}"
            if trial.repeats is not None:
                identity["fgsearch.repeats"] = str(trial.repeats)
                name = f"{name} (#{trial.repeats} again)"
            run = runs[trial.number] = self._store.create(name, trial.asked, identity)
        if not run.shows(status, tags):
            fresh = "fgsearch.epochs" not in run.tags
            params = texts(self._space.config(trial.settings).settings()) if fresh else {}
            if fresh:
                self._link(run)
            told = list(points(self._space, trial, written))
            told += list(race_points(self._space, race, trial.epoch, self._over(trial))) if race else []
            self._store.write(run, told, params, tags)
            if status != "RUNNING" or run.status != status:
                self._store.set_status(run, status, self._heard.get(trial.number, trial.asked))
        if drawn and not run.shows(status, drawn):
            self._attach(trial, run)
            self._store.write(run, [], {}, drawn)

    def _over(self, trial: Trial) -> datetime:
        """Return when the last repeat of a finalist was over."""
        return max(self._heard[t.number] for t in self._history.trials.values() if t.repeats == trial.number)

    def _identity(self, opened: Opened, kind: str) -> dict[str, str]:
        return {"fgsearch.kind": kind, "fgsearch.search": opened.search, "fgsearch.id": search_id(opened)}

    def _drawn_of(self, trial: Trial) -> dict[str, str]:
        """Return the tags that say what is drawn of a trial; MLflow looks for images where its own says so."""
        if not self._has_figure(trial):
            return {}
        return {"fgsearch.figure": FIGURE} | ({"mlflow.loggedImages": "True"} if trial.looks else {})

    def _has_figure(self, trial: Trial) -> bool:
        return trial.rung >= self._space.search.epochs and "attention/alpha/01" in trial.reports.get(trial.epoch, {})

    def _attach(self, trial: Trial, run: TrackedRun) -> None:
        from search.tracking.figures import trial_figure  # noqa: PLC0415 as above

        accuracy = trial.at(trial.epoch, "val/accuracy")
        title = f"trial #{trial.number} · {trial.epoch} epochs · validation accuracy {accuracy:.3f}"
        settings = self._space.config(trial.settings).settings()
        lines = [f"{name}: {json.dumps(value)}\n" for name, value in settings.items()]
        self._store.attach(run, FIGURE, trial_figure(trial, title))
        gc.collect()  # a figure is thousands of objects in cycles: dozens would lie about before Python looks
        self._store.attach(run, "settings.yaml", "".join(lines))
        if trial.looks:
            self._attach_heatmaps(trial, run)

    def _attach_heatmaps(self, trial: Trial, run: TrackedRun) -> None:
        from fgmodel.analysis.probe_images import read_looks  # noqa: PLC0415 torch, for who has something to show
        from search.tracking.heatmaps import write_images  # noqa: PLC0415

        looks = {}
        for epoch, name in sorted(trial.looks.items()):
            with suppress(OSError, ValueError):  # deleted by hand, or damaged: the other epochs are shown
                looks[epoch] = read_looks(self._looks / name)
        assert self._history.opened is not None
        with TemporaryDirectory() as folder:
            if looks:
                token = f"{search_id(self._history.opened)} {trial.number}"
                write_images(Path(folder) / "images", token, looks, trial.reported)
                self._store.attach_folder(run, Path(folder))


def _changed(past: list[Point], points: list[Point]) -> list[Point]:
    """Return `points`, or nothing when they only say again what was said last."""
    latest = {point.name: point.value for point in past[-len(SUMMARY):]}
    return points if {point.name: point.value for point in points} != latest else []
