"""The table of docs/reliability.md, from the log of `make chaos`."""

import json
import os
import platform
import re
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

import psutil

MARKS = "<!-- chaos -->", "<!-- /chaos -->"
PARTS = ("ray", "mlflow", "optuna", "torch")


def document(log: Path, text: str) -> str:
    """Return the document with its table made new."""
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    table = "\n".join([*_rows([line for line in lines if "kind" in line]), "", _sentence(lines)])
    head, tail = (re.escape(mark) for mark in MARKS)
    return re.sub(f"(?s){head}.*{tail}", lambda _: f"{MARKS[0]}\n{table}\n{MARKS[1]}", text)


def _rows(strikes: list[dict[str, Any]]) -> list[str]:
    kinds: dict[str, list[dict[str, Any]]] = {}
    for strike in strikes:
        kinds.setdefault(strike["kind"], []).append(strike)
    head = ["kind", "times", "lines lost", "rows doubled", "epochs trained again", "seconds to recovery: median", "worst"]
    rows = [head, ["---"] + ["---:"] * 6]
    rows += [[kind, *_figures(each)] for kind, each in sorted(kinds.items())]
    rows.append(["**all**", *_figures(strikes)])
    return [f"| {' | '.join(row)} |" for row in rows]


def _figures(strikes: list[dict[str, Any]]) -> list[str]:
    seconds = [strike["seconds"] for strike in strikes if strike["seconds"] is not None]
    never = len(strikes) - len(seconds)
    return [
        str(len(strikes)), str(sum(s["lost"] for s in strikes)), str(sum(s["doubled"] for s in strikes)),
        str(sum(s["again"] for s in strikes)),
        f"{median(seconds):.1f}" if seconds else "", f"{max(seconds):.1f}" + f", {never} never" * bool(never),
    ]


def _sentence(lines: list[dict[str, Any]]) -> str:
    ended = [line for line in lines if "ended" in line and line["ended"] != "undisturbed"]
    compared = [line for line in ended if line["compared"]]
    loads = [line["load"] for line in lines]
    machine = f"{os.cpu_count()} cores, {psutil.virtual_memory().total / 2**30:.0f} GiB"
    parts = ", ".join(f"{part} {version(part)}" for part in PARTS)
    clean = sum(not line["wrong"] for line in ended)
    same = sum("different" not in line["wrong"] for line in compared)
    return (
        f"{len(ended)} searches ended, {clean} of them with every (trial, epoch, metric) of the journal in MLflow exactly "
        f"once, no run RUNNING and no trial failed; {len(compared)} had one worker, {same} of which decided and measured "
        f"what the undisturbed one did. {lines[0]['at'][:16]} to {lines[-1]['at'][11:16]} UTC, {machine}, load "
        f"{median(loads):.1f} (most {max(loads):.1f}), Python {platform.python_version()}, {parts}."
    )
