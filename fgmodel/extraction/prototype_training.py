"""How ProtoPNet is fitted: warm, joint, push, last layer, and of the pushed states the best on held-out train images.

thesis §4 is the recipe. Where its paper's code differs we do not follow it: images are whole, not cropped to the bird's
box; the state is chosen on a stratified part of train, never on test. Ours are:
- An epoch shows at least 3000 images, in several passes where there are fewer: the paper multiplies its images by 30
  before it begins, and ten classes would otherwise end after 120 steps.
- The last layer is fitted on the images as they are, since all beneath it is fixed.
- A frozen trunk's cells are averaged with their neighbours: 95 % of what Lite0's hold is zero, and single ones are
  learnt by heart. Its maps are augmented too, by cropping cells and dropping channels (mirroring would move cells, and
  the minimum over cells sees none of that). docs/patches.md has what each of these does.

Legend: B images of a batch, n train images, L latent channels, h w cells, a b of which are seen, P prototypes.
"""

from collections.abc import Iterator
from contextlib import nullcontext
from copy import deepcopy
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from fgmodel.augmentation import DRAWS, augment
from fgmodel.cache import Frames, trunk_maps
from fgmodel.data.splits import Fold
from fgmodel.extraction.prototypes import Nearness, PrototypeNet, similarity
from fgmodel.extraction.task import tensor
from fgmodel.progress import Progress, silent
from fgmodel.trunks.backbones import backbone
from fgmodel.trunks.frozen_trunk import FrozenTrunk, one_thread_each, pixels, resized

CLUSTER, SEPARATION, L1 = 0.8, -0.08, 1e-4          # loss weights (§4)
LR, LR_TRUNK, LR_LAST, DECAY = 3e-3, 1e-4, 1e-4, 1e-3   # Adam; decay of all but prototypes and last layer (§4)
STEP_EPOCHS, STEP_FACTOR = 5, 0.1                   # of the joint stage's rates (§4)


@dataclass(frozen=True)
class Recipe:
    """All that decides a fit, beside the images and the trunk."""

    size: int                     # px at which the trunk sees an image
    trains_trunk: bool = False
    epochs: int = 31              # about 30, and the last is a push: they count from 0 (§4)
    warm: int = 5                 # epochs with the trunk as it is (§4)
    push: int = 10                # from this epoch, every so many (§4)
    last: int = 20                # epochs of the last layer after a push (§4)
    batch: int = 80               # §4
    epoch_images: int = 3000      # at least
    window: float = 0.8           # of a frozen trunk's cells a side, cropped at random
    kept: float = 0.7             # of its channels, the others dropped at random
    held_out: float = 0.1         # of train (§8.1)
    seed: int = 0


@dataclass(frozen=True)
class Inputs:
    """What the network is given for images of a split: a frozen trunk's kept maps, or pixels for it to train on."""

    frames: Frames
    trunk: FrozenTrunk
    recipe: Recipe

    def ready(self) -> None:
        """Have decoded, and the trunk run, on all threads: before work that has one asks for images."""
        _ = self.frames.array if self.recipe.trains_trunk else self._maps

    @cached_property
    def _maps(self) -> np.ndarray:
        return trunk_maps(self.frames, self.trunk, self.recipe.size)

    def plain(self, rows: np.ndarray | slice) -> Float[Tensor, "B c H W"]:
        """Return the images as they are."""
        if not self.recipe.trains_trunk:
            maps = tensor(self._maps[rows]).to(self.trunk.device)
            return F.avg_pool2d(maps, 3, stride=1, padding=1, count_include_pad=False)
        return resized(pixels(self.frames.array[rows], self.trunk.device), self.recipe.size)

    def augmented(self, rows: np.ndarray, chance: np.random.Generator) -> Float[Tensor, "B c H W"]:
        """Return a random view of each image."""
        if not self.recipe.trains_trunk:
            return thinned(self.plain(rows), self.recipe, chance)
        draws = torch.from_numpy(chance.random((len(rows), DRAWS)).astype(np.float32))
        boxes = torch.zeros(len(rows), 1, 4)
        seen, _ = augment("standard", pixels(self.frames.array[rows], self.trunk.device), boxes, draws)
        return resized(seen, self.recipe.size)


