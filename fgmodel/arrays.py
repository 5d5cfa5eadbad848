"""numpy's arrays from files that others may have written: what a header claims is checked before memory is asked for.

numpy's own reader believes a header of 10^12 elements, parses the header as Python, and unpacks whatever a small zip
unpacks to. This one reads what `numpy.save` writes of plain types, and nothing else.
"""

import lzma
import math
import re
import struct
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Literal

import numpy as np

LARGEST = 128 << 20      # bytes of a file's arrays: ten boxes and a name for each of 300,000 images
_HEADER = re.compile(
    rb"\{'descr': '([<>|][biufcSU]\d{1,9})', 'fortran_order': (True|False), "
    rb"'shape': \((|\d{1,18}(?:, \d{1,18})*,?)\), \} *\n"
)
_BROKEN = (   # what zipfile raises on damaged bytes, found by trying
    zipfile.BadZipFile, zlib.error, lzma.LZMAError, struct.error, EOFError, RuntimeError, TypeError, OverflowError,
)


def read_npy(path: Path, largest: int = LARGEST) -> np.ndarray:
    """Return the array of a npy file. Raises OSError; ValueError: where it is none, or not as its header says."""
    with _opened(path, largest) as file:
        return _array(file.read())


def read_npz(path: Path, largest: int = LARGEST) -> dict[str, np.ndarray]:
    """Return the arrays of a npz file by name. Raises OSError; ValueError: where it is none, or not as it says."""
    with _opened(path, largest) as file:
        try:
            with zipfile.ZipFile(file) as zipped:
                members = zipped.infolist()
                if sum(member.file_size for member in members) > largest:
                    raise ValueError(f"its arrays take more than {largest >> 20} MB")
                return {member.filename.removesuffix(".npy"): _array(zipped.read(member)) for member in members}
        except _BROKEN as error:
            raise ValueError(str(error)) from None


def _opened(path: Path, largest: int) -> IO[bytes]:
    if path.stat().st_size > largest:
        raise ValueError(f"it is larger than {largest >> 20} MB")
    return path.open("rb")


def map_npy(path: Path) -> np.memmap:
    """Return the array of a npy file without reading it. Raises OSError; ValueError: as `read_npy` does."""
    with path.open("rb") as file:
        header = _header(file.read(1 << 16), path.stat().st_size)
    return np.memmap(path, header.dtype, "r", header.start, header.shape, header.order)


@dataclass(frozen=True)
class _Header:
    dtype: np.dtype
    shape: tuple[int, ...]
    order: Literal["C", "F"]
    start: int   # of the content, in bytes


def _header(begins: bytes, size: int) -> _Header:
    """Return what the first bytes of a npy file of `size` bytes say of it, where that is what it holds."""
    if begins[:8] != b"\x93NUMPY\x01\x00":
        raise ValueError("it is no array as numpy.save writes them")
    start = 10 + int.from_bytes(begins[8:10], "little")
    said = _HEADER.fullmatch(begins[10:start])
    if said is None:
        raise ValueError("its header is none of a plain array")
    try:
        dtype = np.dtype(said[1].decode())
    except TypeError as error:
        raise ValueError(str(error)) from None
    shape = tuple(map(int, re.findall(rb"\d+", said[3])))
    claimed = math.prod(shape) * dtype.itemsize
    if claimed != size - start:
        raise ValueError(f"its header says {dtype} {shape}, {claimed} bytes, but {size - start} follow")
    return _Header(dtype, shape, "F" if said[2] == b"True" else "C", start)


def _array(content: bytes) -> np.ndarray:
    """Return the array of a npy file's content."""
    header = _header(content, len(content))
    if header.start == len(content):
        return np.empty(header.shape, header.dtype)
    return np.frombuffer(bytearray(content[header.start :]), header.dtype).reshape(header.shape, order=header.order)
