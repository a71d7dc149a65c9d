"""The share of positives that a network learned, which its probabilities hold for until they are calibrated."""

from __future__ import annotations

import numpy as np

from pmtrain.data.loading.balance import class_weights
from pmtrain.runs.checkpoint import Networks
from pmtrain.runs.run_folder import RunFolder
from pmtrain.system.errors import PmtrainError


def learned_prior(labels: np.ndarray, weights: tuple[float, float] | None, sampler: str) -> float | None:
    """The share of positives in the training, as the sampler and the class weights changed it.

    A weight of the loss acts as more images of the class do (Elkan 2001).

    Args:
        labels: (N,) int, of the training images.
        weights: of the loss of negatives and positives; None: 1 and 1.
        sampler: a row of SAMPLERS.
    Returns: in (0, 1); None if a class has no images.
    """
    positives, negatives = (0.5, 0.5) if sampler == "balanced" else (float(labels.mean()), float(1 - labels.mean()))
    if not 0 < labels.mean() < 1:
        return None
    of_negative, of_positive = weights or (1.0, 1.0)
    return positives * of_positive / (positives * of_positive + negatives * of_negative)


def prior_of(checkpoint: Networks) -> float | None:
    """What the side file says, or for an older one the run's folder; None where neither is known."""
    if checkpoint.info.prior is not None:
        return checkpoint.info.prior
    folder = RunFolder.around(checkpoint.path)
    if folder is None:
        return None
    try:
        config, counts = folder.config(), folder.info()["data"]["images"]["train"]
        negatives, positives = (counts[name] for name in checkpoint.info.class_names)
        labels = np.repeat([0, 1], [negatives, positives])
        weights = class_weights(config.class_weight, labels) if config.class_weight else None
        return learned_prior(labels, weights, config.sampler)
    except (PmtrainError, KeyError, TypeError, ValueError):  # a folder from elsewhere
        return None


def held_prevalence(checkpoint: Networks) -> float | None:
    """The prevalence that the checkpoint's probabilities hold for: its calibration's, else the one that it learned."""
    calibration = checkpoint.info.calibration
    return prior_of(checkpoint) if calibration is None else calibration.prevalence
