"""Pictures of why a model answered as it did; what `fgsearch explain` does."""

from collections.abc import Sequence
from pathlib import Path

from fgmodel.atomic import whole
from fgmodel.data.images import NotAnImage, read_rgb
from fgmodel.progress import Progress, silent
from fgmodel.use.classifier import Classifier
from fgmodel.use.explanation import explain, explanation_figure, require_steps
from search.errors import writing

BATCH = 8     # images of which the trunk's maps are in memory


def explain_to(
    folder: Path, classifier: Classifier, files: Sequence[Path], progress: Progress = silent,
) -> tuple[list[tuple[Path, str]], list[str]]:
    """Write a picture of each image into `folder`; return each with its words, and a line for each file that is none.

    Raises InputError: where the model has no time steps, or nothing can be written there.
    """
    require_steps(classifier)
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    told: list[tuple[Path, str]] = []
    unusable: list[str] = []
    for start in range(0, len(files), BATCH):
        images = []
        for path in files[start : start + BATCH]:
            try:
                images.append((path, read_rgb(path)))
            except NotAnImage as problem:
                unusable.append(f"{path} {problem}")
        names = [path.name for path, _ in images]
        reasons = explain(classifier, [image for _, image in images], names) if images else []
        for (path, _), why in zip(images, reasons, strict=True):
            to = _free(folder, path, [written for written, _ in told])
            with writing(to), whole(to) as file:
                explanation_figure(why).savefig(file)
            told.append((to, why.said()))
            progress("pictures", len(told) + len(unusable), len(files))
    return told, unusable


def _free(folder: Path, image: Path, taken: Sequence[Path]) -> Path:
    """Return where an image's picture goes; images of the same name in different folders are numbered."""
    names = (f"{image.stem}{f'-{k}' if k else ''}.png" for k in range(len(taken) + 1))
    return next(folder / name for name in names if folder / name not in taken)
