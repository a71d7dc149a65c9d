"""Plain statistics of an image, without a network: light, colour, detail and layout.

They find strangers that a network's features miss: a network can be very sure far from everything it was trained on
(Hein et al. 2019, "Why ReLU networks yield high-confidence predictions far away from the training data").
"""

from __future__ import annotations

import math
from typing import NamedTuple

import cv2
import numpy as np

from pmtrain.data.preprocessing.retina.field_of_view import Box, field_of_view

RULES = 2  # raised when the statistics of the same pixels change
SIDE, SMALL = 128, 64  # pixels: of the copies that detail and colour are measured on
CORNER = 8  # pixels of the small copy
SCALES = 4  # of detail: each half as fine as the one before
ALIKE = 1 / 255  # neighbours that differ by less are of one value
DIM = 24  # levels: pixels whose brightest channel is at or below this have no colour to speak of
LEAST_LIGHT, LEAST_DETAIL = 0.02, 0.1  # see Statistic.least


NOTABLE, FAR = 3.0, 6.0  # standard deviations from the training images: worth naming; by far too much


class Statistic(NamedTuple):
    """A statistic, and what to say of an image that has too little or too much of it, `a little|by far`.

    `least` is a difference that means nothing (rounding, JPEG): it is added to the spread of the training images, so
    that a statistic that hardly varies among them doesn't decide alone.
    """

    least: float
    low: str
    high: str

    def words(self, z: float) -> str:
        """What to say of an image that lies `z` standard deviations from the training images."""
        mild, *strong = (self.high if z > 0 else self.low).split("|")
        return strong[0] if strong and abs(z) >= FAR else mild


# In the order of `image_statistics`. Light and colour are in [0, 1], detail in natural logarithms.
STATISTICS: dict[str, Statistic] = {
    "brightness": Statistic(LEAST_LIGHT, "darker|underexposed", "brighter|overexposed"),
    "red": Statistic(LEAST_LIGHT, "less red", "more red"),
    "blue": Statistic(LEAST_LIGHT, "less blue", "more blue"),
    "red contrast": Statistic(LEAST_LIGHT, "less contrast in red", "more contrast in red"),
    "green contrast": Statistic(LEAST_LIGHT, "less contrast in green", "more contrast in green"),
    "blue contrast": Statistic(LEAST_LIGHT, "less contrast in blue", "more contrast in blue"),
    "corners": Statistic(LEAST_LIGHT, "darker corners", "brighter corners|no dark surround"),
    "edges": Statistic(LEAST_LIGHT, "darker edges", "brighter edges|bright edges"),
    "centre": Statistic(LEAST_LIGHT, "a darker centre", "a brighter centre"),
    "red-green variation": Statistic(LEAST_LIGHT, "less varied in colour", "more varied in colour"),
    "green-blue variation": Statistic(LEAST_LIGHT, "less varied in colour", "more varied in colour"),
    "finest detail": Statistic(LEAST_DETAIL, "blurred|out of focus, or a tiny picture", "sharper|noise, text or lines"),
    "fine detail": Statistic(LEAST_DETAIL, "blurred|out of focus, or a tiny picture", "sharper|noise, text or lines"),
    "coarse detail": Statistic(LEAST_DETAIL, "less coarse detail", "more coarse detail"),
    "coarsest detail": Statistic(LEAST_DETAIL, "less structure", "more structure"),
    "flat areas": Statistic(LEAST_LIGHT, "fewer even areas", "more even areas|areas of one value, as on screens"),
    "red and green alike": Statistic(LEAST_LIGHT, "other colours", "closer to grey"),
    "green and blue alike": Statistic(LEAST_LIGHT, "other colours", "closer to grey"),
    "direction": Statistic(0.15, "horizontal lines", "vertical lines"),
    "colour": Statistic(LEAST_LIGHT, "less colour", "more colour"),
}
LEAST = np.array([row.least for row in STATISTICS.values()])
LIGHT = slice(3, 6)  # the contrast of each channel
BLANK = 0.008  # of an image whose channels all vary by less (2 of 255 levels), nothing can be said


