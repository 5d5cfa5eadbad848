"""`fgsearch patches`: the boxes local streams look at, found, imported, checked and shown."""

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from search.console import open_console
from search.errors import InputError
from search.record.home import Home

if TYPE_CHECKING:
    from fgmodel.data.datasets import Split
    from search.data.patch_files import OpenedPatches

app = typer.Typer(
    help="Find patch boxes, import the released ones, check and show them.",
    epilog="Example: fgsearch patches extract --root data/CUB_200_2011 --method ddt --out boxes",
    no_args_is_help=True,
)


class Layout(StrEnum):
    """The layouts of data sets."""

    cub = "cub"
    folders = "folders"
    finches = "finches"


class Part(StrEnum):
    """Which of a data set's images."""

    train = "train"
    test = "test"
    both = "both"


DataOption = Annotated[Layout, typer.Option("--dataset", help="The layout of the images.")]
RootOption = Annotated[str | None, typer.Option("--root", help="The folder of the images; finches need none.")]
CountOption = Annotated[int | None, typer.Option("--count", help="The best N of each image.", min=1, max=64)]
FileArgument = Annotated[Path, typer.Argument(help="A patch file: ours (.npz) or a released array (.npy).")]
SetOption = Annotated[
    list[str] | None, typer.Option("--set", help="key=value: any other setting of the data or model; repeatable.")
]
HomeOption = Annotated[
    Path | None, typer.Option("--home", help="Folder of the caches.", show_default="./fgsearch-home")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON for a script.")]


@app.command(epilog="Example: fgsearch patches extract --root data/CUB_200_2011 --method ddt --split both --out boxes")
def extract(
    out: Annotated[Path, typer.Option("--out", help="The folder to write train.npz and test.npz into.")],
    method: Annotated[str, typer.Option("--method", help="ddt, cam, protopnet, peaks, grid, …")] = "ddt",
    dataset: DataOption = Layout.cub,
    root: RootOption = None,
    backbone: Annotated[str, typer.Option("--backbone", help="The trunk that looks.")] = "efficientnet_lite0",
    count: Annotated[int, typer.Option("--count", help="Boxes an image.", min=1, max=64)] = 10,
    split: Annotated[Part, typer.Option("--split", help="Of which images.")] = Part.train,
    sets: SetOption = None,
    home: HomeOption = None,
) -> None:
    """Find boxes with an extractor, in tasks on Ray; a space names the result as data.patches: FOLDER."""
    from search.data.patch_files import configure, extract_to, require_method

    config = configure(
        dataset.value, root, sets or (), patches=require_method(method), patch_backbone=backbone,
        patches_per_image=count,
    )
    screen = open_console()
    splits: list[Split] = ["train", "test"] if split is Part.both else ["test" if split is Part.test else "train"]
    for path in extract_to(out, config, splits, Home.find(home).cache, screen):
        screen.print(f"{path}: {count} boxes an image by {method}", soft_wrap=True)


@app.command("import", epilog="Example: fgsearch patches import train_patches.npy --root data/CUB --out train.npz")
def import_(
    file: Annotated[Path, typer.Argument(help="train_patches.npy or test_patches.npy, as the authors released them.")],
    out: Annotated[Path, typer.Option("--out", help="The .npz file to write.")],
    root: Annotated[str, typer.Option("--root", help="The folder of the images.")],
    dataset: DataOption = Layout.cub,
    split: Annotated[Part | None, typer.Option("--split", help="Of which images.", show_default="by name")] = None,
    count: CountOption = None,
    sets: SetOption = None,
    home: HomeOption = None,
) -> None:
    """Write a released array in our format, once every check that is possible says that it is of these images."""
    from search.data.patch_files import configure, import_released

    if out.suffix != ".npz":
        raise InputError(f"--out {out}: a patch file is .npz")
    if split is Part.both:
        raise InputError("--split both: a released array is of one split, train or test")
    of: Split = "test" if split is Part.test or (split is None and "test" in file.name) else "train"
    cache = Home.find(home).cache
    patches = import_released(file, out, configure(dataset.value, root, sets or ()), of, cache, count)
    n, each = patches.scores.shape
    open_console().print(f"{out}: {each} released boxes for each of {n} {of} images", soft_wrap=True)


@app.command(epilog="Example: fgsearch patches check boxes/train.npz --root data/CUB_200_2011 --json")
def check(
    file: FileArgument,
    dataset: DataOption = Layout.cub,
    root: RootOption = None,
    count: CountOption = None,
    sets: SetOption = None,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Tell what a patch file holds; with its images, whether it is theirs and how good its boxes are."""
    opened, screen = _open(file, dataset, root, count, sets, home), open_console()
    screen.print_json(data=opened.document()) if as_json else screen.print(opened.view())


@app.command(epilog="Example: fgsearch patches show boxes/train.npz --root data/CUB_200_2011 --out sheet.png")
def show(
    file: FileArgument,
    out: Annotated[Path, typer.Option("--out", help="The picture to write.")] = Path("sheet.png"),
    dataset: DataOption = Layout.cub,
    root: RootOption = None,
    count: CountOption = None,
    sets: SetOption = None,
    home: HomeOption = None,
) -> None:
    """Draw twenty images with their numbered boxes, and in white the true box where it is known."""
    from search.data.patch_files import show as draw

    if root is None and dataset is not Layout.finches:
        raise InputError("--root: give the folder of the images the boxes are of")
    draw(_open(file, dataset, root, count, sets, home), out)
    open_console().print(f"{out}", soft_wrap=True)


def _open(
    file: Path, dataset: Layout, root: str | None, count: int | None, sets: list[str] | None, home: Path | None,
) -> "OpenedPatches":
    from search.data.patch_files import configure, open_patches

    config = None if root is None and dataset is not Layout.finches else configure(dataset.value, root, sets or ())
    return open_patches(file, config, Home.find(home).cache, count)
