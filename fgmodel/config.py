"""The typed configuration of one trial, and its dotted names, in and out.

The defaults are the thesis' values (preset `thesis`); `official()` is what the authors' released code does. A trial is
its difference from the defaults, so every value here names its source: TH the thesis, CO the released code.
"""

from difflib import get_close_matches
from typing import Any, Literal, Self, TypeAlias, get_args

from pydantic import BaseModel, Field, ValidationError

from fgmodel.errors import SettingError
from fgmodel.frozen import Strict, mistakes

Value: TypeAlias = bool | int | float | str | tuple[int, ...] | None
"""What a setting can hold; YAML, Ray, MLflow and the bundle carry nothing else."""


class DataConfig(Strict):
    """Which images a trial sees and how they are cut."""

    dataset: Literal["cub", "dogs", "folders", "finches"] = "cub"  # `cub`: any folder in that layout
    root: str = ""                                      # folder of the images; finches need none
    bad_images: Literal["refuse", "skip"] = "refuse"    # what to do with a file that is no image
    finches_per_species: int = Field(70, ge=8, le=10_000)  # of which a quarter is test
    seed: int = Field(0, ge=0)                          # draws finches and cuts validation; never the trial's seed
    validation: float = Field(0.1, gt=0, lt=1)          # share of train held out, stratified (TH silent; §8.1)
    folds: int = Field(0, ge=0, le=20)                  # k ≥ 2: k-fold cross-validation over train instead
    validation_seed: int = Field(0, ge=0)               # another one holds out other images of the same share
    frame_size: int = Field(448, ge=32, le=1024)        # px: images are squashed to this square once; boxes live in it
    image_size: int = Field(448, ge=32, le=1024)        # the global stream's input, px (TH 448)
    patch_size: int = Field(224, ge=32, le=1024)        # the local stream's input, px (TH 224)
    patches: str = "ddt"                                # an extractor's name (docs/patches.md), or a patch file
    patch_backbone: str | None = None                   # the extractor's trunk; the local stream's unless set
    patch_scale: float | None = Field(None, gt=0, le=8)  # boxes enlarged so; the extractor's own unless set
    patches_per_image: int = Field(10, ge=1, le=64)     # N (TH 10)
    evaluation_patches: Literal["mean_all", "top1", "random"] = "mean_all"  # all N averaged, the first, one drawn
    evaluation_draws: int = Field(1, ge=1, le=100)      # seeded draws of `random`; TH's protocol wants 5 (§3)
    augmentation: Literal["none", "flip", "standard"] = "none"  # of pixels, not of features


class ModelConfig(Strict):
    """The two streams (Eq. 3.1-3.7)."""

    global_backbone: str = "vgg19"                      # any trunk of torchvision or timm by name (TH VGG19)
    local_backbone: str = "vgg19"                       # TH: a second one, weights not shared
    weights: Literal["imagenet", "random"] = "imagenet"  # what trunks begin with
    freeze_backbones: bool = False                      # True: pooled features are computed once and shared
    drop_last_pool: bool = True                         # CO: the patch trunk ends at 14x14, not 7x7
    global_addon: bool = False                          # CO: two 1x1 convolutions before the global head
    dropout: float = Field(0.0, ge=0, lt=1)             # share of pooled features left out in training; none in TH
    local_stream: Literal["none", "trunk", "lstm"] = "lstm"  # TH Table 6.1: rows a, b, and c or d
    hidden_size: int = Field(512, ge=1, le=4096)        # of the LSTM, two layers, Eq. 3.4 (TH 512)
    time_steps: int = Field(10, ge=1, le=64)            # T, Eq. 3.4-3.7; TH's tables run to 10
    attention: Literal["per_step", "shared", "last", "mean", "sum"] = "per_step"  # TH: W^t a step, Eq. 3.6
    sum_steps: int | None = Field(None, ge=1, le=64)    # k of Σ_1..k H^t (TH Table 6.2); T unless set
    spatial_attention: Literal["none", "between_steps", "between_layers"] = "none"  # TH ch. 7; off in its tables
    attention_heads: int = Field(1, ge=1, le=16)        # TH: one spatial query a step
    local_stride16: bool = False                        # ch. 7: the last stage keeps stride 16; 14x14 cells, not 7x7
    fusion: Literal["logits", "probs", "logprobs"] = "logits"  # what is added at test; TH: "features", read as logits
    fusion_weight: float | None = Field(None, ge=0, le=100)  # w of z_g + w z_l at test; λ' unless set (TH 3.1.5)


