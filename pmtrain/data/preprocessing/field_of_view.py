"""Where in a fundus photograph the retina is: the bright disc, or what the frame leaves of it, on a dark ground."""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np


class Box(NamedTuple):
    """A part of an image, in pixels."""

    top: int
    left: int
    height: int
    width: int

    def of(self, image: np.ndarray) -> np.ndarray:
        return image[self.top : self.top + self.height, self.left : self.left + self.width]


WORKING_SIDE = 512  # pixels: of the copy that is searched; finer edges than that are noise
LIT = 0.06  # of the way from the dark ground to the brightest: from there on a pixel belongs to the retina,
NOISE = 4  # and this many levels above the ground at least
DARK = 0.25  # of the brightest: a ground above this is no dark ground
FILLED = 0.10  # share of the image that a field of view fills at least
CROSSED = 0.04  # share of the longest row (column) of the field that a row (column) has inside the box


def field_of_view(image: np.ndarray) -> Box:
    """The box around the field of view of uint8 (H, W, 3); the whole image where no dark ground surrounds one.

    A pixel's brightness is its greatest channel. The ground is its 1st percentile, the brightest its 95th; the
    largest connected part above LIT of the way between them is the field. Rows and columns that it only just
    reaches, as with a camera's notch or printed text that touches it, are left out.
    """
    height, width = image.shape[:2]
    whole = Box(0, 0, height, width)
    scale = min(1.0, WORKING_SIDE / max(height, width))
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    blue, green, red = cv2.split(image)
    brightness = cv2.max(cv2.max(blue, green), red)
    if scale < 1:
        brightness = cv2.resize(brightness, size, interpolation=cv2.INTER_AREA)
    if min(brightness.shape) >= 5:
        brightness = cv2.medianBlur(brightness, 5)
    ground, brightest = np.percentile(brightness, (1, 95))
    if ground > DARK * brightest:
        return whole
    lit = (brightness > ground + max(NOISE, LIT * (brightest - ground))).astype(np.uint8)
    _, parts, statistics, _ = cv2.connectedComponentsWithStats(lit, connectivity=4)
    if len(statistics) < 2:
        return whole
    largest = 1 + int(np.argmax(statistics[1:, cv2.CC_STAT_AREA]))
    if statistics[largest, cv2.CC_STAT_AREA] < FILLED * lit.size:
        return whole
    field = parts == largest
    (top, bottom), (left, right) = _extent(field.sum(axis=1)), _extent(field.sum(axis=0))
    y, x = height / size[1], width / size[0]
    top, bottom = round(top * y), round(bottom * y)
    left, right = round(left * x), round(right * x)
    return Box(top, left, max(1, bottom - top), max(1, right - left))


def _extent(counts: np.ndarray) -> tuple[float, float]:
    """From the first to behind the last line that the field more than just reaches, to a fraction of a line.

    So the box hardly depends on the size at which the image was decoded.
    """
    level = CROSSED * counts.max()
    first, last = np.flatnonzero(counts >= level)[[0, -1]]
    padded = np.concatenate([[0], counts, [0]])  # line i at i + 1
    before, after = padded[first], padded[last + 2]
    start = first - (counts[first] - level) / (counts[first] - before)
    end = last + 1 + (counts[last] - level) / (counts[last] - after)
    return max(0.0, float(start)), min(float(len(counts)), float(end))
