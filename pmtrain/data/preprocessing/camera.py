"""The same scene by other cameras: random tone curves, gains, channel mixing and contrast, and grey."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from pmtrain.data.preprocessing.geometry import warped

# Standard deviations, at strength 1, of the logarithm of a factor, or of a matrix entry:
GAMMA_CHANNEL, GAMMA_COMMON = 0.25, 0.35
GAIN_CHANNEL, GAIN_COMMON = 0.2, 0.25
MIXING = 0.15
CONTRAST = 0.3


@dataclass(frozen=True)
class Camera:
    """Colours as other cameras, lamps and film give them; every draw is normally distributed.

    For values x in [0, 1]: x ** gamma * gain, by channel; then the channels are mixed by a matrix near the identity;
    then the contrast is changed about the mean of all pixels and channels, and the values are clipped. Last, with
    some probability, all three channels become the same random mean of the three.

    Args:
        colour: multiplies all standard deviations.
        grey: the probability of grey.
    """

    colour: float = 1.0
    grey: float = 0.0

    def __call__(
        self, image: np.ndarray, matrix: np.ndarray, rng: np.random.Generator, strength: float = 1.0
    ) -> np.ndarray:
        """uint8 (S, S, 3) and where its pixels go -> float32 (S, S, 3), from 0 to 255, not rounded.

        Args:
            strength: multiplies the standard deviations and the probability of grey.
        """
        # The channels' own draws, those common to all, the matrix: the channels may be BGR or RGB.
        own, common = rng.standard_normal((2, 3)), rng.standard_normal(3)
        mixing, (chance, *weights) = rng.standard_normal((3, 3)), rng.random(4)
        most = strength * self.colour
        gamma = np.exp(most * (GAMMA_CHANNEL * own[0] + GAMMA_COMMON * common[0]))
        gain = np.exp(most * (GAIN_CHANNEL * own[1] + GAIN_COMMON * common[1]))
        table = 255 * (np.arange(256)[:, None] / 255) ** gamma * gain
        changed = warped(cv2.LUT(image, table[None].astype(np.float32)), matrix)
        mix = np.eye(3) + most * MIXING * mixing
        contrast = np.exp(most * CONTRAST * common[2])
        mean = np.mean(mix @ cv2.mean(changed)[:3])
        changed = cv2.transform(changed, np.column_stack([contrast * mix, np.full(3, (1 - contrast) * mean)]))
        np.clip(changed, 0, 255, out=changed)
        if chance < strength * self.grey:
            changed = cv2.transform(changed, np.tile(weights / np.sum(weights), (3, 1)))
        return changed