class LossConfig(Strict):
    """Cross-entropy of both streams and the ranking hinge (Eq. 3.8-3.11)."""

    lambda_rank: float = Field(0.5, ge=0, le=100)       # λ, weight of the ranking loss, Eq. 3.8 (TH 0.5)
    lambda_local: float = Field(1.0, ge=0, le=100)      # λ', weight of the local stream's loss, Eq. 3.9 (TH 1)
    margin: float = Field(0.5, ge=0, le=1)              # of the ranking hinge, Eq. 3.11 (TH 0.5)
    label_smoothing: float = Field(0.0, ge=0, lt=1)     # of both cross-entropies; none in TH (§7: 0 … 0.1)
    detach_global: bool = True                          # the global prediction is a reference (TH's prose)
    every_step: bool = False                            # TH Table 6.1c: each step through the head has its own CE


class OptimConfig(Strict):
    """SGD with one parameter group a stream."""

    lr_global: float = Field(0.001, gt=0, le=10)        # of the global stream, trunk included (TH 0.001)
    lr_local: float = Field(0.01, gt=0, le=10)          # likewise of the local stream (TH 0.01)
    momentum: float = Field(0.9, ge=0, lt=1)            # of SGD (CO)
    weight_decay: float = Field(5e-4, ge=0, le=1)       # of SGD (CO)
    batch_size: int = Field(32, ge=1, le=4096)          # images a step (CO's README)
    epochs: int = Field(100, ge=1, le=10_000)           # in a space file `search.epochs`
    schedule: Literal["step", "milestones", "cosine", "constant"] = "step"  # of both learning rates
    step_epochs: int = Field(40, ge=1)                  # TH: x0.1 every 40 epochs
    milestones: tuple[int, ...] = (30, 60)              # epochs of x0.1 (CO's README)
    decay: float = Field(0.1, gt=0, lt=1)               # factor at each step or milestone (TH 0.1)
    warmup_epochs: int = Field(0, ge=0, le=100)         # rates rise from 0 over so many
    clip_norm: float | None = Field(None, gt=0)         # gradients are cut to this length; not unless set
    precision: Literal["fp32", "bf16"] = "fp32"         # bf16: trunks only; LSTM, softmax and loss stay fp32


class TrialConfig(Strict):
    """Everything that decides a trial's numbers."""

    data: DataConfig = DataConfig()
    model: ModelConfig = ModelConfig()
    loss: LossConfig = LossConfig()
    optim: OptimConfig = OptimConfig()
    seed: int = Field(0, ge=0)                          # of initial weights, batches and augmentation

    @classmethod
    def from_settings(cls, settings: dict[str, Any]) -> Self:
        """Build from dotted names, e.g. `{"loss.margin": 0.3}`; the rest keep the thesis' values.

        Raises SettingError: for an unknown name, a wrong type or range, or a setting that would be ignored.
        """
        config = cls._built(settings)
        config.refuse_ignored()
        config.refuse_impossible()
        return config

    @classmethod
    def ignored_in(cls, settings: dict[str, Any]) -> set[str]:
        """Return the names of those settings that would be ignored; raises SettingError as `from_settings` does."""
        config = cls._built(settings)
        return {name for name, (ignored, _) in config.ignored().items() if ignored}

    @classmethod
    def _built(cls, settings: dict[str, Any]) -> Self:
        nested: dict[str, Any] = {}
        for name, value in settings.items():
            require_setting(name)
            section, _, key = name.rpartition(".")
            given = tuple(value) if isinstance(value, list) else value
            (nested.setdefault(section, {}) if section else nested)[key] = given
        try:
            config = cls.model_validate({k: _SECTIONS[k](**v) if k in _SECTIONS else v for k, v in nested.items()})
        except ValidationError as error:
            raise _first_problem(error, settings) from None
        return config

    def settings(self) -> dict[str, Value]:
        """Every setting under its dotted name, defaults included."""
        flat: dict[str, Value] = {}
        for section, value in self:
            if isinstance(value, BaseModel):
                flat.update({f"{section}.{key}": v for key, v in value})
            else:
                flat[section] = value
        return flat

    def refuse_ignored(self) -> None:
        """Raise SettingError for a setting that differs from its default and would not be used."""
        default = DEFAULTS
        mine = self.settings()
        for name, (ignored, why) in self.ignored().items():
            if ignored and mine[name] != default[name]:
                raise SettingError(name, f"'{name}': {mine[name]!r} would be ignored: {why}")

    def refuse_impossible(self) -> None:
        """Raise SettingError for settings that are right by themselves and not together."""
        k, steps = self.model.sum_steps, self.model.time_steps
        if k is not None and k > steps:
            raise SettingError("model.sum_steps", f"'model.sum_steps': {k} is more than model.time_steps, {steps}")

    def ignored(self) -> dict[str, tuple[bool, str]]:
        """Return of each setting that can be without effect whether it is, and why."""
        data, model, optim = self.data, self.model, self.optim
        frozen = model.freeze_backbones
        return {
            "data.augmentation": (frozen, "model.freeze_backbones trains on features computed once"),
            "data.validation": (data.folds >= 2, "data.folds cross-validates over all of train"),
            "data.root": (data.dataset == "finches", "finches are drawn, not read"),
            "data.finches_per_species": (data.dataset != "finches", "it belongs to data.dataset: finches"),
            "model.global_addon": (frozen, "features are pooled before it, and its ReLUs do not commute with pooling"),
            "optim.precision": (frozen, "no trunk runs while training on features"),
            "optim.step_epochs": (optim.schedule != "step", "it belongs to optim.schedule: step"),
            "optim.milestones": (optim.schedule != "milestones", "it belongs to optim.schedule: milestones"),
            "optim.decay": (optim.schedule in ("cosine", "constant"), f"optim.schedule is {optim.schedule}"),
            "data.evaluation_draws": (
                data.evaluation_patches != "random", "it belongs to data.evaluation_patches: random",
            ),
            **self._ignored_by_variant(),
        }

    def _ignored_by_variant(self) -> dict[str, tuple[bool, str]]:
        """Return what the local stream leaves unused; not what decides the boxes, which all rows of a table share."""
        model, kind = self.model, self.model.local_stream
        why = f"model.local_stream is {kind}"
        return {
            **dict.fromkeys(_OF_LOCAL_STREAM, (kind == "none", why)),
            **dict.fromkeys(_OF_TIME_STEPS, (kind != "lstm", why)),
            "model.sum_steps": (model.attention != "sum", "it belongs to model.attention: sum"),
            "model.attention_heads": (model.spatial_attention == "none", "model.spatial_attention is none"),
        }


