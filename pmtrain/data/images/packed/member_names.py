"""Check the names of an archive's members."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Iterator
from typing import Any, TypeVar

from pmtrain.system.errors import PmtrainError

Named = TypeVar("Named", bound=tuple[Any, ...])

MOST_MEMBERS = 5_000_000
MOST_BYTES = 1 << 30  # of one member

_UNUSUAL = re.compile(r"[\\:\0]|//|\.\.|(?:^|/)\.(?:/|$)|^/|^$", re.MULTILINE)
BATCH = 4096


def refused(archive: str, member: str, reason: str) -> PmtrainError:
    """The error for an archive with a member that is not accepted."""
    shown = repr(member if len(member) <= 200 else f"{member[:200]}...")
    return PmtrainError(f"{archive}: {shown} {reason}", "make the archive again without it")


def plain_name(archive: str, name: str) -> str:
    """A member's name with `/` between its parts, without `.`; empty for the archive's own folder.

    Raises:
        PmtrainError: it is an absolute path, or leads out of the archive.
    """
    if not _UNUSUAL.search(name):
        return name.rstrip("/")
    if "\0" in name:
        raise refused(archive, name, "has a NUL in its name")
    parts = [part for part in name.replace("\\", "/").split("/") if part not in ("", ".")]
    if name.startswith(("/", "\\")) or re.match("[A-Za-z]:", name):
        raise refused(archive, name, "is an absolute path")
    if ".." in parts:
        raise refused(archive, name, "leads out of the archive")
    return "/".join(parts)


class Names:
    """Collect the names of an archive's members, each once.

    Args:
        archive: its path, for errors.
        largest: bytes that a member may have; None: MOST_BYTES.
    """

    def __init__(self, archive: str, largest: int | None = None) -> None:
        self.archive = archive
        self.largest = MOST_BYTES if largest is None else largest
        self.folders: list[str] = []
        self._files: set[str] = set()

    def batches(self, members: Iterable[Named]) -> Iterator[tuple[Named, bool]]:
        """Every member, and whether its name, which comes first, is surely plain: checking many at once is quicker."""
        members = iter(members)
        while batch := list(itertools.islice(members, BATCH)):
            plain = not _UNUSUAL.search("\n".join([member[0] for member in batch]))
            for member in batch:
                yield member, plain

    def add(self, name: str, size: int, plain: bool = False) -> str:
        """A file's plain name; `plain` if it surely is that already.

        Raises:
            PmtrainError: it is not accepted, there is another of that name, or there are too many.
        """
        if not plain:
            name = plain_name(self.archive, name)
        if not name:
            raise refused(self.archive, name, "is a file without a name")
        if name in self._files:
            raise refused(self.archive, name, "is in it twice")
        if size > self.largest:
            raise refused(
                self.archive, name, f"unpacks to {size / 2**30:,.1f} GiB; a member has at most {self.largest >> 30} GiB"
            )
        self._files.add(name)
        if len(self._files) > MOST_MEMBERS:
            self.check_count(len(self._files))
        return name

    def add_folder(self, name: str) -> None:
        """Record a folder."""
        self.folders.append(plain_name(self.archive, name))
        self.check_count(len(self.folders))

    def check_count(self, count: int) -> None:
        """Refuse an archive of too many members."""
        if count > MOST_MEMBERS:
            raise PmtrainError(f"{self.archive}: has more than {MOST_MEMBERS:,} members", "make several archives of it")
