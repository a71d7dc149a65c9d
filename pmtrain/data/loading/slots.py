"""The files of the image cache: one file of equal slots for each kind of images, and an SQLite index of what is where.

Bytes are written to a slot before the index names it, and each image is compared with its checksum when it is read. So
a process that is killed, two that write at the same time, or a damaged file can lose images, which are then decoded
again, and never give wrong ones. Nothing is flushed to disk: after a power failure the same checksums decide.

Slots are read and not mapped: the system keeps what is read in memory for all processes together, while mapped pages
count as each process's own, and a mapped file that another process shortens kills its reader.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import time
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from pmtrain.data.images.file_table import is_settled

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

INVALID = (TypeError, ValueError, OverflowError)  # what the values of a damaged index, which may be any, lead to


class Place(NamedTuple):
    """Where an image is stored, and what identifies it."""

    kind: str
    slot: int
    digest: bytes  # SHA-256 of the image's file
    checksum: int
    bytes: int


class Look(NamedTuple):
    """A file as it was when its content was read, and where its image is stored, if the cache has it.

    `data` are the file's bytes where they were read for this.
    """

    path: Path
    state: str
    digest: bytes
    place: Place | None
    data: bytes | None = None


class KindContents(NamedTuple):
    """What a cache holds of one kind."""

    kind: str
    images: int
    bytes: int
    used: float  # seconds since 1970


def open_index(path: Path, patience: float) -> sqlite3.Connection:
    """The index, made where there is none; `patience`: seconds to wait for other processes.

    Raises:
        sqlite3.Error: it is damaged, or can't be opened.
    """
    db = sqlite3.connect(path, timeout=patience, isolation_level=None, check_same_thread=False)
    try:
        db.execute("PRAGMA synchronous = OFF")
        if db.execute("PRAGMA user_version").fetchone()[0] == 0:
            db.executescript(SCHEMA)
    except BaseException:
        db.close()
        raise
    return db


def slots_file(folder: Path, kind: str) -> Path:
    """The file of a kind's slots."""
    return folder / f"{kind}.bytes"


def sizes(folder: Path) -> dict[Path, int]:
    """The files of slots, each with its size in bytes."""
    found = {}
    for file in sorted(folder.glob("*.bytes")):
        with contextlib.suppress(FileNotFoundError):  # another process has just removed it
            found[file] = file.stat().st_size
    return found


def query(db: sqlite3.Connection, kind: str, condition: str, *values: object) -> Place | None:
    """The image that BY_CONTENT or BY_FILE finds."""
    row = db.execute(f"SELECT slot, digest, checksum, bytes {condition}", (kind, *values)).fetchone()
    return Place(kind, *row) if row else None


def load(folder: Path, place: Place) -> np.ndarray | None:
    """The bytes stored there, uint8 (N,); None where they are missing, damaged, or another image's."""
    try:
        pixels = np.fromfile(slots_file(folder, place.kind), np.uint8, place.bytes, offset=place.slot * place.bytes)
    except (OSError, MemoryError, *INVALID):
        return None
    whole = len(pixels) == place.bytes and checksum(place.kind, place.digest, pixels) == place.checksum
    return pixels if whole else None


def append(
    db: sqlite3.Connection, folder: Path, kind: str, images: Sequence[tuple[Look, np.ndarray]]
) -> dict[Path, Place]:
    """Store images of one kind behind those that are there, each content once; where the image of each file is."""
    places = {}
    size = images[0][1].nbytes if images else 0
    with open(slots_file(folder, kind), "ab"):
        pass  # it is there now
    with open(slots_file(folder, kind), "r+b") as slots:
        (slot,) = db.execute("SELECT COALESCE(MAX(slot) + 1, 0) FROM images WHERE kind = ?", (kind,)).fetchone()
        for look, pixels in images:
            place = query(db, kind, BY_CONTENT, look.digest)
            if place is None:
                place = Place(kind, slot, look.digest, checksum(kind, look.digest, pixels), size)
                slots.seek(slot * size)
                slots.write(np.ascontiguousarray(pixels).data)
                db.execute("INSERT INTO images VALUES (?, ?, ?, ?, ?, ?)", (*place, time.time()))
                slot += 1
            places[look.path] = place
            remember(db, look)
    return places


def evict(db: sqlite3.Connection, folder: Path, limit: int, unused_since: float | None) -> None:
    """Remove the least recently used images until the others take `limit` bytes, and close the gaps that they leave.

    An image that moves takes the slot of a removed one, so that none is lost if this is interrupted.

    Args:
        unused_since: seconds since 1970; images used later than that stay.
    """
    db.execute(
        "DELETE FROM images WHERE used < ? AND (kind, slot) IN (SELECT kind, slot FROM (SELECT kind, slot,"
        " SUM(bytes) OVER (ORDER BY used DESC, kind, slot) AS total FROM images) WHERE total > ?)",
        (time.time() + 1 if unused_since is None else unused_since, limit),
    )
    db.execute("DELETE FROM files WHERE digest NOT IN (SELECT digest FROM images)")
    for file in sizes(folder):
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


def remember(db: sqlite3.Connection, look: Look) -> None:
    """Have the file's image found by the file's state alone."""
    if is_settled(look.state):
        db.execute("REPLACE INTO files VALUES (?, ?, ?)", (path_key(look.path), look.state, look.digest))


def forget(db: sqlite3.Connection, place: Place) -> None:
    """Take an image out of the index."""
    db.execute("DELETE FROM images WHERE kind = ? AND slot = ? AND digest = ?", place[:3])


def path_key(path: Path) -> bytes:
    """How the index names a file."""
    return os.fsencode(os.path.abspath(path))


def checksum(kind: str, digest: bytes, pixels: np.ndarray) -> int:
    """CRC-32 of the bytes together with what they are the bytes of."""
    return zlib.crc32(np.ascontiguousarray(pixels).data, zlib.crc32(kind.encode() + digest))
