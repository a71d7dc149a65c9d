"""Decode DICOM photographs with pydicom, an optional extra."""

from __future__ import annotations

import io
from typing import Any

import cv2
import numpy as np

from pmtrain.data.images.containers import Unreadable
from pmtrain.data.images.decoders import to_bytes

NEEDS_PYDICOM = 'a DICOM file; reading it needs pydicom: pip install "pmtrain[dicom]"'


def is_dicom(data: bytes) -> bool:
    return data[128:132] == b"DICM"


def decode_dicom(data: bytes) -> np.ndarray:
    """Decode the first frame: uint8 (H, W, 3), BGR, scaled from its stored bits, without window or rescaling.

    Raises:
        Unreadable: pydicom isn't installed, a plugin for compressed files is missing, or the file is not a photograph.
    """
    try:
        from pydicom.pixels import apply_color_lut, pixel_array
    except ImportError:
        raise Unreadable(NEEDS_PYDICOM) from None
    dataset = _dataset(data)
    if "PixelData" not in dataset:
        raise Unreadable("the DICOM file has no image")
    kind, bits = str(dataset.get("PhotometricInterpretation", "")), int(dataset.get("BitsStored", 0))
    if dataset.get("PixelRepresentation", 0):
        raise Unreadable("the DICOM file has signed values, so it is not a photograph")
    try:
        values = pixel_array(dataset, index=0)  # YBR converted to RGB
        if kind == "PALETTE COLOR":
            values, bits = apply_color_lut(values, dataset), int(dataset.RedPaletteColorLookupTableDescriptor[2])
    except MemoryError:
        raise
    except Exception as error:  # pydicom reports missing plugins as RuntimeError, damage as many other exceptions
        detail = " ".join(str(error).split())
        raise Unreadable(f"pydicom can't decode the DICOM image ({detail or type(error).__name__})") from None
    if values.dtype not in (np.uint8, np.uint16) or values.ndim not in (2, 3) or values.shape[2:] not in ((), (3,)):
        raise Unreadable(f"the DICOM image is {values.dtype} of shape {values.shape}, so it is not a photograph")
    pixels = to_bytes(values, bits)
    if pixels.ndim == 3:
        return np.ascontiguousarray(pixels[..., ::-1])
    return cv2.cvtColor(255 - pixels if kind == "MONOCHROME1" else pixels, cv2.COLOR_GRAY2BGR)


def count_frames(data: bytes) -> int:
    """The number of frames in a DICOM file.

    Raises:
        Unreadable: pydicom isn't installed, or can't read the file.
    """
    return int(_dataset(data, stop_before_pixels=True).get("NumberOfFrames", 1) or 1)


def dicom_sides(data: bytes) -> tuple[int, int]:
    """Height and width of a frame as the header says; (0, 0) where it can't be read: decoding then says why."""
    try:
        dataset = _dataset(data, stop_before_pixels=True)
        return int(dataset.Rows), int(dataset.Columns)
    except (Unreadable, AttributeError, TypeError, ValueError):
        return 0, 0


def _dataset(data: bytes, **options: Any) -> Any:
    try:
        from pydicom import dcmread
    except ImportError:
        raise Unreadable(NEEDS_PYDICOM) from None
    try:
        return dcmread(io.BytesIO(data), **options)
    except MemoryError:
        raise
    except Exception as error:  # damaged bytes can make it raise anything
        detail = " ".join(str(error).split())
        raise Unreadable(f"pydicom can't read the DICOM file ({detail or type(error).__name__})") from None