_SECTIONS: dict[str, type[Strict]] = {
    "data": DataConfig, "model": ModelConfig, "loss": LossConfig, "optim": OptimConfig,
}
_OF_LOCAL_STREAM = (
    "model.drop_last_pool", "model.local_stride16", "model.fusion", "model.fusion_weight", "optim.lr_local",
    "loss.lambda_rank", "loss.lambda_local", "loss.margin", "loss.detach_global",
)
_OF_TIME_STEPS = (
    "model.hidden_size", "model.time_steps", "model.attention", "model.spatial_attention", "loss.every_step",
)
DEFAULTS: dict[str, Value] = TrialConfig().settings()
"""Every setting's dotted name with the thesis' value."""


def thesis() -> TrialConfig:
    """Return the preset `thesis`: the defaults."""
    return TrialConfig()


def official() -> TrialConfig:
    """Return the preset `official`: the released code; rows 1, 2, 4, 6 and 7 of the specification's table differ."""
    return TrialConfig.from_settings({
        "model.attention": "shared",         # row 1
        "loss.lambda_rank": 0.0,             # row 2: the released code has no ranking loss
        "model.global_addon": True,          # row 4
        "optim.lr_local": 0.001,             # row 6
        "optim.schedule": "milestones",      # row 7
    })


def require_setting(name: str) -> None:
    """Raise SettingError naming the nearest setting when `name` is none."""
    if name not in DEFAULTS:
        near = get_close_matches(name, DEFAULTS, n=1)
        raise SettingError(name, f"'{name}' is not a setting" + (f"; did you mean '{near[0]}'?" if near else ""))


def setting_type(name: str) -> type:
    """Return `int`, `float`, `bool` or `str`: what a setting holds when it is neither None nor a tuple."""
    section, _, key = name.rpartition(".")
    annotation = (_SECTIONS[section] if section else TrialConfig).model_fields[key].annotation
    for kind in (bool, int, float):
        if annotation is kind or kind in get_args(annotation):
            return kind
    return str


def _first_problem(error: ValidationError, settings: dict[str, Any]) -> SettingError:
    section = {cls.__name__: key for key, cls in _SECTIONS.items()}.get(error.title, "")
    wrong = mistakes(error)[0]
    name = ".".join(filter(None, (section, wrong.keys[0])))
    given = settings.get(name)
    return SettingError(name, f"'{name}': {given!r} is wrong: {wrong.must}{_as_number(given)}")


def _as_number(given: object) -> str:
    if not isinstance(given, str):
        return ""
    try:
        number = float(given)
    except ValueError:
        return ""
    return f"; {given!r} is text, write {number!r}"
