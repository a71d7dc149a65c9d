"""Read Parquet files with a column of images, as the Hugging Face hub has them, with pyarrow, an optional extra."""

from __future__ import annotations

import bisect
import itertools
import threading
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from pmtrain.data.images.packed.streams import Stream, StreamFile, damaged
from pmtrain.system.errors import PmtrainError

IMAGE_NAMES = ("image", "img", "images", "picture", "photo")  # of a column, the likeliest first
LARGEST_GROUP = 1 << 29  # bytes of images in a row group, which is read as a whole
KEPT = 1 << 28  # bytes of row groups kept in memory, of all files together
ROWS = 16  # read at once


class ParquetFile:
    """A Parquet file; its members are the images of its rows, `0`, `1`, ...

    Args:
        stream: its bytes if it is in an archive.
    Raises:
        PmtrainError: pyarrow isn't installed, the file is damaged, has no such column, or too large row groups.
        OSError: it can't be opened.
    """

    folders: Iterable[str] = ()

    def __init__(self, path: str, stream: Stream | None = None) -> None:
        self.path, self._stream = path, stream
        if stream is None:
            with open(path, "rb"):  # says why it can't be opened
                pass
        self.schema, metadata = self._schema()
        self.rows: int = metadata.num_rows
        self.column = self._column()
        self._leaf = f"{self.column}.bytes" if self._is_struct(self.column) else self.column
        counts = []
        for group in map(metadata.row_group, range(metadata.num_row_groups)):
            counts.append(group.num_rows)
            size = group.total_byte_size  # of all columns: asked for that of a damaged one, pyarrow ends the process
            if size > LARGEST_GROUP:
                raise PmtrainError(
                    f"{path}: has {size / 2**20:,.0f} MiB in one row group, which is read as a whole;"
                    f" at most {LARGEST_GROUP >> 20}",
                    "write it again with row_group_size=100",
                )
        self._starts = [0, *itertools.accumulate(counts)]
        self._sizes: dict[int, np.ndarray] = {}  # by row group: bytes of each image, -1 where there is none

    @property
    def members(self) -> Iterator[str]:
        return map(str, range(self.rows))

    def size(self, name: str) -> int:
        """Bytes of an image; KeyError if there is no such row. The row group is read for it, once.

        Raises:
            OSError: it is damaged.
        """
        group, place = self._place(name)
        if group not in self._sizes:
            self._group(group)
        return max(0, int(self._sizes[group][place]))

    def read(self, name: str) -> bytes:
        """The file in a row; KeyError if there is no such row, OSError if it is damaged or empty."""
        group, place = self._place(name)
        batches = self._group(group)
        if self._sizes[group][place] < 0:
            raise damaged("the row has no image bytes")
        batch, row = divmod(place, ROWS)
        return batches[batch][row].as_py()

    def values(self, columns: Sequence[str]) -> dict[str, list[Any]]:
        """The values of columns without images.

        Raises:
            PmtrainError: they can't be read.
        """
        try:
            with self._open() as file:
                return file.read(columns=list(columns)).to_pydict()
        except Exception as error:
            raise self._damaged(error) from None

    def _place(self, name: str) -> tuple[int, int]:
        """The row group of a row, and its place in it."""
        row = int(name[:20]) if name.isdecimal() and name.isascii() else -1
        if not 0 <= row < self.rows or str(row) != name:
            raise KeyError(name)
        group = bisect.bisect_right(self._starts, row) - 1
        return group, row - self._starts[group]

    def _group(self, group: int) -> list[Any]:
        """The images of a row group, in arrays of ROWS."""
        with _lock:
            if (self, group) in _kept:
                _kept.move_to_end((self, group))
                return _kept[self, group][0]
        try:
            batches, size = self._read_group(group)
        except Exception as error:  # of many kinds
            if isinstance(error, OSError) and error.strerror:
                raise
            raise damaged(f"damaged: pyarrow can't read it ({_one_line(error)})") from None
        lengths = [_lengths(batch) for batch in batches]
        self._sizes[group] = np.concatenate(lengths) if lengths else np.empty(0, np.int64)
        with _lock:
            _kept[self, group] = batches, size
            while len(_kept) > 1 and sum(size for _, size in _kept.values()) > KEPT:
                _kept.popitem(last=False)
        return batches

    def _read_group(self, group: int) -> tuple[list[Any], int]:
        found, size = [], 0
        expected = self._starts[group + 1] - self._starts[group]
        with self._open() as file:
            for batch in file.iter_batches(ROWS, row_groups=[group], columns=[self._leaf], use_threads=False):
                column = batch.column(0)
                column = column.field("bytes") if self._leaf != self.column else column
                size += column.nbytes
                if size > 2 * LARGEST_GROUP:
                    raise damaged("damaged: a row group is larger than it states")
                found.append(column)
        if sum(map(len, found)) != expected or any(len(column) != ROWS for column in found[:-1]):
            raise damaged("damaged: a row group has other rows than it states")
        return found, size

    def _schema(self) -> tuple[Any, Any]:
        try:
            import pyarrow.parquet  # noqa: F401
        except ImportError:
            raise PmtrainError(
                f"{self.path}: reading Parquet files needs pyarrow, which isn't installed",
                'pip install "pmtrain[parquet]"',
            ) from None
        try:
            with self._open() as file:
                return file.schema_arrow, file.metadata
        except Exception as error:
            raise self._damaged(error) from None

    def _open(self) -> Any:
        import pyarrow.parquet

        file = pyarrow.PythonFile(StreamFile(self._stream), "r") if self._stream else self.path
        return pyarrow.parquet.ParquetFile(file, memory_map=False)

    def _is_struct(self, name: str) -> bool:
        kind = self.schema.field(name).type
        return _is_named(kind, "struct") and any(_is_bytes(field.type) for field in kind if field.name == "bytes")

    def _column(self) -> str:
        names = [name for name in self.schema.names if self._is_struct(name)]
        names = names or [name for name in self.schema.names if _is_bytes(self.schema.field(name).type)]
        if not names:
            raise PmtrainError(
                f"{self.path}: has no column of image bytes; its columns are {', '.join(self.schema.names)}",
                "images are read from a struct `image` with a field `bytes`, as the Hugging Face hub has it",
            )
        return min(names, key=lambda name: IMAGE_NAMES.index(name) if name in IMAGE_NAMES else len(IMAGE_NAMES))

    def _damaged(self, error: Exception) -> PmtrainError:
        return PmtrainError(
            f"{self.path}: is not a whole Parquet file ({_one_line(error)})", "copy or download it again"
        )


# (file, row group) -> its images and their bytes, the most recently used last.
_kept: OrderedDict[tuple[ParquetFile, int], tuple[list[Any], int]] = OrderedDict()
_lock = threading.Lock()


def _is_named(kind: Any, name: str) -> bool:
    return str(kind).startswith(name)


def _is_bytes(kind: Any) -> bool:
    return str(kind) in ("binary", "large_binary")


def _lengths(batch: Any) -> np.ndarray:
    import pyarrow.compute

    return pyarrow.compute.fill_null(pyarrow.compute.binary_length(batch), -1).to_numpy(zero_copy_only=False)


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
