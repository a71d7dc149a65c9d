"""Decode the bytes of a file to uint8 (H, W, 3) BGR: with OpenCV where it is correct, otherwise with Pillow."""

from __future__ import annotations

import io
from collections.abc import Callable

import cv2
import numpy as np

from pmtrain.data.images.containers import Header, Unreadable

# OpenCV's log messages don't name the file; our errors do. OpenCV 5 moved the setting.
_set_log_level = cv2.setLogLevel if hasattr(cv2, "setLogLevel") else cv2.utils.logging.setLogLevel
_set_log_level(0)

NO_IMAGE = "not an image of a known format"
# What Pillow may open: raster formats only, and none for which Pillow runs another program.
FORMATS = ("AVIF", "BMP", "GIF", "JPEG", "JPEG2000", "PNG", "PPM", "TIFF", "WEBP")
REDUCED = {
    1: cv2.IMREAD_COLOR,
    2: cv2.IMREAD_REDUCED_COLOR_2,
    4: cv2.IMREAD_REDUCED_COLOR_4,
    8: cv2.IMREAD_REDUCED_COLOR_8,
}


def decode_plain(data: bytes) -> np.ndarray:
    """At most 8 bits, grey or colour, no transparency."""
    return _by_opencv(data, cv2.IMREAD_COLOR)


def decode_jpeg(data: bytes, header: Header, by: int = 1) -> np.ndarray:
    """A plain JPEG, at 1, 1/2, 1/4 or 1/8 of its size.

    Uses libjpeg-turbo, as OpenCV does, so the pixels are the same. Called directly, it reports coded data that end
    early or are invalid, as in most files with a damaged block. If simplejpeg isn't installed, or refuses the file for
    another reason, OpenCV decodes it.

    Raises:
        Unreadable: it is damaged.
    """
    try:
        import simplejpeg
    except ImportError:
        return _by_opencv(data, REDUCED[by])
    sides = tuple(-(-side // by) for side in header.sides)
    try:
        image = simplejpeg.decode_jpeg(data, "BGR", min_height=sides[0], min_width=sides[1])
    except ValueError as error:
        # Some cameras write extra bytes between segments.
        if str(error).startswith("Corrupt JPEG data") and "extraneous bytes" not in str(error):
            raise Unreadable(f"damaged: {error}") from None
        return _by_opencv(data, REDUCED[by])
    if image.shape[:2] != sides:
        return _by_opencv(data, REDUCED[by])
    return np.ascontiguousarray(TURNS[header.turn](image))


# By EXIF orientation: how to turn the image upright.
TURNS: dict[int, Callable[[np.ndarray], np.ndarray]] = {
    1: lambda image: image,
    2: lambda image: cv2.flip(image, 1),
    3: lambda image: cv2.flip(image, -1),
    4: lambda image: cv2.flip(image, 0),
    5: lambda image: cv2.transpose(image),
    6: lambda image: cv2.rotate(image, cv2.ROTATE_90_CLOCKWISE),
    7: lambda image: cv2.transpose(cv2.flip(image, -1)),
    8: lambda image: cv2.rotate(image, cv2.ROTATE_90_COUNTERCLOCKWISE),
}


def decode_deep(data: bytes, header: Header) -> np.ndarray:
    """PNG and TIFF of more than 8 bits per value, with OpenCV: Pillow has no 16-bit colour."""
    values = _by_opencv(data, cv2.IMREAD_UNCHANGED)
    if values.dtype not in (np.uint8, np.uint16):
        raise Unreadable(f"its values are of type {values.dtype}, so it is not a photograph")
    if values.ndim == 2:
        grey = to_bytes(values, header.significant)
        return cv2.cvtColor(255 - grey if header.white_is_zero else grey, cv2.COLOR_GRAY2BGR)
    colours = to_bytes(values[..., :3], header.significant)
    return over_black(colours, to_bytes(values[..., 3])) if values.shape[2] == 4 else colours


def decode_other(data: bytes) -> np.ndarray:
    """All other formats, with Pillow: CMYK, palettes, transparency over black, EXIF rotation."""
    from PIL import Image, ImageOps, UnidentifiedImageError  # here: most files need no Pillow

    try:
        Image.init()
        known = [name for name in FORMATS if name in Image.OPEN]  # AVIF isn't in every build
        with Image.open(io.BytesIO(data), formats=known) as file:
            image = ImageOps.exif_transpose(file)
        if image.mode.startswith(("I", "F")):
            values = np.asarray(image)
            if image.mode == "F" or values.min() < 0 or values.max() > 0xFFFF:
                raise Unreadable(f"its values aren't 16-bit integers (Pillow mode {image.mode})")
            return cv2.cvtColor(to_bytes(values), cv2.COLOR_GRAY2BGR)
        pixels = np.asarray(image.convert("RGBA"))
    except UnidentifiedImageError:
        raise Unreadable(NO_IMAGE) from None
    except (MemoryError, Unreadable):
        raise
    except Exception as error:  # damaged bytes can make it raise anything
        raise Unreadable(f"Pillow can't decode it ({' '.join(str(error).split()) or type(error).__name__})") from None
    return over_black(pixels[..., 2::-1], pixels[..., 3])


def _by_opencv(data: bytes, flags: int) -> np.ndarray:
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error as error:
        raise Unreadable(f"OpenCV can't decode it ({' '.join(str(error.err or error).split())})") from None
    if image is None:
        raise Unreadable("damaged, or a variant that OpenCV can't decode")
    return image


def to_bytes(values: np.ndarray, significant: int = 0) -> np.ndarray:
    """Convert values of up to 16 bits to uint8, scaled by their real range, 0 to 2 ** bits - 1, and rounded.

    Args:
        significant: the number of significant bits that the file states. If it states none (0), `bits` is the smallest
            depth from 8 to 16 that holds the largest value. A value above the stated range means that the significant
            bits are the upper ones, as in PNG: then `bits` is 16.
    """
    if values.dtype == np.uint8:
        return np.ascontiguousarray(values)
    largest = int(values.max(initial=0))
    bits = 16 if significant and largest >> significant else max(8, significant or largest.bit_length())
    most = (1 << bits) - 1
    table = ((np.arange(most + 1) * 255 + most // 2) // most).astype(np.uint8)
    return table[values]


def over_black(colours: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """Blend uint8 (H, W, 3) pixels over black by their uint8 (H, W) alpha."""
    return ((colours * alpha[..., None].astype(np.uint16) + 127) // 255).astype(np.uint8)
