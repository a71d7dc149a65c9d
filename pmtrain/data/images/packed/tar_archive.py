"""Read the members of a tar archive in place, plain or compressed by gzip, bzip2 or xz."""

from __future__ import annotations

import re
import struct
import tarfile
import zlib
from collections.abc import Iterator
from typing import NamedTuple

from pmtrain.data.images.packed.member_names import Names, refused
from pmtrain.data.images.packed.streams import (
    BZIP2_SIGNATURE,
    GZIP,
    GZIP_SIGNATURE,
    XZ_SIGNATURE,
    Inflated,
    Spooled,
    Stored,
    Stream,
    damaged,
    part_of,
)
from pmtrain.system.errors import PmtrainError

BLOCK = 512
NAMES = struct.Struct("100s 245x 155s 12x")  # of a header: name and prefix
SUMMED = struct.Struct("148s 8s 356s")  # its checksum, and what that is of
FILE, FOLDER, OTHER = "file", "folder", "other"
RECORD = re.compile(rb"([1-9]\d{0,6}) ([^=\n]+)=")
USELESS = {b"mtime", b"atime", b"ctime", b"uid", b"gid", b"uname", b"gname"}
SMALL, AHEAD = 1 << 13, 1 << 16  # bytes between what was read and the next header, and read at once then
LARGEST_HEADER = 1 << 20  # bytes read at once; the extended headers of real archives have a few hundred


class _Member(NamedTuple):
    offset: int
    size: int


class TarArchive:
    """A tar archive's members by name; the file is opened for each read, so that processes and threads may share it.

    Opening reads every header; this decompresses a compressed file once. Headers of plain files are read here,
    because the standard library's tarfile takes 40 microseconds for one; it reads all others.

    Raises:
        PmtrainError: it is damaged, or has a member that is a link, stored sparsely, too large, or has a bad name.
        OSError: it can't be opened.
    """

    def __init__(self, path: str, stream: Stream | None = None) -> None:
        names = Names(path)
        self.members: dict[str, _Member] = {}
        packed = stream or Stored(path)
        start = packed.read_at(0, 6)
        try:
            self._stream = _unpacked(packed, start)
            with self._stream.opened() as opened:
                for found, plain in names.batches(_found(_Headers(opened))):
                    if found.kind == FOLDER:
                        names.add_folder(found.name)
                    elif found.kind == OTHER:
                        raise refused(path, found.name, "is a link, a device or a sparse file")
                    else:
                        self.members[names.add(found.name, found.size, plain)] = _Member(found.offset, found.size)
        except (tarfile.TarError, ValueError, EOFError, OSError) as error:
            reason = (error.strerror if isinstance(error, OSError) else None) or error
            raise PmtrainError(f"{path}: is not a whole tar archive ({reason})", "copy or download it again") from None
        self.folders = names.folders

    def size(self, name: str) -> int:
        """Bytes of a member; KeyError if there is none of that name."""
        return self.members[name].size

    def read(self, name: str) -> bytes:
        """A member's bytes.

        Raises:
            KeyError: there is none of that name.
            OSError: it is damaged.
        """
        member = self.members[name]
        data = self._stream.read_at(*member)
        if len(data) < member.size:
            raise damaged("truncated: the end of the archive is missing")
        return data

    def stream(self, name: str) -> Stream:
        """Random access to a member's bytes; KeyError if there is none of that name."""
        return part_of(self._stream, *self.members[name])


def _unpacked(packed: Stream, start: bytes) -> Stream:
    """The tar archive itself, by the first bytes of the file."""
    if start.startswith(GZIP_SIGNATURE):
        return Inflated(packed, GZIP)
    return Spooled(packed) if start.startswith((BZIP2_SIGNATURE, XZ_SIGNATURE)) else packed


class _Found(NamedTuple):
    """A member of the archive; `kind` is FILE, FOLDER or OTHER."""

    name: str
    kind: str
    offset: int  # of its bytes
    size: int


