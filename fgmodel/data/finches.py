"""Drawn birds: twelve species of the same finch, told apart by one small part whose true box is known.

Everything else is chance: pose, scale, colours, bill colour, leaves and twigs behind. A drawing is decided by
(seed, species, number) alone. The recipe is that of thesis.md §9, except that the bird is moved, where need be, so that
the telling part lies inside the canvas: a part nobody can see would make the label a guess.

Bird coordinates: x towards the bill, y down, the body's centre at 0; one unit is about half a bird. Head coordinates
have their origin at the head's centre.
"""

import colorsys
import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from random import Random
from typing import Literal, TypeAlias

from PIL import Image, ImageDraw, ImageFilter

RECIPE = "finches 1"   # raise it when drawings change: it is part of every fingerprint
CANVAS = 256           # pixels
INK = 2 * CANVAS       # drawn twice as large, then reduced: smooth edges
MARK = (250, 245, 235)  # near-white on a dark body: seen from afar, but no class has a colour of its own

Part: TypeAlias = Literal["bill", "eye", "crown", "wing", "tail"]
Point: TypeAlias = tuple[float, float]
Colour: TypeAlias = tuple[int, int, int]
Box: TypeAlias = tuple[float, float, float, float]


@dataclass(frozen=True)
class Species:
    """A species: the one part in which it differs from the common finch, and how."""

    name: str
    part: Part
    form: str


SPECIES = (
    Species("01.cone_billed_finch", "bill", "cone"),
    Species("02.long_billed_finch", "bill", "long"),
    Species("03.hook_billed_finch", "bill", "hook"),
    Species("04.ring_eyed_finch", "eye", "ring"),
    Species("05.eye_striped_finch", "eye", "stripe"),
    Species("06.white_capped_finch", "crown", "cap"),
    Species("07.crested_finch", "crown", "crest"),
    Species("08.crown_striped_finch", "crown", "stripes"),
    Species("09.one_barred_finch", "wing", "one bar"),
    Species("10.two_barred_finch", "wing", "two bars"),
    Species("11.fork_tailed_finch", "tail", "fork"),
    Species("12.band_tailed_finch", "tail", "band"),
)

HEAD: Point = (0.52, -0.42)
BILLS: dict[str, list[Point]] = {   # head coordinates; hidden in part by the head, which is drawn over them
    "common": [(0.2, -0.09), (0.5, 0.0), (0.2, 0.09)],
    "cone": [(0.16, -0.16), (0.44, 0.03), (0.16, 0.16)],
    "long": [(0.2, -0.06), (0.72, 0.03), (0.2, 0.06)],
    "hook": [(0.2, -0.1), (0.42, -0.09), (0.53, 0.12), (0.42, 0.05), (0.2, 0.1)],
}


def draw(seed: int, species: int, number: int) -> Image.Image:
    """Return one finch, CANVAS pixels square, in RGB."""
    chance = _chance(seed, species, number)
    finch = _hatch(SPECIES[species], chance)
    image = _background(chance)
    ink = ImageDraw.Draw(image)
    for part in (_legs, _tail, _body, _wing, _bill, _head, _eye):   # back to front
        part(ink, finch)
    return image.reduce(2)


def part_box(seed: int, species: int, number: int) -> Box:
    """Return where the telling part of that finch is: x1 y1 x2 y2 as fractions of the canvas."""
    return _extent(_hatch(SPECIES[species], _chance(seed, species, number)))


def _chance(seed: int, species: int, number: int) -> Random:
    return Random(f"{RECIPE}/{seed}/{species}/{number}")  # noqa: S311  drawings, not secrets


# --- one bird, before it is drawn -------------------------------------------------------------------------------------

@dataclass(frozen=True)
class Finch:
    """Everything chance decided about one bird."""

    species: Species
    centre: Point        # of the body, in ink pixels
    scale: float         # ink pixels a unit
    facing: Literal[-1, 1]
    lean: float          # radians
    nod: float           # radians, the head against the body
    tail_length: float
    body: Colour
    belly: Colour
    dark: Colour
    bill: Colour

    def form(self, part: Part) -> str:
        """Return how the species differs in `part`; "common" where it does not."""
        return self.species.form if self.species.part == part else "common"

    def at(self, points: Iterable[Point]) -> list[Point]:
        """Return bird coordinates as ink pixels."""
        turned = (_turn(point, self.lean) for point in points)
        return [(self.centre[0] + self.facing * x * self.scale, self.centre[1] + y * self.scale) for x, y in turned]

    def on_head(self, points: Iterable[Point]) -> list[Point]:
        """Return head coordinates as ink pixels."""
        turned = (_turn(point, self.nod) for point in points)
        return self.at((HEAD[0] + x, HEAD[1] + y) for x, y in turned)