def image_statistics(image: np.ndarray) -> np.ndarray:
    """uint8 (H, W, 3), BGR -> the statistics of its field of view: (K,) float64, in the order of `STATISTICS`.

    Taken inside the box around the field of view (the whole image where no dark ground surrounds one), so that the
    width of a black frame doesn't count.
    """
    seen = _field(image)
    # OpenCV's functions take a tenth of NumPy's time on pictures this small.
    levels = cv2.resize(seen, (SMALL, SMALL), interpolation=cv2.INTER_AREA)
    small = _in_unit_range(levels)
    mean, std = (each.ravel() for each in cv2.meanStdDev(small))  # blue, green, red
    blue, green, red = cv2.split(small)
    grey = cv2.add(cv2.add(blue, green), red) / 3
    middle = slice(SMALL // 2 - CORNER, SMALL // 2 + CORNER)
    corners = [_mean(grey[rows, columns]) for rows in _ENDS for columns in _ENDS]
    edges = [_mean(grey[:1]), _mean(grey[-1:]), _mean(grey[:, :1]), _mean(grey[:, -1:])]
    across, down = cv2.absdiff(grey[:, 1:], grey[:, :-1]), cv2.absdiff(grey[1:], grey[:-1])
    return np.array(
        [
            _mean(grey),
            mean[2] - mean[1],
            mean[0] - mean[1],
            std[2],
            std[1],
            std[0],
            sum(corners) / len(corners),
            sum(edges) / len(edges),
            _mean(grey[middle, middle]),
            _std(cv2.subtract(red, green)),
            _std(cv2.subtract(green, blue)),
            *_detail(seen),
            np.count_nonzero(across < ALIKE) / across.size,
            _alike(red, green, mean[2], mean[1]),
            _alike(green, blue, mean[1], mean[0]),
            math.log((_mean(across) + 0.002) / (_mean(down) + 0.002)),
            _colour(levels),
        ],
        np.float64,
    )


def _field(image: np.ndarray) -> np.ndarray:
    """The inside of the box around the field of view, which is searched for in a small copy: (SIDE, SIDE, 3)."""
    whole = cv2.resize(image, (SIDE, SIDE), interpolation=cv2.INTER_AREA)
    box = field_of_view(cv2.resize(whole, (SMALL, SMALL), interpolation=cv2.INTER_AREA))
    if box == Box(0, 0, SMALL, SMALL):
        return whole
    y, x = (side / SMALL for side in image.shape[:2])
    top, bottom = round(y * box.top), round(y * (box.top + box.height))
    left, right = round(x * box.left), round(x * (box.left + box.width))
    part = image[top : max(bottom, top + 1), left : max(right, left + 1)]
    return cv2.resize(part, (SIDE, SIDE), interpolation=cv2.INTER_AREA)


_ENDS = (slice(0, CORNER), slice(SMALL - CORNER, SMALL))


def _detail(image: np.ndarray) -> list[float]:
    """The logarithm of the mean absolute Laplacian at SCALES sizes, the finest first."""
    grey = _in_unit_range(cv2.cvtColor(image, cv2.COLOR_BGR2GRAY))
    found = []
    for _ in range(SCALES):
        found.append(math.log(0.002 + cv2.norm(cv2.Laplacian(grey, cv2.CV_32F), cv2.NORM_L1) / grey.size))
        grey = cv2.resize(grey, (grey.shape[1] // 2, grey.shape[0] // 2), interpolation=cv2.INTER_AREA)
    return found


def _colour(levels: np.ndarray) -> float:
    """The median, over pixels that aren't dark, of the difference between the brightest and the darkest channel.

    So a mark or a legend in colour doesn't make a grey picture a coloured one.
    """
    blue, green, red = cv2.split(levels)
    brightest, darkest = cv2.max(cv2.max(blue, green), red), cv2.min(cv2.min(blue, green), red)
    lit = cv2.threshold(brightest, DIM, 255, cv2.THRESH_BINARY)[1]
    counts = cv2.calcHist([cv2.subtract(brightest, darkest)], [0], lit, [256], [0, 256]).ravel()
    below = np.cumsum(counts)
    return float(np.searchsorted(below, below[-1] / 2)) / 255


def _alike(one: np.ndarray, other: np.ndarray, one_mean: float, other_mean: float) -> float:
    """The correlation of two channels; near 0 where one of them hardly varies."""
    one, other = cv2.subtract(one, one_mean), cv2.subtract(other, other_mean)
    return float(np.vdot(one, other)) / ((cv2.norm(one) + 0.01) * (cv2.norm(other) + 0.01))


def _in_unit_range(image: np.ndarray) -> np.ndarray:
    """uint8, 0 to 255 -> float32, 0 to 1."""
    return np.divide(image, np.float32(255), dtype=np.float32)


def _mean(values: np.ndarray) -> float:
    """Of one channel."""
    return cv2.mean(values)[0]


def _std(values: np.ndarray) -> float:
    """Of one channel."""
    return float(cv2.meanStdDev(values)[1][0, 0])
