"""A trained model as one safetensors file that is enough by itself: no training data, no download, no other file.

Its header says in JSON what the model is (`About`); its tensors are the streams' weights, those of the frozen trunks
(each once, however many streams read it), and what the method that finds boxes has learned.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from pydantic import Field, ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from fgmodel import atomic
from fgmodel.config import TrialConfig
from fgmodel.errors import InputError, SettingError
from fgmodel.extraction import EXTRACTORS
from fgmodel.extraction.finder import Finder
from fgmodel.frozen import Frozen, mistakes
from fgmodel.model import TwoStream
from fgmodel.prepare import extraction_trunk, stream_trunks
from fgmodel.trunks.backbones import backbone, freeze
from fgmodel.trunks.frozen_trunk import FrozenTrunk, HeldTrunk
from fgmodel.use.classifier import Classifier

FORMAT = 1
FILE = "model.safetensors"


class Boxes(Frozen, strict=True):
    """How boxes are found in a new image."""

    method: str
    instead_of: str | None
    scale: float = Field(gt=0)


class About(Frozen, strict=True):
    """What a model file is: everything but its tensors."""

    format: int = FORMAT
    classes: tuple[str, ...] = Field(min_length=1, strict=False)
    settings: dict[str, Any]
    boxes: Boxes | None                              # None without a local stream
    trunks: dict[str, str]                           # weights of each frozen trunk: global, local, boxes
    trained: dict[str, str | int]                    # by which search, trial and seed, on which data
    test: dict[str, float]                           # what the test split said, the mean over `seeds`
    seeds: int = 1


@dataclass(frozen=True)
class Saved:
    """A model file that was read."""

    path: Path
    about: About
    classifier: Classifier


def save_model(
    path: Path, classifier: Classifier, trained: Mapping[str, str | int], test: Mapping[str, float], seeds: int = 1,
) -> About:
    """Keep a trained model in `path`, whole or not at all; return what its header says."""
    find, trunks = classifier.finder, _trunks(classifier)
    settings = classifier.config.settings() | {"data.root": ""}   # where the images lay is no one's business
    about = About(
        classes=classifier.classes, settings=settings,
        boxes=Boxes(method=find.method, instead_of=find.instead_of, scale=find.scale) if find else None,
        trunks={role: trunk.model.weights_id for role, trunk in trunks.items()},
        trained=dict(trained), test=dict(test), seeds=seeds,
    )
    tensors = {f"model/{name}": value for name, value in classifier.model.state_dict().items()}
    tensors |= {f"fit/{name}": value for name, value in (find.fit if find else {}).items()}
    for trunk in trunks.values():
        tensors |= {f"trunk/{trunk.model.weights_id}/{n}": value for n, value in trunk.model.state_dict().items()}
    plain = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
    atomic.write(path, save(plain, {"model": about.model_dump_json()}))
    return about


def read_model(path: Path, device: str = "cpu") -> Saved:
    """Return the model in `path`, ready to answer.

    Raises InputError: where the file is none of a model, is damaged, or says one thing and holds another.
    """
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            about = _about(path, file.metadata())
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  it is no dict
    except (SafetensorError, OSError) as error:
        raise InputError(f"{path}: is no readable model file ({error}); fgsearch retrain writes one") from None
    return Saved(path, about, _Read(path, about, tensors, device).classifier())


def _trunks(classifier: Classifier) -> dict[str, FrozenTrunk]:
    """Return the frozen trunks by what they are for."""
    find, streams = classifier.finder, classifier.trunks
    found = {"global": streams[0]} if streams else {}
    if find and streams:
        found["local"] = streams[1]
    if find and EXTRACTORS[find.method].size:
        found["boxes"] = find.trunk
    return found


def _about(path: Path, metadata: dict[str, str] | None) -> About:
    said = (metadata or {}).get("model")
    if said is None:
        what = "a run's checkpoint" if "run" in (metadata or {}) else "a safetensors file"
        raise InputError(f"{path}: is {what}, no model; fgsearch retrain writes {FILE} beside it")
    try:
        about = About.model_validate(json.loads(said))
    except ValidationError as error:
        wrong = mistakes(error)[0]
        raise InputError(f"{path}: its header is not that of a model: {'.'.join(wrong.keys)}: {wrong.said}") from None
    except (ValueError, RecursionError):
        raise InputError(f"{path}: its header is not that of a model: it is no JSON") from None
    if about.format != FORMAT:
        raise InputError(f"{path}: a model in format {about.format}; this version reads {FORMAT}")
    return about


@dataclass(frozen=True)
class _Read:
    """A model file's content, on its way to a classifier."""

    path: Path
    about: About
    tensors: dict[str, Tensor]
    device: str

    def classifier(self) -> Classifier:
        try:
            config = TrialConfig.from_settings({**self.about.settings, "model.weights": "random"})  # ours come with us
        except SettingError as error:
            raise InputError(f"{self.path}: {error}") from None
        streams = stream_trunks(config, self.device)
        trunks = None
        if config.model.freeze_backbones:
            has_local = config.model.local_stream != "none"
            trunks = self._trunk("global", streams[0]), self._trunk("local", streams[1]) if has_local else streams[1]
        return Classifier(
            config, self.about.classes, self._model(config, trunks), trunks, self._finder(config), self.device,
        )

    def _model(self, config: TrialConfig, trunks: tuple[FrozenTrunk, FrozenTrunk] | None) -> TwoStream:
        widths = None
        if trunks:
            widths = trunks[0].model.width, trunks[1].model.width if config.model.local_stream != "none" else 0
        model = TwoStream(config.model, len(self.about.classes), widths)
        self._fill(model, "model/", f"of {len(self.about.classes)} classes and the settings in its header")
        return model.eval().to(self.device)

    def _finder(self, config: TrialConfig) -> Finder | None:
        boxes = self.about.boxes
        if boxes is None or config.model.local_stream == "none":
            return None
        if boxes.method not in EXTRACTORS:
            raise InputError(f"{self.path}: its header names a method of finding boxes, '{boxes.method}', that is none")
        extractor = EXTRACTORS[boxes.method]
        trunk = extractor.trunk(extraction_trunk(config, self.device))
        trunk = self._trunk("boxes", trunk) if extractor.size else trunk
        return Finder(
            boxes.method, boxes.instead_of, config.data.patches_per_image, boxes.scale, trunk, self._under("fit/"),
        )

    def _trunk(self, role: str, trunk: FrozenTrunk) -> FrozenTrunk:
        weights = self.about.trunks.get(role, "")
        loaded = freeze(backbone(
            trunk.name, "random",
            drop_last_pool=trunk.drop_last_pool, stride16=trunk.stride16, unstrided=trunk.unstrided,
        ))
        loaded.weights_id = weights
        self._fill(loaded, f"trunk/{weights}/", f"of the {role} trunk, '{trunk.name}'")
        return HeldTrunk(**vars(trunk), held=loaded.to(self.device))

    def _fill(self, module: torch.nn.Module, prefix: str, whose: str) -> None:
        held, wanted = self._under(prefix), module.state_dict()
        if {n: (v.shape, v.dtype) for n, v in held.items()} != {n: (v.shape, v.dtype) for n, v in wanted.items()}:
            raise InputError(f"{self.path}: its tensors are not those {whose}; take the file as it was written")
        module.load_state_dict(held)

    def _under(self, prefix: str) -> dict[str, Tensor]:
        return {name.removeprefix(prefix): v for name, v in self.tensors.items() if name.startswith(prefix)}
