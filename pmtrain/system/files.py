"""Files that are written completely or not at all, even if the process is killed or the disk is full."""

from __future__ import annotations

import contextlib
import errno
import functools
import glob
import json
import os
import re
import secrets
import shutil
import stat
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

from pmtrain.system.errors import PmtrainError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

MAX_FILE_BYTES = 2 << 30  # limit of a file that is read into memory; a ResNet-152 with its optimizer state has 240 MB

WAITS = (0.02, 0.1, 0.5, 1.0)  # seconds between tries for a file that another program has open on Windows
LONGEST_PATH = 259  # characters that Windows takes, unless long paths are turned on

Result = TypeVar("Result")
Value = TypeVar("Value")


def write_atomic(path: Path, data: bytes | str) -> None:
    """Replace the file's content so that, whatever happens, the file holds all of the old or all of the new content.

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
    """A file that gets its name only when the block ends without an error; it never replaces another file.

    Raises:
        PmtrainError: `path` exists already, or can't be written; no temporary is left, also none of an earlier process
            that was killed.
    """
    _refuse_existing(path)
    temporary = path.with_name(f"{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _discard_abandoned(path)
        file = open(temporary, "xb")
        _locked(file.fileno())
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


@contextlib.contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """A folder to fill, which gets the name `path` only when the block ends without an error.

    Raises:
        PmtrainError: `path` exists already, or can't be written; nothing is left, also not of an earlier process that
            was killed.
    """
    _refuse_existing(path)
    temporary = path.with_name(f"{path.name}.{secrets.token_hex(4)}.tmp")
    descriptor = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _discard_abandoned(path)
        temporary.mkdir()
        descriptor = _open_locked(temporary)
        yield temporary
        _refuse_existing(path)
        rename(temporary, path)
    except BaseException as error:
        shutil.rmtree(temporary, ignore_errors=True)
        if isinstance(error, OSError):
            raise cannot("write", path, error) from error
        raise
    finally:
        if descriptor is not None:
            os.close(descriptor)
    flush_folder(path.parent)


def _discard_abandoned(path: Path) -> None:
    """Remove what killed processes left of `new_file` and `new_folder`: nobody holds a lock on it.

    Windows lets nobody remove a file that is open, and has no locks of folders: there a folder stays.
    """
    for temporary in path.parent.glob(f"{glob.escape(path.name)}.????????.tmp"):
        if temporary.is_dir() and fcntl is None:
            continue
        descriptor = _open_locked(temporary)
        if descriptor is None and fcntl is not None:
            continue
        if temporary.is_dir():
            shutil.rmtree(temporary, ignore_errors=True)
        else:
            discard(temporary)
        if descriptor is not None:
            os.close(descriptor)


def _open_locked(path: Path) -> int | None:
    """A descriptor that holds the lock on a file or folder until it is closed; None where that can't be."""
    if fcntl is None:
        return None
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except OSError:
        return None
    if _locked(descriptor):
        return descriptor
    os.close(descriptor)
    return None


def _locked(descriptor: int) -> bool:
    """Whether this process has now the lock, which goes with the process; some network file systems have none."""
    try:
        if fcntl is not None:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return fcntl is not None


def _refuse_existing(path: Path) -> None:
    if os.path.lexists(path):
        raise PmtrainError(f"{path}: exists already, and is not overwritten", "give another name, or move it away")