def _hatch(species: Species, chance: Random) -> Finch:
    hue, saturation, value = chance.random(), chance.uniform(0.15, 0.6), chance.uniform(0.3, 0.5)   # §9: dark bodies
    finch = Finch(
        species,
        centre=(chance.uniform(0.38, 0.62) * INK, chance.uniform(0.38, 0.62) * INK),
        scale=chance.uniform(0.85, 1.1) * INK / 2.2,
        facing=chance.choice((-1, 1)),
        lean=chance.uniform(-0.25, 0.25),
        nod=chance.uniform(-0.25, 0.25),
        tail_length=chance.uniform(0.5, 0.65),
        body=_colour(hue, saturation, value),
        belly=_colour(hue + chance.uniform(-0.1, 0.1), 0.4 * saturation, 1.35 * value),
        dark=_colour(hue, saturation, 0.6 * value),
        bill=_colour(chance.uniform(0.03, 0.15), chance.uniform(0.2, 0.9), chance.uniform(0.25, 0.95)),
    )
    return _moved_into_view(finch)


def _moved_into_view(finch: Finch) -> Finch:
    x1, y1, x2, y2 = _extent(finch)
    shift = [INK * (max(0.0, -low) - max(0.0, high - 1)) for low, high in ((x1, x2), (y1, y2))]
    return replace(finch, centre=(finch.centre[0] + shift[0], finch.centre[1] + shift[1]))


def _extent(finch: Finch) -> Box:
    """Return the telling part's box as fractions; it may reach beyond the canvas until the bird is moved into view."""
    t = finch.tail_length
    corners = {
        "bill": finch.on_head(_rectangle(0.16, -0.18, 0.74, 0.18)),
        "eye": finch.on_head(_rectangle(-0.22, -0.16, 0.27, 0.06)),
        "crown": finch.on_head(_rectangle(-0.27, -0.47, 0.27, -0.08)),
        "wing": finch.at(_rectangle(-0.54, -0.23, 0.3, 0.17)),
        "tail": finch.at(_rectangle(-0.52 - t, 0.06, -0.26 - t, 0.47)),
    }[finch.species.part]
    xs, ys = zip(*corners, strict=True)
    return min(xs) / INK, min(ys) / INK, max(xs) / INK, max(ys) / INK


# --- its parts, each in one place -------------------------------------------------------------------------------------

def _legs(ink: ImageDraw.ImageDraw, finch: Finch) -> None:
    for x in (-0.05, 0.12):
        ink.line(finch.at([(x, 0.3), (x + 0.02, 0.62)]), fill=(60, 50, 40), width=max(1, int(0.02 * finch.scale)))


def _tail(ink: ImageDraw.ImageDraw, finch: Finch) -> None:
    end = -0.45 - finch.tail_length
    tip = [(end, 0.16), (end, 0.36)]
    if finch.form("tail") == "fork":   # it leaves the common outline only at x = end + 0.16, so all of it is in its box
        above, below = 0.16 - 0.0256 / finch.tail_length, 0.36 - 0.0256 / (finch.tail_length + 0.07)
        notch = (end + 0.16, 0.27)
        tip = [(end + 0.16, above), (end - 0.06, 0.08), notch, (end - 0.06, 0.46), (end + 0.16, below)]
    ink.polygon(finch.at([(-0.45, 0.0), *tip, (-0.38, 0.2)]), fill=finch.dark)
    if finch.form("tail") == "band":
        near, far = end + 0.2 * finch.tail_length, end + 0.05 * finch.tail_length
        ink.polygon(finch.at([(far, 0.155), (near, 0.135), (near, 0.335), (far, 0.355)]), fill=MARK)


def _body(ink: ImageDraw.ImageDraw, finch: Finch) -> None:
    ink.polygon(finch.at(_ellipse((0.0, 0.0), 0.56, 0.36, tilt=-0.3)), fill=finch.body)
    ink.polygon(finch.at(_ellipse((0.08, 0.14), 0.42, 0.2, tilt=-0.3)), fill=finch.belly)


def _wing(ink: ImageDraw.ImageDraw, finch: Finch) -> None:
    ink.polygon(finch.at(_ellipse((-0.12, -0.03), 0.42, 0.2, tilt=-0.15)), fill=finch.dark)
    bars = {"one bar": (0.02,), "two bars": (0.02, -0.15)}.get(finch.form("wing"), ())
    for x in bars:
        ink.polygon(finch.at([(x, -0.2), (x + 0.06, -0.2), (x - 0.03, 0.13), (x - 0.09, 0.13)]), fill=MARK)


