"""The table of files that contain many images, and the ones that this process has open."""

from __future__ import annotations

import errno
import os
import re
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable
from functools import cached_property
from typing import Protocol

from pmtrain.data.images.packed.hdf5_file import open_hdf5
from pmtrain.data.images.packed.npz_file import open_npy, open_npz
from pmtrain.data.images.packed.parquet_file import ParquetFile
from pmtrain.data.images.packed.streams import Stream
from pmtrain.data.images.packed.tar_archive import TarArchive
from pmtrain.data.images.packed.zip_archive import ZipArchive
from pmtrain.system.errors import PmtrainError

MOST_OPEN = 64
MARK = "!"  # behind the name of a file that contains many, in the paths of its members
DEEPEST = 3  # files within files


class Container(Protocol):
    """A file that contains many images.

    Attributes:
        members: their names, with `/` between the parts.
        folders: names of folders, also of empty ones; those that member names imply may be missing.
    """

    @property
    def members(self) -> Iterable[str]: ...

    @property
    def folders(self) -> Iterable[str]: ...

    def size(self, name: str) -> int:
        """Bytes that `read` gives; KeyError if there is no such member."""
        ...

    def read(self, name: str) -> bytes:
        """A member as an image file's bytes; KeyError if there is no such member, OSError if it is damaged."""
        ...


# By suffix. An archive has files in folders, as if it were unpacked.
ARCHIVES: dict[str, Callable[[str, Stream | None], Container]] = {
    ".zip": ZipArchive,
    ".tar": TarArchive,
    ".tar.gz": TarArchive,
    ".tgz": TarArchive,
    ".tar.bz2": TarArchive,
    ".tbz2": TarArchive,
    ".tar.xz": TarArchive,
    ".txz": TarArchive,
}
CONTAINERS: dict[str, Callable[[str, Stream | None], Container]] = {
    **ARCHIVES,
    ".npz": open_npz,
    ".npy": open_npy,
    ".h5": open_hdf5,
    ".hdf5": open_hdf5,
    ".parquet": ParquetFile,
}


class Opened:
    """An open container: the state of its file, and its folders."""

    def __init__(self, container: Container, times: str) -> None:
        self.container, self.times = container, times

    @cached_property
    def tree(self) -> dict[str, dict[str, bool]]:
        """What is in each folder: name -> whether it is a folder. The container's own folder is called ``."""
        tree: dict[str, dict[str, bool]] = {"": {}}
        for name in self.container.members:
            folder, _, own = name.rpartition("/")
            inside = tree.get(folder)
            if inside is None:
                inside = _add_folder(tree, folder)
            inside[own] = False
        for name in self.container.folders:
            _add_folder(tree, name)
        return tree


def _add_folder(tree: dict[str, dict[str, bool]], name: str) -> dict[str, bool]:
    """The content of the folder `name`, added with those above it."""
    missing = []
    while name not in tree:
        missing.append(name)
        name = name.rpartition("/")[0]
    for each in reversed(missing):
        above, _, own = each.rpartition("/")
        tree[above][own] = True
        tree[each] = {}
    return tree[missing[0] if missing else name]


_open: OrderedDict[str, Opened] = OrderedDict()
_lock = threading.Lock()


_ADDRESS = re.compile(rf"(.+(?:{'|'.join(map(re.escape, CONTAINERS))})){MARK}(?:[/\\\\]+(.*))?", re.I | re.S)


def address(path: str) -> tuple[str, str] | None:
    """The file that contains a member, and the member's name; None for a file of its own."""
    if MARK not in path or (match := _ADDRESS.fullmatch(path)) is None:
        return None
    return match[1], (match[2] or "").replace(os.sep, "/")


def opened(path: str) -> Opened:
    """The container, opened again if the file has changed.

    Raises:
        PmtrainError: it can't be read as what its suffix says.
        OSError: there is no such file.
    """
    stream = None
    if outer := address(path):
        stream, times = _member_stream(path, *outer)
    else:
        found = os.stat(path)
        times = f"{found.st_mtime_ns} {found.st_ctime_ns} {found.st_ino}"
    with _lock:
        known = _open.get(path)
        if known is None or known.times != times:
            suffix = next(suffix for suffix in CONTAINERS if path.lower().endswith(suffix))
            known = _open[path] = Opened(CONTAINERS[suffix](path, stream), times)
            if len(_open) > MOST_OPEN:
                _open.popitem(last=False)
        _open.move_to_end(path)
    return known


def _member_stream(path: str, outer: str, name: str) -> tuple[Stream, str]:
    """The bytes of an archive's member, and the state of the archive's file."""
    if path.count(MARK) >= DEEPEST:
        raise PmtrainError(f"{path}: archives in archives, too deep", "unpack the outer ones first")
    within = opened(outer)
    if not isinstance(within.container, (ZipArchive, TarArchive)) or name not in within.container.members:
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
    return within.container.stream(name), within.times
