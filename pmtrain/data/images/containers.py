"""Read the headers of JPEG, PNG, TIFF and Netpbm files, and find truncated files, which OpenCV doesn't report."""

from __future__ import annotations

import io
import re
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass, replace

JPEG_SIGNATURE = b"\xff\xd8"
PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
TIFF_SIGNATURES = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")  # the last two are BigTIFF
CUT_SHORT = "truncated: {} is missing"


class Unreadable(ValueError):
    """A file can't be decoded; the message gives the reason."""


@dataclass(frozen=True, slots=True)
class Header:
    """The header values that decide how a file is decoded.

    Args:
        sides: height and width in pixels as stored, before EXIF rotation.
        depth: bits per value.
        significant: the number of significant bits if the file states it, else 0.
        plain: grey or colour, at most 8 bits, no transparency.
        turn: the EXIF orientation of a plain JPEG, 1 to 8; 1 means upright.
        white_is_zero: 0 is white in a grey image.
    """

    sides: tuple[int, int]
    depth: int
    significant: int = 0
    plain: bool = False
    turn: int = 1
    white_is_zero: bool = False


def jpeg_header(data: bytes) -> Header:
    """Walk a JPEG's marker segments (ITU-T T.81, annex B) to the end-of-image marker.

    OpenCV fills the missing part of a truncated file with grey, without an error. Segments are skipped by their stated
    length, so that the end marker of a thumbnail in the EXIF data doesn't count.

    Raises:
        Unreadable: the file is truncated.
    """
    position, scans, header, turn = 2, 0, None, 1
    while True:
        marker_start = data.find(b"\xff", position)  # stray bytes between segments are skipped, as decoders do
        if marker_start < 0:
            raise Unreadable(CUT_SHORT.format("the end-of-image marker"))
        position = marker_start + 1
        while data[position : position + 1] == b"\xff":  # fill bytes
            position += 1
        if position >= len(data):
            raise Unreadable(CUT_SHORT.format("the end-of-image marker"))
        marker = data[position]
        position += 1
        if marker == 0xD9:  # end of image; the camera may append data of its own
            if header is None or not scans:
                raise Unreadable("the JPEG has no image data")
            return replace(header, turn=turn)
        if marker in _STANDALONE:
            continue
        segment = position + 2
        length = int.from_bytes(data[position:segment], "big")
        position += length
        if length < 2 or position > len(data):
            raise Unreadable(CUT_SHORT.format(f"the end of JPEG segment {marker:02X}"))
        if marker == 0xE1 and turn == 1 and data.startswith(b"Exif\0\0", segment):
            turn = _exif_turn(data[segment:position])
        if marker in _FRAMES and length >= 8:
            depth, height, width, components = struct.unpack_from(">BHHB", data, segment)
            header = header or Header((height, width), depth, plain=depth == 8 and components in (1, 3))
        if marker == 0xDA:  # a scan: its coded bytes extend from the header to the next real marker
            scans += 1
            following = _AFTER_SCAN.search(data, position)
            if following is None:
                raise Unreadable(CUT_SHORT.format("the end-of-image marker"))
            position = following.start()


def _exif_turn(segment: bytes) -> int:
    """The EXIF orientation, 1 to 8; 1 if there is none or it is invalid."""
    from PIL import Image  # here: most files need no Pillow

    exif = Image.Exif()
    try:
        exif.load(segment)
        turn = int(exif.get(0x0112, 1))
    except MemoryError:
        raise
    except Exception:  # damaged bytes can make it raise anything
        return 1
    return turn if turn in range(1, 9) else 1


# Markers without a segment: stuffing, TEM, restarts and start-of-image.
_STANDALONE = frozenset({0x00, 0x01, *range(0xD0, 0xD9)})
# Start of frame, for every coding; C4, C8 and CC have other meanings.
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
# In coded data FF00 is a stuffed byte, FFD0 to FFD7 are restarts and FFFF is fill: none of them ends the scan.
_AFTER_SCAN = re.compile(rb"\xff[\x01-\xcf\xd8-\xfe]")


