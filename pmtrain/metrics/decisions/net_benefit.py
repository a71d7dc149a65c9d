"""Decision curves: what a network is worth to people who act on it, by how much they would give to find a case."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pmtrain.metrics.intervals import (
    BOOTSTRAP,
    Bootstrap,
    checked_level,
    describe_bootstrap,
    group_members,
    one_blas_thread,
    resample_weights,
    too_few,
)
from pmtrain.metrics.measures import Sample, Tally

THRESHOLDS = np.arange(1, 100) / 100


@dataclass(frozen=True)
class DecisionCurve:
    """Net benefit by threshold probability; that of treating none is 0.

    Args:
        thresholds: (K,) in (0, 1).
        model: (K,) of treating whoever the network gives at least the threshold.
        treat_all: (K,) of treating all.
        low, high: (K,) pointwise interval of `model`; NaN where there is none, with the reason in `note`.
        gain: (K,) `model` minus the better of treating all and none.
        gain_low, gain_high: (K,) its pointwise interval.
        prevalence: the share of positives that it holds for.
        level, method: of the intervals.
    """

    thresholds: np.ndarray
    model: np.ndarray
    treat_all: np.ndarray
    low: np.ndarray
    high: np.ndarray
    gain: np.ndarray
    gain_low: np.ndarray
    gain_high: np.ndarray
    prevalence: float
    level: float
    method: str
    note: str = ""

    def useful(self) -> list[tuple[float, float]]:
        """The ranges of thresholds, first and last, in which the gain's interval lies above 0."""
        above = np.flatnonzero(self.gain_low > 0)
        runs = np.split(above, np.flatnonzero(np.diff(above) > 1) + 1) if len(above) else []
        return [(float(self.thresholds[run[0]]), float(self.thresholds[run[-1]])) for run in runs]


@one_blas_thread
def decision_curve(
    labels,
    probabilities,
    groups: Sequence | None = None,
    bootstrap: Bootstrap = BOOTSTRAP,
    thresholds=THRESHOLDS,
    prevalence: float | None = None,
) -> DecisionCurve:
    """The net benefit at each threshold t: TP / n - FP / n x t / (1 - t), with pointwise percentile intervals.

    t is the risk at which a person would just agree to be treated; t / (1 - t) is how many false positives one true
    positive is worth.

    Args:
        thresholds: (K,) in (0, 1); an image counts as positive if its probability is at least the threshold.
        prevalence: of the people it is for, in (0, 1): sensitivity and specificity are the images', the share of
            positives this. None: the images' own.
        others: as `bootstrap_intervals`.
    Raises: ValueError: as `bootstrap_intervals`; a threshold or the prevalence is out of range.
    Source: Vickers and Elkin 2006; for another prevalence Vickers et al. 2008.
    """
    t = np.asarray(thresholds, dtype=np.float64)
    for name, values in (("threshold", t), ("prevalence", np.array([prevalence or 0.5]))):
        if not ((values > 0) & (values < 1)).all():
            raise ValueError(f"a {name} is {values[~((values > 0) & (values < 1))][0]}; it must be between 0 and 1")
    sample = Sample(labels, probabilities)
    members = group_members(groups, len(sample))
    sorted_members = None if members is None else members[sample.order]
    positives_below, negatives_below = (
        np.searchsorted(sample.probabilities[who], t, side="left") for who in (sample.positive, sample.negative)
    )
    odds = t / (1 - t)

    def benefits(weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(B, N) -> the model's net benefit and that of treating all, (B, K) each; NaN where a rate is undefined."""
        tally = Tally(sample, weights)
        positives, negatives = tally.positives[:, None], tally.negatives[:, None]
        true, false = positives / tally.n[:, None], negatives / tally.n[:, None]  # of all, if all are treated
        if prevalence is not None:
            true, false = np.full_like(true, prevalence), np.full_like(false, 1 - prevalence)
        with np.errstate(invalid="ignore"):
            tpr = (positives - tally.positives_within[:, positives_below]) / positives
            fpr = (negatives - tally.negatives_within[:, negatives_below]) / negatives
        if prevalence is None:  # a class that isn't there adds nothing
            tpr, fpr = np.nan_to_num(tpr), np.nan_to_num(fpr)
        return tpr * true - fpr * false * odds, true - false * odds

    (model,), (treat_all,) = benefits(np.ones((1, len(sample))))  # with all weights 1
    reason = too_few(members, len(sample))
    if prevalence is not None and not np.isfinite(model).all():
        reason = "a class has no images"
    ends = np.full((4, len(t)), np.nan)
    if not reason:
        drawn = [benefits(weights) for weights in resample_weights(len(sample), sorted_members, bootstrap)]
        of_model, of_all = (np.concatenate(part) for part in zip(*drawn, strict=True))
        tail = (1 - checked_level(bootstrap.level)) / 2
        ends = np.concatenate(
            [np.nanquantile(draws, [tail, 1 - tail], axis=0) for draws in (of_model, of_model - np.maximum(of_all, 0))]
        )
    return DecisionCurve(
        t,
        model,
        treat_all,
        ends[0],
        ends[1],
        model - np.maximum(treat_all, 0),
        ends[2],
        ends[3],
        float(sample.labels.mean()) if prevalence is None else prevalence,
        bootstrap.level,
        describe_bootstrap("percentile", members, bootstrap),
        reason,
    )
