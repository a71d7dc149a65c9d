"""Where an augmented image's pixels go: flips, rotation, scale and shift, drawn at random."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np


@dataclass(frozen=True)
class Geometry:
    """How far each change of place may go; the defaults change nothing.

    Args:
        mirror: left and right are exchanged in half of the images: a right eye for a left one.
        upside_down: top and bottom likewise.
        rotation: degrees, either way; 180 is the full circle.
        right_angles: the rotation is a whole number of quarter turns.
        scale: a factor f stands for anything between 1/f and f, log-uniform: to halve is as likely as to double.
        shift: share of the side, along each axis, either way.
    """

    mirror: bool = False
    upside_down: bool = False
    rotation: float = 0.0
    right_angles: bool = False
    scale: float = 1.0
    shift: float = 0.0

    def matrix(self, rng: np.random.Generator, size: int) -> np.ndarray:
        """(2, 3) float64: from a pixel's (x, y, 1) to its new place, all about the centre of the image."""
        flips = np.where((self.mirror, self.upside_down) & (rng.random(2) < 0.5), -1.0, 1.0)
        angle, scale, *shift = rng.uniform(-1, 1, 4)
        degrees = self.rotation * angle
        turn = np.radians(90 * np.rint(degrees / 90) if self.right_angles else degrees)
        cos, sin = self.scale**scale * np.cos(turn), self.scale**scale * np.sin(turn)
        linear = np.array([[cos, sin], [-sin, cos]]) * flips
        centre = np.full(2, (size - 1) / 2)
        return np.column_stack([linear, centre + self.shift * size * np.array(shift) - linear @ centre])


def warped(image: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """An image (S, S, 3) with its pixels where the matrix puts them, bilinear; what that leaves uncovered is black."""
    return cv2.warpAffine(image, matrix, image.shape[1::-1], flags=cv2.INTER_LINEAR)
