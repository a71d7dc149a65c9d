"""Training images changed at random, drawn for each image and epoch from the seed alone.

So an epoch is the same whatever the batch size or the number of workers, and after a resume at any batch.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np

from pmtrain.data.preprocessing.camera import Camera
from pmtrain.data.preprocessing.geometry import Geometry
from pmtrain.data.preprocessing.sensor import Sensor
from pmtrain.data.preprocessing.stain import Stain
from pmtrain.data.preprocessing.tones import Tones
from pmtrain.system.errors import UsageError


@dataclass(frozen=True)
class Augmentation:
    """Where the pixels go, what becomes of their values, how well they are recorded. The defaults change nothing."""

    geometry: Geometry = Geometry()
    values: Tones | Camera | Stain = Tones()
    sensor: Sensor = Sensor()

    def __call__(self, image: np.ndarray, rng: np.random.Generator, strength: float = 1.0) -> np.ndarray:
        """uint8 (S, S, 3), BGR -> (S, S, 3), uint8 or float32 from 0 to 255; what nothing covers is black.

        Args:
            strength: how far the values may change, as a multiple of the row's own; 0: the geometry alone.
        """
        changed = self.values(image, self.geometry.matrix(rng, image.shape[0]), rng, strength)
        return self.sensor(changed, rng, strength)


AUGMENTATIONS: dict[str, Augmentation] = {
    "none": Augmentation(),
    "light": Augmentation(
        Geometry(mirror=True, rotation=10, scale=1.05, shift=0.03), Tones(brightness=1.1, contrast=1.1)
    ),
    "fundus": Augmentation(
        Geometry(mirror=True, upside_down=True, rotation=180, scale=1.1, shift=0.05),
        Tones(brightness=1.25, contrast=1.2, colour=1.08, blur=0.003),
    ),
    "camera": Augmentation(Geometry(mirror=True, rotation=180, scale=1.15, shift=0.04), Camera(grey=0.3)),
    "camera-noise": Augmentation(
        Geometry(mirror=True, rotation=180, scale=1.15, shift=0.04),
        Camera(grey=0.3),
        Sensor(blur=0.25, noise=0.4, jpeg=0.25),
    ),
    "general": Augmentation(Geometry(mirror=True, rotation=20, scale=1.15, shift=0.04), Camera(colour=0.5, grey=0.3)),
    "pathology": Augmentation(Geometry(mirror=True, rotation=180, right_angles=True), Stain(range=0.05)),
}


class Augment:
    """A row of AUGMENTATIONS with a run's seed.

    Args:
        strength: as the row takes it.
        mirror: False: no image is mirrored, where the row would mirror some.
    Raises:
        UsageError: no such row.
    """

    def __init__(self, name: str, seed: int, strength: float = 1.0, mirror: bool = True) -> None:
        if name not in AUGMENTATIONS:
            raise UsageError(f"no augmentation {name!r}", f"one of: {', '.join(AUGMENTATIONS)}")
        self.name = name
        self.seed = seed
        self.strength = strength
        row = AUGMENTATIONS[name]
        self.row = row if mirror else replace(row, geometry=replace(row.geometry, mirror=False, upside_down=False))
        # On images this small OpenCV's own threads gain nothing and would compete with the training's.
        cv2.setNumThreads(1)

    def __call__(self, image: np.ndarray, epoch: int, index: int, repeat: int = 0) -> np.ndarray:
        """One training image as an epoch shows it: uint8 (S, S, 3) -> the same, or float32 from 0 to 255.

        Args:
            index: the sample's place in the training split.
            repeat: how often the epoch has shown it before; each time it is changed in another way.
        """
        if self.name == "none":
            return image
        key = (1, epoch, index, repeat) if repeat else (1, epoch, index)
        rng = np.random.default_rng(np.random.SeedSequence(self.seed, spawn_key=key))
        return self.row(image, rng, self.strength)