def _found(headers: _Headers) -> Iterator[_Found]:
    """Every member, in order.

    Raises:
        OSError, tarfile.TarError, ValueError, EOFError: the archive is damaged.
    """
    with tarfile.open(fileobj=headers, mode="r:") as tar:  # type: ignore[call-overload]
        info = tar.next()
        while info is not None:
            tar.members.clear()  # a kilobyte each
            plain = info.isreg() and not info.issparse()
            yield _Found(info.name, FILE if plain else FOLDER if info.isdir() else OTHER, info.offset_data, info.size)
            # A global header's values apply to all that follow it.
            while not tar.pax_headers and (ordinary := _ordinary(headers, tar.offset)):
                yield ordinary
                tar.offset = ordinary.offset + -(-ordinary.size // BLOCK) * BLOCK
            info = tar.next()
        # A damaged header ends the list like the archive's end, which is a block of zeros or of nothing.
        if headers.peek(tar.offset, BLOCK).strip(b"\0"):
            raise damaged("a header is damaged")


def _ordinary(headers: _Headers, position: int) -> _Found | None:
    """The plain file whose header begins there; None if another kind of header does.

    Before it there may be an extended header with what is of no use here, as Python's tarfile writes for every file.
    """
    header = headers.peek(position, BLOCK)
    if header[156:157] == b"x" and (size := _size(header)) is not None and size <= LARGEST_HEADER:
        position += BLOCK
        if not _is_useless(headers.peek(position, size)):
            return None
        position += -(-size // BLOCK) * BLOCK
        header = headers.peek(position, BLOCK)
    size = _size(header)
    if size is None or header[156:157] != b"0":
        return None
    name, prefix = NAMES.unpack(header)
    name = name.partition(b"\0")[0]
    if prefix[0]:
        name = prefix.partition(b"\0")[0] + b"/" + name
    return _Found(name.decode("utf-8", "surrogateescape"), FILE, position + BLOCK, size)


def _size(header: bytes) -> int | None:
    """The size that a header states; None if that isn't a plain number, or the header's checksum is wrong."""
    if len(header) < BLOCK:
        return None
    before, checksum, after = SUMMED.unpack(header)
    try:
        stated = int(checksum.rstrip(b"\0 ") or b"-", 8)
        size = int(before[124:136].rstrip(b"\0 ") or b"-", 8)
    except ValueError:
        return None
    # The lower half of Adler-32 is the sum of all bytes, plus 1, modulo 65521.
    total = zlib.adler32(after, zlib.adler32(before + b" " * 8)) & 0xFFFF
    return size if size >= 0 and total == (stated + 1) % 65521 else None


def _is_useless(records: bytes) -> bool:
    """Whether the records of an extended header (`30 mtime=1350244992.023960108`) are all of USELESS."""
    position = 0
    while position < len(records):
        match = RECORD.match(records, position)
        if not match or match[2] not in USELESS or int(match[1]) <= len(match[0]):
            return False
        position += int(match[1])
        if records[position - 1 : position] != b"\n":
            return False
    return True


class _Headers:
    """What headers are read from, here and by tarfile."""

    def __init__(self, stream: Stream) -> None:
        self._stream, self._position = stream, 0
        self._kept = 0, b""  # what was read last: position and bytes

    def peek(self, position: int, count: int) -> bytes:
        """Bytes from there on; tarfile's position stays. The byte before them is kept, too: it reads that again."""
        start, kept = self._kept
        if not start < position <= start + len(kept) - count:
            near = position - start - len(kept) < SMALL  # where members are small, the next headers are near, too
            start = max(0, position - 1)
            kept = self._stream.read_at(start, max(count + position - start, AHEAD if near else 0))
            self._kept = start, kept
        return kept[position - start : position - start + count]

    def tell(self) -> int:
        return self._position

    def seek(self, position: int) -> int:
        if position < self._position - 1:  # negative sizes lead back, for ever
            raise damaged("a header is damaged")
        self._position = position
        return position

    def read(self, count: int) -> bytes:
        if count > LARGEST_HEADER:
            raise damaged(f"a header of {count:,} bytes")
        start = self._position - self._kept[0]
        if 0 <= start and start + count <= len(self._kept[1]):
            data = self._kept[1][start : start + count]
        else:
            data = self._stream.read_at(self._position, count)
        self._position += len(data)
        return data
