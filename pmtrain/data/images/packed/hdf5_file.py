"""Read HDF5 files (.h5) with h5py, an optional extra, chunk by chunk."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from pmtrain.data.images.packed.image_arrays import Array, ImageArrays
from pmtrain.data.images.packed.streams import Stream, StreamFile, damaged
from pmtrain.system.errors import PmtrainError

DEPTH = 2  # of groups in groups
LARGEST_CHUNK = 1 << 28  # bytes that HDF5 decompresses at once


def open_hdf5(path: str, stream: Stream | None = None) -> ImageArrays:
    """The arrays of an HDF5 file, those in groups as `group/array`; `stream` has its bytes if it is in an archive.

    Raises:
        PmtrainError: h5py isn't installed, the file is damaged, or an array refers to another file.
        OSError: it can't be opened.
    """
    try:
        import h5py
    except ImportError:
        raise PmtrainError(
            f"{path}: reading HDF5 files needs h5py, which isn't installed", 'pip install "pmtrain[hdf5]"'
        ) from None
    if stream is None:
        with open(path, "rb"):  # says why it can't be opened
            pass
    try:
        file = h5py.File(StreamFile(stream), "r") if stream else h5py.File(path, "r", locking=False)
        return ImageArrays(path, {key: _array(path, key, file) for key in _keys(file, h5py)})
    except PmtrainError:
        raise
    except Exception as error:  # HDF5 reports damage by exceptions of many kinds
        raise PmtrainError(
            f"{path}: is not a whole HDF5 file ({_one_line(error)})", "copy or download it again"
        ) from None


def _keys(group: Any, h5py: Any, depth: int = DEPTH) -> Iterator[str]:
    """The names of the arrays in a group and in those in it; links to other files or groups aren't followed."""
    for key in group:
        if isinstance(group.get(key, getlink=True), h5py.HardLink):
            if isinstance(group[key], h5py.Dataset):
                yield key
            elif depth and isinstance(group[key], h5py.Group):
                yield from (f"{key}/{below}" for below in _keys(group[key], h5py, depth - 1))


def _array(path: str, key: str, file: Any) -> Array:
    dataset = file[key]
    if dataset.external or dataset.is_virtual:
        raise PmtrainError(f"{path}: {key} refers to another file", "copy its values into this one")
    if dataset.chunks and math.prod(dataset.chunks) * dataset.dtype.itemsize > LARGEST_CHUNK:
        raise PmtrainError(
            f"{path}: {key} is stored in chunks of the shape {dataset.chunks}, too large to be read one by one",
            "store it in smaller chunks",
        )
    return _Dataset(dataset)


class _Dataset:
    def __init__(self, dataset: Any) -> None:
        self._dataset = dataset
        self.shape: tuple[int, ...] = dataset.shape or ()
        self.dtype: np.dtype = dataset.dtype

    def part(self, start: int, stop: int) -> np.ndarray:
        try:
            return self._dataset[start:stop]
        except Exception as error:  # as above
            raise damaged(f"damaged: HDF5 can't read it ({_one_line(error)})") from None


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