def write_flushed(path: Path, *pieces: bytes | memoryview | str) -> None:
    """Write a file that nobody reads yet and flush it to disk; if that fails, it is removed.

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


def link_or_write(path: Path, same: Path | None, *pieces: bytes | memoryview | str) -> None:
    """As `write_flushed`; where the file `same`, flushed before, has this content, it gets a second name instead.

    Neither name changes what the other one holds, as long as files are replaced and never written into. A file system
    without hard links, or another one than that of `same`, gets a copy.
    """
    if same is not None:
        with contextlib.suppress(OSError):
            os.link(same, path)
            return
    write_flushed(path, *pieces)


def rename(source: Path, target: Path) -> None:
    """Rename `source` to `target` in one step, replacing a file of that name.

    Raises:
        PmtrainError: the system refuses; both files stay as they are.
    """
    try:
        _patiently(lambda: os.replace(source, target))
    except OSError as error:
        raise cannot("write", target, error) from error


def _patiently(action: Callable[[], Result]) -> Result:
    """The action's result; on Windows tried again for a moment where another program has the file open.

    A virus scanner, a viewer or another pmtrain that reads a file keeps it from being replaced there, and one that is
    being replaced can't be opened.
    """
    for wait in WAITS if os.name == "nt" else ():
        try:
            return action()
        except PermissionError:
            time.sleep(wait)
    return action()


def flush_folder(folder: Path) -> None:
    """Flush a folder's file names to disk; Windows has no such call, its file system journals names."""
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
    """Remove a file; False if the system refuses now (the next save tries again)."""
    try:
        path.unlink(missing_ok=True)
    except OSError:
        return False
    return True


def safe_cell(value: Value) -> Value | str:
    """A cell for a CSV file: text that a spreadsheet would run as a formula gets a ' in front; numbers stay."""
    if isinstance(value, str) and _FORMULA.match(value) and not _NUMBER.fullmatch(value):
        return "'" + value
    return value


def plain_cell(text: str) -> str:
    """What `safe_cell` was given."""
    return text[1:] if text[:1] == "'" and _FORMULA.match(text) else text


_FORMULA = re.compile(r"'*[=+\-@\t\r]")
_NUMBER = re.compile(r"[+-]?\d+([.,]\d+)?")


def read_bytes(path: Path, limit: int = MAX_FILE_BYTES) -> bytes:
    """The file's bytes.

    Raises:
        PmtrainError: it can't be read, or has more than `limit` bytes.
    """
    try:
        found = path.stat()
        if stat.S_ISFIFO(found.st_mode):  # reading would wait for its writer
            raise PmtrainError(f"{path} is a pipe, not a file", "save it as a file first")
        if (size := found.st_size) > limit:
            raise PmtrainError(f"{path} has {size:,} bytes; a file of this kind has at most {limit:,}")
        return _patiently(path.read_bytes)
    except OSError as error:
        raise cannot("read", path, error) from error


class Mapping(dict[str, Any]):
    """A mapping of a JSON file. What it lacks raises PmtrainError, with the file's name, where it is asked for."""

    def __init__(self, path: Path, hint: str, values: dict[str, Any]) -> None:
        super().__init__(values)
        self._path, self._hint = path, hint

    def __missing__(self, key: str) -> Any:
        raise PmtrainError(f"{self._path}: can't be read: it lacks '{key}'", self._hint)


def read_json(path: Path, hint: str = "", errors: str = "strict") -> dict[str, Any]:
    """The mapping that a JSON file holds; it and all those in it are a Mapping.

    Args:
        hint: of the errors.
        errors: what to do with bytes that aren't UTF-8, as `bytes.decode` takes it.
    Raises:
        PmtrainError: the file is missing or damaged, or holds something else.
    """
    try:
        text = path.read_text("utf-8", errors)
        found = json.loads(text, object_hook=functools.partial(Mapping, path, hint))
        if not isinstance(found, dict):
            raise ValueError("it holds no mapping")
    except (OSError, ValueError, RecursionError) as error:
        raise PmtrainError(f"{path}: can't be read: {error}", hint) from None
    return found


def cannot(do: str, path: Path, error: OSError) -> PmtrainError:
    """The error for a file that the system refused to `do` ("read", "write") something with."""
    hints = {
        errno.ENOSPC: "free some space on that disk, or choose another with --output",
        errno.EACCES: "check who owns the file and its folder, and that no other program has it open",
    }
    hint = hints.get(error.errno or 0, "")
    # Windows says of a path that is too long that it doesn't exist. A temporary's ending makes it longer still.
    longest = LONGEST_PATH - len(".12345678.tmp")
    if os.name == "nt" and error.errno == errno.ENOENT and len(os.path.abspath(path)) > longest:
        hint = f"Windows takes paths of {LONGEST_PATH} characters: choose a shorter folder, or turn on its long paths"
    return PmtrainError(f"can't {do} {path}: {error.strerror or error}", hint)
