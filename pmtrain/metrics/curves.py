"""Points of the ROC curve (with its confidence band), precision-recall curve and calibration plot."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from pmtrain.metrics.intervals import (
    BOOTSTRAP,
    Bootstrap,
    Interval,
    checked_level,
    group_members,
    resample_weights,
    wilson,
)
from pmtrain.metrics.measures import N_BINS, Sample, bin_of, checked


class RocPoints(NamedTuple):
    """(K,) each, from (0, 0), at an infinite threshold, to (1, 1)."""

    fpr: np.ndarray
    tpr: np.ndarray
    thresholds: np.ndarray


class PrPoints(NamedTuple):
    """(K,) each, by decreasing threshold, so by increasing recall."""

    recall: np.ndarray
    precision: np.ndarray
    thresholds: np.ndarray


class RocBand(NamedTuple):
    """(G,) each: the pointwise confidence limits of the TPR at each FPR."""

    fpr: np.ndarray
    low: np.ndarray
    high: np.ndarray
    undefined: int


@dataclass(frozen=True)
class CalibrationBin:
    """The images with a probability in [low, high) ([low, high] for the last bin): predicted and observed."""

    low: float
    high: float
    n: int
    positives: int
    mean_probability: float | None
    observed: float | None
    interval: Interval


def roc_points(labels, probabilities) -> RocPoints:
    """The ROC curve, with one point per distinct probability (positive means probability >= threshold).

    Raises: ValueError: as `Sample`; or a class has no images.
    """
    tp, fp, thresholds = _cumulative(labels, probabilities)
    _need_both_classes(tp[-1], fp[-1])
    return RocPoints(
        np.concatenate([[0], fp / fp[-1]]), np.concatenate([[0], tp / tp[-1]]), np.concatenate([[np.inf], thresholds])
    )


def pr_points(labels, probabilities) -> PrPoints:
    """The precision-recall curve, with one point per distinct probability.

    The area under its steps is the average precision.

    Raises: ValueError: as `Sample`; or a class has no images.
    """
    tp, fp, thresholds = _cumulative(labels, probabilities)
    _need_both_classes(tp[-1], fp[-1])
    return PrPoints(tp / tp[-1], tp / (tp + fp), thresholds)


def calibration_bins(labels, probabilities, level: float = 0.95) -> list[CalibrationBin]:
    """The ten bins of equal width of the expected calibration error, with Wilson's interval of the observed share."""
    y, p = checked(labels, probabilities, low=0.0, high=1.0)
    where, bins = bin_of(p), []
    for i in range(N_BINS):
        inside = where == i
        n, positives = int(inside.sum()), int(y[inside].sum())
        mean, observed = (float(p[inside].mean()), positives / n) if n else (None, None)
        edges = i / N_BINS, (i + 1) / N_BINS
        bins.append(CalibrationBin(*edges, n, positives, mean, observed, wilson(positives, n, level)))
    return bins


def roc_band(
    labels,
    probabilities,
    groups: Sequence | None = None,
    bootstrap: Bootstrap = BOOTSTRAP,
    n_points: int = 101,
) -> RocBand:
    """The pointwise percentile bootstrap band of the ROC curve, at evenly spaced FPRs.

    The confidence level applies at each FPR separately, not to the whole curve. Resamples that lack a class are
    counted and left out. Arguments as `bootstrap_intervals`.
    """
    sample = Sample(labels, probabilities)
    _need_both_classes(len(sample.positive), len(sample.negative))
    members = group_members(groups, len(sample))
    grid = np.linspace(0, 1, n_points)
    starts = np.unique(sample.probabilities, return_index=True)[1][::-1]  # start of each distinct value, highest first
    curves = []
    for weights in resample_weights(len(sample), members, bootstrap):
        weights = weights[:, sample.order]
        above = [_from_top(weights * of_class)[:, starts] for of_class in (sample.labels, 1 - sample.labels)]
        for tp, fp in zip(*above, strict=True):
            if tp[-1] and fp[-1]:
                curves.append(_tpr_at(grid, np.append(0, fp / fp[-1]), np.append(0, tp / tp[-1])))
    tail = (1 - checked_level(bootstrap.level)) / 2
    if not curves:
        raise ValueError(f"each of {bootstrap.n_boot} resamples of {len(sample)} images lacks a class")
    low, high = np.quantile(curves, [tail, 1 - tail], axis=0)
    return RocBand(grid, low, high, bootstrap.n_boot - len(curves))


def _tpr_at(grid: np.ndarray, fpr: np.ndarray, tpr: np.ndarray) -> np.ndarray:
    """TPR at each FPR of the grid: the upper end of a vertical segment, linear interpolation elsewhere."""
    before = np.searchsorted(fpr, grid, side="right") - 1
    after = np.minimum(before + 1, len(fpr) - 1)
    run = fpr[after] - fpr[before]
    share = np.divide(grid - fpr[before], run, out=np.zeros_like(grid), where=run > 0)
    return tpr[before] + share * (tpr[after] - tpr[before])


def _from_top(values: np.ndarray) -> np.ndarray:
    """(B, N): for each column, the sum of it and all columns after it."""
    return np.cumsum(values[:, ::-1], axis=1)[:, ::-1]


def _cumulative(labels, probabilities) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The numbers of positives and negatives at or above each distinct probability, and these, highest first."""
    sample = Sample(labels, probabilities)
    thresholds, starts = np.unique(sample.probabilities, return_index=True)
    at_least = len(sample) - starts
    tp = (sample.labels.sum() - np.concatenate([[0], np.cumsum(sample.labels)])[starts]).astype(int)
    return tp[::-1], (at_least - tp)[::-1], thresholds[::-1]


def _need_both_classes(positives: int, negatives: int) -> None:
    if not positives or not negatives:
        raise ValueError(f"{positives} positive and {negatives} negative images; the curve needs both classes")
