"""Changes of a file: of bits, numbers, pieces and words, and inside of what has checksums or is packed."""

from __future__ import annotations

import contextlib
import io
import random
import re
import zipfile
import zlib
from collections.abc import Callable

# Changes a file within its checksums or its packing, with the words of its kind.
Inside = Callable[[bytes, random.Random, tuple[bytes, ...]], bytes]

NUMBERS = (0, 1, 2, 127, 128, 255, 256, 32767, 65535, 65536, 1 << 24, (1 << 31) - 1, 1 << 31, (1 << 32) - 1, 1 << 40,
           (1 << 63) - 1, (1 << 64) - 1)  # fmt: skip


def changed(data: bytes, draw: random.Random, tokens: tuple[bytes, ...] = (), inside: Inside | None = None) -> bytes:
    """The file with one to four changes.

    Args:
        tokens: pieces of text that mean something to the reader.
        inside: makes half of the changes where it can.
    """
    if inside and draw.random() < 0.5:
        with contextlib.suppress(Exception):  # it isn't whole enough to be changed inside
            return inside(data, draw, tokens)
    content = bytearray(data)
    for _ in range(draw.choice((1, 1, 1, 2, 2, 3, 4))):
        draw.choice(CHANGES)(content, draw, tokens)
    return bytes(content)


def _place(content: bytearray, draw: random.Random) -> int:
    """Mostly in the first or last part, where headers and indices are."""
    n = len(content)
    where = draw.random()
    if where < 0.4:
        return draw.randrange(min(n, 256) or 1)
    return draw.randrange(max(0, n - 256), n or 1) if where < 0.6 else draw.randrange(n or 1)


def _bits(content: bytearray, draw: random.Random, tokens: tuple[bytes, ...]) -> None:
    for _ in range(draw.randint(1, 8)):
        if content:
            content[_place(content, draw)] ^= 1 << draw.randrange(8)


def _number(content: bytearray, draw: random.Random, tokens: tuple[bytes, ...]) -> None:
    size = draw.choice((1, 2, 4, 8))
    place = _place(content, draw)
    order = draw.choice(("little", "big"))
    if draw.random() < 0.5:
        value = draw.choice(NUMBERS)
    else:
        value = int.from_bytes(content[place : place + size], order) + draw.randint(-3, 3)
    content[place : place + size] = (value % (1 << 8 * size)).to_bytes(size, order)


def _cut(content: bytearray, draw: random.Random, tokens: tuple[bytes, ...]) -> None:
    del content[_place(content, draw) :]


def _delete(content: bytearray, draw: random.Random, tokens: tuple[bytes, ...]) -> None:
    place = _place(content, draw)
    del content[place : place + draw.choice((1, 2, 4, 16, 256))]


def _insert(content: bytearray, draw: random.Random, tokens: tuple[bytes, ...]) -> None:
    place = _place(content, draw)
    content[place:place] = draw.randbytes(draw.choice((1, 2, 4, 16, 256)))


def _repeat(content: bytearray, draw: random.Random, tokens: tuple[bytes, ...]) -> None:
    start = _place(content, draw)
    piece = content[start : start + draw.choice((1, 4, 16, 64, 256))]
    content[start:start] = piece * draw.choice((1, 2, 16, 256, 4096))


def _splice(content: bytearray, draw: random.Random, tokens: tuple[bytes, ...]) -> None:
    start = _place(content, draw)
    piece = content[start : start + draw.choice((4, 16, 64, 1024))]
    place = _place(content, draw)
    content[place : place + len(piece)] = piece


def _token(content: bytearray, draw: random.Random, tokens: tuple[bytes, ...]) -> None:
    if not tokens:
        return _bits(content, draw, tokens)
    token = draw.choice(tokens)
    words = [*re.finditer(rb"[\w.+-]+", bytes(content[:65536]))]
    if words and draw.random() < 0.6:
        word = draw.choice(words)
        content[word.start() : word.end()] = token
    else:
        place = _place(content, draw)
        content[place:place] = token
    return None


