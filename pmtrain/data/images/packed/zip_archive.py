"""Read the members of a zip archive in place, and its directory without reading its members.

The standard library's zipfile takes about a second for a directory of 100,000 members, and keeps the file open.
Source of the format: PKWARE's APPNOTE.TXT, sections 4.3 and 4.5.
"""

from __future__ import annotations

import stat
import struct
import zlib
from collections.abc import Iterator
from typing import NamedTuple

from pmtrain.data.images.packed.member_names import MOST_MEMBERS, Names, refused
from pmtrain.data.images.packed.old_encodings import likely_encodings, may_be_western
from pmtrain.data.images.packed.streams import RAW_DEFLATE, Inflated, Stored, Stream, damaged, part_of
from pmtrain.system.errors import PmtrainError

STORED, DEFLATED = 0, 8
METHODS = {9: "Deflate64", 12: "bzip2", 14: "LZMA", 93: "Zstandard", 95: "xz", 99: "encryption"}

END = struct.Struct("<4s4H2IH")  # end of central directory
LOCATOR = 20  # bytes of the locator of the zip64 end of central directory, between the two ends
END64 = struct.Struct("<4sQ2H2I4Q")
ENTRY = struct.Struct("<4s x B 2x 2H 4x 3I 3H 4x 2I")  # of the central directory, without what isn't used
LOCAL = struct.Struct("<4s5H3I2H")  # header before a member's data
LARGEST_ENTRY = ENTRY.size + 3 * 0xFFFF


class _Member(NamedTuple):
    offset: int  # of its local header
    packed: int  # bytes
    size: int  # bytes when unpacked
    crc: int
    method: int


class ZipArchive:
    """A zip archive's members by name; the file is opened for each read, so that processes and threads may share it.

    Args:
        stream: its bytes; None: those of the file of that path.
        largest: bytes that a member may have; None: as many as can be read at once.
    Raises:
        PmtrainError: it is damaged, or has a member that is encrypted, a link, too large, or has a bad name.
        OSError: it can't be opened.
    """

    def __init__(self, path: str, stream: Stream | None = None, largest: int | None = None) -> None:
        self._stream = stream or Stored(path)
        names = Names(path, largest)
        self.members: dict[str, _Member] = {}
        with self._stream.opened() as opened:
            try:
                for (name, mode, flags, member), plain in names.batches(_entries(path, opened)):
                    kind = mode & 0o170000
                    if name[-1:] in ("/", "\\"):
                        names.add_folder(name)
                        continue
                    if flags & 1:
                        raise refused(path, name, "is encrypted; only archives without a password can be read")
                    if kind and kind != stat.S_IFREG:
                        raise refused(path, name, "is a link or a device, not a file")
                    if member.method != STORED and member.method != DEFLATED:
                        method = METHODS.get(member.method, f"method {member.method}")
                        raise refused(path, name, f"is compressed by {method}; deflate can be read")
                    self.members[names.add(name, max(member.size, member.packed), plain)] = member
            except (struct.error, IndexError, ValueError):
                raise _not_zip(path) from None
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
        with self._stream.opened() as opened:
            data = opened.read_at(_start(opened, member), member.packed)
        if len(data) < member.packed:
            raise damaged("truncated: the end of the archive is missing")
        if member.method == DEFLATED:
            try:
                data = zlib.decompressobj(RAW_DEFLATE).decompress(data, member.size + 1)
            except zlib.error as error:
                raise damaged(f"damaged in the archive ({error})") from None
        if len(data) != member.size or zlib.crc32(data) != member.crc:
            raise damaged("damaged in the archive: other size or checksum than it states")
        return data

    def stream(self, name: str) -> Stream:
        """Random access to a member's bytes, without its checksum.

        Raises:
            KeyError: there is none of that name.
            OSError: it is damaged.
        """
        member = self.members[name]
        packed = part_of(self._stream, _start(self._stream, member), member.packed)
        return Inflated(packed, RAW_DEFLATE, member.size) if member.method == DEFLATED else packed


def _not_zip(path: str) -> PmtrainError:
    return PmtrainError(f"{path}: is not a zip archive, or its end is missing", "copy or download it again")