def _bill(ink: ImageDraw.ImageDraw, finch: Finch) -> None:
    ink.polygon(finch.on_head(BILLS[finch.form("bill")]), fill=finch.bill)


def _head(ink: ImageDraw.ImageDraw, finch: Finch) -> None:
    crown = finch.form("crown")
    if crown == "crest":
        ink.polygon(finch.on_head([(0.1, -0.2), (-0.1, -0.46), (-0.2, -0.12)]), fill=finch.body)
    ink.polygon(finch.on_head(_ellipse((0.0, 0.0), 0.27, 0.25)), fill=finch.body)
    if crown == "cap":
        arc = _ellipse((0.0, 0.0), 0.27, 0.25, start=1.12 * math.pi, end=1.88 * math.pi)
        ink.polygon(finch.on_head(arc), fill=MARK)
    if crown == "stripes":
        for x in (-0.1, 0.03):
            ink.polygon(finch.on_head([(x, -0.25), (x + 0.05, -0.25), (x + 0.02, -0.1), (x - 0.03, -0.1)]), fill=MARK)


def _eye(ink: ImageDraw.ImageDraw, finch: Finch) -> None:
    if finch.form("eye") == "ring":
        ink.polygon(finch.on_head(_ellipse((0.1, -0.05), 0.095, 0.095)), fill=MARK)
    if finch.form("eye") == "stripe":
        ink.polygon(finch.on_head([(-0.2, -0.08), (0.25, -0.06), (0.25, -0.02), (-0.2, 0.0)]), fill=MARK)
    ink.polygon(finch.on_head(_ellipse((0.1, -0.05), 0.05, 0.05)), fill=(15, 12, 10))


# --- behind it --------------------------------------------------------------------------------------------------------

def _background(chance: Random) -> Image.Image:
    """Return a sky with eight leaves and twigs out of focus; blurred small, where that costs a quarter."""
    hue = chance.random()
    image = Image.new("RGB", (CANVAS, CANVAS), _colour(hue, chance.uniform(0.1, 0.5), chance.uniform(0.35, 0.9)))
    ink = ImageDraw.Draw(image)
    for _ in range(8):
        colour = _colour(hue + chance.uniform(-0.2, 0.2), chance.uniform(0.1, 0.7), chance.uniform(0.2, 0.9))
        x, y = chance.uniform(0, CANVAS), chance.uniform(0, CANVAS)
        if chance.random() < 0.5:
            width, height = chance.uniform(0.02, 0.12) * CANVAS, chance.uniform(0.01, 0.05) * CANVAS
            ink.polygon(_ellipse((x, y), width, height, tilt=chance.uniform(0, 3)), fill=colour)
        else:
            end = (x + chance.uniform(-0.5, 0.5) * CANVAS, y + chance.uniform(-0.5, 0.5) * CANVAS)
            ink.line([(x, y), end], fill=colour, width=max(1, int(chance.uniform(0.004, 0.02) * CANVAS)))
    blurred = image.filter(ImageFilter.GaussianBlur(chance.uniform(0.5, 2.5)))
    return blurred.resize((INK, INK), Image.Resampling.BILINEAR)


# --- geometry and colour ----------------------------------------------------------------------------------------------

def _turn(point: Point, angle: float) -> Point:
    cos, sin = math.cos(angle), math.sin(angle)
    return point[0] * cos - point[1] * sin, point[0] * sin + point[1] * cos


def _ellipse(
    centre: Point, width: float, height: float, *, tilt: float = 0.0, start: float = 0.0, end: float = 2 * math.pi,
) -> list[Point]:
    """Return 41 points on an ellipse of those half axes, or on its arc."""
    angles = [start + (end - start) * k / 40 for k in range(41)]
    turned = [_turn((width * math.cos(a), height * math.sin(a)), tilt) for a in angles]
    return [(centre[0] + x, centre[1] + y) for x, y in turned]


def _rectangle(x1: float, y1: float, x2: float, y2: float) -> list[Point]:
    return [(x1, y1), (x2, y1), (x2, y2), (x1, y2)]


def _colour(hue: float, saturation: float, value: float) -> Colour:
    red, green, blue = colorsys.hsv_to_rgb(hue % 1, saturation, min(1.0, value))
    return int(255 * red), int(255 * green), int(255 * blue)
