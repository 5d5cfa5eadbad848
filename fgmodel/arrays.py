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
from pathlib import Path
from typing import IO

import numpy as np

LARGEST = 128 << 20      # bytes of a file's arrays: the boxes and names of a million images
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


def _array(content: bytes) -> np.ndarray:
    """Return the array of a npy file's content."""
    if content[:8] != b"\x93NUMPY\x01\x00":
        raise ValueError("it is no array as numpy.save writes them")
    start = 10 + int.from_bytes(content[8:10], "little")
    header = _HEADER.fullmatch(content[10:start])
    if header is None:
        raise ValueError("its header is none of a plain array")
    try:
        dtype = np.dtype(header[1].decode())
    except TypeError as error:
        raise ValueError(str(error)) from None
    shape = tuple(map(int, re.findall(rb"\d+", header[3])))
    claimed = math.prod(shape) * dtype.itemsize
    if claimed != len(content) - start:
        raise ValueError(f"its header says {dtype} {shape}, {claimed} bytes, but {len(content) - start} follow")
    if not claimed:
        return np.empty(shape, dtype)
    return np.frombuffer(bytearray(content[start:]), dtype).reshape(shape, order="F" if header[2] == b"True" else "C")
