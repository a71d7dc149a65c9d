"""What the tests of augmentation share: a smooth image, and draws that are chosen."""

from __future__ import annotations

import numpy as np


def smooth(size: int = 64) -> np.ndarray:
    """uint8 (S, S, 3), smooth, so that two interpolations of it differ by rounding alone."""
    y, x = np.mgrid[:size, :size] / size
    planes = [120 + 60 * np.sin(5 * x + k) + 50 * np.cos(4 * y - 2 * k) for k in range(3)]
    return np.rint(np.stack(planes, -1)).astype(np.uint8)


def inside(image: np.ndarray, radius: float = 0.4) -> np.ndarray:
    """The pixels well inside the inscribed circle, which no rotation or small shift takes out of the picture."""
    y, x = np.mgrid[: len(image), : len(image)] - (len(image) - 1) / 2
    return image[np.hypot(x, y) < radius * len(image)].astype(int)


class Draws:
    """Stands for a generator: what is drawn is chosen here, each kind in the order of its calls."""

    def __init__(self, **draws) -> None:
        self.draws = {kind: [np.array(value) for value in values] for kind, values in draws.items()}

    def _next(self, kind: str, size) -> np.ndarray:
        value = self.draws[kind].pop(0)
        assert value.shape == (() if size is None else np.empty(size).shape)
        return value

    def random(self, size=None):
        return self._next("random", size)

    def uniform(self, low, high, size):
        assert (low, high) == (-1, 1)
        return self._next("uniform", size)

    def standard_normal(self, size):
        return self._next("normal", size)
