"""The benchmark's peer: the plain script the documentation of Ray Tune, Optuna and MLflow would have a user write.

    python tests/bench/peer.py tests/bench/cub-bench.yaml --data CUB_FOLDER --out FOLDER --trials 8 --epochs 9

A function trainable, a DataLoader that opens its JPEGs every epoch, the frozen trunk under no_grad in every step,
`OptunaSearch`, `ASHAScheduler` and `MLflowLoggerCallback`. Data, model, loss, space, trials, epochs and the evaluation
over all patches are those of our search; nothing of its caches, its LSTM or its training loop is used. What the peer
is spared: it writes no checkpoints. FOLDER/peer.json says what was trained.

B  images of a batch      K  patches of each      S, P  pixels of a side      D  channels of the trunk      C  classes
T  time steps             H  width of the LSTM's states
"""

import argparse
import json
import math
from functools import partial
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
import ray
import torch
import torch.nn.functional as F
from jaxtyping import Float
from PIL import Image
from ray import tune
from ray.air.integrations.mlflow import MLflowLoggerCallback
from ray.tune.schedulers import ASHAScheduler
from ray.tune.search.optuna import OptunaSearch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import v2
from torchvision.transforms.v2.functional import resize, resized_crop

from fgmodel.config import DataConfig, ModelConfig, TrialConfig
from fgmodel.losses import two_stream_loss
from fgmodel.trunks.backbones import Backbone, backbone, freeze
from search.space.file import read_space
from search.space.parameter import Parameter
from search.space.space import Space

Item = tuple[Tensor, Tensor, int]
Batch = tuple[Tensor, Tensor, Tensor]


def main() -> None:
    given = arguments()
    space = read_space(given.space, [f"search.trials={given.trials}", f"search.epochs={given.epochs}"])
    ray.init(address="local", num_cpus=space.search.workers, include_dashboard=False)
    results = tuner(space, given).fit()
    ended = [results[i] for i in range(len(results))]
    summary = {
        "trials": len(ended),
        "epochs": sum((result.metrics or {}).get("training_iteration", 0) for result in ended),
        "errors": results.num_errors,
        "best": (results.get_best_result().metrics or {})["accuracy"],
    }
    (given.out / "peer.json").write_text(json.dumps(summary))


def tuner(space: Space, given: argparse.Namespace) -> tune.Tuner:
    out = given.out.resolve()
    trainable = tune.with_parameters(
        train,
        fixed={**space.fixed, "optim.epochs": space.search.epochs},
        data=given.data.resolve(), loaders=given.loaders, trunk_kind=given.trunk,
    )
    return tune.Tuner(
        tune.with_resources(trainable, {"cpu": 1}),
        param_space={p.name: domain(p) for p in space.tune},
        tune_config=tune.TuneConfig(
            metric="accuracy",
            mode="max",
            search_alg=OptunaSearch(seed=space.search.sampler.seed),
            scheduler=ASHAScheduler(max_t=space.search.epochs, grace_period=1, reduction_factor=space.search.reduction),
            num_samples=space.search.trials,
            max_concurrent_trials=space.search.workers,
        ),
        run_config=tune.RunConfig(
            name="peer",
            storage_path=str(out / "ray"),
            callbacks=[MLflowLoggerCallback(tracking_uri=f"sqlite:///{out / 'mlflow.db'}", experiment_name="peer")],
        ),
    )


def domain(parameter: Parameter) -> Any:
    """Return the range as Tune writes it; `tune.randint` excludes its upper end."""
    if parameter.whole:
        return tune.randint(int(parameter.low), int(parameter.high) + 1)
    return (tune.loguniform if parameter.log else tune.uniform)(parameter.low, parameter.high)