def png_header(data: bytes) -> Header:
    """Walk a PNG's chunks to IEND and check every checksum (PNG specification, section 5).

    Raises:
        Unreadable: the file is truncated or damaged.
    """
    position, found = len(PNG_SIGNATURE), dict[bytes, bytes]()
    while True:
        length = int.from_bytes(data[position : position + 4], "big")
        kind = data[position + 4 : position + 8]
        end = position + 8 + length
        if end + 4 > len(data):
            raise Unreadable(CUT_SHORT.format("the IEND chunk"))
        if zlib.crc32(data[position + 4 : end]) != int.from_bytes(data[end : end + 4], "big"):
            raise Unreadable(f"damaged: wrong checksum in PNG chunk {kind.decode('ascii', 'replace')}")
        found.setdefault(kind, data[position + 8 : min(end, position + 8 + 16)])
        if kind == b"IEND":
            break
        position = end + 4
    if len(found.get(b"IHDR", b"")) < 13:
        raise Unreadable("damaged: the PNG has no header")
    width, height, depth, colour = struct.unpack_from(">IIBB", found[b"IHDR"])
    opaque = colour in (0, 2, 3) and b"tRNS" not in found
    significant = max(found[b"sBIT"][: 3 if colour & 2 else 1], default=0) if b"sBIT" in found else 0
    return Header((height, width), depth, significant, plain=depth <= 8 and opaque and b"eXIf" not in found)


def tiff_header(data: bytes) -> Header:
    """The tags of a TIFF's first page that decide its values (TIFF 6.0, section 8).

    Raises:
        Unreadable: there is none, or its values aren't unsigned integers.
    """
    from PIL import TiffImagePlugin  # here: most files need no Pillow

    file = io.BytesIO(data)
    try:
        tags = TiffImagePlugin.ImageFileDirectory_v2(file.read(16 if data[2] == 43 or data[3] == 43 else 8))
        file.seek(tags.next)
        tags.load(file)
        width, height = int(tags[256]), int(tags[257])
        depth = max(map(int, tags.get(258, (1,))))
        largest = max(map(int, _tuple(tags.get(281, 0))))
        kinds = set(map(int, _tuple(tags.get(339, 1))))
        white_is_zero = tags.get(262) == 0
    except MemoryError:
        raise
    except Exception:  # damaged tags can make Pillow raise anything
        raise Unreadable("damaged: the TIFF tags can't be read") from None
    if not kinds <= {1, 4} or depth > 16:
        raise Unreadable(
            f"its values are {_KINDS.get(max(kinds), 'numbers')} of {depth} bits, so it is not a photograph"
        )
    significant = max(8, largest.bit_length()) if largest else depth if depth < 16 else 0
    return Header((height, width), depth, significant, white_is_zero=white_is_zero)


_KINDS = {2: "signed numbers", 3: "fractions", 5: "complex numbers", 6: "complex numbers"}  # of tag 339, SampleFormat


def _tuple(value: int | tuple[int, ...]) -> tuple[int, ...]:
    return value if isinstance(value, tuple) else (value,)


def netpbm_header(data: bytes) -> Header:
    """The header of a PGM or PPM file in the form in which arrays of images are read; other forms are left to Pillow.

    Raises:
        Unreadable: the file is truncated.
    """
    match = _NETPBM.match(data)
    if not match:
        return Header((0, 0), 8)
    width, height, largest = int(match[2]), int(match[3]), int(match[4])
    depth = 8 if largest == 255 else 16
    if len(data) - match.end() < width * height * (3 if match[1] == b"6" else 1) * depth // 8:
        raise Unreadable(CUT_SHORT.format("the end of the values"))
    return Header((height, width), depth, plain=depth == 8)


_NETPBM = re.compile(rb"P([56])\n(\d{1,6}) (\d{1,6})\n(255|65535)\n")


# One row per format that OpenCV doesn't decode reliably: damage goes unreported, or variants are wrong. By first bytes.
HEADERS: dict[bytes, Callable[[bytes], Header]] = {
    JPEG_SIGNATURE: jpeg_header,
    PNG_SIGNATURE: png_header,
    b"P5\n": netpbm_header,
    b"P6\n": netpbm_header,
    **dict.fromkeys(TIFF_SIGNATURES, tiff_header),
}
