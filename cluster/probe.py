"""Whether every node of a cluster sees the same files, runs the same code and can write: asked of each by a task.

What runs on a node travels whole with the task (`register_pickle_by_value`), so that it also answers where this
package is missing or another version.
"""

import hashlib
import platform
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from cluster.errors import ClusterError
from cluster.nodes import Node

ANSWER_SECONDS = 90.0  # a fresh worker process on a busy node takes ten
PACKAGES = ("ray", "torch")
_PARTS = ("fgmodel", "search", "cluster")


@dataclass(frozen=True)
class Question:
    """What a node is asked."""

    folder: str              # of the search, on the path that all share
    nonce: str               # what `folder/nonce` holds
    paths: tuple[str, ...]   # data that must be there too


@dataclass(frozen=True)
class NodeAnswer:
    """What a node said."""

    nonce: str | None            # as it reads it; None where it sees no such file
    refusal: str | None          # why it cannot write into the folder
    missing: tuple[str, ...]     # of the paths
    versions: dict[str, str]


def versions() -> dict[str, str]:
    """Return what must be the same on every node: Python, packages, and this code (a digest of its files).

    Not a build's suffix: nodes with a GPU have torch 2.9.0+cu130 where others have 2.9.0+cpu.
    """
    return _versions(PACKAGES, _PARTS)


def ask(nodes: Sequence[Node], question: Question) -> None:
    """Raise ClusterError, in one line that names the node, when one of them cannot work for this driver."""
    own = versions()
    asked = {node: _task(node).remote(question, PACKAGES, _PARTS) for node in nodes}
    for node, task in asked.items():
        try:
            answer = NodeAnswer(**ray.get(task, timeout=ANSWER_SECONDS))
        except ray.exceptions.RayError as error:
            said = " ".join(str(error).split())[:200]
            raise ClusterError(f"{node.name}: does not answer a probe: {said}") from None
        if wrong := judge(answer, question, own):
            raise ClusterError(f"{node.name}: {wrong}")


def judge(answer: NodeAnswer, question: Question, own: dict[str, str]) -> str | None:
    """Return why a node that answers so cannot work for a driver with the versions `own`; None when it can."""
    if answer.nonce is None:
        return f"does not see {question.folder}; the home must be a folder that every node shares, at the same path"
    if answer.nonce != question.nonce:
        return f"has another folder at {question.folder}; the home must be one that every node shares"
    if answer.refusal:
        return f"cannot write into {question.folder}: {answer.refusal}"
    if answer.missing:
        return f"does not see {answer.missing[0]}; data must be at the same path on every node"
    return differences(answer.versions, own)


def differences(theirs: dict[str, str], own: dict[str, str]) -> str | None:
    """Return how versions differ, in one line; None when they do not."""
    parts = [f"{name} {theirs.get(name, 'missing')}, here {own[name]}" for name in own if theirs.get(name) != own[name]]
    return f"runs {'; '.join(parts)}; install the same on every node" if parts else None


def _task(node: Node) -> Any:  # noqa: ANN401  Ray's remote functions have no type
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])  # type: ignore[no-untyped-call]  # Ray's
    there = NodeAffinitySchedulingStrategy(node.id, soft=False)
    return ray.remote(_see).options(num_cpus=0, max_retries=1, scheduling_strategy=there)


def _see(question: Question, packages: tuple[str, ...], parts: tuple[str, ...]) -> dict[str, Any]:
    """Run on a node: read the nonce, write beside it, look for the data, tell the versions."""
    folder, nonce, refusal = Path(question.folder), None, None
    try:
        nonce = (folder / "nonce").read_text()
        mine = folder / f"probe-{ray.get_runtime_context().get_node_id()}"
        mine.touch()
        mine.unlink()
    except OSError as error:
        refusal = error.strerror or str(error)
    missing = tuple(path for path in question.paths if not Path(path).exists())
    return {"nonce": nonce, "refusal": refusal, "missing": missing, "versions": _versions(packages, parts)}


def _versions(packages: tuple[str, ...], parts: tuple[str, ...]) -> dict[str, str]:
    found = {"python": ".".join(platform.python_version_tuple()[:2])}
    for package in packages:
        try:
            found[package] = version(package).partition("+")[0]
        except PackageNotFoundError:
            found[package] = "missing"
    code, files = hashlib.sha256(), 0
    for part in parts:
        spec = find_spec(part)
        folder = Path(spec.origin).parent if spec and spec.origin else Path("missing")
        for file in sorted(folder.rglob("*.py")):
            code.update(f"{part}/{file.relative_to(folder)}".encode() + file.read_bytes())
            files += 1
    return found | {"fgsearch": f"code {code.hexdigest()[:12]}" if files else "missing"}
