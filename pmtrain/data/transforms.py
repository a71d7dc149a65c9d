"""From decoded pixels to the network's input, the same in training, evaluation and everything after."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np

from pmtrain.errors import UsageError


def _stretch(image: np.ndarray, size: int) -> np.ndarray:
    """Resize both sides to `size`, bilinear, whatever the aspect: (H, W, 3) -> (S, S, 3)."""
    return cv2.resize(image, (size, size))


def _minus_one_to_one(images: np.ndarray) -> np.ndarray:
    """uint8 (N, S, S, 3) -> float32 (N, 3, S, S) in [-1, 1], in the notes' order of operations."""
    values = images.transpose(0, 3, 1, 2).astype(np.float32, order="C")
    values /= 255.0
    values *= 2.0
    values -= 1.0
    return values


@dataclass(frozen=True)
class Recipe:
    """How a preprocessing makes training-size bytes of an image, and the network's numbers of such bytes."""

    resize: Callable[[np.ndarray, int], np.ndarray]
    normalise: Callable[[np.ndarray], np.ndarray]


PREPROCESSES: dict[str, Recipe] = {
    "notes": Recipe(_stretch, _minus_one_to_one),
}


@dataclass(frozen=True)
class Preprocess:
    """A row of PREPROCESSES at one image size in pixels.

    Raises:
        UsageError: no such row, or a size below 1.
    """

    name: str = "notes"
    size: int = 224

    def __post_init__(self) -> None:
        if self.name not in PREPROCESSES:
            raise UsageError(f"no preprocessing {self.name!r}", f"one of: {', '.join(PREPROCESSES)}")
        if self.size < 1:
            raise UsageError(f"image size {self.size} is below 1 pixel")

    @property
    def pixels_key(self) -> str:
        """Names all that decides an image's training-size bytes besides its file; fit for a file's name."""
        return f"{self.name}-{self.size}-v1-opencv{cv2.__version__}"

    def resize(self, image: np.ndarray) -> np.ndarray:
        """uint8 (H, W, 3) -> uint8 (S, S, 3), the channels as they come (BGR)."""
        return PREPROCESSES[self.name].resize(image, self.size)

    def normalise(self, images: np.ndarray) -> np.ndarray:
        """uint8 (N, S, S, 3) -> float32 (N, 3, S, S)."""
        return PREPROCESSES[self.name].normalise(images)
