"""Decode DICOM photographs with pydicom, an optional extra."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any, TypeVar

import cv2
import numpy as np

from pmtrain.data.images.containers import Unreadable
from pmtrain.data.images.decoders import to_bytes

Value = TypeVar("Value")

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
    kind = _element(dataset, "PhotometricInterpretation", str, "")
    bits = _element(dataset, "BitsStored", int, 0)
    if _element(dataset, "PixelRepresentation", int, 0):
        raise Unreadable("the DICOM file has signed values, so it is not a photograph")
    try:
        values = pixel_array(dataset, index=0)  # YBR converted to RGB
        if kind == "PALETTE COLOR":
            values, bits = apply_color_lut(values, dataset), int(dataset.RedPaletteColorLookupTableDescriptor[2])
    except MemoryError:
        raise
    except Exception as error:  # pydicom reports missing plugins as RuntimeError, damage as many other exceptions
        raise Unreadable(f"pydicom can't decode the DICOM image ({_one_line(error)})") from None
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
    return _element(_dataset(data, stop_before_pixels=True), "NumberOfFrames", int, 1)


def dicom_sides(data: bytes) -> tuple[int, int]:
    """Height and width of a frame as the header says; (0, 0) where it can't be read: decoding then says why."""
    try:
        dataset = _dataset(data, stop_before_pixels=True)
        return _element(dataset, "Rows", int, 0), _element(dataset, "Columns", int, 0)
    except Unreadable:
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
        raise Unreadable(f"pydicom can't read the DICOM file ({_one_line(error)})") from None


def _element(dataset: Any, name: str, kind: Callable[[Any], Value], without: Value) -> Value:
    """The value of an element, or `without` it. pydicom decodes it here, and damaged bytes can make it raise anything.

    Raises:
        Unreadable: it can't be decoded, or is of another kind.
    """
    try:
        found = dataset.get(name)
        return without if found is None or found == "" else kind(found)
    except MemoryError:
        raise
    except Exception as error:
        raise Unreadable(f"pydicom can't read {name} of the DICOM file ({_one_line(error)})") from None


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