def thinned(
    maps: Float[Tensor, "B D h w"], recipe: Recipe, chance: np.random.Generator,
) -> Float[Tensor, "B D a b"]:
    """Return a random window of the maps, the same for all, with some of each image's channels dropped."""
    a, b = (max(1, round(recipe.window * side)) for side in maps.shape[2:])
    y, x = (int(chance.integers(side - seen + 1)) for side, seen in zip(maps.shape[2:], (a, b), strict=True))
    kept = chance.random(maps.shape[:2]) < recipe.kept                                       # B D
    factors = torch.from_numpy(kept.astype(np.float32) / recipe.kept).to(maps.device)
    return maps[:, :, y : y + a, x : x + b] * factors[:, :, None, None]


def new_net(trunk: FrozenTrunk, classes: int, recipe: Recipe) -> PrototypeNet:
    """Return the network before it is fitted; with weights of its own, where it trains them."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        inner = backbone(trunk.name, trunk.weights) if recipe.trains_trunk else nn.Identity()
        return PrototypeNet(inner, trunk.model.width, classes).to(trunk.device)


@dataclass
class Training:
    """One fit under way."""

    net: PrototypeNet
    inputs: Inputs
    labels: Tensor                # n
    fold: Fold                    # rows to fit on, rows to choose by
    progress: Progress = silent

    @property
    def recipe(self) -> Recipe:
        """What decides the fit."""
        return self.inputs.recipe

    def run(self) -> tuple[PrototypeNet, list[float]]:
        """Return the pushed network that is best on the held-out images, and the accuracies there after each push.

        On one thread where the trunk is frozen: beside one other process on two cores it took 5 min on cub10, while two
        threads had not ended after 11; and the result does not follow from how many cores there are.
        """
        self.inputs.ready()
        with nullcontext() if self.recipe.trains_trunk else one_thread_each():
            return self._run()

    def _run(self) -> tuple[PrototypeNet, list[float]]:
        warm, joint = self._warm(), self._joint()
        schedule = torch.optim.lr_scheduler.StepLR(joint, STEP_EPOCHS, STEP_FACTOR)
        scores: list[tuple[float, float]] = []
        best = self.net
        for epoch in range(self.recipe.epochs):
            self.progress("epochs of prototypes", epoch, self.recipe.epochs)
            self._epoch(warm if epoch < self.recipe.warm else joint, epoch)
            if epoch >= self.recipe.warm:
                schedule.step()
            if epoch and epoch % self.recipe.push == 0:
                push(self.net, self._batches(self.fold.train), self.labels[self.fold.train])
                self._fit_last_layer(epoch)
                scores.append(self._score(self.fold.validation))
                best = deepcopy(self.net) if scores[-1] == max(scores) else best
        self.progress("epochs of prototypes", self.recipe.epochs, self.recipe.epochs)
        return best.eval(), [accuracy for accuracy, _ in scores]

    def _warm(self) -> torch.optim.Optimizer:
        return torch.optim.Adam([
            {"params": self.net.addon.parameters(), "lr": LR, "weight_decay": DECAY},
            {"params": [self.net.prototypes], "lr": LR},
        ])

    def _joint(self) -> torch.optim.Optimizer:
        optimiser = self._warm()
        if self.recipe.trains_trunk:
            trunk = {"params": self.net.trunk.parameters(), "lr": LR_TRUNK, "weight_decay": DECAY}
            optimiser.add_param_group(trunk)
        return optimiser

    def _epoch(self, optimiser: torch.optim.Optimizer, epoch: int) -> None:
        self.net.train()
        joint = epoch >= self.recipe.warm
        self.net.trunk.train(joint).requires_grad_(joint)
        chance = np.random.default_rng([self.recipe.seed, epoch])
        for _ in range(-(-self.recipe.epoch_images // len(self.fold.train)) or 1):
            for rows in _split(chance.permutation(self.fold.train), self.recipe.batch):
                seen = self.net(self.inputs.augmented(rows, chance))
                labels = self.labels[rows]
                _descend(optimiser, loss(self.net, seen, labels))

    def _fit_last_layer(self, epoch: int) -> None:
        """Fit the last layer alone."""
        rows = self.fold.train
        like = similarity(self._seen(rows).nearest)                                          # n P
        labels = self.labels[rows]
        optimiser = torch.optim.Adam(self.net.head.parameters(), lr=LR_LAST)
        chance = np.random.default_rng([self.recipe.seed, epoch, 1])
        passes = -(-self.recipe.epoch_images // len(rows)) or 1
        for _ in range(self.recipe.last * passes):
            for some in _split(chance.permutation(len(rows)), self.recipe.batch):
                _descend(optimiser, F.cross_entropy(self.net.head(like[some]), labels[some]) + L1 * foreign(self.net))

    def _score(self, rows: np.ndarray) -> tuple[float, float]:
        """Return the accuracy and, for ties, minus the negative log-likelihood."""
        logits, labels = self._seen(rows).logits, self.labels[rows]
        return (logits.argmax(dim=1) == labels).float().mean().item(), -F.cross_entropy(logits, labels).item()

    @torch.no_grad()
    def _seen(self, rows: np.ndarray) -> Nearness:
        self.net.eval()
        parts = [self.net(self.inputs.plain(some)) for some in _split(rows, self.recipe.batch)]
        return Nearness(*(torch.cat(column) for column in zip(*parts, strict=True)))

    @torch.no_grad()
    def _batches(self, rows: np.ndarray) -> Iterator[Float[Tensor, "B L h w"]]:
        self.net.eval()
        for some in _split(rows, self.recipe.batch):
            yield self.net.latent(self.inputs.plain(some))


def loss(net: PrototypeNet, seen: Nearness, labels: Tensor) -> Tensor:
    """Return CE + 0.8·clst - 0.08·sep + 1e-4·L1 (§4)."""
    own = net.own[:, None].expand(-1, len(labels), -1)[labels, torch.arange(len(labels))] > 0   # B P
    cluster = seen.nearest.masked_fill(~own, torch.inf).amin(dim=1).mean()
    separation = seen.nearest.masked_fill(own, torch.inf).amin(dim=1).mean()
    return F.cross_entropy(seen.logits, labels) + CLUSTER * cluster + SEPARATION * separation + L1 * foreign(net)


def foreign(net: PrototypeNet) -> Tensor:
    """Return the L1 norm of the last layer's weights from prototypes to other classes than their own."""
    return ((1 - net.own) * net.head.weight).abs().sum()


