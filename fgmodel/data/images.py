"""An image file as RGB, or the reason why it is none."""

import struct
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image, UnidentifiedImageError

EXTENSIONS = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")  # torchvision's ImageFolder's
SMALLEST = 8             # pixels a side; less is a placeholder, not a picture
LARGEST = 89_478_485     # pixels in all: Pillow's own limit against decompression bombs


class NotAnImage(Exception):
    """The file cannot be used; the message says why, without its name."""


def is_image_name(path: Path) -> bool:
    """Tell whether torchvision's ImageFolder would take the file for an image."""
    return path.suffix.lower() in EXTENSIONS


def read_rgb(file: Path | BinaryIO) -> Image.Image:
    """Return the decoded image in RGB: transparency over white, 16 bits scaled to 8, every other mode converted.

    The orientation in EXIF is left alone: boxes refer to the pixels as stored.
    Raises NotAnImage: for a file that is unreadable, truncated, no image, tiny, or would unpack to far too much.
    """
    try:
        with Image.open(file) as image:
            _require_size(image)
            image.load()
            return _rgb(image)
    except PermissionError:
        raise NotAnImage("may not be read; check its permissions") from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise NotAnImage(f"claims more than {LARGEST:,} pixels") from None
    except UnidentifiedImageError:
        raise NotAnImage("is not an image") from None
    except (OSError, ValueError, SyntaxError, EOFError, struct.error) as error:   # what Pillow's decoders raise
        raise NotAnImage(f"cannot be decoded: {' '.join(str(error).split())}") from None


def _require_size(image: Image.Image) -> None:
    if image.width * image.height > LARGEST:
        raise NotAnImage(f"claims {image.width}x{image.height} pixels")
    if min(image.size) < SMALLEST:
        raise NotAnImage(f"is {image.width}x{image.height} pixels; at least {SMALLEST}x{SMALLEST} are needed")


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):
        return _from_16_bits(image).convert("RGB")
    if image.mode == "F":
        raise NotAnImage("holds floating-point pixels, whose range is not known")
    if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        layer = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), layer).convert("RGB")
    return image.convert("RGB")


def _from_16_bits(image: Image.Image) -> Image.Image:
    """Keep the high byte: Pillow's own conversion clips everything above 255 to white."""
    values = np.asarray(image).astype(np.int64)
    if values.min() < 0 or values.max() > 0xFFFF:
        raise NotAnImage("holds 32-bit pixels, whose range is not known")
    return Image.fromarray((values >> 8).astype(np.uint8))
