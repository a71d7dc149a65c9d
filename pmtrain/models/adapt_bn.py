"""Batch norm statistics estimated anew: with --adapt-bn on the images that are to be judged.

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
from pmtrain.system.parallel import ALONE, Processes

FEWEST = 50  # images: fewer say too little of a mean and a variance, and one image would normalise itself
BATCH = 20  # images at least, as the recipes train with


def adapt(model: Any, backend: Backend, batches: Iterable[np.ndarray]) -> int:
    """Replace the statistics of every batch norm by those of these images; return the number of images.

    Batches should be alike: of images in random order.

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
    before = [(norm._mean.numpy(), norm._variance.numpy()) for norm in norms]
    count = estimate(model, backend, batches)
    if count < FEWEST:
        for norm, (mean, variance) in zip(norms, before, strict=True):
            _set(norm, mean, variance)
        raise UsageError(
            f"--adapt-bn: {count} images, and it takes {FEWEST} to estimate statistics",
            "leave --adapt-bn out, or give all images of that camera at once",
        )
    return count


def estimate(model: Any, backend: Backend, batches: Iterable[np.ndarray], processes: Processes = ALONE) -> int:
    """Replace the statistics of every batch norm that isn't frozen by those of these images; return their number.

    Each batch is normalised by its own statistics, as in training. A layer's mean and variance are those of all
    batches' values together. A single image of 32 pixels has one value per channel in the last stage, which Paddle
    doesn't normalise and which changes no statistics: batches should have more images.

    Args:
        batches: (N, 3, S, S) float32, normalised; N may be 0. They aren't asked for if all batch norms are frozen.
        processes: those that have the images together, each its share.
    """
    norms = _norms(model)
    if not norms:
        return 0
    momenta = [norm._momentum for norm in norms]
    sums = [np.zeros((2, norm._mean.shape[0])) for norm in norms]  # of the values and of their squares, over images
    count = 0
    model.train()
    try:
        for norm in norms:
            norm._momentum = 0.0  # the running statistics become each batch's own
        with paddle.no_grad():
            for images in batches:
                if not len(images):
                    continue
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
    shares = processes.gathered((sums, count))
    count = sum(images for _, images in shares)
    if count:
        for norm, *totals in zip(norms, *(parts for parts, _ in shares), strict=True):
            mean, square = sum(totals) / count
            _set(norm, mean, np.maximum(square - mean**2, 0))
    return count


def even_batches(images: int, batch_size: int) -> int:
    """A batch size of at least `batch_size` and BATCH that leaves no small last batch."""
    least = max(batch_size, BATCH)
    batches = max(1, images // least)
    return max(1, -(-images // batches))


def _norms(model: Any) -> list[Any]:
    """The batch norms whose statistics training changes."""
    kinds = paddle.nn.BatchNorm2D, paddle.nn.SyncBatchNorm
    return [layer for layer in model.sublayers() if isinstance(layer, kinds) and not layer._use_global_stats]


def _set(norm: Any, mean: Any, variance: Any) -> None:
    norm._mean.set_value(np.asarray(mean, np.float32))
    norm._variance.set_value(np.asarray(variance, np.float32))