CHANGES = (_bits, _number, _number, _cut, _delete, _insert, _repeat, _splice, _token, _token)


def in_png(data: bytes, draw: random.Random, tokens: tuple[bytes, ...]) -> bytes:
    """Change the content of PNG chunks, and correct lengths and checksums."""
    chunks, position = [], 8
    while position + 12 <= len(data):
        length = int.from_bytes(data[position : position + 4], "big")
        chunks.append([data[position + 4 : position + 8], bytearray(data[position + 8 : position + 8 + length])])
        position += 12 + length
    chunk = draw.choice(chunks)
    if chunk[0] == b"IDAT" and draw.random() < 0.5:
        pixels = bytearray(zlib.decompress(bytes(chunk[1])))
        draw.choice(CHANGES)(pixels, draw, tokens)
        chunk[1] = bytearray(zlib.compress(bytes(pixels)))
    else:
        draw.choice(CHANGES)(chunk[1], draw, tokens)
    if draw.random() < 0.3:
        draw.shuffle(chunks)
    return data[:8] + b"".join(png_chunk(name, bytes(content)) for name, content in chunks)


def png_chunk(name: bytes, content: bytes) -> bytes:
    """A chunk of a PNG with its length and checksum."""
    return len(content).to_bytes(4, "big") + name + content + zlib.crc32(name + content).to_bytes(4, "big")


def in_zip(data: bytes, draw: random.Random, tokens: tuple[bytes, ...]) -> bytes:
    """Change the content or the name of a member, and pack it again."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = {info.filename: bytearray(archive.read(info)) for info in archive.infolist()}
    name = draw.choice(list(members))
    content = members.pop(name)
    if draw.random() < 0.2:
        name = draw.choice(("../../evil", "/evil", "C:\\evil", "a\\..\\b", name + "\0x", "x" * 300, name.upper(), ""))
    else:
        for _ in range(draw.randint(1, 3)):
            draw.choice(CHANGES)(content, draw, tokens)
    return zipped(members | {name: content}, draw.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)))


def zipped(members: dict[str, bytes] | dict[str, bytearray], how: int = zipfile.ZIP_DEFLATED) -> bytes:
    """A zip archive of these members, which is the same whenever it is made."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", how) as archive:
        for name, content in members.items():
            archive.writestr(zipfile.ZipInfo(name or "x"), bytes(content), how)
    return out.getvalue()


def in_tar(data: bytes, draw: random.Random, tokens: tuple[bytes, ...]) -> bytes:
    """Change headers or contents of a tar, and correct the headers' checksums."""
    packed = data[:2] == b"\x1f\x8b"
    content = bytearray(zlib.decompress(data, 31) if packed else data)
    if draw.random() < 0.5:
        draw.choice(CHANGES)(content, draw, tokens)
    starts = [i for i in range(0, len(content) - 511, 512) if content[i + 257 : i + 262] == b"ustar"]
    start = draw.choice(starts)
    field_at, size = draw.choice(((0, 100), (100, 8), (124, 12), (136, 12), (156, 1), (157, 100), (345, 155)))
    values = (b"../../evil", b"/evil", b"77777777777", b"\x80\0\0\0\0\0\0\xff\xff\xff\xff\xff", b"-1", b"x" * size, b"")
    value = bytes([draw.choice(b"0123456789xgLKSVD")]) if size == 1 else draw.choice(values)
    content[start + field_at : start + field_at + size] = value[:size].ljust(size, b"\0")
    content[start + 148 : start + 156] = b" " * 8
    content[start + 148 : start + 156] = b"%06o\0 " % sum(content[start : start + 512])
    return gzipped(bytes(content)) if packed else bytes(content)


def gzipped(content: bytes) -> bytes:
    """A gzip file without a time in it."""
    packed = zlib.compressobj(wbits=31)
    return packed.compress(content) + packed.flush()
