"""Methods `protopnet` and `protopnet_trained`: the cells most like prototypes of train images (thesis §4).

The thesis' boxes are of this kind. `protopnet` learns its prototypes on a frozen trunk's kept maps: minutes on a CPU
for ten classes. `protopnet_trained` trains the trunk too, at the released boxes' 448 px: a job for a GPU.

Legend: B images, P prototypes, N boxes of an image, h w cells of a map.
"""

from dataclasses import asdict
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor

from fgmodel.cache import Frames
from fgmodel.config import DataConfig
from fgmodel.data.splits import divide
from fgmodel.errors import InputError
from fgmodel.extraction.boxes import above_percentile
from fgmodel.extraction.fits import kept_fit
from fgmodel.extraction.prototype_training import Inputs, Recipe, Training, new_net
from fgmodel.extraction.prototypes import PrototypeNet, similarity
from fgmodel.extraction.task import Batch, Extractor, Fit, Found, Task, in_batches
from fgmodel.trunks.frozen_trunk import FrozenTrunk

FROZEN = Recipe(size=320)                         # Lite0 then has 10x10 cells; §9: less than 7x7 says too little
TRAINED = Recipe(size=448, trains_trunk=True)     # VGG19 then has 14x14 (§4)
BATCH = 16                                        # images a call: their similarity maps are P times their cells


def find(task: Task, recipe: Recipe) -> Found:
    """Return the boxes of the N prototypes most like each image, of whatever class."""
    net = restored(task.fit, task.trunk, recipe)
    inputs = Inputs(task.frames, task.trunk, recipe)
    return in_batches(task, lambda part: activation_boxes(net, inputs.plain(part), task.count), BATCH)


@torch.no_grad()
def activation_boxes(net: PrototypeNet, images: Float[Tensor, "B c H W"], count: int) -> Batch:
    """Return the tight boxes over all that lies above the 95th percentile of each of N similarity maps, best first."""
    maps = similarity(net.distances(net.latent(images)))                                     # B P h w
    if count > maps.shape[1]:
        raise InputError(f"data.patches_per_image: {count}, but there are {maps.shape[1]} prototypes, ten a class")
    scores, which = maps.amax(dim=(2, 3)).topk(count)                                        # B N, B N
    chosen = maps[torch.arange(len(maps), device=maps.device)[:, None], which]               # B N h w
    return above_percentile(chosen.flatten(0, 1)).reshape(*which.shape, 4), scores


def fitted(train: Frames, trunk: FrozenTrunk, recipe: Recipe) -> Fit:
    """Return the network fitted on the train images, and the held-out accuracy after each push."""
    dataset = train.dataset

    def fit() -> dict[str, Tensor]:
        net = new_net(trunk, len(dataset.classes), recipe)
        labels = dataset.labels[train.rows]
        (fold,) = divide(labels, dataset.classes, DataConfig(validation=recipe.held_out, seed=recipe.seed))
        on_device = torch.from_numpy(labels).to(trunk.device)
        best, accuracy = Training(net, Inputs(train, trunk, recipe), on_device, fold, train.progress).run()
        return {**best.state_dict(), "held_out_accuracy": torch.tensor(accuracy)}

    path = train.path("patches", f".{'protopnet_trained' if recipe.trains_trunk else 'protopnet'}.npz",
                      asdict(recipe), trunk.identity())
    return kept_fit(path, "prototypes", train.progress, fit)


def restored(fit: Fit, trunk: FrozenTrunk, recipe: Recipe) -> PrototypeNet:
    """Return the network that was fitted."""
    net = new_net(trunk, len(fit["head.weight"]), recipe)
    net.load_state_dict({name: tensor for name, tensor in fit.items() if name != "held_out_accuracy"})
    return net.eval()


def _method(recipe: Recipe, step: float) -> Extractor:
    """Return the extractor; learning from an image once costs `step` passes of the trunk."""

    def passes(images: int) -> float:
        return 1 + step * recipe.epochs * max(1.0, recipe.epoch_images / images)

    finding, fitting = partial(find, recipe=recipe), partial(fitted, recipe=recipe)
    return Extractor(finding, scale=1.0, size=recipe.size, fit=fitting, passes=passes)


PROTOPNET = _method(FROZEN, step=0.1)      # measured: 2 ms where Lite0 takes 20
PROTOPNET_TRAINED = _method(TRAINED, step=4.0)   # forward, backward at twice that, and the held-out and pushed images
