"""Compare two models on the same images (paired), or one model on two sets of images (unpaired)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from pmtrain.metrics.decisions.prevalence import SHIFTED, tally_at, values_at
from pmtrain.metrics.intervals import (
    BOOTSTRAP,
    Bootstrap,
    Interval,
    bootstrap_draws,
    delong,
    delong_difference,
    describe_bootstrap,
    group_members,
    interval_of_draws,
    no_variance,
    one_blas_thread,
    resample_weights,
    too_few,
)
from pmtrain.metrics.measures import MEASURES, Sample, Tally, Value, checked, evaluate_measures


@dataclass(frozen=True)
class Difference:
    """A measure of models A and B, and the difference A - B with its paired bootstrap interval."""

    a: Value
    b: Value
    difference: float | None
    interval: Interval


@dataclass(frozen=True)
class PairedTest:
    """A two-sided test; `p` is None if the test is impossible; `note` gives the reason."""

    method: str
    p: float | None
    statistic: float | None = None
    counts: tuple[int, int] | None = None
    note: str = ""


@dataclass(frozen=True)
class Comparison:
    """The difference of every measure, DeLong's test of the AUCs and McNemar's test of the accuracies.

    `at_prevalence`: the differences of `SHIFTED` at another prevalence; empty if none was asked for.
    """

    differences: dict[str, Difference]
    delong: PairedTest
    mcnemar: PairedTest
    at_prevalence: dict[str, Difference] = field(default_factory=dict)


@one_blas_thread
def compare_scores(
    labels,
    probabilities_a,
    probabilities_b,
    threshold_a: float,
    threshold_b: float,
    groups: Sequence | None = None,
    bootstrap: Bootstrap = BOOTSTRAP,
    prevalence: float | None = None,
) -> Comparison:
    """Compare model A with model B on the same images, with the same bootstrap resamples for both.

    Args:
        labels: (N,) int, 1 is the positive class.
        probabilities_a, probabilities_b: (N,) float, P(positive), in [0, 1]; both in the order of `labels`.
        threshold_a, threshold_b: the threshold of each model.
        groups, bootstrap: as `bootstrap_intervals`.
        prevalence: in (0, 1), also compare the measures of `SHIFTED` at it; None: don't.
    Raises: ValueError: as `bootstrap_intervals`.
    """
    models = [(np.asarray(probabilities_a, float), threshold_a), (np.asarray(probabilities_b, float), threshold_b)]
    samples = [Sample(labels, probabilities, threshold) for probabilities, threshold in models]
    n = len(samples[0])
    members = group_members(groups, n)
    there = () if prevalence is None else SHIFTED
    draws: dict[str, list[np.ndarray]] = {name: [] for name in (*MEASURES, *map(_shifted_key, there))}
    for weights in resample_weights(n, members, bootstrap):
        tallies = [Tally(sample, weights[:, sample.order]) for sample in samples]
        for name, measure in MEASURES.items():
            draws[name].append(measure.values(tallies[0]) - measure.values(tallies[1]))
        if prevalence is not None:
            shifted_tallies = [tally_at(tally, prevalence) for tally in tallies]
            for name in there:
                first, second = (MEASURES[name].values(tally) for tally in shifted_tallies)
                draws[_shifted_key(name)].append(first - second)
    values_a, values_b = (evaluate_measures(labels, *model) for model in models)
    if prevalence is not None:
        for sample, values in zip(samples, (values_a, values_b), strict=True):
            values |= {_shifted_key(name): value for name, value in values_at(sample, prevalence).items()}
    method = "paired " + describe_bootstrap("percentile", members, bootstrap)
    differences = {}
    for name in draws:
        a, b = values_a[name], values_b[name]
        difference = None if a.value is None or b.value is None else a.value - b.value
        reason = a.reason or b.reason or too_few(members, n)
        interval = interval_of_draws(np.concatenate(draws[name]), bootstrap.level, method, reason)
        differences[name] = Difference(a, b, difference, interval)
    mcnemar = mcnemar_test(labels, *(probabilities >= threshold for probabilities, threshold in models))
    if groups is not None:
        mcnemar = replace(mcnemar, note="assumes that the images of a patient are independent")
    at_prevalence = {name: differences.pop(_shifted_key(name)) for name in there}
    delonged = delong_test(labels, probabilities_a, probabilities_b, groups)
    return Comparison(differences, delonged, mcnemar, at_prevalence)


@dataclass(frozen=True)
class ScoredSet:
    """The scores of one set of images: (N,) labels, (N,) probabilities, and the patient of each image or None."""

    labels: np.ndarray
    probabilities: np.ndarray
    groups: Sequence | None = None


@dataclass(frozen=True)
class Change:
    """A measure on the second set minus that on the first, with its unpaired bootstrap interval.

    `second`: DeLong's interval, of the AUC alone.
    """

    value: float | None
    interval: Interval
    second: Interval | None = None


@one_blas_thread
def unpaired_changes(
    first: ScoredSet,
    others: Sequence[ScoredSet],
    threshold: float,
    names: Sequence[str],
    bootstrap: Bootstrap = BOOTSTRAP,
) -> list[dict[str, Change]]:
    """How far one model's measures on other sets of images lie from those on the first set.

    Every set is resampled by itself: their images have nothing to do with one another (by the seed, the seed + 1, ...).

    Args:
        threshold: of all sets.
        names: of `MEASURES`.
    Returns: for each of `others`, the change of each measure.
    Raises: ValueError: as `bootstrap_intervals`.
    """
    sets = [first, *others]
    samples = [Sample(each.labels, each.probabilities, threshold) for each in sets]
    members = [group_members(each.groups, len(each.labels)) for each in sets]
    drawn = [
        bootstrap_draws(sample, of, names, replace(bootstrap, seed=bootstrap.seed + place))
        for place, (sample, of) in enumerate(zip(samples, members, strict=True))
    ]
    values = [evaluate_measures(each.labels, each.probabilities, threshold) for each in sets]
    units = ["image" if of is None else "patient" for of in members]
    found = []
    for place in range(1, len(sets)):
        changes = {}
        for name in names:
            before, after = values[0][name], values[place][name]
            reason = before.reason or after.reason
            reason = reason or too_few(members[0], len(samples[0])) or too_few(members[place], len(samples[place]))
            change = None if before.value is None or after.value is None else after.value - before.value
            kind = MEASURES[name].bootstrap
            by = " and ".join(dict.fromkeys((units[0], units[place])))
            interval = interval_of_draws(
                drawn[place][name] - drawn[0][name],
                bootstrap.level,
                f"unpaired {kind} bootstrap by {by}, {bootstrap.n_boot} resamples",
                reason,
                change if kind == "basic" else None,
                -1.0,
            )
            second = None
            if name == "auc" and change is not None:
                triples = [(each.labels, each.probabilities, each.groups) for each in (sets[0], sets[place])]
                second = delong_difference(triples[0], triples[1], bootstrap.level)
            changes[name] = Change(change, interval, second)
        found.append(changes)
    return found


def _shifted_key(name: str) -> str:
    """Tells a measure at another prevalence from the same measure of the images."""
    return f"{name} at prevalence"


def delong_test(labels, scores_a, scores_b, groups: Sequence | None = None) -> PairedTest:
    """Test whether two AUCs on the same images differ: the paired test of DeLong et al. 1988, normal approximation.

    With groups, the covariance is Obuchowski's (see `delong`).
    """
    method = "paired DeLong" + ("" if groups is None else ", by patient")
    (y, a), (_, b) = checked(labels, scores_a), checked(labels, scores_b)
    if reason := no_variance(y, groups):
        return PairedTest(method, None, note=reason)
    auc, covariance = delong(y, np.stack([a, b]), groups)
    variance = covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1]
    if variance <= 1e-15:  # 0 apart from rounding errors
        return PairedTest(method, None, note="the difference of the AUCs has zero variance, so it can't be tested")
    z = float((auc[0] - auc[1]) / math.sqrt(variance))
    return PairedTest(method, math.erfc(abs(z) / math.sqrt(2)), statistic=z)


def mcnemar_test(labels, called_a, called_b) -> PairedTest:
    """Test whether two accuracies on the same images differ: McNemar's exact test, for independent images.

    Args:
        labels: (N,) int.
        called_a, called_b: (N,) bool, the predictions of each model.
    Returns: `counts` holds the number of images that only A classifies correctly, and that only B does.
    Raises: ValueError: no images, or different lengths; the message prints them.
    Source: McNemar 1947; exact binomial form, two-sided.
    """
    (y, a), (_, b) = checked(labels, called_a, 0, 1), checked(labels, called_b, 0, 1)
    right_a, right_b = a == y, b == y
    only_a, only_b = int((right_a & ~right_b).sum()), int((right_b & ~right_a).sum())
    if only_a + only_b == 0:
        return PairedTest("McNemar, exact", 1.0, counts=(0, 0), note="both models are correct on the same images")
    from scipy.stats import binomtest  # imported here because scipy.stats takes a second to import

    p = float(binomtest(only_a, only_a + only_b).pvalue)
    return PairedTest("McNemar, exact", p, counts=(only_a, only_b))
