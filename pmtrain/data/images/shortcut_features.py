"""The features of the shortcut baseline: file size, image size, colour and a thumbnail."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from pmtrain.data.images.read import ImageFile

THUMBNAIL = 16  # pixels a side
DARK = 16  # a pixel with no channel above this is outside the field of view
LARGE = 2000  # pixels; a JPEG with a longer side is decoded at an eighth of its scale
# Names the features in the cache on disk; RULES is raised when the features of a file change.
RULES = 1
FEATURES_KIND = f"shortcut-features-rules{RULES}-opencv{cv2.__version__}"


class Photograph(NamedTuple):
    """The input of the features: file size in bytes, sides in pixels, uint8 (h, w, 3) BGR, maybe scaled down."""

    size: int
    height: int
    width: int
    pixels: np.ndarray


@dataclass(frozen=True)
class Group:
    """A group of features: the number of them, and the function that computes them."""

    width: int
    features: Callable[[Photograph], Sequence[float] | np.ndarray]


def _sizes(photograph: Photograph) -> Sequence[float]:
    """Logarithms of the file size, the height and the width."""
    return [math.log(max(1, number)) for number in (photograph.size, photograph.height, photograph.width)]


def _colours(photograph: Photograph) -> np.ndarray:
    """Mean and standard deviation of blue, green and red in the field of view (all pixels if the image is black)."""
    bright = (photograph.pixels.max(axis=2) > DARK).astype(np.uint8)
    return np.concatenate(cv2.meanStdDev(photograph.pixels, mask=bright if bright.any() else None)).ravel()


def _thumbnail(photograph: Photograph) -> np.ndarray:
    """The whole image at 16 x 16 pixels, in colour."""
    return cv2.resize(photograph.pixels, (THUMBNAIL, THUMBNAIL), interpolation=cv2.INTER_AREA).ravel()


GROUPS: dict[str, Group] = {
    "size": Group(3, _sizes),
    "colour": Group(6, _colours),
    "thumbnail": Group(3 * THUMBNAIL**2, _thumbnail),
}
TOGETHER = "all"


def columns_of(group: str) -> slice:
    """The columns of one group of `GROUPS`, or of all groups."""
    if group == TOGETHER:
        return slice(0, sum(one.width for one in GROUPS.values()))
    names = list(GROUPS)
    start = sum(GROUPS[name].width for name in names[: names.index(group)])
    return slice(start, start + GROUPS[group].width)


def features_of(file: ImageFile) -> np.ndarray:
    """The features of one image file: (F,) float32, in the order of `GROUPS`.

    Raises:
        BadImage: it can't be decoded.
    """
    photograph = _photograph(file)
    return np.concatenate([np.asarray(group.features(photograph), np.float32) for group in GROUPS.values()])


def _photograph(file: ImageFile) -> Photograph:
    if file.scalable_sides is None or max(file.scalable_sides) <= LARGE:
        pixels = file.decode()
        return Photograph(len(file.data), pixels.shape[0], pixels.shape[1], pixels)
    pixels = file.decode(8)  # several times faster
    height, width = file.scalable_sides
    if (pixels.shape[0] > pixels.shape[1]) != (height > width):  # after EXIF rotation
        height, width = width, height
    return Photograph(len(file.data), height, width, pixels)


class FeatureTable:
    """The features of image files by path, filled by the part of the command that decodes them.

    Thread-safe. Memory: 3 KB per file.

    Args:
        wanted: the files whose features are needed.
    """

    def __init__(self, wanted: Iterable[Path]) -> None:
        self._wanted = frozenset(wanted)
        self.rows: dict[Path, np.ndarray] = {}  # (F,) float32 each

    def wants(self, path: Path) -> bool:
        """Whether the features of the file are needed and missing."""
        return path in self._wanted and path not in self.rows

    def fill(self, file: ImageFile) -> None:
        """Compute the features of a file if they are needed.

        Raises:
            BadImage: it can't be decoded.
        """
        if self.wants(file.path):
            self.rows[file.path] = features_of(file)
