"""Two score vectors on the same images: is the one better, and by how much?"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from pmtrain.metrics.intervals import (
    Interval,
    delong,
    describe_bootstrap,
    group_members,
    percentile_interval,
    resample_weights,
    too_few,
)
from pmtrain.metrics.measures import MEASURES, Sample, Tally, Value, evaluate_measures


@dataclass(frozen=True)
class Difference:
    """A measure of two models, and the first's minus the second's with its paired bootstrap interval."""

    a: Value
    b: Value
    difference: float | None
    interval: Interval


@dataclass(frozen=True)
class PairedTest:
    """A two-sided test; `p` is None with the reason in `note` where it can't be made."""

    method: str
    p: float | None
    statistic: float | None = None
    counts: tuple[int, int] | None = None
    note: str = ""


@dataclass(frozen=True)
class Comparison:
    """Every measure's difference, DeLong's test of the AUCs and McNemar's of the accuracies."""

    differences: dict[str, Difference]
    delong: PairedTest
    mcnemar: PairedTest


def compare_scores(
    labels,
    probabilities_a,
    probabilities_b,
    threshold_a: float,
    threshold_b: float,
    groups: Sequence | None = None,
    level: float = 0.95,
    n_boot: int = 2000,
    seed: int = 0,
) -> Comparison:
    """Compare model A with model B on the same images: the same resamples, so what is hard is hard for both.

    Args:
        labels: (N,) int, 1 is the positive class.
        probabilities_a, probabilities_b: (N,) float, P(positive), in [0, 1]; image by image in the same order.
        threshold_a, threshold_b: each model's own.
        groups, level, n_boot, seed: as `bootstrap_intervals`.
    Raises: ValueError: as `bootstrap_intervals`.
    """
    models = [(np.asarray(probabilities_a, float), threshold_a), (np.asarray(probabilities_b, float), threshold_b)]
    samples = [Sample(labels, probabilities, threshold) for probabilities, threshold in models]
    n = len(samples[0])
    members = group_members(groups, n)
    draws: dict[str, list[np.ndarray]] = {name: [] for name in MEASURES}
    for weights in resample_weights(n, members, n_boot, seed):
        tallies = [Tally(sample, weights[:, sample.order]) for sample in samples]
        for name, measure in MEASURES.items():
            draws[name].append(measure.values(tallies[0]) - measure.values(tallies[1]))
    values_a, values_b = (evaluate_measures(labels, *model) for model in models)
    method = "paired " + describe_bootstrap(members, n_boot)
    differences = {}
    for name in MEASURES:
        a, b = values_a[name], values_b[name]
        difference = None if a.value is None or b.value is None else a.value - b.value
        reason = a.reason or b.reason or too_few(members, n)
        interval = percentile_interval(np.concatenate(draws[name]), level, method, reason)
        differences[name] = Difference(a, b, difference, interval)
    return Comparison(
        differences,
        delong_test(labels, probabilities_a, probabilities_b, groups),
        mcnemar_test(labels, *(probabilities >= threshold for probabilities, threshold in models)),
    )


def delong_test(labels, scores_a, scores_b, groups: Sequence | None = None) -> PairedTest:
    """Whether two AUCs on the same images differ: the paired test of DeLong et al. 1988, normal approximation.

    With groups the covariance is Obuchowski's (see `delong`).
    """
    method = "paired DeLong" + ("" if groups is None else ", by patient")
    try:
        auc, covariance = delong(labels, np.stack([np.asarray(scores_a, float), np.asarray(scores_b, float)]), groups)
    except ValueError as error:
        for scores in (scores_a, scores_b):
            Sample(labels, scores)
        group_members(groups, len(labels))
        return PairedTest(method, None, note=str(error))
    variance = covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1]
    if variance <= 1e-15:  # what rounding leaves of 0
        return PairedTest(method, None, note="the two models rank every positive and negative alike: nothing to test")
    z = float((auc[0] - auc[1]) / math.sqrt(variance))
    return PairedTest(method, 2 * NormalDist().cdf(-abs(z)), statistic=z)


def mcnemar_test(labels, called_a, called_b) -> PairedTest:
    """Whether two accuracies on the same images differ: McNemar's exact test, which takes images as independent.

    Args:
        labels: (N,) int.
        called_a, called_b: (N,) bool, what each model calls positive.
    Returns: `counts` are the images that A alone has right and those that B alone has.
    Source: McNemar 1947; the exact binomial form, two-sided.
    """
    y = np.asarray(labels).astype(bool)
    right_a, right_b = np.asarray(called_a, bool) == y, np.asarray(called_b, bool) == y
    only_a, only_b = int((right_a & ~right_b).sum()), int((right_b & ~right_a).sum())
    if only_a + only_b == 0:
        return PairedTest("McNemar, exact", 1.0, counts=(0, 0), note="both models are right on the same images")
    from scipy.stats import binomtest  # here: SciPy's statistics cost a second to import

    p = float(binomtest(only_a, only_a + only_b).pvalue)
    return PairedTest("McNemar, exact", p, counts=(only_a, only_b))
