"""What MLflow's pages show of a search at first sight: its description, and how the list of its trials opens.

MLflow keeps a view that was shared (columns, order, charts) in a tag of the experiment; a link that names the tag opens
with it. So each search has one, made of its space: the trials best first, with what is tuned beside what came of it,
and charts under names a person understands. `search.tracking.store` writes both; nothing here asks MLflow.
"""

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlencode

from fgmodel.config import DEFAULTS
from search.decide import race
from search.decide.asha import REFERENCE
from search.record.history import History, Trial
from search.show.charts.chart import Chart
from search.show.charts.time_steps import ALPHA, COSINE, STEP
from search.show.names import SPOKEN, label, number
from search.show.verdict import asked, verdict
from search.space.space import Space

VIEW = "mlflow.sharedViewState."   # and the view's name: where MLflow's pages look for it
MENU = {"workflowType": "machine_learning"}   # else MLflow's pages are those for language models
APART = " &emsp; "                 # between cells, for which MLflow's tables leave no room
WIDTH = 118                        # pixels of a column
SEARCHES = "searches"              # the view of all of them
PLACE = "rung.value"               # the rung a trial reached, and its objective there: 27.841 is ahead of 9.9
OVER_STEPS = {ALPHA: "attention", STEP: "accuracy", COSINE: "likeness"}
"""Curves over the time steps of a trial at the last rung, logged as `by time step/…` with t in place of the epoch."""
BY_EPOCH, BY_STEP = "attention heatmaps by epoch", "attention heatmaps by time step"   # keys of the image grid
CURVES = {
    "Accuracy on validation images, by epoch": ("val/accuracy", "val/accuracy_global", "val/accuracy_local"),
    "By time step (last rung); likeness: to the last step": tuple(
        f"by time step/{name}" for name in OVER_STEPS.values()
    ),
    "Evenness of attention (1: even) and loss, by epoch": ("attention/entropy", "val/nll"),
}
"""Sections of charts, and the metrics of each; MLflow cuts a name off after some fifty letters."""
HEATMAPS, SETTINGS = "Where the time steps look", "Settings and what came of them"


def placed(space: Space, rung: int, value: float) -> float:
    """Return what the list of trials is ordered by: the rung, then the objective, better is higher."""
    return rung + (value if space.search.maximize else 1 / (1 + value))


def view(space: Space, search: str) -> str:
    """Return the state of MLflow's page in which a search's trials are shown; `search` is its `fgsearch.id`."""
    charts, columns = _charts(space), _columns(space)
    state = {
        "searchFilter": f"tags.`fgsearch.id` = '{search}' AND tags.`fgsearch.kind` = 'trial'",
        "orderByKey": f"metrics.`{PLACE}`",
        "orderByAsc": False,
        "selectedColumns": columns,
        "columnOrder": columns,
        "columnWidths": dict.fromkeys(columns, WIDTH),
        "compareRunCharts": charts,
        "compareRunSections": [
            {"uuid": name, "name": name, "display": True, "isReordered": True, "deleted": False, "isGenerated": False}
            for name in (*CURVES, HEATMAPS, SETTINGS)
        ],
        "isAccordionReordered": True,
    }
    return json.dumps(state, ensure_ascii=False, separators=(",", ":"))


def searches_view() -> str:
    """Return the state of the page in which all searches are shown, the newest first."""
    columns = [f"metrics.`best/{name}`" for name in ("val/accuracy", "val/nll")]
    columns += [f"tags.`fgsearch.{name}`" for name in ("state", "best", "epochs", "test_opened")]
    state = {
        "searchFilter": "tags.`fgsearch.kind` = 'search'",
        "orderByKey": "attributes.start_time",
        "orderByAsc": False,
        "selectedColumns": columns,
        "columnOrder": columns,
        "columnWidths": dict.fromkeys(columns, WIDTH),
    }
    return json.dumps(state)


def list_path(experiment: str, search: str, *, charts: bool = False) -> str:
    """Return the link to the list of a search's trials, or to their charts, below MLflow's address."""
    asked_for = {"viewStateShareKey": search, **({"compareRunsMode": "CHART"} if charts else {}), **MENU}
    return f"#/experiments/{experiment}/runs?{urlencode(asked_for)}"


def run_path(experiment: str, run: str) -> str:
    """Return the link to a run's page below MLflow's address."""
    return f"#/experiments/{experiment}/runs/{run}?{urlencode(MENU)}"


def linked_runs(text: str) -> set[str]:
    """Return the runs that a description links to."""
    return set(re.findall(r"#/experiments/\d+/runs/(\w+)", text))


def description(
    space: Space, history: History, search: str, experiment: str, runs: Mapping[int | None, str],
    charts: Sequence[Chart],
) -> str:
    """Return a search at a glance in Markdown.

    `runs` are the ids of MLflow's runs by trial, its own under None; `charts` what is drawn of it.
    """
    asks = f"**{_escaped(asked(space))}** {_links(space, history, search, experiment, runs)}"
    answers = f"{_answer(space, history)} {_standing(space, history)}"
    parts = [f"{asks}  \n{answers}"]  # MLflow shows 100 px until one asks for more; a click reaches the first two lines
    parts += [_sure(space, history), _settings(space, history), _pictures(runs[None], charts)]
    return "\n\n".join(part for part in parts if part)


