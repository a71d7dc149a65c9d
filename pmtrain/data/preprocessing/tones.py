"""Random brightness, contrast, colour and sharpness, in bytes."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from pmtrain.data.preprocessing.geometry import warped


@dataclass(frozen=True)
class Tones:
    """How far each change of light may go; the defaults change nothing.

    A factor f stands for anything between 1/f and f, log-uniform: to halve is as likely as to double.

    Args:
        brightness: a factor on all values, as a longer or shorter exposure.
        contrast: the exponent, a factor, of a power curve through 0 and each channel's mean: black stays black.
        colour: a factor for each channel, all drawn alike: the channels may be BGR or RGB.
        blur: greatest standard deviation of a Gaussian, as a share of the side.
    """

    brightness: float = 1.0
    contrast: float = 1.0
    colour: float = 1.0
    blur: float = 0.0

    def table(self, rng: np.random.Generator, mean: np.ndarray, strength: float = 1.0) -> np.ndarray:
        """(256, 3) uint8: each value's new value by channel, for channels of such (3,) means.

        Args:
            strength: multiplies each factor's logarithm.
        """
        brightness, contrast, *colour = strength * rng.uniform(-1, 1, 5)
        pivot = np.maximum(mean, 1.0)
        curve = pivot * (np.arange(256.0)[:, None] / pivot) ** self.contrast**contrast
        gains = self.brightness**brightness * self.colour ** np.array(colour)
        return np.clip(np.rint(curve * gains), 0, 255).astype(np.uint8)

    def __call__(
        self, image: np.ndarray, matrix: np.ndarray, rng: np.random.Generator, strength: float = 1.0
    ) -> np.ndarray:
        """uint8 (S, S, 3) and where its pixels go -> uint8 (S, S, 3)."""
        table = self.table(rng, np.array(cv2.mean(image)[:3]), strength)
        sigma = self.blur * image.shape[0] * rng.random() * strength
        changed = cv2.LUT(warped(image, matrix), table[None])
        # Below a fifth of a pixel a Gaussian's neighbours weigh nothing.
        return cv2.GaussianBlur(changed, (0, 0), sigma) if sigma > 0.2 else changed
