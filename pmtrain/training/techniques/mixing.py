"""Mixup and CutMix: a batch's images and labels, each blended with another one of the batch."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Mixing:
    """What is drawn depends on the seed, the epoch and the batch alone, so that a resumed run draws the same.

    Args:
        mixup: alpha of the Beta distribution that an image's share is drawn from; 0: no mixup.
        cutmix: the same for CutMix. If both are given, each batch takes one of them by chance, half of them either.
    Source: Zhang et al. 2018 (mixup), Yun et al. 2019 (CutMix).
    """

    mixup: float
    cutmix: float
    seed: int

    def __call__(self, images: np.ndarray, labels: np.ndarray, epoch: int, batch: int) -> tuple[np.ndarray, np.ndarray]:
        """images (N, 3, S, S) and labels (N, 1) -> the same shapes; the labels then lie in [0, 1]."""
        if not (self.mixup or self.cutmix):
            return images, labels
        rng = np.random.default_rng(np.random.SeedSequence(self.seed, spawn_key=(5, epoch, batch)))
        cut = rng.random() < 0.5 if self.mixup and self.cutmix else bool(self.cutmix)
        alpha = self.cutmix if cut else self.mixup
        share, other = rng.beta(alpha, alpha), rng.permutation(len(images))
        if cut:
            top, bottom, left, right = box(rng, images.shape[2], images.shape[3], 1 - share)
            mixed = images.copy()
            mixed[:, :, top:bottom, left:right] = images[other, :, top:bottom, left:right]
            share = 1 - (bottom - top) * (right - left) / (images.shape[2] * images.shape[3])
        else:
            mixed = np.float32(share) * images + np.float32(1 - share) * images[other]
        return mixed, (share * labels + (1 - share) * labels[other]).astype(np.float32)


def box(rng: np.random.Generator, height: int, width: int, area: float) -> tuple[int, int, int, int]:
    """A box of a share `area` of the image about a random centre, cut at its edges: top, bottom, left, right."""
    edges = []
    for side in (height, width):
        half, centre = int(side * np.sqrt(area)) // 2, int(rng.integers(side))
        edges += [max(centre - half, 0), min(centre + half, side)]
    return edges[0], edges[1], edges[2], edges[3]
