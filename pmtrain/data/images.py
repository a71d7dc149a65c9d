"""Files to pixels. What can't be decoded whole is an error that names the file and the reason."""

from __future__ import annotations

import os
import re
import zlib
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np

from pmtrain.errors import PmtrainError

# Files taken for photographs, by lower-case suffix. What a file is, its content decides.
SUFFIXES = frozenset({".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"})

# OpenCV's own complaints name no file; BadImage does. Its version 5 moved the switch.
_set_log_level = cv2.setLogLevel if hasattr(cv2, "setLogLevel") else cv2.utils.logging.setLogLevel
_set_log_level(0)


class BadImage(PmtrainError):
    """An image file that can't be decoded whole."""

    def __init__(self, name: str | Path, reason: str, hint: str = "") -> None:
        super().__init__(f"{name}: {reason}", hint)
        self.name = name
        self.reason = reason

    def __reduce__(self):
        return type(self), (self.name, self.reason, self.hint)


def read_image(path: str | os.PathLike[str]) -> np.ndarray:
    """Decode an image file: uint8 (H, W, 3), BGR as OpenCV orders it, turned as its EXIF data say.

    Grey images get three equal channels, transparency is dropped, 16 bits are scaled to 8.

    Raises:
        BadImage: the file is missing, empty, no image, or cut short.
    """
    path = Path(path)
    try:
        data = path.read_bytes()  # not cv2.imread, which can't open every name on Windows
    except OSError as error:
        raise BadImage(path, error.strerror or type(error).__name__) from None
    if not data:
        raise BadImage(path, "the file is empty")
    for signature, find_fault in FAULTS.items():
        if data.startswith(signature) and (fault := find_fault(data)):
            raise BadImage(path, fault)
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    except cv2.error as error:
        raise BadImage(path, f"OpenCV can't decode it ({' '.join(str(error.err or error).split())})") from None
    if image is None:
        raise BadImage(path, "not an image that OpenCV can decode")
    return image


CUT_SHORT = "cut short: {} is missing"


def _jpeg_fault(data: bytes) -> str | None:
    """Why a JPEG isn't whole: OpenCV paints what a cut file lacks in grey and says nothing.

    Walks the marker segments (ITU-T T.81, annex B) to the end-of-image marker. Segments are skipped by their
    stated length, so that a thumbnail's own end marker inside EXIF data doesn't count.
    """
    position, scans = 2, 0
    while True:
        marker_start = data.find(b"\xff", position)  # decoders skip stray bytes between segments, so do we
        if marker_start < 0:
            return CUT_SHORT.format("the end-of-image marker")
        position = marker_start + 1
        while data[position : position + 1] == b"\xff":  # fill bytes
            position += 1
        if position >= len(data):
            return CUT_SHORT.format("the end-of-image marker")
        marker = data[position]
        position += 1
        if marker == 0xD9:  # end of image; what follows belongs to the camera
            return None if scans else "the JPEG holds no picture data"
        if marker in _STANDALONE:
            continue
        length = int.from_bytes(data[position : position + 2], "big")
        position += length
        if length < 2 or position > len(data):
            return CUT_SHORT.format(f"the end of JPEG segment {marker:02X}")
        if marker == 0xDA:  # a scan: its coded bytes follow the header up to the next true marker
            scans += 1
            following = _AFTER_SCAN.search(data, position)
            if following is None:
                return CUT_SHORT.format("the end-of-image marker")
            position = following.start()


# Markers without a segment: stuffing, TEM, restarts and start-of-image.
_STANDALONE = frozenset({0x00, 0x01, *range(0xD0, 0xD9)})
# In coded data FF00 is a stuffed byte, FFD0 to FFD7 are restarts and FFFF is fill: none of them ends the scan.
_AFTER_SCAN = re.compile(rb"\xff[\x01-\xcf\xd8-\xfe]")

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"


def _png_fault(data: bytes) -> str | None:
    """Why a PNG isn't whole: walks the chunks to IEND and checks every checksum (PNG specification, section 5)."""
    position = len(PNG_SIGNATURE)
    while True:
        length = int.from_bytes(data[position : position + 4], "big")
        kind = data[position + 4 : position + 8]
        end = position + 8 + length
        if end + 4 > len(data):
            return CUT_SHORT.format("the IEND chunk")
        if zlib.crc32(data[position + 4 : end]) != int.from_bytes(data[end : end + 4], "big"):
            return f"damaged: wrong checksum in PNG chunk {kind.decode('ascii', 'replace')}"
        if kind == b"IEND":
            return None
        position = end + 4


# A check by the file's first bytes: one row a format whose damage OpenCV doesn't report.
FAULTS: dict[bytes, Callable[[bytes], str | None]] = {b"\xff\xd8": _jpeg_fault, PNG_SIGNATURE: _png_fault}
