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
    `directions`: the optical densities of its two stains, of length 1 each; zeros where there is little tissue.
    """

    empty: float
    ink: str
    stain: tuple[float, float, float]
    directions: tuple[float, ...]


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
    densities = -np.log((small[~glass].astype(np.float64) + 1) / 256)  # (K, 3)
    density = densities.sum(axis=0)
    stain = density / density.sum() if density.sum() > 0 else np.zeros(3)
    named = ink if shares[ink] >= INKED else ""
    return Tissue(float(glass.mean()), named, (stain[0], stain[1], stain[2]), tuple(_directions(densities).tolist()))


FAINT = 0.15  # optical density below which a pixel's stain isn't told
LEAST_PIXELS = 200  # of a thumbnail: fewer have no directions


def _directions(densities: np.ndarray) -> np.ndarray:
    """(K, 3) optical densities -> (6,): the two stains', that with more red first.

    The 1st and 99th percentile of the angles in the plane of their two largest principal components.
    Source: Macenko et al. 2009.
    """
    densities = densities[(densities > FAINT).all(axis=1)]
    if len(densities) < LEAST_PIXELS:
        return np.zeros(6)
    plane = np.linalg.eigh(np.cov(densities.T))[1][:, :0:-1]
    plane *= np.where(plane.sum(axis=0) < 0, -1, 1)
    along = densities @ plane
    ends = np.percentile(np.arctan2(along[:, 1], along[:, 0]), (1, 99))
    stains = np.stack([np.cos(ends), np.sin(ends)], axis=1) @ plane.T
    stains *= np.where(stains.sum(axis=1, keepdims=True) < 0, -1, 1)
    return stains[np.argsort(-stains[:, 2])].ravel()


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


PARTS = 5  # of cross-validation
TOLD, CHANCE = 0.70, 4.0  # an AUC from which on classes differ; and standard deviations of chance above 0.5


def told_by_stain(directions: np.ndarray, labels: np.ndarray, groups: np.ndarray) -> float | None:
    """The AUC with which the directions of the stains tell the classes, cross-validated; None where it may be chance.

    By linear discriminant analysis, with all images of a group (a patient, a slide) on one side.

    Args:
        directions: (N, 6).
        labels: (N,) 0 or 1.
        groups: (N,) of any kind.
    """
    counts = np.bincount(labels, minlength=2)
    if counts.min() < FEWEST or min(len(set(groups[labels == label])) for label in (0, 1)) < PARTS:
        return None
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis  # here: a second to import
    from sklearn.metrics import roc_auc_score
    from sklearn.model_selection import StratifiedGroupKFold, cross_val_predict

    model = LinearDiscriminantAnalysis(solver="lsqr", shrinkage=0.05)
    parts = StratifiedGroupKFold(PARTS, shuffle=True, random_state=0)
    scores = cross_val_predict(model, directions, labels, groups=groups, cv=parts, method="decision_function")
    found = float(roc_auc_score(labels, scores))
    chance = np.sqrt((counts.sum() + 1) / (12 * counts.prod()))
    return found if found >= max(TOLD, 0.5 + CHANCE * chance) else None
