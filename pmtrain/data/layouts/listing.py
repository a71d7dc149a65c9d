"""List folders: images, tables, and files to ignore."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from pathlib import Path
from typing import NamedTuple

from pmtrain.data.images import source
from pmtrain.data.images.packed.opening import ARCHIVES, CONTAINERS
from pmtrain.data.images.read import SUFFIXES
from pmtrain.system.errors import PmtrainError

TEXT_SUFFIXES = (".csv", ".tsv", ".tab", ".jsonl", ".json", ".txt")
SHEET_SUFFIXES = (".xlsx", ".xlsm", ".xls")
PACKED = tuple(suffix for suffix in CONTAINERS if suffix not in ARCHIVES)

# Folders that operating systems and network drives create, in lower case; some contain thumbnails.
JUNK = {"__macosx", "@eadir", "#recycle", "$recycle.bin", "system volume information", "lost+found"}


class Listing(NamedTuple):
    """The content of one folder, sorted by name, without hidden and system files."""

    folders: list[Path]
    images: list[str]  # names only: a data set may have 100,000
    tables: list[Path]  # .csv, .tsv, .jsonl, .json
    sheets: list[Path]  # Excel's own files
    packed: list[Path]  # .parquet, .h5, ...: files that contain images


_archives: ContextVar[bool] = ContextVar("archives", default=False)
_known: ContextVar[dict[str, Listing] | None] = ContextVar("listings", default=None)


@contextlib.contextmanager
def list_once() -> Iterator[None]:
    """In this block, `look_into` lists each folder once: several layouts look into the same ones."""
    token = _known.set({})
    try:
        yield
    finally:
        _known.reset(token)


@contextlib.contextmanager
def archives_as_folders() -> Iterator[None]:
    """In this block, an archive in a folder is listed as a folder, `train.zip!`."""
    tokens = _archives.set(True), _known.set({})
    try:
        yield
    finally:
        _archives.reset(tokens[0])
        _known.reset(tokens[1])


def name_of(folder: Path) -> str:
    """A folder's name; of an archive, that without its suffix."""
    name = folder.name
    if name.endswith(source.MARK):
        name = name[: -len(source.MARK)]
        name = name[: -max(len(suffix) for suffix in ARCHIVES if name.lower().endswith(suffix))]
    return name


def folders_listed() -> frozenset[str]:
    """The folders with images that were listed in the block of `list_once`."""
    return frozenset(folder for folder, listing in (_known.get() or {}).items() if listing.images)


def look_into(folder: Path) -> Listing:
    """List a folder.

    Raises:
        PmtrainError: it can't be listed.
    """
    known = _known.get()
    if known is None:
        return _list(folder)
    key = str(folder)
    if key not in known:
        known[key] = _list(folder)
    return known[key]


def _list(folder: Path) -> Listing:
    entries, files = _content(folder)
    folders = [entry.name for entry in entries]
    images = [name for name in files if suffix_of(name) in SUFFIXES]
    tables, sheets, packed = [], [], []
    if len(images) < len(files):
        for name in files:
            suffix = suffix_of(name)
            if suffix in TEXT_SUFFIXES and suffix != ".txt":
                tables.append(name)
            elif suffix in SHEET_SUFFIXES and not name.startswith("~$"):  # Excel's lock file
                sheets.append(name)
            elif suffix in PACKED:
                packed.append(name)
    within = [[folder / name for name in sorted(names)] for names in (folders, tables, sheets, packed)]
    return Listing(within[0], sorted(images), *within[1:])


def holds_images(folder: Path) -> bool:
    """Whether there is an image in `folder` or its subfolders; stops at the first one."""
    return _holds(folder, lambda name: suffix_of(name) in SUFFIXES)


def is_empty(folder: Path) -> bool:
    """Whether there is no file in `folder` or its subfolders."""
    return not _holds(folder, lambda name: True)


def suffix_of(name: str) -> str:
    """`eye.JPG` -> `.jpg`."""
    return name[place:].lower() if (place := name.rfind(".")) > 0 else ""


def _holds(folder: Path, wanted: Callable[[str], bool]) -> bool:
    folders, files = _content(folder)
    return any(map(wanted, files)) or any(_holds(folder / child.name, wanted) for child in folders if not child.link)


def _content(folder: Path) -> tuple[list[source.Entry], list[str]]:
    """The folders in a folder, and the names of its files, without hidden and system files."""
    try:
        folders, files = source.names_in(folder)
    except OSError as error:
        raise PmtrainError(f"{folder}: can't be listed: {error.strerror}") from None
    if _archives.get():
        archives = [name for name in files if name.lower().endswith(tuple(ARCHIVES))]
        files = [name for name in files if name not in archives]
        folders = [*folders, *(source.Entry(name + source.MARK, True) for name in archives)]
    folders = [entry for entry in folders if entry.name[0] != "." and entry.name.lower() not in JUNK]
    return folders, [name for name in files if name[0] != "."]
