"""Confidence intervals: the bootstrap for every measure, Wilson's for proportions, DeLong's for the AUC.

The bootstrap is the percentile bootstrap. If patients are given, patients are resampled with all their images;
otherwise images are. The threshold is fixed, so an interval describes performance at that threshold and doesn't include
the uncertainty of choosing it. BCa isn't used: it computes every measure again without each patient, which for 100,000
images takes fifty times as long as 2,000 resamples, and it is undefined where the percentile interval is worst, when
every resample gives the same value. Only the calibration error has the basic interval: it is biased upwards, its
resamples are biased again, and its percentile interval contained the true value in 6 to 60 % of simulations.

Coverage of the 95 % intervals, in % (scripts/simulate_coverage.py --repeats 1000, 1,000 resamples
each, standard error 0.7; normally distributed scores, overconfident network; see the script):

    images, positive, AUC          AUC bootstrap, DeLong   sensitivity bootstrap, Wilson   slope   calibration error
    400, half, 0.92                96.0, 96.3              94.7, 95.0                      94.8    91.1
    400, a tenth, 0.92             93.1, 94.2              95.7, 96.3                      93.0    93.6
    400, half, 0.99                93.1, 95.5              93.4, 95.0                      91.2    94.1
    100, half, 0.92                92.7, 94.8              94.2, 96.0                      90.0    89.2
    two eyes of 200 patients       93.5, 94.3              92.8, 87.9                      92.5    91.0

The bootstrap of every other measure covers 90.6 to 96.1. So DeLong's interval is better for the AUC, and Wilson's for a
proportion of independent images, but not if a patient has several images, since it assumes independence. If the network
is perfectly calibrated, so that the true calibration error is 0, its interval contains 0 in only 55 %: the basic
interval mirrors the resamples about the value, and values below 0 are cut off.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from threadpoolctl import threadpool_limits

from pmtrain.metrics.measures import MEASURES, Sample, Tally, checked

# The matrices are tall and thin: more BLAS threads are slower, several times slower on a busy machine.
one_blas_thread = threadpool_limits.wrap(limits=1, user_api="blas")

CHUNK = 2**20  # weights per chunk: 8 MiB, plus some temporaries of that size


@dataclass(frozen=True)
class Interval:
    """The confidence interval of a measure, or None with the reason.

    Args:
        low, high: None if there is no interval.
        level: the confidence level, such as 0.95.
        method: in words, for the caption of a table.
        undefined: the number of resamples in which the measure is undefined; they are left out.
        note: a remark for the reader; if there is no interval, the reason.
    """

    low: float | None
    high: float | None
    level: float
    method: str
    undefined: int = 0
    note: str = ""


@dataclass(frozen=True)
class Bootstrap:
    """How intervals are made.

    Args:
        level: the confidence level, between 0 and 1.
        n_boot: the number of resamples.
        seed: the same seed gives the same intervals.
    """

    level: float = 0.95
    n_boot: int = 2000
    seed: int = 0


BOOTSTRAP = Bootstrap()


@one_blas_thread
def bootstrap_intervals(
    labels,
    probabilities,
    threshold: float,
    groups: Sequence | None = None,
    bootstrap: Bootstrap = BOOTSTRAP,
) -> dict[str, Interval]:
    """The bootstrap interval of every measure: percentile, or basic if its row of `MEASURES` says so.

    Args:
        labels: (N,) int, 1 is the positive class.
        probabilities: (N,) float, P(positive), in [0, 1].
        threshold: positive where the probability is at least this; held fixed.
        groups: (N,) the patient of each image; patients are resampled with all their images. None resamples images.
    Raises: ValueError: as `Sample`; a group is missing, or the level or a count is out of range.
    """
    checked_level(bootstrap.level)
    sample = Sample(labels, probabilities, threshold)
    members = group_members(groups, len(sample))
    draws = bootstrap_draws(sample, members, MEASURES, bootstrap)
    once = Tally.once(sample)
    intervals = {}
    for name, measure in MEASURES.items():
        reason = measure.reason(once) or too_few(members, len(sample))
        mirror = float(measure.values(once)[0]) if measure.bootstrap == "basic" else None
        method = describe_bootstrap(measure.bootstrap, members, bootstrap)
        intervals[name] = interval_of_draws(draws[name], bootstrap.level, method, reason, mirror)
    return intervals


def bootstrap_draws(
    sample: Sample, members: np.ndarray | None, names: Iterable[str], bootstrap: Bootstrap
) -> dict[str, np.ndarray]:
    """(n_boot,) resampled values of each named measure; `members` as of `group_members`."""
    draws: dict[str, list[np.ndarray]] = {name: [] for name in names}
    # Images are exchangeable, so they can be drawn in sorted order; patients must be sorted like their images.
    sorted_members = None if members is None else members[sample.order]
    for weights in resample_weights(len(sample), sorted_members, bootstrap):
        tally = Tally(sample, weights)
        for name, values in draws.items():
            values.append(MEASURES[name].values(tally))
    return {name: np.concatenate(values) for name, values in draws.items()}


def interval_of_draws(
    draws: np.ndarray,
    level: float,
    method: str,
    reason: str = "",
    mirror: float | None = None,
    least: float = 0.0,
) -> Interval:
    """The percentile interval of the resampled values; NaN values are counted and left out.

    With `mirror`, the basic interval: the ends are mirrored about that value and are at least `least`.
    """
    tail = (1 - checked_level(level)) / 2
    defined = draws[np.isfinite(draws)]
    undefined = len(draws) - len(defined)
    if reason or not len(defined):
        return Interval(None, None, level, method, undefined, reason or "undefined in every resample")
    low, high = (float(q) for q in np.quantile(defined, [tail, 1 - tail]))
    if mirror is not None:
        low, high = max(least, 2 * mirror - high), max(least, 2 * mirror - low)
    note = ""
    if defined.min() == defined.max():
        note = "every resample gives the same value, so the uncertainty can't be estimated"
    elif undefined:
        note = f"undefined in {undefined} of {len(draws)} resamples, which are left out"
    return Interval(low, high, level, method, undefined, note)


def resample_weights(n: int, members: np.ndarray | None, bootstrap: Bootstrap) -> Iterator[np.ndarray]:
    """How often each image occurs in each resample: chunks of (B, n) float, `n_boot` rows in total."""
    n_boot = bootstrap.n_boot
    if n_boot < 1:
        raise ValueError(f"n_boot is {n_boot}; it must be at least 1")
    rng = np.random.default_rng(bootstrap.seed)
    units = n if members is None else int(members.max()) + 1
    rows = max(1, CHUNK // max(n, units))
    for first in range(0, n_boot, rows):
        b = min(rows, n_boot - first)
        drawn = rng.integers(0, units, (b, units))
        drawn += units * np.arange(b)[:, None]
        counts = np.bincount(drawn.ravel(), minlength=b * units).reshape(b, units).astype(float)
        yield counts if members is None else counts[:, members]


def group_members(groups: Sequence | None, n: int) -> np.ndarray | None:
    """(n,) the group of each image as 0, 1, ... in order of appearance; None without groups."""
    if groups is None:
        return None
    if len(groups) != n:
        raise ValueError(f"{len(groups)} groups but {n} images")
    numbers: dict = {}
    for i, group in enumerate(groups):
        if group is None or group == "" or group != group:  # group != group is true for NaN
            raise ValueError(f"groups[{i}] is {group!r}; every image needs a group")
    return np.array([numbers.setdefault(group, len(numbers)) for group in groups])


def describe_bootstrap(kind: str, members: np.ndarray | None, bootstrap: Bootstrap) -> str:
    """Name the method, for the caption of a table."""
    unit = "image" if members is None else f"patient ({int(members.max()) + 1})"
    return f"{kind} bootstrap by {unit}, {bootstrap.n_boot} resamples"


def too_few(members: np.ndarray | None, n: int) -> str:
    """The reason why resampling is impossible; empty if it is possible."""
    if members is not None and members.max() == 0:
        return "all images are of one patient"
    return "only one image" if n == 1 else ""


def wilson(k: int, n: int, level: float = 0.95) -> Interval:
    """Wilson's score interval of the proportion k of n, without continuity correction; it assumes independent images.

    Source: Wilson 1927; Brown, Cai and DasGupta 2001, who recommend it for every n.
    Raises: ValueError: k is not in [0, n]; the message prints both.
    """
    z = _normal_quantile(level)
    if not 0 <= k <= n:
        raise ValueError(f"{k} of {n} is not a proportion")
    if n == 0:
        return Interval(None, None, level, "Wilson", note="0 of 0")
    centre = (k + z * z / 2) / (n + z * z)
    half = z / (n + z * z) * math.sqrt(k * (n - k) / n + z * z / 4)
    # At k = 0 and k = n the bound is exactly 0 or 1; rounding must not change that.
    low, high = (0.0 if k == 0 else centre - half), (1.0 if k == n else centre + half)
    return Interval(low, high, level, "Wilson")


def log_ratio(k1: int, n1: int, k2: int, n2: int, level: float = 0.95) -> Interval:
    """The interval of the ratio of two independent proportions, k1 of n1 over k2 of n2, normal on the log scale.

    Source: Simel, Samsa and Matchar 1991, for likelihood ratios.
    """
    z = _normal_quantile(level)
    if not (k1 and k2):
        return Interval(None, None, level, "log method", note="a count is 0")
    ratio = (k1 / n1) / (k2 / n2)
    factor = math.exp(z * math.sqrt(1 / k1 - 1 / n1 + 1 / k2 - 1 / n2))
    return Interval(ratio / factor, ratio * factor, level, "log method")


def sample_size(proportion: float, half_width: float, level: float = 0.95) -> int:
    """The smallest number of independent images whose Wilson interval reaches at most `half_width` to either side.

    Args:
        proportion: the share expected, in [0, 1].
        half_width: half the interval's width, such as 0.05.
    Source: Buderer 1996, with Wilson's interval in place of the normal one, which has no width at 0 and 1.
    """
    if not 0 <= proportion <= 1 or not 0 < half_width < 0.5:
        raise ValueError(f"a proportion of {proportion} with a half-width of {half_width} has no sample size")
    z = _normal_quantile(level)

    def half(n: int) -> float:
        return z / (n + z * z) * math.sqrt(n * proportion * (1 - proportion) + z * z / 4)

    low, high = 0, 1
    while half(high) > half_width:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if half(middle) <= half_width else (middle, high)
    return high


def delong(labels, scores, groups: Sequence | None = None) -> tuple[np.ndarray, np.ndarray]:
    """The AUCs of S score vectors on the same images, and their covariance.

    The variance of the Mann-Whitney statistic is estimated from its structural components (DeLong, DeLong and
    Clarke-Pearson 1988), computed from midranks in O(N log N) (Sun and Xu 2014). With groups, components are first
    summed within each group (Obuchowski 1997); if every group has one image, this is DeLong's variance.

    Args:
        labels: (N,) int, 1 is the positive class; at least two of each class, from at least two groups.
        scores: (S, N) or (N,) float, any finite value.
        groups: (N,) the patient of each image.
    Returns: (S,) and (S, S).
    Raises: ValueError: as `Sample`; fewer than two images or groups of a class, the message prints the number.
    """
    rows = [checked(labels, row) for row in np.atleast_2d(np.asarray(scores, float))]
    y = rows[0][0]
    if reason := no_variance(y, groups):
        raise ValueError(reason)
    members = group_members(groups, len(y))
    members = np.arange(len(y)) if members is None else members
    positive, negative = np.flatnonzero(y == 1), np.flatnonzero(y == 0)
    m, n = len(positive), len(negative)
    # The component of a positive is the share of negatives below it; of a negative, the share of positives above it.
    on_positives = np.stack([(_midranks(s)[positive] - _midranks(s[positive])) / n for _, s in rows])  # (S, m)
    on_negatives = np.stack([1 - (_midranks(s)[negative] - _midranks(s[negative])) / m for _, s in rows])  # (S, n)
    auc = on_positives.mean(1)
    sums = np.zeros(
        (2, len(rows), int(members.max()) + 1)
    )  # by group: sums of the deviations of positives and of negatives
    for s in range(len(rows)):
        np.add.at(sums[0, s], members[positive], on_positives[s] - auc[s])
        np.add.at(sums[1, s], members[negative], on_negatives[s] - auc[s])
    i, j, both = (len(np.unique(members[who])) for who in (positive, negative, np.arange(len(y))))
    covariance = i / (i - 1) * sums[0] @ sums[0].T / m**2 + j / (j - 1) * sums[1] @ sums[1].T / n**2
    cross = sums[0] @ sums[1].T / (m * n)
    return auc, covariance + both / (both - 1) * (cross + cross.T)


def no_variance(labels: np.ndarray, groups: Sequence | None) -> str:
    """The reason why the AUC's variance can't be estimated from these labels; empty if it can."""
    members = group_members(groups, len(labels))
    for name, who in (("positive", labels == 1), ("negative", labels == 0)):
        n = int(who.sum())
        if n < 2:
            return f"{n} {name} image{'s' * (n != 1)}; the variance needs at least two"
        if members is not None and len(np.unique(members[who])) < 2:
            return f"the {n} {name} images are all of one patient; the variance needs at least two patients"
    return ""


def delong_interval(labels, scores, groups: Sequence | None = None, level: float = 0.95) -> Interval:
    """The interval of the AUC from DeLong's standard error, on the logit scale, so that it stays within [0, 1].

    If the AUC is 0 or 1, the standard error is 0. Then Newcombe's interval is used for independent images (`method`
    says so); with groups there is none.

    Source: DeLong et al. 1988; the logit scale after Pepe 2003, section 5.2, because its coverage near 1 is better.
    """
    z = _normal_quantile(level)
    y, s = checked(labels, scores)
    method = "DeLong, logit scale" + ("" if groups is None else ", by patient")
    if reason := no_variance(y, groups):
        return Interval(None, None, level, method, note=reason)
    (auc,), ((variance,),) = delong(y, s, groups)
    if 0 < auc < 1 and variance > 0:
        half = z * math.sqrt(variance) / (auc * (1 - auc))
        low, high = (1 / (1 + math.exp(-(math.log(auc / (1 - auc)) + side * half))) for side in (-1, 1))
        return Interval(low, high, level, method)
    note = f"DeLong's standard error is 0 at an AUC of {auc:g}"
    if groups is not None or 0 < auc < 1:
        return Interval(None, None, level, method, note=note)
    bound = _newcombe_bound(int(y.sum()), int(len(y) - y.sum()), z)
    return Interval(bound if auc == 1 else 0.0, 1.0 if auc == 1 else 1 - bound, level, "Newcombe", note=note)


def delong_difference(
    first: tuple[np.ndarray, np.ndarray, Sequence | None],
    second: tuple[np.ndarray, np.ndarray, Sequence | None],
    level: float = 0.95,
) -> Interval:
    """The interval of AUC(second) - AUC(first) for two sets of different images, normal, from DeLong's variances.

    Args:
        first, second: labels, scores, and the patient of each image or None, as `delong` takes them.
    Source: DeLong et al. 1988; the variances of independent sets add up (Hanley and McNeil 1983).
    """
    method = "DeLong, unpaired" + ("" if first[2] is None and second[2] is None else ", by patient")
    for labels, _, groups in (first, second):
        if reason := no_variance(np.asarray(labels), groups):
            return Interval(None, None, level, method, note=reason)
    ((before,), ((variance_before,),)), ((after,), ((variance_after,),)) = delong(*first), delong(*second)
    if min(variance_before, variance_after) <= 0:
        return Interval(None, None, level, method, note="DeLong's standard error is 0 on one of the sets")
    half = _normal_quantile(level) * math.sqrt(variance_before + variance_after)
    change = float(after - before)
    return Interval(max(-1.0, change - half), min(1.0, change + half), level, method)


def _newcombe_bound(m: int, n: int, z: float) -> float:
    """The lowest AUC that is at most z standard errors below 1, for m positives and n negatives.

    The standard error is Hanley and McNeil's (1982) at that AUC, with the mean class size in its last two terms: method
    5 of Newcombe 2006 (part 2). Like Wilson's interval for a proportion, it has a positive width at 0 and 1.
    """
    others = (m + n) / 2 - 1

    def too_far(auc: float) -> bool:
        variance = auc * (1 - auc) / (m * n) * (1 + others * ((1 - auc) / (2 - auc) + auc / (1 + auc)))
        return (1 - auc) ** 2 > z * z * variance

    low, high = 0.0, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if too_far(middle) else (low, middle)
    return low


def _midranks(values: np.ndarray) -> np.ndarray:
    """Ranks from 1; ties get their mean rank."""
    _, which, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return (last - (counts - 1) / 2)[which]


def _normal_quantile(level: float) -> float:
    """The normal quantile of a two-sided interval: 1.96 for 0.95."""
    return NormalDist().inv_cdf((1 + checked_level(level)) / 2)


def checked_level(level: float) -> float:
    """Return the confidence level; ValueError if it isn't between 0 and 1."""
    if not 0 < level < 1:
        raise ValueError(f"the confidence level is {level}; it must be between 0 and 1")
    return level
