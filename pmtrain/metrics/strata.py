"""AUC within strata: how well scores rank images that another score cannot tell apart."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pmtrain.metrics.intervals import (
    BOOTSTRAP,
    Bootstrap,
    Interval,
    describe_bootstrap,
    group_members,
    interval_of_draws,
    one_blas_thread,
    resample_weights,
    too_few,
)
from pmtrain.metrics.measures import Sample, Tally, auc, checked

FEWEST, MOST, IMAGES_EACH = 5, 50, 20  # strata, and images in each


@dataclass(frozen=True)
class WithinStrata:
    """The AUC over the pairs of a positive and a negative image of the same stratum.

    Args:
        value: in [0, 1]; None where no stratum has both classes.
        interval: its bootstrap interval; the strata are held fixed.
        pairs: the number of pairs, of all pairs of a positive and a negative image.
        of_pairs: the number of all pairs.
        mixed: the number of strata that have both classes, of `strata`.
        stratifier: the AUC over the same pairs of the score that the strata were made by: 0.5 if it says nothing more.
    """

    value: float | None
    interval: Interval
    pairs: int
    of_pairs: int
    mixed: int
    strata: int
    stratifier: float | None


def strata_of(stratifier, count: int | None = None) -> np.ndarray:
    """Which of `count` quantiles of the score each image is in: (N,) int, equal scores never apart.

    Args:
        stratifier: (N,) float, finite.
        count: by default one for every IMAGES_EACH images, at least FEWEST, at most MOST.
    """
    values = np.asarray(stratifier, float)
    count = count or int(np.clip(len(values) // IMAGES_EACH, FEWEST, MOST))
    rank = np.searchsorted(np.sort(values), values, side="left")  # images with a lower score
    return np.unique(rank * count // max(1, len(values)), return_inverse=True)[1]


@one_blas_thread
def auc_within_strata(
    labels,
    probabilities,
    stratifier,
    groups: Sequence | None = None,
    bootstrap: Bootstrap = BOOTSTRAP,
    count: int | None = None,
) -> WithinStrata:
    """The share of pairs of one stratum in which the positive image has the higher probability; ties count half.

    All pairs weigh the same, so strata weigh by their pairs: the stratified Mann-Whitney statistic.

    Args:
        stratifier: (N,) float: the other score; its quantiles are the strata.
        count: as of `strata_of`; the others as `bootstrap_intervals`.
    Raises: ValueError: as `Sample`; a stratifier of another length.
    Source: van Elteren 1960, with equal weights for all pairs; adjusted ROC curves, Janes and Pepe 2009, Biometrika.
    """
    y, p = checked(labels, probabilities, 0.0, 1.0)
    _, other = checked(labels, stratifier)
    members, stratum = group_members(groups, len(y)), strata_of(other, count)
    rows = [np.flatnonzero(stratum == number) for number in range(int(stratum.max()) + 1)]
    rows = [row for row in rows if 0 < y[row].sum() < len(row)]
    pairs = int(sum(y[row].sum() * (1 - y[row]).sum() for row in rows))
    method = describe_bootstrap("percentile", members, bootstrap)
    samples = [(row, Sample(y[row], p[row])) for row in rows]

    def pooled(weights: np.ndarray, parts: list[tuple[np.ndarray, Sample]]) -> np.ndarray:
        right, of = np.zeros((2, len(weights)))
        for row, sample in parts:
            tally = Tally(sample, weights[:, row[sample.order]])
            there = tally.positives * tally.negatives
            with np.errstate(invalid="ignore"):
                right += np.where(there > 0, auc(tally) * there, 0)
            of += there
        with np.errstate(invalid="ignore"):
            return right / of

    once = np.ones((1, len(y)))
    reason = "" if pairs else "no stratum has both classes"
    draws = [pooled(weights, samples) for weights in resample_weights(len(y), members, bootstrap)] if pairs else []
    interval = interval_of_draws(
        np.concatenate([*draws, np.empty(0)]), bootstrap.level, method, reason or too_few(members, len(y))
    )
    # Any growing function of the other score has its AUC; this one lies in [0, 1].
    ranks = np.searchsorted(np.sort(other), other) / len(other)
    of_other = [(row, Sample(y[row], ranks[row])) for row in rows]
    return WithinStrata(
        float(pooled(once, samples)[0]) if pairs else None,
        interval,
        pairs,
        int(y.sum() * (1 - y).sum()),
        len(rows),
        int(stratum.max()) + 1,
        float(pooled(once, of_other)[0]) if pairs else None,
    )
