"""One table per process of what is known about image files, so that each is read, hashed and counted once.

Each entry is stored with the state of the file (size, mtime, ctime, inode) and is valid only for that state: a file
that changes is read again. A change that leaves the state equal goes unnoticed. On POSIX this needs a clock that was
set back, because programs can't set ctime; on Windows, where ctime is the creation time, a change with equal size and
restored mtime is enough. A file that changed less than SETTLED seconds before it was read is not remembered, because it
may change again within one tick of the clock.
"""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from pmtrain.data.images import source

SETTLED = 2.0  # seconds: the coarsest file times (FAT)
LOCKS = 64  # the most files read at the same time


class FileContent(NamedTuple):
    """A file's bytes, its state, and the SHA-256 of its bytes (32 bytes)."""

    data: bytes
    state: str
    digest: bytes


class FileTable:
    """State and SHA-256 of image files by path; thread-safe.

    Memory: about 250 bytes per file, plus its path.
    """

    def __init__(self) -> None:
        self._digests: dict[str, bytes] = {}  # by path: the state, then the 32 bytes of the digest
        self._pictures: dict[str, tuple[str, int]] = {}
        # A thread that needs a file another thread is reading waits for it.
        self._locks = [threading.Lock() for _ in range(LOCKS)]

    def known(self, path: Path, state: str) -> bytes | None:
        """The SHA-256 of the file in this state if it is known, else None."""
        entry = self._digests.get(str(path))
        return entry[-32:] if entry is not None and entry[:-32] == state.encode() else None

    def learn(self, path: Path, state: str, digest: bytes) -> None:
        """Remember the SHA-256 of a file in this state, unless the file changed just now."""
        if is_settled(state):
            self._digests[str(path)] = state.encode() + digest

    def digest(self, path: Path) -> tuple[int, bytes]:
        """The file's size in bytes and SHA-256; the file is read only if they aren't known.

        Raises:
            OSError: it can't be read.
        """
        with self._lock_of(path):
            state = source.state(path)
            digest = self.known(path, state)
            if digest is None:
                hashed = hashlib.sha256()
                for chunk in source.chunks(path):
                    hashed.update(chunk)
                digest = hashed.digest()
                if source.state(path) == state:
                    self.learn(path, state, digest)
        return int(state.split()[0]), digest

    def read(self, path: Path) -> FileContent | None:
        """The file's bytes and their SHA-256; None if the file changes while it is read.

        Raises:
            OSError: it can't be read.
        """
        with self._lock_of(path):
            state = source.state(path)
            data = source.read(path)
            if source.state(path) != state:
                return None
            digest = self.known(path, state)
            if digest is None:
                digest = hashlib.sha256(data).digest()
                self.learn(path, state, digest)
        return FileContent(data, state, digest)

    def pictures(self, path: Path, count: Callable[[Path], int]) -> int:
        """The number of images in the file, from `count`; 1 if the file doesn't exist."""
        try:
            state = source.state(path)
        except OSError:
            return 1
        with self._lock_of(path):
            entry = self._pictures.get(str(path))
            if entry is None or entry[0] != state:
                entry = (state, count(path))
                if is_settled(state):
                    self._pictures[str(path)] = entry
        return entry[1]

    def clear(self) -> None:
        """Clear the table."""
        self._digests.clear()
        self._pictures.clear()

    def _lock_of(self, path: Path) -> threading.Lock:
        return self._locks[hash(path) % LOCKS]


FILES = FileTable()


def is_settled(state: str) -> bool:
    """Whether the last change is old enough that another change would have changed the times."""
    _, changed, status_changed, _ = map(int, state.split())
    return time.time() - max(changed, status_changed) / 1e9 > SETTLED
