"""Class imbalance: how often each class is sampled, and how much its errors weigh in the loss."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from pmtrain.system.errors import PmtrainError


def shuffled(labels: np.ndarray, seed: int, epoch: int) -> np.ndarray:
    """Every image once, in a new order every epoch."""
    return _generator(seed, 0, epoch).permutation(len(labels))


def balanced(labels: np.ndarray, seed: int, epoch: int) -> np.ndarray:
    """As many images as the data has, half of each class; if the number is odd, the larger class has one more.

    Each class is sampled in passes over all of its images, each pass in a new order, which continue in the next epoch.
    So no image is repeated before every other image of its class was drawn.

    Raises:
        PmtrainError: a class has no image.
    """
    _require_both(labels, "--sampler balanced")
    n, positives = len(labels), int(labels.sum())
    drawn = []
    for label, size in enumerate((n - positives, positives)):
        count = n - n // 2 if 2 * size > n else n // 2
        first, own = epoch * count, np.flatnonzero(labels == label)
        passes = range(first // size, (first + count - 1) // size + 1)
        stream = np.concatenate([_generator(seed, 2, label, number).permutation(own) for number in passes])
        drawn.append(stream[first % size :][:count])
    return _generator(seed, 0, epoch).permutation(np.concatenate(drawn))


# (labels (N,), seed, epoch) -> (N,) indices of samples, in the order of that epoch.
SAMPLERS: dict[str, Callable[[np.ndarray, int, int], np.ndarray]] = {"shuffle": shuffled, "balanced": balanced}


def class_weights(text: str, labels: np.ndarray) -> tuple[float, float]:
    """The weights of the negative and of the positive class in the loss.

    Args:
        text: `balanced`, n / (2 n_class) for each class, or a number, the positive class's weight against 1.
        labels: (N,) int, of the training images; 1 is the positive class.
    Raises:
        PmtrainError: `balanced`, and a class has no image.
    Source: `balanced` is scikit-learn's `compute_class_weight("balanced")`, after King and Zeng 2001.
    """
    if text != "balanced":
        return 1.0, float(text)
    _require_both(labels, "--class-weight balanced")
    n, positives = len(labels), int(labels.sum())
    return n / (2 * (n - positives)), n / (2 * positives)


def _require_both(labels: np.ndarray, option: str) -> None:
    n, positives = len(labels), int(np.sum(labels))
    if not 0 < positives < n:
        raise PmtrainError(
            f"{option} needs training images of both classes: there are {positives} positive ones and"
            f" {n - positives} negative ones",
            "give data with both classes, or leave the option out",
        )


def _generator(seed: int, *key: int) -> np.random.Generator:
    """Streams that don't meet: keys are (0, epoch) for orders, (1, ...) in data.augment, (2, class, pass) here."""
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=key))