def train(
    tuned: dict[str, Any], fixed: dict[str, Any], data: Path, loaders: int, trunk_kind: Literal["plain", "folded"],
) -> None:
    """Train one configuration to the end; Tune stops it where its scheduler says so."""
    config = TrialConfig.from_settings({**fixed, **tuned})
    torch.manual_seed(config.seed)
    training, validation, classes = datasets(data, config.data)
    size = config.optim.batch_size  # of validation by patches: all of an image are shown
    load = partial(DataLoader, num_workers=loaders, persistent_workers=loaders > 0)
    training_loader = load(training, batch_size=size, shuffle=True)
    validation_loader = load(validation, batch_size=max(1, size // config.data.patches_per_image))
    trunk = frozen_trunk(config.model, trunk_kind)
    heads = Heads(trunk.width, classes, config.model)
    optimizer = torch.optim.SGD(
        [
            {"params": heads.global_head.parameters(), "lr": config.optim.lr_global},
            {"params": heads.local.parameters(), "lr": config.optim.lr_local},
        ],
        momentum=config.optim.momentum, weight_decay=config.optim.weight_decay,
    )
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=config.optim.epochs)
    for _ in range(config.optim.epochs):
        loss = train_epoch(training_loader, trunk, heads, optimizer, config)
        schedule.step()
        tune.report({"loss": loss, **validate(validation_loader, trunk, heads, config)})


def train_epoch(
    loader: DataLoader[Item], trunk: Backbone, heads: "Heads", optimizer: torch.optim.Optimizer, config: TrialConfig,
) -> float:
    """Return the mean loss over the epoch's images."""
    heads.train()
    total, images = 0.0, 0
    for whole, patches, labels in cast("DataLoader[Batch]", loader):  # it collates items to batches
        z_global, z_local = heads(*pooled(trunk, whole, patches))                         # B C, B 1 C
        loss = two_stream_loss(z_global, z_local[:, 0], labels, config.loss).total
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]  # torch's
        optimizer.step()
        total, images = total + len(labels) * loss.item(), images + len(labels)
    return total / images


@torch.no_grad()
def validate(loader: DataLoader[Item], trunk: Backbone, heads: "Heads", config: TrialConfig) -> dict[str, float]:
    """Return the accuracies over all patches of each image, as our search evaluates."""
    heads.eval()
    logits, labels = [], []
    for whole, patches, label in cast("DataLoader[Batch]", loader):
        z_global, z_local = heads(*pooled(trunk, whole, patches))                         # B C, B N C
        logits.append(torch.stack([z_global, z_local.mean(dim=1)]))
        labels.append(label)
    z_global, z_local = torch.cat(logits, dim=1)                                          # n C, n C
    z, y = z_global + config.loss.lambda_local * z_local, torch.cat(labels)
    accuracies = [(x.argmax(dim=1) == y).float().mean().item() for x in (z, z_global, z_local)]
    names = ("accuracy", "accuracy_global", "accuracy_local")
    return {**dict(zip(names, accuracies, strict=True)), "nll": F.cross_entropy(z, y).item()}


def frozen_trunk(config: ModelConfig, kind: Literal["plain", "folded"]) -> Backbone:
    """Return the trunk as a user freezes it, or as ours does (batch norms folded, channels last: 1.8 times as fast)."""
    trunk = backbone(config.global_backbone, config.weights)
    return freeze(trunk) if kind == "folded" else trunk.eval().requires_grad_(requires_grad=False)


@torch.no_grad()
def pooled(
    trunk: Backbone, whole: Float[Tensor, "B 3 S S"], patches: Float[Tensor, "B K 3 P P"],
) -> tuple[Float[Tensor, "B D"], Float[Tensor, "B K D"]]:
    """Return the frozen trunk's features, computed anew."""
    local = trunk(patches.flatten(0, 1)).mean(dim=(2, 3))                                 # BK D
    return trunk(whole).mean(dim=(2, 3)), local.unflatten(0, patches.shape[:2])


class Local(nn.Module):
    """`nn.LSTM` over T equal inputs, attention with one vector a step, and a head."""

    def __init__(self, width: int, classes: int, config: ModelConfig) -> None:
        super().__init__()
        self.time_steps = config.time_steps
        self.lstm = nn.LSTM(width, config.hidden_size, num_layers=2, batch_first=True)
        bound = 1 / math.sqrt(config.hidden_size)
        self.attention = nn.Parameter(torch.empty(config.time_steps, config.hidden_size).uniform_(-bound, bound))  # T H
        self.head = nn.Linear(config.hidden_size, classes)

    def forward(self, x: Float[Tensor, "B D"]) -> Float[Tensor, "B C"]:
        states, _ = self.lstm(x[:, None].expand(-1, self.time_steps, -1))                 # B T H  Eq. 3.4
        alpha = (self.attention * states).sum(dim=-1).softmax(dim=1)                      # B T    Eq. 3.6
        return cast("Tensor", self.head((alpha[..., None] * states).sum(dim=1)))          # B C    Eq. 3.5, 3.7


