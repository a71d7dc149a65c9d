"""Evaluate one set of scores: every measure with its intervals, and the confusion matrix."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pmtrain.metrics.intervals import Interval, bootstrap_intervals, delong_interval, wilson
from pmtrain.metrics.measures import Confusion, Value, confusion, evaluate_measures


@dataclass(frozen=True)
class Assessed:
    """A measure's value with its bootstrap interval, and DeLong's or Wilson's interval where it applies."""

    value: Value
    interval: Interval
    second: Interval | None = None


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


def assess(
    labels,
    probabilities,
    threshold: float,
    groups: Sequence | None = None,
    level: float = 0.95,
    n_boot: int = 2000,
    seed: int = 0,
) -> Assessment:
    """Every measure of `MEASURES` with its intervals: also DeLong's for the AUC, and Wilson's for a proportion.

    Wilson's interval assumes independent images, so it is omitted if a patient has several.

    Args: as `bootstrap_intervals`.
    Raises: ValueError: as `bootstrap_intervals`.
    """
    y = np.asarray(labels)
    patients = None if groups is None else len(set(groups))
    independent = patients is None or patients == len(y)
    intervals = bootstrap_intervals(y, probabilities, threshold, groups, level, n_boot, seed)
    measures = {}
    for name, value in evaluate_measures(y, probabilities, threshold).items():
        second = None
        if name == "auc":
            second = delong_interval(y, probabilities, groups, level)
        elif value.k is not None and value.n is not None and value.value is not None and independent:
            second = wilson(value.k, value.n, level)
        measures[name] = Assessed(value, intervals[name], second)
    counts = confusion(y, probabilities, threshold)
    return Assessment(len(y), int(y.sum()), patients, threshold, counts, measures)
