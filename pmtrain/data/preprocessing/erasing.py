"""Random erasing: a rectangle of a training image is covered, drawn for each image and epoch from the seed alone."""

from __future__ import annotations

import cv2
import numpy as np

from pmtrain.data.preprocessing.augment import Augment

AREA, RATIO, TRIES = (0.02, 0.33), (0.3, 1 / 0.3), 10  # share of the image; height over width


class Erasing:
    """An augmentation, and after it, with a probability, a rectangle filled with the image's mean colour.

    The rectangle's area is uniform in AREA and its ratio log-uniform in RATIO, as in torchvision's RandomErasing.
    Source: Zhong et al. 2020.
    """

    def __init__(self, augment: Augment, probability: float) -> None:
        self.augment = augment
        self.probability = probability

    def __call__(self, image: np.ndarray, epoch: int, index: int, repeat: int = 0) -> np.ndarray:
        """As `Augment.__call__`; the image given is not changed."""
        changed = self.augment(image, epoch, index, repeat)
        rng = np.random.default_rng(np.random.SeedSequence(self.augment.seed, spawn_key=(6, epoch, index, repeat)))
        if rng.random() >= self.probability:
            return changed
        side = changed.shape[0]
        for _ in range(TRIES):  # one that doesn't fit into the image is drawn again
            area, ratio = rng.uniform(*AREA) * side**2, np.exp(rng.uniform(*np.log(RATIO)))
            height, width = round(np.sqrt(area * ratio)), round(np.sqrt(area / ratio))
            if 0 < height < side and 0 < width < side:
                top, left = rng.integers(side - height + 1), rng.integers(side - width + 1)
                changed = changed.copy()
                changed[top : top + height, left : left + width] = cv2.mean(changed)[:3]
                break
        return changed
