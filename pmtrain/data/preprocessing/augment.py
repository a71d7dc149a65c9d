"""Training images changed at random, drawn for each image and epoch from the seed alone.

So an epoch is the same whatever the batch size or the number of workers, and after a resume at any batch.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from pmtrain.system.errors import UsageError


@dataclass(frozen=True)
class Augmentation:
    """How far each operation may go.

    A factor f stands for anything between 1/f and f, log-uniform: to halve is as likely as to double. What is no
    factor is uniform. The defaults change nothing.

    Args:
        mirror: left and right are exchanged in half of the images: a right eye for a left one.
        upside_down: top and bottom likewise.
        rotation: degrees, either way; 180 is the full circle.
        scale: a factor.
        shift: share of the side, along each axis, either way.
        brightness: a factor on all values, as a longer or shorter exposure.
        contrast: the exponent, a factor, of a power curve through 0 and each channel's mean: black stays black.
        colour: a factor for each channel, all drawn alike: the channels may be BGR or RGB.
        blur: greatest standard deviation of a Gaussian, as a share of the side.
    """

    mirror: bool = False
    upside_down: bool = False
    rotation: float = 0.0
    scale: float = 1.0
    shift: float = 0.0
    brightness: float = 1.0
    contrast: float = 1.0
    colour: float = 1.0
    blur: float = 0.0

    def geometry(self, rng: np.random.Generator, size: int) -> np.ndarray:
        """(2, 3) float64: from a pixel's (x, y, 1) to its new place, all about the centre of the image."""
        flips = np.where((self.mirror, self.upside_down) & (rng.random(2) < 0.5), -1.0, 1.0)
        angle, scale, *shift = rng.uniform(-1, 1, 4)
        turn = np.radians(self.rotation * angle)
        cos, sin = self.scale**scale * np.cos(turn), self.scale**scale * np.sin(turn)
        linear = np.array([[cos, sin], [-sin, cos]]) * flips
        centre = np.full(2, (size - 1) / 2)
        return np.column_stack([linear, centre + self.shift * size * np.array(shift) - linear @ centre])

    def tones(self, rng: np.random.Generator, mean: np.ndarray) -> np.ndarray:
        """(256, 3) uint8: each value's new value by channel, for channels of such (3,) means."""
        brightness, contrast, *colour = rng.uniform(-1, 1, 5)
        pivot = np.maximum(mean, 1.0)
        curve = pivot * (np.arange(256.0)[:, None] / pivot) ** self.contrast**contrast
        gains = self.brightness**brightness * self.colour ** np.array(colour)
        return np.clip(np.rint(curve * gains), 0, 255).astype(np.uint8)

    def __call__(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """uint8 (S, S, 3) -> the same; what the geometry leaves uncovered is black."""
        size = image.shape[0]
        matrix = self.geometry(rng, size)
        tones = self.tones(rng, np.array(cv2.mean(image)[:3]))
        sigma = self.blur * size * rng.random()
        changed = cv2.warpAffine(image, matrix, (size, size), flags=cv2.INTER_LINEAR)
        changed = cv2.LUT(changed, tones[None])
        # Below a fifth of a pixel a Gaussian's neighbours weigh nothing.
        return cv2.GaussianBlur(changed, (0, 0), sigma) if sigma > 0.2 else changed


AUGMENTATIONS: dict[str, Augmentation] = {
    "none": Augmentation(),
    "light": Augmentation(mirror=True, rotation=10, scale=1.05, shift=0.03, brightness=1.1, contrast=1.1),
    "fundus": Augmentation(
        mirror=True,
        upside_down=True,
        rotation=180,
        scale=1.1,
        shift=0.05,
        brightness=1.25,
        contrast=1.2,
        colour=1.08,
        blur=0.003,
    ),
}


class Augment:
    """A row of AUGMENTATIONS with a run's seed.

    Raises:
        UsageError: no such row.
    """

    def __init__(self, name: str, seed: int) -> None:
        if name not in AUGMENTATIONS:
            raise UsageError(f"no augmentation {name!r}", f"one of: {', '.join(AUGMENTATIONS)}")
        self.name = name
        self.seed = seed
        # On images this small OpenCV's own threads gain nothing and would compete with the training's.
        cv2.setNumThreads(1)

    def __call__(self, image: np.ndarray, epoch: int, index: int, repeat: int = 0) -> np.ndarray:
        """One training image as an epoch shows it: uint8 (S, S, 3) -> the same.

        Args:
            index: the sample's place in the training split.
            repeat: how often the epoch has shown it before; each time it is changed in another way.
        """
        if self.name == "none":
            return image
        key = (1, epoch, index, repeat) if repeat else (1, epoch, index)
        rng = np.random.default_rng(np.random.SeedSequence(self.seed, spawn_key=key))
        return AUGMENTATIONS[self.name](image, rng)
