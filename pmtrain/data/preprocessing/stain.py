"""Random staining of histology images: each stain's amount is changed on its own."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from pmtrain.data.preprocessing.geometry import warped

# Optical density, R, G, B, of a unit of haematoxylin, eosin and DAB (Ruifrok and Johnston 2001, as in scikit-image).
RGB_OF_STAINS = np.array([[0.65, 0.70, 0.29], [0.07, 0.99, 0.11], [0.27, 0.57, 0.78]])
# ln(value / 255) of each byte; black counts as half a level.
LOGARITHM = np.log(np.maximum(np.arange(256.0), 0.5) / 255).astype(np.float32)


@dataclass(frozen=True)
class Stain:
    """Amounts of stain as other laboratories have them.

    An image's optical density, -ln(value / 255), is taken apart into the amounts a of haematoxylin, eosin and DAB;
    each becomes a * alpha + beta, alpha uniform in 1 - range to 1 + range and beta in -range to range.

    Args:
        range: 0.05 is the light, 0.2 the strong variation of the source.
    Source: Tellez et al. 2019, Medical Image Analysis 58, HED-light and HED-strong.
    """

    range: float

    def __call__(
        self, image: np.ndarray, matrix: np.ndarray, rng: np.random.Generator, strength: float = 1.0
    ) -> np.ndarray:
        """uint8 (S, S, 3), BGR, and where its pixels go -> float32 (S, S, 3), from 0 to 255, not rounded.

        Args:
            strength: multiplies the range.
        """
        alpha, beta = strength * self.range * rng.uniform(-1, 1, (2, 3)) + [[1], [0]]
        return with_amounts(warped(image, matrix), alpha, beta)


def with_amounts(image: np.ndarray, alpha: np.ndarray, beta: np.ndarray) -> np.ndarray:
    """uint8 (H, W, 3), BGR -> float32, from 0 to 255, not rounded: each stain's amount a becomes a * alpha + beta.

    Args:
        alpha, beta: (3,) for haematoxylin, eosin and DAB.
    """
    # With rows for stains, amounts = density @ inverse: both steps in one matrix and a constant.
    linear = np.linalg.inv(RGB_OF_STAINS) @ np.diag(alpha) @ RGB_OF_STAINS
    affine = np.column_stack([linear.T, -beta @ RGB_OF_STAINS])[::-1][:, [2, 1, 0, 3]]  # BGR
    return np.clip(255 * cv2.exp(cv2.transform(cv2.LUT(image, LOGARITHM[None]), affine)), 0, 255)
