"""Read image files; a file that can't be decoded completely is an error with its name and the reason."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from pmtrain.data.images import source
from pmtrain.data.images.containers import HEADERS, JPEG_SIGNATURE, TIFF_SIGNATURES, Header, Unreadable
from pmtrain.data.images.decoders import decode_deep, decode_jpeg, decode_other, decode_plain
from pmtrain.data.images.dicom import count_frames, decode_dicom, is_dicom
from pmtrain.data.images.file_table import FILES
from pmtrain.system.errors import PmtrainError

# Suffixes of image files, in lower case. The content decides the format, not the suffix.
SUFFIXES = frozenset({".bmp", ".dcm", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"})
MOST_PIXELS = 1 << 28  # 16,384 x 16,384: 768 MiB as uint8 RGB
OF_MANY_PICTURES = frozenset({".dcm", ".tif", ".tiff"})  # suffixes of files that may hold several images


class BadImage(PmtrainError):
    """An image file that can't be decoded completely."""

    def __init__(self, name: str | Path, reason: str, hint: str = "") -> None:
        super().__init__(f"{name}: {reason}", hint)
        self.name = name
        self.reason = reason

    def __reduce__(self):
        return type(self), (self.name, self.reason, self.hint)


def read_image(path: str | os.PathLike[str]) -> np.ndarray:
    """Decode an image file: uint8 (H, W, 3), BGR as in OpenCV, rotated by its EXIF orientation.

    Grey images get three equal channels, transparent pixels become black, CMYK is converted by the plain formula,
    colour profiles are not applied, and of several pages the first is read. Values of more than 8 bits are scaled to 8
    by their real range: see `decoders.to_bytes`.

    Raises:
        BadImage: the file is missing, empty, truncated, or not an image.
    """
    return ImageFile(path).decode()


class ImageFile:
    """The bytes and header of a file, checked on construction; each scale is decoded only once.

    Args:
        data: the bytes of the file if they have been read already.
    Raises:
        BadImage: as `read_image`.
    """

    def __init__(self, path: str | os.PathLike[str], data: bytes | None = None) -> None:
        self.path = Path(path)
        self._decoded: dict[int, np.ndarray] = {}
        try:
            # Not cv2.imread, which can't open every file name on Windows.
            self.data = source.read(path) if data is None else data
        except OSError as error:
            raise BadImage(self.path, error.strerror or type(error).__name__) from None
        if not self.data:
            raise BadImage(self.path, "the file is empty")
        self._is_jpeg = self.data.startswith(JPEG_SIGNATURE)
        self.header: Header | None = None
        if is_dicom(self.data):  # its first 128 bytes are free: in some files they are the header of a TIFF
            return
        for signature, read_header in HEADERS.items():
            if self.data.startswith(signature):
                try:
                    self.header = read_header(self.data)
                except Unreadable as reason:
                    raise BadImage(self.path, str(reason)) from None
                self._refuse_bombs(self.header)

    def _refuse_bombs(self, header: Header) -> None:
        """A few bytes may claim any number of pixels."""
        height, width = header.sides
        if height * width * (2 if header.depth > 8 else 1) > MOST_PIXELS:
            raise BadImage(
                self.path,
                f"has {width:,} x {height:,} pixels of {header.depth} bits; {MOST_PIXELS:,} of 8 bits can be read",
                "make a smaller copy of it",
            )

    @property
    def scalable_sides(self) -> tuple[int, int] | None:
        """The sides as stored if the decoder can divide them by 2, 4 and 8 (JPEG); else None."""
        return self.header.sides if self.header and self.header.plain and self._is_jpeg else None

    def decode(self, by: int = 1) -> np.ndarray:
        """Decode to uint8 (H, W, 3), BGR; if `scalable_sides` is set, both divided by 1, 2, 4 or 8, rounded up.

        Callers share the array and must not change it.

        Raises:
            BadImage: it can't be decoded.
        """
        by = by if self.scalable_sides else 1
        if by not in self._decoded:
            self._decoded[by] = self._decode(by)
        return self._decoded[by]

    def _decode(self, by: int) -> np.ndarray:
        header, data = self.header, self.data
        try:
            if header and header.plain:
                return decode_jpeg(data, header, by) if self._is_jpeg else decode_plain(data)
            if header and header.depth > 8 and not self._is_jpeg:
                return decode_deep(data, header)
            return decode_dicom(data) if is_dicom(data) else decode_other(data)
        except Unreadable as reason:
            raise BadImage(self.path, str(reason)) from None


def count_pictures(path: Path) -> int:
    """The number of pages of a TIFF or frames of a DICOM file (by suffix); 1 for other files.

    A file that can't be read counts as 1; reading it later gives the error.
    """
    if path.suffix.lower() not in OF_MANY_PICTURES:
        return 1
    return FILES.pictures(path, _count_pictures)


def _count_pictures(path: Path) -> int:
    from PIL import Image

    try:
        with source.open_file(path) as file:
            start = file.read(132)
            if is_dicom(start):
                return count_frames(source.read(path))
            if not start.startswith(TIFF_SIGNATURES):
                return 1
            file.seek(0)
            with Image.open(file, formats=("TIFF",)) as image:
                return getattr(image, "n_frames", 1)
    except MemoryError:
        raise
    except Exception:
        return 1
