"""Bytes of a file to pixels, uint8 (H, W, 3) BGR: by OpenCV what it gets right, by Pillow what is left."""

from __future__ import annotations

import io
from collections.abc import Callable

import cv2
import numpy as np

from pmtrain.data.images.containers import Header, Unreadable

# OpenCV's own complaints name no file; errors of ours do. Its version 5 moved the switch.
_set_log_level = cv2.setLogLevel if hasattr(cv2, "setLogLevel") else cv2.utils.logging.setLogLevel
_set_log_level(0)

NO_IMAGE = "not an image of a known format"
# What Pillow may open: pictures of one kind of pixel, and nothing that another program would have to run for.
FORMATS = ("AVIF", "BMP", "GIF", "JPEG", "JPEG2000", "PNG", "PPM", "TIFF", "WEBP")
REDUCED = {
    1: cv2.IMREAD_COLOR,
    2: cv2.IMREAD_REDUCED_COLOR_2,
    4: cv2.IMREAD_REDUCED_COLOR_4,
    8: cv2.IMREAD_REDUCED_COLOR_8,
}


def decode_plain(data: bytes) -> np.ndarray:
    """Eight bits or fewer, grey or colour, nothing transparent."""
    return _by_opencv(data, cv2.IMREAD_COLOR)


def decode_jpeg(data: bytes, header: Header, by: int = 1) -> np.ndarray:
    """A plain JPEG, at 1, 1/2, 1/4 or 1/8 of its size.

    OpenCV's bytes, by the library that OpenCV's builds hold, libjpeg-turbo. Asked without OpenCV between, it tells
    where coded data run out or make no sense, as they do in most files with a damaged block. Where simplejpeg isn't
    installed or refuses the file for another reason, OpenCV decodes it.

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
        # Bytes too many between segments are some cameras' habit.
        if str(error).startswith("Corrupt JPEG data") and "extraneous bytes" not in str(error):
            raise Unreadable(f"damaged: {error}") from None
        return _by_opencv(data, REDUCED[by])
    if image.shape[:2] != sides:
        return _by_opencv(data, REDUCED[by])
    return np.ascontiguousarray(TURNS[header.turn](image))


# By the number that EXIF data give the way a picture is stored: how to turn it upright.
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
    """PNG and TIFF of more than 8 bits a value, by OpenCV: Pillow has no colour of 16 bits."""
    values = _by_opencv(data, cv2.IMREAD_UNCHANGED)
    if values.dtype not in (np.uint8, np.uint16):
        raise Unreadable(f"its values are of type {values.dtype}: no photograph's")
    if values.ndim == 2:
        grey = to_bytes(values, header.significant)
        return cv2.cvtColor(255 - grey if header.white_is_zero else grey, cv2.COLOR_GRAY2BGR)
    colours = to_bytes(values[..., :3], header.significant)
    return over_black(colours, to_bytes(values[..., 3])) if values.shape[2] == 4 else colours


def decode_other(data: bytes) -> np.ndarray:
    """Whatever else Pillow knows: CMYK, palettes, transparency over black, any turn that EXIF data state."""
    from PIL import Image, ImageOps, UnidentifiedImageError  # here: most files need no Pillow

    try:
        Image.init()
        known = [name for name in FORMATS if name in Image.OPEN]  # AVIF isn't in every build
        with Image.open(io.BytesIO(data), formats=known) as file:
            image = ImageOps.exif_transpose(file)
        if image.mode.startswith(("I", "F")):
            values = np.asarray(image)
            if image.mode == "F" or values.min() < 0 or values.max() > 0xFFFF:
                raise Unreadable(f"its values aren't whole numbers of 16 bits (Pillow's mode {image.mode})")
            return cv2.cvtColor(to_bytes(values), cv2.COLOR_GRAY2BGR)
        pixels = np.asarray(image.convert("RGBA"))
    except UnidentifiedImageError:
        raise Unreadable(NO_IMAGE) from None
    except (MemoryError, Unreadable):
        raise
    except Exception as error:  # whatever damaged bytes make it raise
        raise Unreadable(f"Pillow can't decode it ({' '.join(str(error).split()) or type(error).__name__})") from None
    return over_black(pixels[..., 2::-1], pixels[..., 3])


def _by_opencv(data: bytes, flags: int) -> np.ndarray:
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error as error:
        raise Unreadable(f"OpenCV can't decode it ({' '.join(str(error.err or error).split())})") from None
    if image is None:
        raise Unreadable("damaged, or of a kind that OpenCV can't decode")
    return image


def to_bytes(values: np.ndarray, significant: int = 0) -> np.ndarray:
    """Values of up to 16 bits -> uint8, scaled by their real range, 0 to 2 ** bits - 1, and rounded.

    Args:
        significant: the bits that count, as the file states them, 0 where it doesn't: then `bits` is the least
            depth from 8 to 16 that holds the largest value. A value above what was stated shows that the
            file keeps its bits at the upper end, as PNG asks for: then `bits` is 16.
    """
    if values.dtype == np.uint8:
        return np.ascontiguousarray(values)
    largest = int(values.max(initial=0))
    bits = 16 if significant and largest >> significant else max(8, significant or largest.bit_length())
    most = (1 << bits) - 1
    table = ((np.arange(most + 1) * 255 + most // 2) // most).astype(np.uint8)
    return table[values]


def over_black(colours: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """(H, W, 3) and (H, W), uint8 -> what is seen over black."""
    return ((colours * alpha[..., None].astype(np.uint16) + 127) // 255).astype(np.uint8)
