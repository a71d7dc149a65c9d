"""Read the members of a tar archive in place, plain or compressed by gzip."""

from __future__ import annotations

import tarfile
from typing import NamedTuple

from pmtrain.data.images.packed.member_names import Names, refused
from pmtrain.data.images.packed.streams import GZIP, GZIP_SIGNATURE, Inflated, Stored, Stream, damaged
from pmtrain.system.errors import PmtrainError

BLOCK = 512
LARGEST_HEADER = 1 << 20  # bytes read at once; the extended headers of real archives have a few hundred


class _Member(NamedTuple):
    offset: int
    size: int


class TarArchive:
    """A tar archive's members by name; the file is opened for each read, so that processes and threads may share it.

    Opening reads every header; with gzip this decompresses the whole file once.

    Raises:
        PmtrainError: it is damaged, or has a member that is a link, stored sparsely, too large, or has a bad name.
        OSError: it can't be opened.
    """

    def __init__(self, path: str) -> None:
        names = Names(path)
        self.members: dict[str, _Member] = {}
        stored = Stored(path)
        self._stream: Stream = Inflated(path, GZIP) if stored.read_at(0, 2) == GZIP_SIGNATURE else stored
        try:
            with tarfile.open(fileobj=_Headers(self._stream), mode="r:") as tar:  # type: ignore[call-overload]
                while (info := tar.next()) is not None:
                    tar.members.clear()  # a kilobyte each
                    if info.isdir():
                        names.add_folder(info.name)
                    elif info.issparse() or not info.isreg():
                        raise refused(path, info.name, "is a link, a device or a sparse file")
                    else:
                        self.members[names.add(info.name, info.size)] = _Member(info.offset_data, info.size)
                # A damaged header ends the list like the archive's end, which is a block of zeros or of nothing.
                if self._stream.read_at(tar.offset, BLOCK).strip(b"\0"):
                    raise damaged("a header is damaged")
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


class _Headers:
    """What tarfile reads headers from."""

    def __init__(self, stream: Stream) -> None:
        self._stream, self._position = stream, 0

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
        data = self._stream.read_at(self._position, count)
        self._position += len(data)
        return data
