"""--adapt-bn: batch norm statistics estimated anew on the images that are to be judged.

Source: Schneider et al. 2020, "Improving robustness against common corruptions by covariate shift adaptation", with the
new images' statistics alone.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from pmtrain.models.backends.choose import Backend
from pmtrain.system.errors import UsageError
from pmtrain.system.framework import paddle

FEWEST = 50  # images: fewer say too little of a mean and a variance, and one image would normalise itself
BATCH = 20  # images at least, as the recipes train with


def adapt(model: Any, backend: Backend, batches: Iterable[np.ndarray]) -> int:
    """Replace the statistics of every batch norm by those of these images; return the number of images.

    Each batch is normalised by its own statistics, as in training, so that batches should be alike: of images in random
    order. A layer's mean and variance are those of all batches' values together.

    Args:
        batches: (N, 3, S, S) float32, normalised.
    Raises:
        UsageError: the network has no batch norms left, or there are fewer than FEWEST images.
    """
    norms = [] if backend.kernels != "paddle" else _norms(model)
    if not norms:
        raise UsageError(
            "--adapt-bn: an exported model has no batch norms that could be adapted",
            "give the checkpoint that it was exported from",
        )
    momenta = [norm._momentum for norm in norms]
    before = [(norm._mean.numpy(), norm._variance.numpy()) for norm in norms]
    sums = [np.zeros((2, norm._mean.shape[0])) for norm in norms]  # of the values and of their squares, over images
    count = 0
    model.train()
    try:
        for norm in norms:
            norm._momentum = 0.0  # the running statistics become each batch's own
        with paddle.no_grad():
            for images in batches:
                with backend.autocast():
                    model(paddle.to_tensor(images))
                count += len(images)
                for norm, total in zip(norms, sums, strict=True):
                    mean = norm._mean.numpy().astype(np.float64)
                    total += len(images) * np.stack([mean, norm._variance.numpy() + mean**2])
    finally:
        model.eval()
        for norm, momentum in zip(norms, momenta, strict=True):
            norm._momentum = momentum
    if count < FEWEST:
        for norm, (mean, variance) in zip(norms, before, strict=True):
            _set(norm, mean, variance)
        raise UsageError(
            f"--adapt-bn: {count} images, and it takes {FEWEST} to estimate statistics",
            "leave --adapt-bn out, or give all images of that camera at once",
        )
    for norm, (mean, square) in zip(norms, (total / count for total in sums), strict=True):
        _set(norm, mean, np.maximum(square - mean**2, 0))
    return count


def even_batches(images: int, batch_size: int) -> int:
    """A batch size of at least `batch_size` and BATCH that leaves no small last batch."""
    least = max(batch_size, BATCH)
    batches = max(1, images // least)
    return max(1, -(-images // batches))


def _norms(model: Any) -> list[Any]:
    return [layer for layer in model.sublayers() if isinstance(layer, paddle.nn.BatchNorm2D)]


def _set(norm: Any, mean: Any, variance: Any) -> None:
    norm._mean.set_value(np.asarray(mean, np.float32))
    norm._variance.set_value(np.asarray(variance, np.float32))