class Heads(nn.Module):
    """All that is trained: the global head and the local stream above its trunk."""

    def __init__(self, width: int, classes: int, config: ModelConfig) -> None:
        super().__init__()
        self.global_head = nn.Linear(width, classes)
        self.local = Local(width, classes, config)

    def forward(
        self, whole: Float[Tensor, "B D"], patches: Float[Tensor, "B K D"],
    ) -> tuple[Float[Tensor, "B C"], Float[Tensor, "B K C"]]:
        return self.global_head(whole), self.local(patches.flatten(0, 1)).unflatten(0, patches.shape[:2])


class Birds(Dataset[Item]):
    """Images with one random patch (training) or all of them (validation), from the JPEG each time it is asked."""

    def __init__(
        self, images: list[tuple[Path, int]], boxes: np.ndarray, config: DataConfig, *, training: bool,
    ) -> None:
        self.images, self.boxes, self.config, self.training = images, boxes, config, training
        frame = (config.frame_size, config.frame_size)
        self.transform = v2.Compose([v2.Resize(frame), v2.ToImage(), v2.ToDtype(torch.float32, scale=True)])

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, i: int) -> Item:
        path, label = self.images[i]
        with Image.open(path) as file:
            image = self.transform(file.convert("RGB"))                                   # 3 S S  in 0..1
        boxes = self.boxes[i]                                                             # N 4
        if self.training:
            boxes = boxes[[int(torch.randint(len(boxes), ()))]]                           # 1 4
        size = [self.config.patch_size] * 2
        patches = [resized_crop(image, y1, x1, y2 - y1, x2 - x1, size) for y1, y2, x1, x2 in boxes.tolist()]
        return resize(image, [self.config.image_size] * 2), torch.stack(patches), label


def datasets(root: Path, config: DataConfig) -> tuple[Birds, Birds, int]:
    """Return the official training images, cut class by class into training and validation, and the classes' number."""
    names = dict(line.split() for line in (root / "images.txt").read_text().splitlines())
    is_training = dict(line.split() for line in (root / "train_test_split.txt").read_text().splitlines())
    paths = sorted(name for number, name in names.items() if is_training[number] == "1")
    rows = np.load(root / "train_patches.npy", allow_pickle=False).astype(np.int64)       # n N 5  y1 y2 x1 x2 label
    labels, boxes = rows[:, 0, 4], rows[:, : config.patches_per_image, :4]
    if len(paths) != len(rows):
        raise SystemExit(f"{root}: {len(paths)} training images, but patches of {len(rows)}")
    images = [(root / "images" / path, int(label)) for path, label in zip(paths, labels, strict=True)]
    random = np.random.default_rng(config.seed)
    held = np.zeros(len(images), dtype=bool)
    for c in np.unique(labels):
        mine = np.flatnonzero(labels == c)
        held[random.permutation(mine)[: round(config.validation * len(mine))]] = True
    cuts = [
        Birds([images[i] for i in np.flatnonzero(part)], boxes[part], config, training=training)
        for part, training in ((~held, True), (held, False))
    ]
    return cuts[0], cuts[1], len(np.unique(labels))


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="The plain Ray Tune script that our search is measured against.")
    parser.add_argument("space", type=Path, help="the space file of both sides")
    parser.add_argument("--data", type=Path, required=True, help="folder in CUB's layout, with train_patches.npy")
    parser.add_argument("--out", type=Path, required=True, help="where results, MLflow's database and peer.json go")
    parser.add_argument("--trials", type=int, default=8)
    parser.add_argument("--epochs", type=int, default=9)
    parser.add_argument("--loaders", type=int, default=0, help="processes a DataLoader")
    parser.add_argument("--trunk", choices=("plain", "folded"), default="plain", help="folded: our faster frozen trunk")
    return parser.parse_args()


if __name__ == "__main__":
    main()
