"""Training-size images kept on disk: one file of equal slots for each preprocessing, shared by all runs.

An image is known by the SHA-256 of its file, so that a moved, copied or touched file is found again and a changed one
never is. To read every file for that would cost what the cache is to save, so the hash is remembered with the file's
path, size, times (mtime, ctime) and inode, and computed anew when one of them differs. The limit of that: a change that
leaves all of them as they were goes unnoticed. On POSIX that takes a clock set back, since nobody can set ctime; on
Windows, where ctime is when the file was made, a change within its size whose mtime is put back is enough. A file that
changed less than SETTLED seconds before it was hashed isn't remembered: it may change again within the clock's tick.

An SQLite index says which image lies in which slot. Bytes are written before the index is told, under its write lock,
and each image is checked against its checksum when it is read. So a process killed at any moment, two that fill at
once, or a damaged file can lose images, which are decoded again, and never give wrong ones. Nothing is flushed to disk:
after a power cut the same checksums decide.

Slots are read and not mapped: the system keeps what is read in memory for all processes alike, while mapped pages count
as each process's own, and a mapped file that another process shortens kills its reader.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import sqlite3
import threading
import time
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
import platformdirs

from pmtrain.system import console

GIB = 2**30
SHARE, MOST = 0.2, 32 * GIB  # of the free disk, and in bytes: the limit where none is given
SETTLED = 2.0  # seconds: the coarsest file times (FAT)
PATIENCE = 10.0  # seconds to wait for another process's turn with the index
SLACK = 256 * 2**20  # bytes: how much is thrown out at once where the cache is full

SCHEMA = """
BEGIN IMMEDIATE;
CREATE TABLE IF NOT EXISTS images (
    kind TEXT, slot INTEGER, digest BLOB, checksum INTEGER, bytes INTEGER, used REAL, PRIMARY KEY (kind, slot)
) WITHOUT ROWID;
CREATE UNIQUE INDEX IF NOT EXISTS by_content ON images (kind, digest);
CREATE TABLE IF NOT EXISTS files (path BLOB PRIMARY KEY, state TEXT, digest BLOB) WITHOUT ROWID;
PRAGMA user_version = 1;
COMMIT;
"""
BY_CONTENT = "FROM images WHERE kind = ? AND digest = ?"
BY_FILE = "FROM images JOIN files USING (digest) WHERE kind = ? AND path = ? AND state = ?"

NONSENSE = (TypeError, ValueError, OverflowError)  # what a damaged index, which may say anything, leads to

Result = TypeVar("Result")


class Place(NamedTuple):
    """Where an image lies and how it is known again."""

    kind: str
    slot: int
    digest: bytes
    checksum: int
    bytes: int


class Look(NamedTuple):
    """A file as it was when its content was read, and where its image lies, if the cache has it."""

    path: Path
    state: str
    digest: bytes
    place: Place | None


class Content(NamedTuple):
    """What a cache holds of one kind."""

    kind: str
    images: int
    bytes: int
    used: float  # seconds since 1970


def cache_folder() -> Path:
    """PMTRAIN_CACHE, or else this system's folder for caches."""
    named = os.environ.get("PMTRAIN_CACHE")
    return Path(named) if named else platformdirs.user_cache_path("pmtrain", appauthor=False)


def open_cache(limit_gib: float | None = None) -> Cache | None:
    """The cache in `cache_folder()`; None where the limit is 0. Without a limit: `default_limit`."""
    if limit_gib == 0:
        return None
    folder = cache_folder()
    return Cache(folder, default_limit(folder) if limit_gib is None else int(limit_gib * GIB))


def default_limit(folder: Path) -> int:
    """A share of what is free on that disk, the cache's own files counted as free, and never more than MOST bytes."""
    there = folder.absolute()
    while not there.exists() and there != there.parent:
        there = there.parent
    try:
        free = shutil.disk_usage(there).free
    except OSError:
        return MOST  # a folder that can't be used: found out and said at the first use
    return min(MOST, int(SHARE * (free + sum(_sizes(folder).values()))))


