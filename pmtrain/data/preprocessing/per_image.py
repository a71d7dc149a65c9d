"""Standardisation of each image by its own pixels, so that the camera's exposure and colour cast cancel."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np


@dataclass(frozen=True)
class PerImage:
    """Per image and channel, over the field's pixels: x minus its local mean, standardised, softly clipped.

    Args:
        disc: the field is the disc that touches the square's sides, and everything outside it becomes 0; otherwise the
            field is the whole square.
        local: the local mean is taken over a Gaussian with a radius of 1 / `local` of the side and a standard
            deviation of a quarter of that, normalised by the Gaussian's weight inside the field; 0: none is subtracted.
        least: added to the standard deviation, of values in [0, 1], so that a flat image isn't divided by 0.
        clip: x becomes clip * tanh(x / clip): outliers are bounded, small values keep their size; 0: not clipped.
    """

    disc: bool
    local: int
    least: float
    clip: float

    def field(self, size: int) -> Field:
        """The field of view in a square of `size` pixels, computed once."""
        return _field(self, size)

    def __call__(self, images: np.ndarray) -> np.ndarray:
        """uint8 or float32 (N, S, S, 3), BGR, values from 0 to 255 -> float32 (N, 3, S, S), RGB.

        Raises:
            cv2.error: the images are of another type or shape.
        """
        count, size = images.shape[:2]
        field = self.field(size)
        standardised = np.empty((count, 3, size, size), np.float32)
        for image, planes in zip(images, standardised, strict=True):
            values = image.astype(np.float32)
            values /= 255
            if self.local:
                values *= field.weight
                values -= field.blur(values) * field.by
            mean, std = cv2.meanStdDev(values, mask=field.pixels)
            for plane, channel in zip(planes, (2, 1, 0), strict=True):
                np.subtract(values[..., channel], np.float32(mean[channel, 0]), out=plane)
                plane *= np.float32(1 / (std[channel, 0] + self.least))
            planes *= field.weight[..., 0]
        if self.clip:
            standardised /= self.clip
            np.tanh(standardised, out=standardised)
            standardised *= self.clip
        return standardised


class Field(NamedTuple):
    """The field of view in the square, and what its local mean needs."""

    pixels: np.ndarray  # (S, S) uint8: 1 inside, 0 outside
    weight: np.ndarray  # (S, S, 1) float32: the same
    kernel: np.ndarray  # (K, 1) float32: the Gaussian
    by: np.ndarray  # (S, S, 1) float32: 1 / the Gaussian's weight inside the field, 0 outside

    def blur(self, values: np.ndarray) -> np.ndarray:
        return cv2.sepFilter2D(values, -1, self.kernel, self.kernel, borderType=cv2.BORDER_CONSTANT)


@functools.lru_cache(maxsize=8)
def _field(rule: PerImage, size: int) -> Field:
    pixels = np.ones((size, size), np.uint8)
    if rule.disc:
        distance = np.arange(size) - (size - 1) / 2  # of a pixel's centre from the middle
        pixels = (np.hypot(distance, distance[:, None]) <= size / 2).astype(np.uint8)
    weight = pixels.astype(np.float32)
    radius = max(1, size // rule.local) if rule.local else 0
    kernel = cv2.getGaussianKernel(2 * radius + 1, max(radius, 1) / 4, cv2.CV_32F)
    blurred = cv2.sepFilter2D(weight, -1, kernel, kernel, borderType=cv2.BORDER_CONSTANT)
    by = np.divide(weight, blurred, out=np.zeros_like(weight), where=pixels > 0)
    return Field(pixels, weight[..., None], kernel, by[..., None])
