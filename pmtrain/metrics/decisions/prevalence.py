"""What a test means where disease is rarer or commoner than in the study: predictive values, calls and posteriors.

Sensitivity and specificity are taken from the images; the share of positives is the one given.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from pmtrain.metrics.assessment import Assessed
from pmtrain.metrics.intervals import (
    BOOTSTRAP,
    Bootstrap,
    Interval,
    describe_bootstrap,
    group_members,
    interval_of_draws,
    log_ratio,
    one_blas_thread,
    resample_weights,
    too_few,
)
from pmtrain.metrics.measures import MEASURES, Sample, Tally, Value, confusion

# Measures that depend on the prevalence and on the threshold, and have a meaning for another population.
SHIFTED = ("ppv", "npv", "accuracy", "number_needed_to_screen")
PER = 1000  # patients that the expected calls are given for

ABSENT = "a class has no images"

CALLS: dict[str, Callable[[Tally], np.ndarray]] = {
    "called_positive": lambda t: t.tp + t.fp,
    "true_positives": lambda t: t.tp,
    "false_positives": lambda t: t.fp,
    "missed": lambda t: t.fn,
}


@dataclass(frozen=True)
class AtPrevalence:
    """Measures of `SHIFTED` and expected calls of `CALLS` in PER patients, at a prevalence other than the study's."""

    prevalence: float
    study: float
    measures: dict[str, Assessed]
    calls: dict[str, Assessed]


@one_blas_thread
def assess_at_prevalence(
    labels,
    probabilities,
    threshold: float,
    prevalence: float,
    groups: Sequence | None = None,
    bootstrap: Bootstrap = BOOTSTRAP,
) -> AtPrevalence:
    """Predictive values and calls at `prevalence`, with bootstrap intervals.

    PPV and NPV of independent images have a second interval, normal on the logit scale (Mercaldo, Lau and Zhou 2007).

    Args: as `bootstrap_intervals`; prevalence: in (0, 1).
    Raises: ValueError: as `bootstrap_intervals`; the prevalence is out of range.
    """
    checked_prevalence(prevalence)
    sample = Sample(labels, probabilities, threshold)
    members = group_members(groups, len(sample))
    sorted_members = None if members is None else members[sample.order]
    once = tally_at(Tally.once(sample), prevalence)
    functions: dict[str, Callable[[Tally], np.ndarray]] = {name: MEASURES[name].values for name in SHIFTED}
    functions |= {name: _per_patients(count) for name, count in CALLS.items()}
    draws: dict[str, list[np.ndarray]] = {name: [] for name in functions}
    for weights in resample_weights(len(sample), sorted_members, bootstrap):
        tally = tally_at(Tally(sample, weights), prevalence)
        for name, function in functions.items():
            draws[name].append(function(tally))
    method = describe_bootstrap("percentile", members, bootstrap)
    absent = "" if len(sample.positive) and len(sample.negative) else ABSENT
    values, found = values_at(sample, prevalence), {}
    for name, function in functions.items():
        value = values.get(name) or (Value(None, absent) if absent else Value(float(function(once)[0])))
        none = value.reason or too_few(members, len(sample))
        interval = interval_of_draws(np.concatenate(draws[name]), bootstrap.level, method, none)
        found[name] = Assessed(value, interval)
    if not absent and (members is None or members.max() + 1 == len(sample)):
        tp, fp, fn, tn = confusion(labels, probabilities, threshold)
        odds = prevalence / (1 - prevalence)
        positive = log_ratio(tp, tp + fn, fp, fp + tn, bootstrap.level)
        negative = log_ratio(fn, tp + fn, tn, fp + tn, bootstrap.level)
        for name, ends in (
            ("ppv", (positive.low, positive.high)),
            ("npv", (negative.high, negative.low)),
        ):
            low, high = ends
            if low is not None and high is not None:
                bounds = _share(low * odds), _share(high * odds)
                bounds = bounds if name == "ppv" else (1 - bounds[0], 1 - bounds[1])
                found[name] = replace(found[name], second=Interval(*bounds, bootstrap.level, "logit method"))
    return AtPrevalence(
        prevalence,
        float(sample.labels.mean()),
        {name: found[name] for name in SHIFTED},
        {name: found[name] for name in CALLS},
    )


def values_at(sample: Sample, prevalence: float) -> dict[str, Value]:
    """The measures of `SHIFTED` at a prevalence."""
    once = tally_at(Tally.once(sample), prevalence)
    if not len(sample.positive) or not len(sample.negative):
        return dict.fromkeys(SHIFTED, Value(None, ABSENT))
    reasons = {name: MEASURES[name].reason(once) for name in SHIFTED}
    return {
        name: Value(None, reason) if reason else Value(float(MEASURES[name].values(once)[0]))
        for name, reason in reasons.items()
    }


def tally_at(tally: Tally, prevalence: float) -> Tally:
    """The tally with each weighting's classes reweighted to `prevalence`; NaN where a class has no weight."""
    y = tally.sample.labels
    with np.errstate(divide="ignore", invalid="ignore"):
        positive = prevalence * tally.n / tally.positives
        negative = (1 - prevalence) * tally.n / tally.negatives
        return Tally(tally.sample, tally.weights * np.where(y == 1, positive[:, None], negative[:, None]))


def shift_prior(probabilities, before: float, after: float) -> np.ndarray:
    """Posterior probabilities for another prevalence: the odds times the ratio of the prior odds.

    Args:
        probabilities: (N,) float, P(positive), in [0, 1].
        before: the prevalence that they hold for, in (0, 1).
        after: the prevalence to shift them to, in (0, 1).
    Raises: ValueError: a prevalence is out of range.
    Source: Saerens, Latinne and Decaestecker 2002, equation 2.4.
    """
    p = np.asarray(probabilities, dtype=np.float64)
    up = checked_prevalence(after) / checked_prevalence(before)
    down = (1 - after) / (1 - before)
    return p * up / (p * up + (1 - p) * down)


def checked_prevalence(prevalence: float) -> float:
    """Return the prevalence; ValueError if it isn't between 0 and 1."""
    if not 0 < prevalence < 1:
        raise ValueError(f"a prevalence is {prevalence}; it must be between 0 and 1")
    return prevalence


def _per_patients(count: Callable[[Tally], np.ndarray]) -> Callable[[Tally], np.ndarray]:
    return lambda tally: PER * count(tally) / tally.n


def _share(odds: float) -> float:
    return odds / (1 + odds)
