"""Lens, sensor and file: random blur, noise and JPEG compression."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

LOWEST_QUALITY, HIGHEST_QUALITY = 10, 60


@dataclass(frozen=True)
class Sensor:
    """What a lens out of focus, a sensor in little light and a small file do to an image; the defaults change nothing.

    Each of the three comes with its own probability, in the order in which light meets them. The file is compressed at
    twice the image's size, since photographs are stored larger than a network sees them.

    Args:
        blur: the probability of a Gaussian, whose standard deviation is uniform up to `widest`.
        noise: that of normally distributed noise in each channel, whose standard deviation is uniform up to `loudest`.
        jpeg: that of JPEG compression, whose quality is uniform from LOWEST_QUALITY to HIGHEST_QUALITY.
        widest: a share of the image's side.
        loudest: of values in [0, 1].
    """

    blur: float = 0.0
    noise: float = 0.0
    jpeg: float = 0.0
    widest: float = 0.015
    loudest: float = 0.1

    def __call__(self, image: np.ndarray, rng: np.random.Generator, strength: float = 1.0) -> np.ndarray:
        """(S, S, 3), uint8 or float32 from 0 to 255 -> the same where nothing changed, float32 otherwise.

        Args:
            strength: multiplies the probabilities.
        """
        if not (self.blur or self.noise or self.jpeg):
            return image
        blurred, noisy, compressed = rng.random(3) < strength * np.array([self.blur, self.noise, self.jpeg])
        sigma, loudness, quality = rng.random(3)
        changed = image.astype(np.float32)
        if blurred:
            changed = cv2.GaussianBlur(changed, (0, 0), max(0.01, self.widest * sigma * image.shape[0]))
        if noisy:
            grains = rng.standard_normal(image.shape, np.float32)
            changed = np.clip(changed + np.float32(255 * self.loudest * loudness) * grains, 0, 255)
        if compressed:
            wanted = LOWEST_QUALITY + round(float(quality) * (HIGHEST_QUALITY - LOWEST_QUALITY))
            changed = _compressed(changed, wanted)
        return changed


def _compressed(image: np.ndarray, quality: int) -> np.ndarray:
    """Saved as a JPEG of twice the size and read again, at the image's own size: float32."""
    side = image.shape[0]
    large = cv2.resize(np.rint(image).astype(np.uint8), (2 * side, 2 * side), interpolation=cv2.INTER_LINEAR)
    saved = cv2.imencode(".jpg", large, [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
    read = cv2.imdecode(saved, cv2.IMREAD_COLOR)
    return cv2.resize(read, (side, side), interpolation=cv2.INTER_AREA).astype(np.float32)
