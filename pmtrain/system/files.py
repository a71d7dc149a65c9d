"""Files that are either whole or untouched, whatever moment the process is killed or the disk fills."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import time
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from pmtrain.system.errors import PmtrainError

MAX_FILE_BYTES = 2 << 30  # of a file that is read whole; a ResNet-152 with its optimizer state has 240 MB


def write_atomic(path: Path, data: bytes | str) -> None:
    """Replace the file's content so that, whatever happens, either the old or the new content is there, whole.

    The new content is written to `<name>.tmp` beside it and flushed to disk before it takes the name. A temporary
    that a killed process left behind is overwritten by the next write.

    Raises:
        PmtrainError: the file can't be written; the old content stays and no temporary is left.
    """
    temporary = path.with_name(path.name + ".tmp")
    write_flushed(temporary, data)
    try:
        rename(temporary, path)
    except PmtrainError:
        discard(temporary)
        raise
    flush_folder(path.parent)


@contextlib.contextmanager
def new_file(path: Path) -> Iterator[BinaryIO]:
    """A file written bit by bit that takes its name, whole, when the block ends well; it never replaces another.

    Raises:
        PmtrainError: `path` exists already, or can't be written; no temporary is left.
    """
    _refuse_existing(path)
    temporary = path.with_name(f"{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = open(temporary, "xb")
    except OSError as error:
        raise cannot("write", path, error) from error
    try:
        with file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        _refuse_existing(path)
        rename(temporary, path)
    except BaseException as error:
        discard(temporary)
        if isinstance(error, OSError):
            raise cannot("write", path, error) from error
        raise
    flush_folder(path.parent)


def _refuse_existing(path: Path) -> None:
    if os.path.lexists(path):
        raise PmtrainError(f"{path}: exists already, and is not overwritten", "give another name, or move it away")


def write_flushed(path: Path, *pieces: bytes | memoryview | str) -> None:
    """Write a file that no reader knows of yet and flush it to disk; where that fails, nothing of it is left.

    Args:
        pieces: the content, one piece after the other.
    Raises:
        PmtrainError: names the file and the reason.
    """
    try:
        with open(path, "wb") as file:
            for piece in pieces:
                file.write(piece.encode("utf-8") if isinstance(piece, str) else piece)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        discard(path)
        raise cannot("write", path, error) from error


def rename(source: Path, target: Path) -> None:
    """Give `source` the name `target` in one step, over what had it.

    Raises:
        PmtrainError: it can't be done; both files stay as they are.
    """
    for wait in (0.02, 0.1, 0.5, 1.0, None):
        try:
            os.replace(source, target)
            return
        except OSError as error:
            # On Windows a file that another program has open (a virus scanner, a viewer) can't be replaced: wait.
            if isinstance(error, PermissionError) and os.name == "nt" and wait is not None:
                time.sleep(wait)
                continue
            raise cannot("write", target, error) from error


def flush_folder(folder: Path) -> None:
    """Flush a folder's names to disk; Windows has no such call and keeps them in its journal."""
    if os.name == "nt":
        return
    try:
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.EACCES):  # some network file systems refuse it
            raise cannot("write", folder, error) from error


def discard(path: Path) -> bool:
    """Remove a file that is no longer wanted; False where it can't be done now (the next save tries again)."""
    try:
        path.unlink(missing_ok=True)
    except OSError:
        return False
    return True


def read_bytes(path: Path, limit: int = MAX_FILE_BYTES) -> bytes:
    """The file's bytes.

    Raises:
        PmtrainError: it can't be read, or has more than `limit` bytes.
    """
    try:
        size = path.stat().st_size
        if size > limit:
            raise PmtrainError(f"{path} has {size:,} bytes; a file of this kind has at most {limit:,}")
        return path.read_bytes()
    except OSError as error:
        raise cannot("read", path, error) from error


def cannot(do: str, path: Path, error: OSError) -> PmtrainError:
    """The error to raise where the system refused to `do` something to a file."""
    hints = {
        errno.ENOSPC: "free some space on that disk, or choose another with --output",
        errno.EACCES: "check who owns the file and its folder, and that no other program has it open",
    }
    return PmtrainError(f"can't {do} {path}: {error.strerror or error}", hints.get(error.errno or 0, ""))
