"""Random access to bytes in a file, stored as they are or compressed by deflate (zip, gzip), bzip2 or xz."""

from __future__ import annotations

import bisect
import bz2
import errno
import io
import lzma
import os
import tempfile
import threading
import weakref
import zlib
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, BinaryIO, NamedTuple, Protocol

RAW_DEFLATE, GZIP = -15, 31  # zlib's wbits
GZIP_SIGNATURE, BZIP2_SIGNATURE, XZ_SIGNATURE = b"\x1f\x8b", b"BZh", b"\xfd7zXZ\0"
LZMA_MEMORY = 1 << 28
PIECE = 1 << 14  # compressed bytes read at a time
STEP = 1 << 20  # bytes decompressed at a time when skipping
SPACING, MOST_POINTS = 1 << 20, 512
# Photographs hardly compress, so data that grow more than this, and to more than FREE bytes, are an attack.
MOST_GROWTH, FREE = 200, 4 << 30


def damaged(reason: str) -> OSError:
    """The error for bytes that can't be read; its `strerror` is the reason."""
    return OSError(errno.EIO, reason)


class Stream(Protocol):
    """Bytes that can be read from any position; thread-safe."""

    @property
    def length(self) -> int:
        """The number of bytes; -1 if it isn't known."""
        ...

    def read_at(self, position: int, count: int) -> bytes:
        """Up to `count` bytes from `position`; fewer only at the end.

        Raises:
            OSError: the file can't be read or is damaged.
        """
        ...

    def opened(self) -> AbstractContextManager[Stream]:
        """The same bytes, for many reads by one thread."""
        ...


class Stored:
    """The bytes of a file from `start` on, `length` of them, or all."""

    def __init__(self, path: str, start: int = 0, length: int | None = None) -> None:
        self.path, self.start = path, start
        self._length = length

    @property
    def length(self) -> int:
        return os.stat(self.path).st_size - self.start if self._length is None else self._length

    def read_at(self, position: int, count: int) -> bytes:
        with open(self.path, "rb") as file:  # a handle that stays open would keep the file from being replaced
            return self._read(file, position, count)

    def _read(self, file: BinaryIO, position: int, count: int) -> bytes:
        if self._length is not None:
            count = max(0, min(count, self._length - position))
        file.seek(self.start + position)
        return file.read(count)

    @contextmanager
    def opened(self) -> Iterator[Stream]:
        with open(self.path, "rb") as file:
            yield _Open(self, file)


class _Open:
    """As `stored`, from its open file."""

    def __init__(self, stored: Stored, file: BinaryIO) -> None:
        self._stored, self._file = stored, file

    @property
    def length(self) -> int:
        return self._stored.length

    def read_at(self, position: int, count: int) -> bytes:
        return self._stored._read(self._file, position, count)

    @contextmanager
    def opened(self) -> Iterator[Stream]:
        yield self


class Part:
    """The bytes of another stream from `start` on, `length` of them."""

    def __init__(self, whole: Stream, start: int, length: int) -> None:
        self._whole, self._start, self.length = whole, start, length

    def read_at(self, position: int, count: int) -> bytes:
        return self._whole.read_at(self._start + position, max(0, min(count, self.length - position)))

    @contextmanager
    def opened(self) -> Iterator[Stream]:
        with self._whole.opened() as whole:
            yield Part(whole, self._start, self.length)


def part_of(whole: Stream, start: int, length: int) -> Stream:
    """The bytes of a stream from `start` on, `length` of them."""
    if isinstance(whole, Stored):
        return Stored(whole.path, whole.start + start, length)
    return Part(whole, start, length)


class StreamFile(io.RawIOBase):
    """A stream as an open file, for libraries that read one. The stream's length must be known."""

    def __init__(self, stream: Stream) -> None:
        self._stream, self._position = stream, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._stream.length}[whence]
        self._position = max(0, start + offset)
        return self._position

    def readinto(self, buffer: Any) -> int:
        data = self._stream.read_at(self._position, len(buffer))
        buffer[: len(data)] = data
        self._position += len(data)
        return len(data)


class _State(NamedTuple):
    """A decompressor that has produced `position` bytes and goes on at `raw` in the file; None at the end."""

    position: int
    raw: int
    decompressor: zlib._Decompress | None