def clean(limit_gib: float | None) -> str:
    """Shrink the cache in `cache_folder()`, where a limit is given, and tell what it holds then, a row a kind."""
    folder = cache_folder()
    cache = Cache(folder, MOST)
    if not folder.exists():
        return f"{folder}: no images"
    if limit_gib is not None:
        cache.shrink(int(limit_gib * GIB))
    contents = cache.contents()
    cache.close()
    rows = [("preprocessing", "images", "MiB", "last used")]
    for content in contents:
        used = time.strftime("%Y-%m-%d %H:%M", time.localtime(content.used))
        rows.append((content.kind, f"{content.images:,}", f"{content.bytes / 2**20:,.1f}", used))
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    lines = [f"{row[0]:{widths[0]}}  {row[1]:>{widths[1]}}  {row[2]:>{widths[2]}}  {row[3]}" for row in rows]
    images = sum(content.images for content in contents)
    return "\n".join([f"{folder}: {images:,} images, {cache.size() / 2**20:,.1f} MiB", *(lines if contents else ())])


class Cache:
    """The images in one folder. It raises nothing: what fails is said once and is then as if nothing were cached.

    Threads may share it. A `kind` of images is their preprocessing's `pixels_key`: all that their bytes depend on
    besides their file.

    Args:
        limit: bytes that the images may take; least recently used ones give way, but none that was used since this
            cache was opened.
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
        self._used: list[Place] = []  # not yet told to the index

    def find(self, path: Path, kind: str) -> Place | None:
        """Where the image lies, if the file is as it was when it was hashed; its content isn't read."""
        state = _state(path)
        return self._place(kind, BY_FILE, _key(path), state) if state else None

    def look(self, path: Path, kind: str) -> Look | None:
        """Read the file's content and find its image by it; None where the file can't be read or is being written."""
        state, digest = _state(path), _digest(path)
        if state is None or digest is None or state != _state(path):
            return None
        look = Look(path, state, digest, self._place(kind, BY_CONTENT, digest))
        if look.place:
            self._do(lambda db: _remember(db, look), None, writes=True)
        return look

    def read(self, place: Place) -> np.ndarray | None:
        """The image's bytes, uint8 (N,); None where they are no longer there or damaged."""
        pixels = self._load(place)
        if pixels is None:
            now = self._place(place.kind, BY_CONTENT, place.digest)
            if now and now != place:  # moved to close a gap
                pixels = self._load(now)
            if now and pixels is None:
                self._do(lambda db: _forget(db, now), None, writes=True)
        return pixels

    def store(self, kind: str, images: Sequence[tuple[Look, np.ndarray]]) -> list[Place | None]:
        """Keep images, uint8, all of one size; where each lies, None where it couldn't be kept."""
        none: list[Place | None] = [None] * len(images)
        # A file that changed since it was looked at may have been decoded after the change.
        kept = [(look, pixels) for look, pixels in images if _unchanged(look)]
        if not kept or self._full:
            return none

        def write(db: sqlite3.Connection) -> list[Place | None]:
            self._tell(db)
            size = kept[0][1].nbytes
            room = (self.limit - sum(_sizes(self.folder).values())) // size
            if room < len(kept):
                wanted = max(size * len(kept), min(SLACK, self.limit // 10))
                self._shrink(db, max(0, self.limit - wanted), self._opened)
                room = (self.limit - sum(_sizes(self.folder).values())) // size
                self._full = room < len(kept)
                del kept[max(room, 0) :]
            places = {}
            with open(self._slots(kind), "ab"):
                pass  # it is there now
            with open(self._slots(kind), "r+b") as slots:
                (slot,) = db.execute("SELECT COALESCE(MAX(slot) + 1, 0) FROM images WHERE kind = ?", (kind,)).fetchone()
                for look, pixels in kept:
                    place = _query(db, kind, BY_CONTENT, look.digest)
                    if place is None:
                        place = Place(kind, slot, look.digest, _checksum(kind, look.digest, pixels), size)
                        slots.seek(slot * size)
                        slots.write(np.ascontiguousarray(pixels).data)
                        db.execute("INSERT INTO images VALUES (?, ?, ?, ?, ?, ?)", (*place, time.time()))
                        slot += 1
                    places[look.path] = place
                    _remember(db, look)
            return [places.get(look.path) for look, _ in images]

        return self._do(write, none, writes=True)

    def shrink(self, limit: int) -> None:
        """Throw the least recently used images out until the others take `limit` bytes or less."""

        def throw_out(db: sqlite3.Connection) -> None:
            self._tell(db)
            self._shrink(db, to, None)

        held, before = sum(_sizes(self.folder).values()), None
        with console.progress((held - limit) // 2**20, "MiB", "throwing out images") as bar:
            while limit < held != before:
                # By and by, so that runs get their turns with the index; all at once where nothing has to move.
                to, before = max(limit, held - SLACK) if limit else 0, held
                self._do(throw_out, None, writes=True)
                held = sum(_sizes(self.folder).values())
                bar.update((before - held) // 2**20)

    def contents(self) -> list[Content]:
        """What is there, a row a kind, the last used first."""
        query = "SELECT kind, COUNT(*), SUM(bytes), MAX(used) AS last FROM images GROUP BY kind ORDER BY last DESC"
        return self._do(lambda db: [Content(*row) for row in db.execute(query)], [])

    def size(self) -> int:
        """Bytes of the cache's files."""
        index = self._index.stat().st_size if self._index.exists() else 0
        return index + sum(_sizes(self.folder).values())

    def close(self) -> None:
        """Write down what was used; the cache can be used again afterwards."""
        with self._lock:
            if self._used:
                self._do(self._tell, None, writes=True)
            if self._db:
                self._db.close()
            self._db = None

    def _slots(self, kind: str) -> Path:
        return self.folder / f"{kind}.bytes"

    def _load(self, place: Place) -> np.ndarray | None:
        try:
            pixels = np.fromfile(self._slots(place.kind), np.uint8, place.bytes, offset=place.slot * place.bytes)
        except (OSError, MemoryError, *NONSENSE):
            return None
        whole = len(pixels) == place.bytes and _checksum(place.kind, place.digest, pixels) == place.checksum
        return pixels if whole else None

    def _place(self, kind: str, condition: str, *values: object) -> Place | None:
        def look_up(db: sqlite3.Connection) -> Place | None:
            place = _query(db, kind, condition, *values)
            if place:
                self._used.append(place)
            return place

        return self._do(look_up, None)

    def _tell(self, db: sqlite3.Connection) -> None:
        """Tell the index what was used."""
        now = time.time()
        uses = [(now, place.kind, place.slot) for place in self._used]
        db.executemany("UPDATE images SET used = ? WHERE kind = ? AND slot = ?", uses)
        self._used.clear()

    def _shrink(self, db: sqlite3.Connection, limit: int, unused_since: float | None) -> None:
        """Forget the least recently used images and close the gaps that they leave.

        Images that move take the slots of forgotten ones, so that none is in danger if this is cut off.
        """
        db.execute(
            "DELETE FROM images WHERE used < ? AND (kind, slot) IN (SELECT kind, slot FROM (SELECT kind, slot,"
            " SUM(bytes) OVER (ORDER BY used DESC, kind, slot) AS total FROM images) WHERE total > ?)",
            (time.time() + 1 if unused_since is None else unused_since, limit),
        )
        db.execute("DELETE FROM files WHERE digest NOT IN (SELECT digest FROM images)")
        for file in _sizes(self.folder):
            rows = db.execute("SELECT slot, bytes FROM images WHERE kind = ? ORDER BY slot", (file.stem,)).fetchall()
            if not rows:
                with contextlib.suppress(OSError):  # on Windows, while another process reads it
                    file.unlink()
                continue
            taken = {slot for slot, _ in rows}
            free = [slot for slot in range(len(rows)) if slot not in taken]
            with open(file, "r+b") as slots:
                for (slot, size), to in zip([row for row in rows if row[0] >= len(rows)], free, strict=True):
                    slots.seek(slot * size)
                    pixels = slots.read(size)
                    slots.seek(to * size)
                    slots.write(pixels)
                    db.execute("UPDATE images SET slot = ? WHERE kind = ? AND slot = ?", (to, file.stem, slot))
                slots.truncate(len(rows) * rows[0][1])

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
            except (sqlite3.Error, OSError, *NONSENSE) as error:
                # SQLite tells a lack of room, permission or patience from damage by the class, but for lost tables.
                refused = isinstance(error, (sqlite3.OperationalError, OSError)) and "no such" not in str(error)
                if not refused:
                    self._warn(f"{self.folder}: the cache of decoded images is damaged ({error}) and begun anew")
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
            db = sqlite3.connect(self._index, timeout=PATIENCE, isolation_level=None, check_same_thread=False)
            try:
                db.execute("PRAGMA synchronous = OFF")
                if db.execute("PRAGMA user_version").fetchone()[0] == 0:
                    db.executescript(SCHEMA)
            except BaseException:
                db.close()
                raise
            self._db = db
        return self._db

    def _begin_anew(self) -> None:
        if self._db:
            self._db.close()
        self._db = None
        self._used.clear()
        self._readable = self._writable = not self._begun_anew  # twice: the disk is at fault
        self._begun_anew = True
        try:
            for file in (self._index, Path(f"{self._index}-journal"), *_sizes(self.folder)):
                file.unlink(missing_ok=True)
        except OSError:  # on Windows, while another process has it open
            self._readable = self._writable = False


def _sizes(folder: Path) -> dict[Path, int]:
    """The files of slots, each with its bytes."""
    sizes = {}
    for file in sorted(folder.glob("*.bytes")):
        with contextlib.suppress(FileNotFoundError):  # another process has just removed it
            sizes[file] = file.stat().st_size
    return sizes


def _reason(error: Exception) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or str(error)


def _key(path: Path) -> bytes:
    return os.fsencode(os.path.abspath(path))


def _state(path: Path) -> str | None:
    """What changes when a file does; None where there is none."""
    try:
        stat = os.stat(path)
    except OSError:
        return None
    return f"{stat.st_size} {stat.st_mtime_ns} {stat.st_ctime_ns} {stat.st_ino}"


def _settled(state: str) -> bool:
    """Whether another change can't have gone unnoticed within the clock's tick."""
    _, changed, status_changed, _ = map(int, state.split())
    return time.time() - max(changed, status_changed) / 1e9 > SETTLED


def _digest(path: Path) -> bytes | None:
    try:
        return hashlib.sha256(path.read_bytes()).digest()
    except OSError:
        return None


def _unchanged(look: Look) -> bool:
    return _state(look.path) == look.state and (_settled(look.state) or _digest(look.path) == look.digest)


def _query(db: sqlite3.Connection, kind: str, condition: str, *values: object) -> Place | None:
    row = db.execute(f"SELECT slot, digest, checksum, bytes {condition}", (kind, *values)).fetchone()
    return Place(kind, *row) if row else None


def _remember(db: sqlite3.Connection, look: Look) -> None:
    """Have the file found by its state alone."""
    if _settled(look.state):
        db.execute("REPLACE INTO files VALUES (?, ?, ?)", (_key(look.path), look.state, look.digest))


def _forget(db: sqlite3.Connection, place: Place) -> None:
    db.execute("DELETE FROM images WHERE kind = ? AND slot = ? AND digest = ?", place[:3])


def _checksum(kind: str, digest: bytes, pixels: np.ndarray) -> int:
    return zlib.crc32(np.ascontiguousarray(pixels).data, zlib.crc32(kind.encode() + digest))
