"""`fgsearch predict`, `explain`, `export-onnx`: what a retrained model is used for."""

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from search.commands.options import HomeOption, JsonOption, UriOption, open_store, out
from search.console import aside
from search.errors import InputError, writing
from search.record.home import Home

if TYPE_CHECKING:
    from fgmodel.use.saved import Saved


def _models(context: typer.Context, incomplete: str) -> list[str]:
    """Return what TAB offers where a model is named."""
    return [name for name in Home.find(context.params.get("home")).models() if name.startswith(incomplete)]


Model = Annotated[
    str, typer.Argument(
        help="A folder that fgsearch retrain wrote, its name, or models:/fgsearch-NAME@best.", autocompletion=_models,
    ),
]
Images = Annotated[list[Path], typer.Argument(help="Image files, or folders of them.")]
CsvOption = Annotated[bool, typer.Option("--csv", help="Print CSV, an image a line.")]


def predict(
    model: Model,
    images: Images,
    as_json: JsonOption = False,
    as_csv: CsvOption = False,
    home: HomeOption = None,
    tracking_uri: UriOption = None,
) -> None:
    """Say what images show: class, probability, both streams, the five likeliest. Status 2 where a file is no image."""
    from search.models.predict import Prediction, Unusable, image_files, predictions, table
    from search.models.predict import as_csv as comma_separated
    from search.show.screen import Steps, preparing

    if as_json and as_csv:
        raise InputError("--json and --csv: give one of them")
    files, saved = image_files(images), _open(model, home, tracking_uri)
    with preparing(aside()) as progress:
        found = list(predictions(saved.classifier, files, Steps(progress)))
    told = [each for each in found if isinstance(each, Prediction)]
    if as_json:
        out.print_json(data={"model": model, "boxes": _boxes(saved), "images": [p.document() for p in told]})
    elif as_csv:
        print(comma_separated(told), end="")
    elif told:
        out.print(table(told))
        out.print(f"boxes: {_boxes(saved)}", soft_wrap=True)
    if unusable := [each.line for each in found if isinstance(each, Unusable)]:
        raise InputError(*unusable)


def _open(model: str, home: Path | None, tracking_uri: str | None) -> "Saved":
    from search.models.folder import open_model

    place = Home.find(home)
    return open_model(model, place, partial(open_store, place, tracking_uri))


def _boxes(saved: "Saved") -> str:
    find = saved.classifier.finder
    return find.said() if find else "none: the model has no local stream"


def explain(
    model: Model,
    images: Images,
    to: Annotated[Path, typer.Option("--out", help="The folder to write a picture an image into.")] = Path("explained"),
    home: HomeOption = None,
    tracking_uri: UriOption = None,
) -> None:
    """Draw why: patch boxes, a heatmap a time step, the attention curve, and in words which step decided."""
    from search.models.explained import explain_to
    from search.models.predict import image_files
    from search.show.screen import Steps, preparing

    files, saved = image_files(images), _open(model, home, tracking_uri)
    with preparing(aside()) as progress:
        told, unusable = explain_to(to, saved.classifier, files, Steps(progress))
    for path, words in told:
        out.print(f"{path}: {words}", soft_wrap=True)
    if unusable:
        raise InputError(*unusable)


def export_onnx(
    model: Model,
    to: Annotated[Path, typer.Option("--out", help="The file to write.")] = Path("model.onnx"),
    home: HomeOption = None,
    tracking_uri: UriOption = None,
) -> None:
    """Write a model as ONNX, once onnxruntime gives PyTorch's answers: frame and boxes in, probabilities out."""
    from fgmodel.use.onnx_file import export_onnx as write

    saved = _open(model, home, tracking_uri)
    with writing(to):
        checked = write(saved.classifier, to)
    out.print(
        f"{to}: {to.stat().st_size / 1e6:.1f} MB; onnxruntime's probabilities differ from PyTorch's by "
        f"{checked.difference:.1g} at most", soft_wrap=True,
    )
