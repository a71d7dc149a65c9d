"""Training-size images kept on disk and shared by all runs.

An image is identified by the SHA-256 of its file, so that a moved, copied or touched file is found again and a changed
file never is. Reading every file for its hash would cost what the cache saves, so the hash is remembered together with
the file's path and state, and computed again when the state differs: see `pmtrain.data.images.file_table`, which also
says what can go unnoticed. How the files are written and read: `slots`.
"""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np

from pmtrain.data.images import source
from pmtrain.data.images.file_table import FILES, is_settled
from pmtrain.data.loading import slots
from pmtrain.data.loading.slots import BY_CONTENT, BY_FILE, INVALID, KindContents, Look, Place
from pmtrain.system import console

PATIENCE = 10.0  # seconds to wait for another process to finish with the index
SLACK = 256 * 2**20  # bytes: how much is removed at once when the cache is full

Result = TypeVar("Result")


class Cache:
    """The images in one folder. It raises nothing: a failure is one warning, after which nothing is cached.

    Threads may share it. A `kind` names everything besides the file that the bytes depend on, such as
    `Preprocess.pixels_key`; all images of one kind have the same size in bytes.

    Args:
        limit: bytes that the images may take; the least recently used ones are removed first, but none that was used
            since this cache was opened.
    """

    def __init__(self, folder: Path, limit: int, warn: Callable[[str], None] = console.warn) -> None:
        self.folder = folder
        self.limit = limit
        self._warn = warn
        self._index = folder / "index.sqlite"
        self._lock = threading.RLock()  # over all below
        self._db: sqlite3.Connection | None = None
        self._opened = time.time()
        self._readable = self._writable = True
        self._full = self._begun_anew = False
        self._used: list[Place] = []  # not yet written to the index

    def find(self, path: Path, kind: str) -> Place | None:
        """Where the image is, if the file is as it was when it was hashed; the file isn't read."""
        try:
            state = source.state(path)
        except OSError:
            return None
        place = self._place(kind, BY_FILE, slots.path_key(path), state)
        if place:
            FILES.learn(path, state, place.digest)
        return place

    def look(self, path: Path, kind: str) -> Look | None:
        """Find the image by the file's content, which is read unless its hash is known already.

        Returns: None where the file can't be read or is being written.
        """
        try:
            state = source.state(path)
            data, digest = None, FILES.known(path, state)
            if digest is None:
                if (content := FILES.read(path)) is None:
                    return None
                data, state, digest = content
        except OSError:
            return None
        look = Look(path, state, digest, self._place(kind, BY_CONTENT, digest), data)
        if look.place:
            self._do(lambda db: slots.remember(db, look), None, writes=True)
        return look

    def read(self, place: Place) -> np.ndarray | None:
        """The image's bytes, uint8 (N,); None where they are no longer there or damaged."""
        pixels = slots.load(self.folder, place)
        if pixels is None:
            now = self._place(place.kind, BY_CONTENT, place.digest)
            if now and now != place:  # moved to close a gap
                pixels = slots.load(self.folder, now)
            if now and pixels is None:
                self._do(lambda db: slots.forget(db, now), None, writes=True)
        return pixels

    def store(self, kind: str, images: Sequence[tuple[Look, np.ndarray]]) -> list[Place | None]:
        """Keep images, all of one size in bytes; where each is, None where it couldn't be kept."""
        none: list[Place | None] = [None] * len(images)
        # A file that changed since it was looked at may have been decoded after the change.
        kept = [(look, pixels) for look, pixels in images if _unchanged(look)]
        if not kept or self._full:
            return none

        def write(db: sqlite3.Connection) -> list[Place | None]:
            self._write_uses(db)
            size = kept[0][1].nbytes
            room = (self.limit - self._held()) // size
            if room < len(kept):
                wanted = max(size * len(kept), min(SLACK, self.limit // 10))
                slots.evict(db, self.folder, max(0, self.limit - wanted), self._opened)
                room = (self.limit - self._held()) // size
                self._full = room < len(kept)
                del kept[max(room, 0) :]
            places = slots.append(db, self.folder, kind, kept)
            return [places.get(look.path) for look, _ in images]

        return self._do(write, none, writes=True)

    def shrink(self, limit: int) -> None:
        """Remove the least recently used images until the others take `limit` bytes or less."""

        def remove(db: sqlite3.Connection) -> None:
            self._write_uses(db)
            slots.evict(db, self.folder, to, None)

        held, before = self._held(), None
        with console.progress((held - limit) // 2**20, "MiB", "removing images") as bar:
            while limit < held != before:
                # In steps, so that runs can use the index in between; all at once where nothing has to move.
                to, before = max(limit, held - SLACK) if limit else 0, held
                self._do(remove, None, writes=True)
                held = self._held()
                bar.update((before - held) // 2**20)

    def contents(self) -> list[KindContents]:
        """What is there, a row for each kind, the most recently used first."""
        query = "SELECT kind, COUNT(*), SUM(bytes), MAX(used) AS last FROM images GROUP BY kind ORDER BY last DESC"
        return self._do(lambda db: [KindContents(*row) for row in db.execute(query)], [])

    def size(self) -> int:
        """Bytes of the cache's files."""
        index = self._index.stat().st_size if self._index.exists() else 0
        return index + self._held()

    def close(self) -> None:
        """Write down which images were used; the cache can be used again afterwards."""
        with self._lock:
            if self._used:
                self._do(self._write_uses, None, writes=True)
            if self._db:
                self._db.close()
            self._db = None

    def _held(self) -> int:
        return sum(slots.sizes(self.folder).values())

    def _place(self, kind: str, condition: str, *values: object) -> Place | None:
        def look_up(db: sqlite3.Connection) -> Place | None:
            place = slots.query(db, kind, condition, *values)
            if place:
                self._used.append(place)
            return place

        return self._do(look_up, None)

    def _write_uses(self, db: sqlite3.Connection) -> None:
        now = time.time()
        uses = [(now, place.kind, place.slot) for place in self._used]
        db.executemany("UPDATE images SET used = ? WHERE kind = ? AND slot = ?", uses)
        self._used.clear()

    def _do(self, action: Callable[[sqlite3.Connection], Result], failed: Result, writes: bool = False) -> Result:
        """The action's result, in a transaction where it writes; `failed` where the cache can't be used."""
        with self._lock:
            if not (self._writable if writes else self._readable):
                return failed
            try:
                db = self._open()
                if not writes or db.in_transaction:
                    return action(db)
                db.execute("BEGIN IMMEDIATE")
                try:
                    result = action(db)
                    db.execute("COMMIT")
                    return result
                finally:
                    if db.in_transaction:
                        db.execute("ROLLBACK")
            except (sqlite3.Error, OSError, *INVALID) as error:
                # SQLite tells a lack of room, permission or patience from damage by the class, but for lost tables.
                refused = isinstance(error, (sqlite3.OperationalError, OSError)) and "no such" not in str(error)
                if not refused:
                    self._warn(f"{self.folder}: the cache of decoded images is damaged ({error}) and is started again")
                    self._begin_anew()
                    return failed
                self._writable = False
                self._readable = bool(writes and self._db)
                what = "written" if self._readable else "used"
                self._warn(f"{self.folder}: the cache of decoded images can't be {what}: {_reason(error)}")
            return failed

    def _open(self) -> sqlite3.Connection:
        if self._db is None:
            # Photographs of patients: a folder made here is the user's alone.
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._db = slots.open_index(self._index, PATIENCE)
        return self._db

    def _begin_anew(self) -> None:
        if self._db:
            self._db.close()
        self._db = None
        self._used.clear()
        self._readable = self._writable = not self._begun_anew  # twice: the disk is at fault
        self._begun_anew = True
        try:
            for file in (self._index, Path(f"{self._index}-journal"), *slots.sizes(self.folder)):
                file.unlink(missing_ok=True)
        except OSError:  # on Windows, while another process has it open
            self._readable = self._writable = False


def _reason(error: Exception) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or str(error)


def _unchanged(look: Look) -> bool:
    try:
        if source.state(look.path) != look.state:
            return False
        return is_settled(look.state) or FILES.digest(look.path)[1] == look.digest
    except OSError:
        return False
