"""Where the bytes of an image come from: a file of its own, or a member of a file that contains many.

A member's path has a mark behind the name of that file: `images.zip!/train/a.png`. It is used like any other path: in a
sample, as the key of a cache, in a table, in everything printed and written. Nothing is unpacked to disk. Image files
are listed and read by these functions only, which take both kinds of paths.
"""

from __future__ import annotations

import errno
import io
import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

from pmtrain.data.images.packed.member_names import MOST_BYTES
from pmtrain.data.images.packed.opening import ARCHIVES, CONTAINERS, MARK, Container, Opened, address, opened
from pmtrain.system.errors import PmtrainError
from pmtrain.system.files import cannot

AnyPath = str | os.PathLike[str]

CHUNK = 1 << 20  # bytes read at a time


class Entry(NamedTuple):
    """What a folder contains; `link`: a folder that is a link."""

    name: str
    folder: bool
    link: bool = False


def images_in(path: AnyPath) -> list[Path]:
    """The images of a file of arrays or a Parquet file, in order; none for any other file.

    Raises:
        PmtrainError: it can't be read.
    """
    text = os.fspath(path)
    if is_archive(path) or not is_packed(text) or not is_file(path):
        return []
    return [Path(f"{text}{MARK}/{name}") for name in opened(text).container.members]


def container(path: AnyPath) -> Container:
    """The open file of arrays or Parquet file.

    Raises:
        PmtrainError: it can't be read.
    """
    try:
        return opened(os.fspath(path)).container
    except OSError as error:
        raise cannot("read", Path(path), error) from None


def is_packed(name: str) -> bool:
    """Whether a name has the suffix of a file that contains many images."""
    return name.lower().endswith(tuple(CONTAINERS))


def is_archive(path: AnyPath) -> bool:
    """Whether this is a file with the suffix of an archive."""
    return os.fspath(path).lower().endswith(tuple(ARCHIVES)) and is_file(path)


def as_folder(path: Path) -> Path:
    """The folder that an archive stands for, `images.zip` -> `images.zip!`; any other path as it is."""
    return Path(f"{path}{MARK}") if is_archive(path) else path


def container_of(path: AnyPath) -> str:
    """The file that a member's path leads into, with the mark: `set/images.zip!`; empty for a file of its own."""
    address = _address(path)
    return address[0] + MARK if address else ""


def is_dir(path: AnyPath) -> bool:
    """Whether there is a folder of that path, on disk or in an archive.

    Raises:
        PmtrainError: the archive is not accepted or damaged.
    """
    if (address := _address(path)) is None:
        return os.path.isdir(path)
    found = _if_there(address[0])
    return found is not None and address[1] in found.tree


def is_file(path: AnyPath) -> bool:
    """Whether there is a file or member of that path; raises as `is_dir`."""
    if (address := _address(path)) is None:
        return os.path.isfile(path)
    found = _if_there(address[0])
    if found is None:
        return False
    try:
        found.container.size(address[1])
    except KeyError:
        return False
    return True


def scan(folder: AnyPath) -> Iterator[Entry]:
    """What a folder contains, in any order.

    Raises:
        OSError: it can't be listed.
        PmtrainError: as `is_dir`.
    """
    if (address := _address(folder)) is None:
        with os.scandir(folder) as entries:
            for entry in entries:
                is_folder = entry.is_dir()
                yield Entry(entry.name, is_folder, is_folder and entry.is_symlink())
        return
    yield from (Entry(name, is_folder) for name, is_folder in _tree(folder, address).items())


def joining(folder: Path) -> Callable[[str], Path]:
    """What gives `folder / name` for a name of one part.

    Until Python 3.12 `/` parses both sides, which takes longer than all else that is done to read a listing; what
    `iterdir` uses itself does not.
    """
    return getattr(folder, "_make_child_relpath", folder.__truediv__)


