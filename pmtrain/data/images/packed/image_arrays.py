"""Arrays of images, each image as the bytes of a Netpbm file (PGM or PPM): its values behind a header of one line.

So an image of an array is hashed, compared, cached and decoded like any file.
Source of the format: https://netpbm.sourceforge.net/doc/ppm.html
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import Protocol

import numpy as np

from pmtrain.system.errors import PmtrainError

MOST_BYTES = 1 << 28  # of an array that is read as a whole, such as labels


class Array(Protocol):
    """An array in a file."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    @property
    def dtype(self) -> np.dtype: ...

    def part(self, start: int, stop: int) -> np.ndarray:
        """The values [start:stop]; OSError if they can't be read."""
        ...


class ImageArrays:
    """The arrays of a file by name. Members are the images of those arrays that have images: `train_images/17`.

    Attributes:
        arrays: all of them.
        reasons: why an array has no images, for those that look as if they had.
    """

    folders: Iterable[str] = ()

    def __init__(self, path: str, arrays: dict[str, Array]) -> None:
        self.path, self.arrays = path, arrays
        self.reasons: dict[str, str] = {}
        self._headers: dict[str, bytes] = {}
        for key, array in arrays.items():
            if len(array.shape) >= 3 and math.prod(array.shape[1:]) > 1:
                try:
                    self._headers[key] = netpbm_header(array.shape[1:], array.dtype)
                except ValueError as error:
                    self.reasons[key] = str(error)

    @property
    def members(self) -> Iterator[str]:
        for key in self._headers:
            yield from (f"{key}/{index}" for index in range(self.arrays[key].shape[0]))

    def has_images(self, key: str) -> bool:
        """Whether the array of that name has images."""
        return key in self._headers

    def size(self, name: str) -> int:
        """Bytes that `read` gives; KeyError if there is no such image."""
        key, _ = self._place(name)
        array = self.arrays[key]
        return len(self._headers[key]) + math.prod(array.shape[1:]) * array.dtype.itemsize

    def read(self, name: str) -> bytes:
        """An image as a Netpbm file.

        Raises:
            KeyError: there is no such image.
            OSError: it is damaged.
        """
        key, index = self._place(name)
        values = self.arrays[key].part(index, index + 1)
        return self._headers[key] + values.astype(values.dtype.newbyteorder(">"), copy=False).tobytes()

    def values(self, key: str) -> np.ndarray:
        """A whole array that isn't large.

        Raises:
            PmtrainError: it is a single value, large, or damaged.
        """
        array = self.arrays[key]
        if not array.shape:
            raise PmtrainError(f"{self.path}: {key} is a single value, not an array with one for each image")
        if math.prod(array.shape) * array.dtype.itemsize > MOST_BYTES:
            raise PmtrainError(f"{self.path}: {key} has the shape {array.shape}, too large for labels")
        try:
            return array.part(0, array.shape[0])
        except OSError as error:
            raise PmtrainError(f"{self.path}: {key}: {error.strerror}", "copy or download the file again") from None

    def _place(self, name: str) -> tuple[str, int]:
        key, _, text = name.rpartition("/")
        if key in self._headers and text.isdecimal() and text.isascii():
            index = int(text[:20])
            if index < self.arrays[key].shape[0] and str(index) == text:
                return key, index
        raise KeyError(name)


def netpbm_header(shape: tuple[int, ...], dtype: np.dtype) -> bytes:
    """The header for one image of this shape, (H, W), (H, W, 1) or (H, W, 3) in RGB order.

    Raises:
        ValueError: it is not an image of unsigned integers; the message gives the shape or type.
    """
    if dtype not in (np.uint8, np.uint16):
        raise ValueError(f"its values are of type {dtype}, not uint8 or uint16")
    if len(shape) not in (2, 3) or (len(shape) == 3 and shape[2] not in (1, 3)) or not all(shape):
        raise ValueError(f"its images have the shape {shape}, not (H, W) or (H, W, 3)")
    kind = "P6" if shape[2:] == (3,) else "P5"
    return f"{kind}\n{shape[1]} {shape[0]}\n{255 if dtype == np.uint8 else 65535}\n".encode()
