"""Image files to begin with, valid and hostile. The valid ones show SYNTHETIC noise."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable

import numpy as np

from fuzzing.changes import png_chunk


def pixels(side: int = 24, seed: int = 0) -> np.ndarray:
    """SYNTHETIC noise: uint8 (side, side, 3)."""
    return np.random.default_rng(seed).integers(0, 255, (side, side, 3), np.uint8)


def written(save: Callable[[io.BytesIO], object]) -> bytes:
    """What `save` writes to a file."""
    stream = io.BytesIO()
    save(stream)
    return stream.getvalue()


def encoded(suffix: str, array: np.ndarray) -> bytes:
    """An image file by OpenCV."""
    import cv2

    return cv2.imencode(suffix, array)[1].tobytes()


def pngs() -> list[bytes]:
    return [
        encoded(".png", pixels(seed=1)),
        encoded(".png", pixels().astype(np.uint16) * 200),
        encoded(".png", np.dstack([pixels(), pixels()[..., 0]])),  # with transparency
        _png(65535, 65535, b""),
        _png(32_000, 32_000, b"\0" * 100_000),
        _png(20_000, 20_000, b"\0" * 1000),
        _png(65535, 65535, b"\0" * 20_000_000, 1, 0),  # 20 MB of zeros in 20 kB
        _png(65535, 1, b"\0" * 200_000),
        _png(0, 0, b""),
        _png((1 << 31) - 1, 1, b""),
    ]


def _png(width: int, height: int, content: bytes, depth: int = 8, colour: int = 2) -> bytes:
    head = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    chunks = ((b"IHDR", head), (b"IDAT", zlib.compress(content, 9)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(png_chunk(*chunk) for chunk in chunks)


def _saved(form: str, images: list[np.ndarray], mode: str = "RGB", **options: object) -> bytes:
    """An image file of one or more frames by Pillow."""
    from PIL import Image

    first, *more = (Image.fromarray(image).convert(mode) if mode else Image.fromarray(image) for image in images)
    several = {"save_all": True, "append_images": more} if more else {}
    return written(lambda stream: first.save(stream, form, **several, **options))


def jpegs() -> list[bytes]:
    from PIL import Image

    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned
    kinds = (("RGB", {}), ("L", {}), ("CMYK", {}), ("RGB", {"progressive": True}))
    found = [_saved("JPEG", [pixels()], mode, exif=exif, **options) for mode, options in kinds]
    place = found[0].find(b"\xff\xc0")
    wide = found[0][: place + 5] + b"\xff\xff\xff\xff" + found[0][place + 9 :]  # 65,535 pixels wide and high
    large = found[0][: place + 5] + b"\x7d\0\x7d\0" + found[0][place + 9 :]  # 32,000: less than OpenCV's own limit
    scans = found[3][:-2] + found[3][found[3].find(b"\xff\xda") : -2] * 50 + b"\xff\xd9"
    return [*found, wide, large, scans]


def tiffs() -> list[bytes]:
    pages = [pixels(seed=i) for i in range(2)]
    packings = ({}, {"compression": "tiff_lzw"}, {"compression": "tiff_adobe_deflate"}, {"compression": "jpeg"})
    found = [_saved("TIFF", pages, **options) for options in packings]
    found.append(_saved("TIFF", [pixels()[..., 0].astype(np.uint16) * 99], mode="", big_tiff=True))
    place = found[0].find(struct.pack("<HHI", 256, 3, 1))
    wide = bytearray(found[0])
    for tag in range(place, place + 24, 12):  # width and height
        wide[tag + 8 : tag + 10] = b"\xff\xff"
    return [*found, bytes(wide)]


def webps() -> list[bytes]:
    found = [_saved("WEBP", [pixels()], **options) for options in ({"quality": 50}, {"lossless": True})]
    found.append(_saved("WEBP", [pixels(seed=i) for i in range(3)]))
    wide = bytearray(found[0])
    wide[26:30] = b"\xff\x3f\xff\x3f"  # 16,383 x 16,383
    return [*found, bytes(wide)]


def others() -> list[bytes]:
    """BMP, Netpbm, GIF, TGA, ICO: what a file is, its first bytes say."""
    found = [_saved(form, [pixels()]) for form in ("BMP", "PPM", "GIF", "TGA", "ICO")]
    return [*found, b"P6\n65535 65535\n255\n", b"P5\n999999 999999\n65535\n\0"]


def dicoms() -> list[bytes]:
    import pydicom
    from pydicom.dataset import FileMetaDataset

    found = []
    for frames in (1, 3):
        head = FileMetaDataset()
        head.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
        head.MediaStorageSOPClassUID = pydicom.uid.SecondaryCaptureImageStorage
        head.MediaStorageSOPInstanceUID = "1.2.3"
        data = pydicom.Dataset()
        data.file_meta = head
        data.Rows = data.Columns = 24
        data.SamplesPerPixel, data.BitsAllocated, data.BitsStored, data.HighBit = 1, 16, 12, 11
        data.PixelRepresentation, data.PhotometricInterpretation = 0, "MONOCHROME2"
        data.NumberOfFrames = frames
        data.PatientID = "p1"
        data.PixelData = (np.arange(24 * 24 * frames, dtype=np.uint16) % 4096).tobytes()
        found.append(written(lambda stream, data=data: pydicom.dcmwrite(stream, data, enforce_file_format=True)))
    return found
