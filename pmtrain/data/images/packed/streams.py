"""Random access to bytes in a file, stored as they are or compressed by deflate (zip, gzip)."""

from __future__ import annotations

import bisect
import errno
import threading
import zlib
from typing import BinaryIO, NamedTuple, Protocol

RAW_DEFLATE, GZIP = -15, 31  # zlib's wbits
GZIP_SIGNATURE = b"\x1f\x8b"
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

    def read_at(self, position: int, count: int) -> bytes:
        """Up to `count` bytes from `position`; fewer only at the end.

        Raises:
            OSError: the file can't be read or is damaged.
        """
        ...


class Stored:
    """The bytes of a file from `start` on, `length` of them, or all."""

    def __init__(self, path: str, start: int = 0, length: int | None = None) -> None:
        self.path, self.start, self.length = path, start, length

    def read_at(self, position: int, count: int) -> bytes:
        if self.length is not None:
            count = max(0, min(count, self.length - position))
        with open(self.path, "rb") as file:  # a handle that stays open would keep the file from being replaced
            file.seek(self.start + position)
            return file.read(count)


class _State(NamedTuple):
    """A decompressor that has produced `position` bytes and goes on at `raw` in the file; None at the end."""

    position: int
    raw: int
    decompressor: zlib._Decompress | None


class Inflated:
    """The decompressed bytes of a deflate stream in a file, from `start` on, `length` compressed bytes, or all.

    A position is reached from the nearest copy of the decompressor before it. Copies are made on the first way through
    the stream; a copy takes 40 KB, and there are MOST_POINTS at most, so memory doesn't grow with the file.
    """

    def __init__(self, path: str, kind: int, start: int = 0, length: int | None = None) -> None:
        self.path, self.kind, self.start = path, kind, start
        self.end = None if length is None else start + length
        self.spacing = SPACING
        self._now = _State(0, start, zlib.decompressobj(kind))
        self._points = [_State(0, start, zlib.decompressobj(kind))]
        self._lock = threading.Lock()

    def read_at(self, position: int, count: int) -> bytes:
        pieces = []
        with self._lock, open(self.path, "rb") as file:
            self._start_before(position)
            while count > 0 and self._now.decompressor:
                skipping = position - self._now.position
                piece = self._step(file, min(skipping, STEP) if skipping > 0 else min(count, STEP))
                if skipping <= 0:
                    pieces.append(piece)
                    count -= len(piece)
        return b"".join(pieces)

    def _start_before(self, position: int) -> None:
        place = bisect.bisect_right(self._points, position, key=lambda point: point.position) - 1
        nearest = self._points[place]
        if not nearest.position <= self._now.position <= position:
            assert nearest.decompressor
            self._now = nearest._replace(decompressor=nearest.decompressor.copy())

    def _step(self, file: BinaryIO, most: int) -> bytes:
        """Produce up to `most` bytes."""
        position, raw, decompressor = self._now
        assert decompressor
        file.seek(raw)
        data = file.read(PIECE if self.end is None else min(PIECE, self.end - raw))
        try:
            produced = decompressor.decompress(data, most)
        except zlib.error as error:
            raise damaged(f"damaged: the compressed data are invalid ({error})") from None
        if not data and not produced and not decompressor.eof:
            raise damaged("truncated: the end of the compressed data is missing")
        raw += len(data) - len(decompressor.unconsumed_tail)
        position += len(produced)
        if position > FREE and position > MOST_GROWTH * (raw - self.start):
            raise damaged(f"decompresses to more than {MOST_GROWTH} times its size, which photographs don't")
        if decompressor.eof:
            raw -= len(decompressor.unused_data)
            self._now = _State(position, raw, self._following(file, raw))
        else:
            self._now = _State(position, raw, decompressor)
            if position >= self._points[-1].position + self.spacing:
                self._points.append(self._now._replace(decompressor=decompressor.copy()))
                if len(self._points) > MOST_POINTS:
                    self.spacing *= 2
                    del self._points[1::2]
        return produced

    def _following(self, file: BinaryIO, raw: int) -> zlib._Decompress | None:
        """A gzip file may consist of several streams, one behind the other."""
        if self.kind != GZIP:
            return None
        file.seek(raw)
        return zlib.decompressobj(GZIP) if file.read(2) == GZIP_SIGNATURE else None