def _start(stream: Stream, member: _Member) -> int:
    """Where a member's data start."""
    header = stream.read_at(member.offset, LOCAL.size)
    if len(header) < LOCAL.size or not header.startswith(b"PK\3\4"):
        raise damaged("damaged in the archive: its header is missing")
    *_, name_length, extra_length = LOCAL.unpack(header)
    return member.offset + LOCAL.size + name_length + extra_length


def _entries(path: str, stream: Stream) -> Iterator[tuple[str, int, int, _Member]]:
    """Name, POSIX mode (0 if unknown), flags and place of every member, from the central directory.

    Raises:
        PmtrainError, struct.error, ValueError: it is not a zip archive.
    """
    count, start, length, prefix = _directory(path, stream)
    if count > MOST_MEMBERS:
        Names(path).check_count(count)
    if length > count * LARGEST_ENTRY:
        raise _not_zip(path)
    directory = stream.read_at(start, length)
    if len(directory) < length:
        raise _not_zip(path)
    position = 0
    encoding = None
    for _ in range(count):
        (
            signature, system, flags, method, crc, packed, size, name_length, extra_length, comment_length, attributes,
            offset,
        ) = ENTRY.unpack_from(directory, position)  # fmt: skip
        if signature != b"PK\1\2":
            raise _not_zip(path)
        start = position + ENTRY.size
        raw = directory[start : start + name_length]
        position = start + name_length + extra_length + comment_length
        if size == 0xFFFFFFFF or packed == 0xFFFFFFFF or offset == 0xFFFFFFFF:
            extra = directory[start + name_length : start + name_length + extra_length]
            size, packed, offset = _large(extra, size, packed, offset)
        mode = attributes >> 16 if system == 3 else 0
        try:
            name = raw.decode()  # in UTF-8, as flagged, or as macOS writes it without a flag
        except UnicodeDecodeError:
            if flags & 0x800:
                raise
            encoding = encoding or _encoding(directory, count)
            name = raw.decode(encoding, "replace")
        yield name, mode, flags, _Member(prefix + offset, packed, size, crc, method)


def _encoding(directory: bytes, count: int) -> str:
    """The encoding of names that aren't UTF-8: that of Windows in Asia, if they are likely to be in it, or DOS's."""
    names, position = [], 0
    for _ in range(count):
        name_length, extra_length, comment_length = struct.unpack_from("<3H", directory, position + 28)
        name = directory[position + ENTRY.size : position + ENTRY.size + name_length]
        try:
            name.decode("utf-8")
        except UnicodeDecodeError:
            names.append(name)
        position += ENTRY.size + name_length + extra_length + comment_length
    raw = b"\n".join(names)
    likely = [] if may_be_western(raw) else likely_encodings(raw)
    return likely[0] if likely else "cp437"


def _directory(path: str, stream: Stream) -> tuple[int, int, int, int]:
    """The number of members, where the central directory starts, its length, and the bytes before the archive."""
    whole = stream.length
    tail_start = max(0, whole - END.size - 0xFFFF - LOCATOR)
    tail = stream.read_at(tail_start, whole - tail_start)
    at = tail.rfind(b"PK\5\6")
    if at < 0:
        raise _not_zip(path)
    _, _, _, _, count, length, offset, _ = END.unpack_from(tail, at)
    end = tail_start + at
    if tail.startswith(b"PK\6\7", max(0, at - LOCATOR)):
        end -= LOCATOR + END64.size
        signature, *_, count, length, offset = END64.unpack(stream.read_at(max(0, end), END64.size))
        if signature != b"PK\6\6":
            raise _not_zip(path)
    prefix = end - length - offset
    if prefix < 0:
        raise _not_zip(path)
    return count, prefix + offset, length, prefix


def _large(extra: bytes, size: int, packed: int, offset: int) -> tuple[int, int, int]:
    """The zip64 values of an entry, for those that are too large for it."""
    while len(extra) >= 4:
        kind, length = struct.unpack_from("<2H", extra)
        if kind == 1:
            values = list(struct.unpack_from(f"<{length // 8}Q", extra, 4))
            return tuple(values.pop(0) if value == 0xFFFFFFFF else value for value in (size, packed, offset))  # type: ignore[return-value]
        extra = extra[4 + length :]
    return size, packed, offset