def _answer(space: Space, history: History) -> str:
    best = race.best(space.search, history)
    if best is None:
        return "No trial has finished a rung yet."
    value = best.at(best.rung, space.search.objective)
    said = f"**Best: trial #{best.number}**, {SPOKEN[space.search.objective]} **{value:.3f}** after {best.rung} epochs"
    raced = next((c for c in race.confirmed(space.search, history) if c.trial is best), None)
    return f"{said}; trained again: **{raced.said()}**." if raced else f"{said}."


def _sure(space: Space, history: History) -> str:
    """Return how sure the answer is, and what was trained for it."""
    over = verdict(space, history) if history.finished else None
    return f"{over.sure if over else ''} Trained: {_trained(space, history)}.".strip()


def _standing(space: Space, history: History) -> str:
    search, finished = space.search, history.finished
    state = "Running" if finished is None else "Complete" if finished.how == "complete" else "Stopped"
    failed = sum(history.state(t, search.epochs) == "failed" for t in history.candidates)
    return f"**{state}**: {len(history.candidates)} of {search.trials} trials{f', {failed} failed' if failed else ''}."


def _trained(space: Space, history: History) -> str:
    reached = sum(t.rung >= space.search.epochs for t in history.candidates)
    again = sum(t.repeats is not None for t in history.trials.values())
    to_the_end = f"{reached} of the trials to the last rung ({space.search.epochs} epochs)"
    return f"{to_the_end}, {again} repeats of finalists" if again else to_the_end


def _settings(space: Space, history: History) -> str:
    best, reference = race.best(space.search, history), history.trials.get(REFERENCE)
    if best is None or not space.tune:
        return ""
    rows = [f"| setting |{APART}best |{APART}thesis, #{REFERENCE} |", "|---|---|---|"]
    for parameter in space.tune:
        name = parameter.name
        rows.append(f"| {label(name, '`')} |{APART}{_setting(best, name)} |{APART}{_setting(reference, name)} |")
    return "\n".join(rows)


def _setting(trial: Trial | None, name: str) -> str:
    return number(trial.settings.get(name)) if trial else number(DEFAULTS[name])


def _links(
    space: Space, history: History, search: str, experiment: str, runs: Mapping[int | None, str],
) -> str:
    best = race.best(space.search, history)
    named = {best.number: f"best, #{best.number}"} if best else {}
    named.setdefault(REFERENCE, f"the thesis' values, #{REFERENCE}")
    every = f"[trials, best first]({list_path(experiment, search)})"
    charts = f"[curves and heatmaps]({list_path(experiment, search, charts=True)})"
    one = [f"[{name}]({run_path(experiment, runs[number])})" for number, name in named.items() if number in runs]
    return " · ".join([every, charts, *one])


def _pictures(run: str, charts: Sequence[Chart]) -> str:
    """Return the charts as pictures, each with what it says; MLflow serves them beside its page."""
    parts = []
    for chart in charts:
        where = urlencode({"path": f"figures/{chart.name}.png", "run_uuid": run})
        parts.append(f"**{chart.title}**\n\n![{chart.title}. {_escaped(chart.said)}](get-artifact?{where})")
    return "\n\n".join(parts)


def _columns(space: Space) -> list[str]:
    metrics = [PLACE, space.search.objective, "val/nll", "attention/entropy"]
    raced = [f"confirmed/{space.search.objective}"] if space.search.finalists else []
    tags = ["fgsearch.rung", "fgsearch.state", *(["fgsearch.by"] if space.rows else [])]
    tuned = [p.name for p in space.tune] or ["seed"]
    columns = [f"metrics.`{name}`" for name in dict.fromkeys([*metrics, *raced])]
    columns += [f"tags.`{name}`" for name in tags] + [f"params.`{name}`" for name in tuned]
    return columns


def _charts(space: Space) -> list[dict[str, Any]]:
    """Return the charts by their sections, which name them: MLflow heads a chart of curves with its metric's name."""
    charts = [_lines(section, metric) for section, metrics in CURVES.items() for metric in metrics]
    for key, step in ((BY_EPOCH, space.search.epochs), (BY_STEP, 1)):
        charts.append(_chart(HEATMAPS, "IMAGE", key, imageKeys=[key], step=step, showRunParams=False))
    if space.tune:
        tuned = [p.name for p in space.tune if not p.when]  # MLflow leaves out a run that lacks one of them
        parallel = {"selectedParams": tuned, "selectedMetrics": [space.search.objective], "showAllRuns": True}
        charts.append(_chart(SETTINGS, "PARALLEL", SETTINGS, **parallel))
    return charts


def _lines(section: str, metric: str) -> dict[str, Any]:
    return _chart(
        section, "LINE", metric, metricKey=metric, selectedMetricKeys=[metric], lineSmoothness=0, scaleType="linear",
        xAxisScaleType="linear", xAxisKey="step", yAxisKey="metric", yAxisExpressions=[], range={},
        selectedXAxisMetricKey="", ignoreOutliers=False, useGlobalXaxisKey=True, useGlobalLineSmoothing=True,
    )


def _chart(section: str, kind: str, title: str, **more: object) -> dict[str, Any]:
    plain = {"uuid": title, "type": kind, "displayName": title, "metricSectionId": section}
    return {**plain, "deleted": False, "isGenerated": False, "runsCountToCompare": 10, **more}


def _escaped(text: str) -> str:
    """Return a user's line as text: MLflow renders Markdown, and cleans what HTML it holds."""
    return text.translate({ord(c): f"\\{c}" for c in "\\`*_[]#|"}).replace("<", "&lt;")
