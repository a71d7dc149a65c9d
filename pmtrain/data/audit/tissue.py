"""Stained tissue: how much of an image it fills, ink of a pen, and the colour of its stain."""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np

LIGHT = 200  # levels: glass is at least that bright in every channel,
COLOURLESS = 30  # and its channels differ by less than this
STAINED = 140  # levels: the darkest channel of the lightest twentieth of a stained section is at least that bright
TINT = 4  # levels by which channels differ in the mean at least: grey images have no stain

# Ink in OpenCV's hue (0 to 180), saturation and value. Stains are paler, and none is green.
INKS = {
    "blue": ((98, 160, 40), (128, 255, 255)),
    "green": ((38, 80, 40), (88, 255, 255)),
    "black": ((0, 0, 0), (180, 80, 45)),
}
INKED = 0.02  # share of an image that is of one ink, from which on it is named


class Tissue(NamedTuple):
    """Of one image: the share without tissue, the ink in it (a name of INKS, or empty), and its stain.

    `stain`: the share of blue, green and red in the tissue's optical density, sum 1; zeros where there is no tissue.
    """

    empty: float
    ink: str
    stain: tuple[float, float, float]


def tissue_of(small: np.ndarray) -> Tissue | None:
    """Of a thumbnail, uint8 (h, w, 3) BGR; None where it is no stained section: grey, or without a light part."""
    blue, green, red = cv2.split(small)
    least, most = cv2.min(cv2.min(blue, green), red), cv2.max(cv2.max(blue, green), red)
    glass = (least >= LIGHT) & (most - least < COLOURLESS)
    grey = (most - least).mean() < TINT and not glass.all()
    if np.percentile(least, 95) < STAINED or grey:
        return None
    hsv = cv2.cvtColor(small, cv2.COLOR_BGR2HSV)
    shares = {ink: cv2.inRange(hsv, *bounds).mean() / 255 for ink, bounds in INKS.items()}
    ink = max(shares, key=shares.__getitem__)
    density = -np.log((small[~glass].astype(np.float64) + 1) / 256).sum(axis=0)
    stain = density / density.sum() if density.sum() > 0 else np.zeros(3)
    return Tissue(float(glass.mean()), ink if shares[ink] >= INKED else "", (stain[0], stain[1], stain[2]))


APART = 4.0  # standard deviations within two groups of stains that their centres are apart at least: one group cut in
# two by k-means is 2.7 apart
FEWEST = 10  # images of a group


def two_stains(stains: np.ndarray) -> np.ndarray | None:
    """(N, 3) stains -> (N,) bool, the group of each; None where they are of one kind."""
    if len(stains) < 2 * FEWEST:
        return None
    # Along the direction in which they differ most, cut by 2-means from both ends.
    centred = stains - stains.mean(axis=0)
    along = centred @ np.linalg.svd(centred, full_matrices=False)[2][0]
    centres = np.array([along.min(), along.max()])
    for _ in range(50):
        second = np.abs(along - centres[1]) < np.abs(along - centres[0])
        moved = np.array([along[~second].mean(), along[second].mean()]) if 0 < second.sum() < len(along) else centres
        if np.allclose(moved, centres, atol=1e-9):
            break
        centres = moved
    if min(second.sum(), (~second).sum()) < FEWEST:
        return None
    within = np.sqrt(np.mean(np.where(second, along - centres[1], along - centres[0]) ** 2))
    return second if abs(centres[1] - centres[0]) > APART * within else None
