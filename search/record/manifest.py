"""Every image's digest, kept beside the journal: so that a later change of the data can be named."""

import json
from pathlib import Path

from fgmodel import atomic
from fgmodel.config import TrialConfig
from fgmodel.data.datasets import open_dataset
from search.errors import InputError
from search.record.home import Home


def write_manifest(home: Home, name: str, config: TrialConfig) -> None:
    """Keep the digests of the images a search is about to use."""
    text = json.dumps(_digests(config, home), indent=0, ensure_ascii=False)
    atomic.write(_path(home, name), text.encode())


def difference(home: Home, name: str, config: TrialConfig) -> str:
    """Return what changed in the images since the search began: the first three files, and how many more."""
    path = _path(home, name)
    if not path.is_file():
        return f"there are {len(_digests(config, home))} images now; the list of then is not in {path.parent}"
    try:
        then: dict[str, str] = dict(json.loads(path.read_text()))
    except (OSError, ValueError, TypeError, RecursionError):
        raise InputError(f"{path}: is damaged, so it cannot be told what changed in the images") from None
    return changes(then, config, home)


def changes(then: dict[str, str], config: TrialConfig, home: Home) -> str:
    """Return what changed since the images had the digests `then`, in the words of `difference`."""
    now = _digests(config, home)
    changed = [f"{image} changed" for image in then if image in now and now[image] != then[image]]
    missing = [f"{image} is missing" for image in then if image not in now]
    added = [f"{image} is new" for image in now if image not in then]
    every = [*changed, *missing, *added] or ["labels or the official split changed"]
    return ", ".join(every[:3]) + (f" and {len(every) - 3} more" if len(every) > 3 else "")


def _path(home: Home, name: str) -> Path:
    return home.search(name) / "images.json"


def _digests(config: TrialConfig, home: Home) -> dict[str, str]:
    dataset = open_dataset(config.data, home.cache)
    return dict(zip(dataset.names, dataset.digests, strict=True))