def names_in(folder: AnyPath) -> tuple[list[Entry], list[str]]:
    """The folders in a folder, and the names of its files, in any order; raises as `scan`."""
    if (address := _address(folder)) is None:
        folders, files = [], []
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.is_dir():
                    folders.append(Entry(entry.name, True, entry.is_symlink()))
                else:
                    files.append(entry.name)
        return folders, files
    content = _tree(folder, address)
    folders = [Entry(name, True) for name, is_folder in content.items() if is_folder]
    return folders, [name for name, is_folder in content.items() if not is_folder] if folders else list(content)


def _tree(folder: AnyPath, address: tuple[str, str]) -> dict[str, bool]:
    tree = opened(address[0]).tree
    if address[1] not in tree:
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), os.fspath(folder))
    return tree[address[1]]


def state(path: AnyPath) -> str:
    """The state of a file, which differs after a change: size, mtime, ctime and inode, as text.

    Of a member: its own size, and the times and inode of the file that contains it.

    Raises:
        OSError: there is no such file.
    """
    if (address := _address(path)) is None:
        found = os.stat(path)
        return f"{found.st_size} {found.st_mtime_ns} {found.st_ctime_ns} {found.st_ino}"
    within, member = _member(path, address)
    return f"{_size(path, within, member)} {within.times}"


def size(path: AnyPath) -> int:
    """Bytes of a file or member.

    Raises:
        OSError: there is none.
    """
    if (address := _address(path)) is None:
        return os.stat(path).st_size
    return _size(path, *_member(path, address))


def read(path: AnyPath) -> bytes:
    """The bytes of a file or member.

    Raises:
        OSError: it can't be read; its `strerror` is the reason.
    """
    if (address := _address(path)) is None:
        with _open(path) as file:
            if (bytes_there := os.fstat(file.fileno()).st_size) > MOST_BYTES:
                reason = f"has {bytes_there:,} bytes; at most {MOST_BYTES:,} are read at once"
                raise OSError(errno.EFBIG, reason, os.fspath(path))
            return file.read()
    within, member = _member(path, address)
    try:
        return within.container.read(member)
    except KeyError:
        raise _no_such(path) from None


def chunks(path: AnyPath) -> Iterator[bytes]:
    """The bytes of a file or member, in pieces; raises as `read`."""
    if _address(path) is not None:
        yield read(path)
        return
    with _open(path) as file:
        while chunk := file.read(CHUNK):
            yield chunk


def open_file(path: AnyPath) -> BinaryIO:
    """A file or member to read from; raises as `read`."""
    return _open(path) if _address(path) is None else io.BytesIO(read(path))


def _open(path: AnyPath) -> BinaryIO:
    """A file of its own; a pipe or a device, which could keep its reader waiting for ever, is an OSError."""
    return open(path, "rb", opener=_regular)


def _regular(path: str, flags: int) -> int:
    descriptor = os.open(path, flags | getattr(os, "O_NONBLOCK", 0))  # or opening a pipe would wait for its writer
    mode = os.fstat(descriptor).st_mode
    if stat.S_ISREG(mode) or stat.S_ISDIR(mode):  # of a folder, `open` gives the reason
        return descriptor
    os.close(descriptor)
    raise OSError(errno.EINVAL, "a pipe or a device, not a file", path)


def _address(path: AnyPath) -> tuple[str, str] | None:
    return address(os.fspath(path))


def _if_there(path: str) -> Opened | None:
    try:
        return opened(path)
    except OSError:
        return None


def _member(path: AnyPath, address: tuple[str, str]) -> tuple[Opened, str]:
    try:
        return opened(address[0]), address[1]
    except PmtrainError as error:  # a reader of images names the image
        raise OSError(errno.EIO, error.message, os.fspath(path)) from None


def _size(path: AnyPath, within: Opened, member: str) -> int:
    try:
        return within.container.size(member)
    except KeyError:
        raise _no_such(path) from None


def _no_such(path: AnyPath) -> FileNotFoundError:
    return FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), os.fspath(path))