class Inflated:
    """The decompressed bytes of a deflate stream.

    A position is reached from the nearest copy of the decompressor before it. Copies are made on the first way through
    the stream; a copy takes 40 KB, and there are MOST_POINTS at most, so memory doesn't grow with the file.
    """

    def __init__(self, packed: Stream, kind: int, length: int = -1) -> None:
        """
        Args:
            packed: the compressed bytes.
            kind: RAW_DEFLATE or GZIP.
            length: of the decompressed bytes, if known.
        """
        self._packed, self.kind, self.length = packed, kind, length
        self.spacing = SPACING
        self._now = _State(0, 0, zlib.decompressobj(kind))
        self._points = [_State(0, 0, zlib.decompressobj(kind))]
        self._lock = threading.Lock()

    def read_at(self, position: int, count: int) -> bytes:
        pieces = []
        with self._lock, self._packed.opened() as packed:
            self._start_before(position)
            while count > 0 and self._now.decompressor:
                skipping = position - self._now.position
                piece = self._step(packed, min(skipping, STEP) if skipping > 0 else min(count, STEP))
                if skipping <= 0:
                    pieces.append(piece)
                    count -= len(piece)
        return b"".join(pieces)

    @contextmanager
    def opened(self) -> Iterator[Stream]:
        yield self

    def _start_before(self, position: int) -> None:
        place = bisect.bisect_right(self._points, position, key=lambda point: point.position) - 1
        nearest = self._points[place]
        if not nearest.position <= self._now.position <= position:
            assert nearest.decompressor
            self._now = nearest._replace(decompressor=nearest.decompressor.copy())

    def _step(self, packed: Stream, most: int) -> bytes:
        """Produce up to `most` bytes."""
        position, raw, decompressor = self._now
        assert decompressor
        data = packed.read_at(raw, PIECE)
        try:
            produced = decompressor.decompress(data, most)
        except zlib.error as error:
            raise damaged(f"damaged: the compressed data are invalid ({error})") from None
        if not data and not produced and not decompressor.eof:
            raise damaged("truncated: the end of the compressed data is missing")
        raw += len(data) - len(decompressor.unconsumed_tail)
        position += len(produced)
        check_growth(position, raw)
        if decompressor.eof:
            raw -= len(decompressor.unused_data)
            self._now = _State(position, raw, self._following(packed, raw))
        else:
            self._now = _State(position, raw, decompressor)
            if position >= self._points[-1].position + self.spacing:
                self._points.append(self._now._replace(decompressor=decompressor.copy()))
                if len(self._points) > MOST_POINTS:
                    self.spacing *= 2
                    del self._points[1::2]
        return produced

    def _following(self, packed: Stream, raw: int) -> zlib._Decompress | None:
        """A gzip file may consist of several streams, one behind the other."""
        if self.kind != GZIP:
            return None
        return zlib.decompressobj(GZIP) if packed.read_at(raw, 2) == GZIP_SIGNATURE else None


def check_growth(produced: int, used: int) -> None:
    """Raise an OSError if so many bytes from so few are an attack."""
    if produced > FREE and produced > MOST_GROWTH * used:
        raise damaged(f"decompresses to more than {MOST_GROWTH} times its size, which photographs don't")


def _pieces(packed: Stream) -> Iterator[tuple[bytes, int]]:
    """The decompressed bytes of bzip2 or xz streams, one behind the other, and the number of bytes used so far."""
    position = 0

    def more() -> bytes:
        nonlocal position
        data = packed.read_at(position, PIECE)
        position += len(data)
        return data

    data = more()
    is_bzip2 = data.startswith(BZIP2_SIGNATURE)
    while data.startswith((BZIP2_SIGNATURE, XZ_SIGNATURE)):
        unpacking = bz2.BZ2Decompressor() if is_bzip2 else lzma.LZMADecompressor(memlimit=LZMA_MEMORY)
        while not unpacking.eof:
            if not data and unpacking.needs_input and not (data := more()):
                raise EOFError("their end is missing")
            piece, data = unpacking.decompress(data, STEP), b""
            yield piece, position
        data = unpacking.unused_data.lstrip(b"\0") or more()


class Spooled:
    """The decompressed bytes of a bzip2 or xz stream, which can only be read from its beginning.

    They are written to a temporary file without a name, which is gone with the process.

    Raises:
        OSError: the stream is damaged, or there is no room for its bytes.
    """

    def __init__(self, packed: Stream) -> None:
        self._file = tempfile.TemporaryFile()
        weakref.finalize(self, self._file.close)
        self._lock = threading.Lock()
        self.length = 0
        with packed.opened() as source:
            try:
                for piece, used in _pieces(source):
                    self.length += len(piece)
                    check_growth(self.length, used)
                    self._file.write(piece)
            except (EOFError, ValueError, lzma.LZMAError) as error:
                raise damaged(f"the compressed data are damaged ({error})") from None
        self._file.flush()

    def read_at(self, position: int, count: int) -> bytes:
        if hasattr(os, "pread"):  # processes that share the file share its position
            return os.pread(self._file.fileno(), count, position)
        with self._lock:
            self._file.seek(position)
            return self._file.read(count)

    @contextmanager
    def opened(self) -> Iterator[Stream]:
        yield self