@torch.no_grad()
def push(net: PrototypeNet, latents: Iterator[Float[Tensor, "B L h w"]], labels: Tensor) -> None:
    """Set each prototype to the cell nearest to it in the images of its class; `labels` are the batches', in order."""
    classes = net.own.argmax(dim=0)                                                          # P
    nearest = torch.full(classes.shape, torch.inf, device=classes.device)                    # P
    cells = net.prototypes.clone()                                                           # P L
    begun = 0
    for latent in latents:
        here = labels[begun : begun + len(latent)]                                           # B
        begun += len(latent)
        distances = net.distances(latent)                                                    # B P h w
        distances = distances.masked_fill((here[:, None] != classes)[..., None, None], torch.inf)
        flat = distances.transpose(0, 1).flatten(1)                                          # P B·h·w
        values, places = flat.min(dim=1)                                                     # P, P
        closer = values < nearest
        nearest = torch.where(closer, values, nearest)
        cells[closer] = latent.permute(0, 2, 3, 1).flatten(0, 2)[places[closer]]             # L  of B·h·w
    net.prototypes.copy_(cells)


def _descend(optimiser: torch.optim.Optimizer, value: Tensor) -> None:
    optimiser.zero_grad()
    value.backward()  # type: ignore[no-untyped-call]
    optimiser.step()


def _split(rows: np.ndarray, size: int) -> Iterator[np.ndarray]:
    for a in range(0, len(rows), size):
        yield rows[a : a + size]
