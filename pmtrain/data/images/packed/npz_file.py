"""Read NumPy's .npz files without loading their arrays, and without unpickling anything."""

from __future__ import annotations

import functools
import io
import math
import tokenize
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import PurePath

import numpy as np
from numpy.lib import format as npy

from pmtrain.data.images.packed.image_arrays import Array, ImageArrays
from pmtrain.data.images.packed.streams import Stored, Stream, damaged
from pmtrain.data.images.packed.zip_archive import ZipArchive
from pmtrain.system.errors import PmtrainError

SUFFIX = ".npy"
BAD_HEADER = (ValueError, SyntaxError, TypeError, OverflowError, tokenize.TokenError)  # what NumPy raises of one
OBJECTS = "consists of Python objects, which aren't loaded, because that could run a program"
BY_COLUMNS = "is stored by columns (Fortran order)"
WAY_OUT = "copy or download the file again"
HINTS = {
    OBJECTS: "save labels as text, np.array(labels, dtype=str), and images of one size as uint8, np.stack(images)",
    BY_COLUMNS: "save it by rows: np.ascontiguousarray",
}
LARGEST_HEADER = 10_000  # bytes; NumPy's own limit
LARGEST_ARRAY = 1 << 44  # bytes; arrays are read in parts, so that only a false size has more


def open_npz(path: str, stream: Stream | None = None) -> ImageArrays:
    """The arrays of an .npz file; `stream` has its bytes if it is in an archive.

    Raises:
        PmtrainError: it is damaged, or has an array of Python objects.
        OSError: it can't be opened.
    """
    archive = ZipArchive(path, stream, LARGEST_ARRAY)
    arrays: dict[str, Array] = {}
    for name in archive.members:
        if name.endswith(SUFFIX):
            key = name.removesuffix(SUFFIX)
            arrays[key] = _checked(path, key, functools.partial(archive.stream, name), archive.size(name))
    return ImageArrays(path, arrays)


def open_npy(path: str, stream: Stream | None = None) -> ImageArrays:
    """The only array of an .npy file, by the file's name; raises as `open_npz`."""
    whole = stream or Stored(path)
    name = PurePath(path).stem
    return ImageArrays(path, {name: _checked(path, name, lambda: whole, whole.length)})


def _checked(path: str, name: str, stream: Callable[[], Stream], size: int) -> Array:
    try:
        return _array(stream(), size)
    except (OSError, MemoryError, RecursionError, *BAD_HEADER) as error:
        reason = (error.strerror if isinstance(error, OSError) else None) or error
        raise PmtrainError(f"{path}: {name}: {reason}", HINTS.get(str(reason), WAY_OUT)) from None


def _array(stream: Stream, size: int) -> _Array:
    head = io.BytesIO(stream.read_at(0, LARGEST_HEADER + 16))
    version = npy.read_magic(head)
    read_header = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
    shape, by_columns, dtype = read_header(head)
    if dtype.hasobject:
        raise ValueError(OBJECTS)
    if by_columns and len(shape) > 1:
        raise ValueError(BY_COLUMNS)
    if head.tell() + math.prod(shape) * dtype.itemsize != size:
        raise ValueError(f"has {size:,} bytes, which don't fit its shape {shape}")
    return _Array(stream, head.tell(), shape, dtype)


@dataclass(frozen=True)
class _Array:
    stream: Stream
    start: int  # of its values
    shape: tuple[int, ...]
    dtype: np.dtype

    def part(self, start: int, stop: int) -> np.ndarray:
        shape = (stop - start, *self.shape[1:])
        row = math.prod(self.shape[1:]) * self.dtype.itemsize
        data = self.stream.read_at(self.start + start * row, shape[0] * row)
        if len(data) < shape[0] * row:
            raise damaged("truncated: the end of the array is missing")
        return np.frombuffer(data, self.dtype).reshape(shape)
