"""Evaluate one set of scores: every measure with its intervals, and the confusion matrix."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from pmtrain.metrics.intervals import (
    BOOTSTRAP,
    Bootstrap,
    Interval,
    bootstrap_intervals,
    delong_interval,
    log_ratio,
    sample_size,
    wilson,
)
from pmtrain.metrics.measures import Confusion, Value, confusion, evaluate_measures


@dataclass(frozen=True)
class Assessed:
    """A measure's value with its interval, the bootstrap's unless it is a ratio, and DeLong's or Wilson's for some."""

    value: Value
    interval: Interval
    second: Interval | None = None


HALF_WIDTH = 0.05  # of the interval of the sensitivity that `SampleSize` is for


class SampleSize(NamedTuple):
    """The images that an interval of the sensitivity of +- HALF_WIDTH takes: positives, and all at this prevalence."""

    positives: int
    images: int


@dataclass(frozen=True)
class Assessment:
    """The measures of N images at one threshold; `patients` is None if unknown."""

    n: int
    positives: int
    patients: int | None
    threshold: float
    confusion: Confusion
    measures: dict[str, Assessed]

    @property
    def prevalence(self) -> float:
        """The proportion of positive images."""
        return self.positives / self.n

    @property
    def sample_size(self) -> SampleSize | None:
        """For independent images (or patients) with this sensitivity and prevalence; None without a sensitivity."""
        sensitivity = self.measures["sensitivity"]
        if sensitivity.value.value is None:
            return None
        positives = sample_size(sensitivity.value.value, HALF_WIDTH, sensitivity.interval.level)
        return SampleSize(positives, math.ceil(positives / self.prevalence - 1e-9))


def assess(
    labels,
    probabilities,
    threshold: float,
    groups: Sequence | None = None,
    bootstrap: Bootstrap = BOOTSTRAP,
) -> Assessment:
    """Every measure of `MEASURES` with its intervals.

    Besides the bootstrap's: DeLong's for the AUC, and Wilson's for a proportion. A likelihood ratio has the log
    method's instead: with few false positives, its resamples are undefined or far too small. The last two assume
    independent images; where a patient has several, the bootstrap's stands alone.

    Args: as `bootstrap_intervals`.
    Raises: ValueError: as `bootstrap_intervals`.
    """
    y = np.asarray(labels)
    patients = None if groups is None else len(set(groups))
    independent = patients is None or patients == len(y)
    intervals = bootstrap_intervals(y, probabilities, threshold, groups, bootstrap)
    counts = confusion(y, probabilities, threshold)
    tp, fp, fn, tn = counts
    ratios = {"lr_positive": (tp, tp + fn, fp, fp + tn), "lr_negative": (fn, tp + fn, tn, fp + tn)}
    measures = {}
    for name, value in evaluate_measures(y, probabilities, threshold).items():
        second, interval = None, intervals[name]
        if name == "auc":
            second = delong_interval(y, probabilities, groups, bootstrap.level)
        elif value.k is not None and value.n is not None and value.value is not None and independent:
            second = wilson(value.k, value.n, bootstrap.level)
        elif name in ratios and value.value is not None and independent:
            by_log = log_ratio(*ratios[name], bootstrap.level)
            interval = interval if by_log.low is None else by_log
        measures[name] = Assessed(value, interval, second)
    return Assessment(len(y), int(y.sum()), patients, threshold, counts, measures)
