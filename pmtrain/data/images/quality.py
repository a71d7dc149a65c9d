"""Whether a fundus photograph is good enough to judge: lit, in focus, and neither too dark nor too bright.

This says nothing of whether an image is of the kind that a network was trained on. It is judged on a small copy, which
is what a network sees: a photograph that is only just out of focus at full size is good here. The limits were set on
800 photographs of iChallenge-PM and 596 of another camera (docs/prediction.md has the figures).
"""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np

SIDE = 128  # pixels: of the copy
SMALLEST = 96  # pixels: a smaller image lacks the fine detail that focus is judged by
BLANK = 2.0  # levels: an image whose channels all vary by less (standard deviation) shows nothing
LIT = 0.15  # of the bright pixels' level (95th percentile): from there on a pixel belongs to the field of view,
DARKEST = 12  # and from this level on
SMALLEST_FIELD = 0.2  # share of the image
UNDEREXPOSED = 40  # mean level of the brightest channel in the field
SATURATED = 250  # level
OVEREXPOSED = 0.15  # share of the field that is saturated
SCALES = (1.0, 2.0, 4.0)  # pixels: standard deviations of Gaussians; detail is what lies between two of them
FINE, MEDIUM = 0.45, 0.38  # of the coarsest detail: less fine, or less medium detail is out of focus
MARGIN = 9  # pixels around the field's edge, where its own contrast would pass for detail


DARK_CORNERS = 0.1 * 255  # levels: the mean of a fundus photograph's corners is at most that
CORNER = 16  # pixels of the copy


class Quality(NamedTuple):
    """Whether an image is good enough, and if not, why."""

    good: bool
    reason: str = ""

    @property
    def word(self) -> str:
        """`good` or `poor`."""
        return "good" if self.good else "poor"


def looks_like_fundus(image: np.ndarray) -> bool:
    """Whether uint8 (H, W, 3), BGR, has a fundus photograph's dark corners, and more red than green and than blue."""
    small = cv2.resize(image, (SIDE, SIDE), interpolation=cv2.INTER_AREA)
    ends = slice(0, CORNER), slice(SIDE - CORNER, SIDE)
    corners = [sum(cv2.mean(small[rows, columns])[:3]) / 3 for rows in ends for columns in ends]
    blue, green, red, _ = cv2.mean(small)
    return sum(corners) / 4 < DARK_CORNERS and red > 1.05 * green > 1.05 * blue


def fundus_quality(image: np.ndarray) -> Quality:
    """The quality of a fundus photograph, uint8 (H, W, 3) in any order of channels, at any size.

    A picture that was enlarged a lot lacks fine detail, as one that is out of focus does.
    """
    small = image
    if image.shape[:2] != (SIDE, SIDE):
        shrinks = min(image.shape[:2]) >= SIDE
        small = cv2.resize(image, (SIDE, SIDE), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)
    if float(cv2.meanStdDev(small)[1].max()) < BLANK:
        return Quality(False, "blank")
    first, second, third = cv2.split(small)
    brightest = cv2.max(cv2.max(first, second), third)
    level = max(DARKEST, LIT * _bright_level(brightest))
    lit = cv2.compare(brightest, level, cv2.CMP_GT)  # 0 or 255
    share = cv2.countNonZero(lit) / lit.size
    if share < SMALLEST_FIELD:
        return Quality(False, "no field of view")
    reasons = []
    if cv2.mean(brightest, lit)[0] < UNDEREXPOSED:
        reasons.append("underexposed")
    saturated = cv2.bitwise_and(cv2.compare(brightest, SATURATED, cv2.CMP_GE), lit)
    if cv2.countNonZero(saturated) > OVEREXPOSED * share * lit.size:
        reasons.append("overexposed")
    if _out_of_focus(small, lit):
        reasons.append("out of focus, or a tiny picture")
    return Quality(not reasons, ", ".join(reasons))


def _out_of_focus(image: np.ndarray, lit: np.ndarray) -> bool:
    """By the detail inside the field at three scales: a lens blurs the finest first, whatever the contrast."""
    inside = cv2.erode(lit, np.ones((MARGIN, MARGIN), np.uint8), borderType=cv2.BORDER_CONSTANT, borderValue=255)
    if not cv2.countNonZero(inside):
        return False
    grey = np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2GRAY), np.float32)
    narrow = cv2.GaussianBlur(grey, (0, 0), SCALES[0])
    fine = cv2.mean(cv2.absdiff(grey, narrow), inside)[0]
    # The wider ones on a copy of half the size, in a quarter of the time.
    half, inside = (cv2.resize(each, (SIDE // 2, SIDE // 2), interpolation=cv2.INTER_AREA) for each in (narrow, inside))
    wide, widest = (cv2.GaussianBlur(half, (0, 0), scale / 2) for scale in SCALES[1:])
    medium, coarse = cv2.mean(cv2.absdiff(half, wide), inside)[0], cv2.mean(cv2.absdiff(wide, widest), inside)[0]
    return fine < FINE * (coarse + 0.05) or medium < MEDIUM * (coarse + 0.05)


def _bright_level(brightest: np.ndarray) -> int:
    """The 95th percentile, from a histogram."""
    below = np.cumsum(cv2.calcHist([brightest], [0], None, [256], [0, 256]).ravel())
    return int(np.searchsorted(below, 0.95 * below[-1]))
