"""Metrics of the same images under several conditions, with paired bootstrap intervals of their means and losses."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from pmtrain.metrics import MEASURES, Assessed, Value
from pmtrain.metrics.intervals import (
    BOOTSTRAP,
    Bootstrap,
    describe_bootstrap,
    group_members,
    interval_of_draws,
    one_blas_thread,
    resample_weights,
    too_few,
)
from pmtrain.metrics.measures import Sample, Tally

NAMES = ("auc", "sensitivity", "specificity")

Condition = tuple[str, int]  # a change, and the severity
Metrics = dict[str, Assessed]  # by the names of NAMES


@dataclass(frozen=True)
class Reached:
    """The metrics of NAMES.

    Args:
        clean: of the images as they are.
        cells: under each condition.
        by_change: the mean over a change's severities.
        loss_by_change: clean minus that.
        mean: the mean over all changes.
        loss: clean minus that.
    """

    clean: Metrics
    cells: dict[Condition, Metrics]
    by_change: dict[str, Metrics]
    loss_by_change: dict[str, Metrics]
    mean: Metrics
    loss: Metrics


@one_blas_thread
def over_conditions(
    labels,
    clean,
    changed: Mapping[Condition, np.ndarray],
    threshold: float,
    groups: Sequence | None = None,
    bootstrap: Bootstrap = BOOTSTRAP,
) -> Reached:
    """Each resample of images (patients) is the same under every condition, so intervals of losses are paired.

    Args:
        clean: (N,) P(positive) of the images as they are.
        changed: (N,) the same under each condition.
        threshold, ...: as `bootstrap_intervals`.
    """
    members = group_members(groups, len(labels))
    samples = [Sample(labels, probabilities, threshold) for probabilities in (clean, *changed.values())]
    values: dict[str, list[list[np.ndarray]]] = {name: [[] for _ in samples] for name in NAMES}
    # Resamples are drawn for the images in the order of the clean scores, as in `bootstrap_intervals`: so the intervals
    # of the clean images are those of a plain evaluation. All weights 1 come first: the values themselves.
    order = samples[0].order
    place = np.argsort(order)  # of each image in that order
    drawn = resample_weights(len(order), None if members is None else members[order], bootstrap)
    for weights in itertools.chain([np.ones((1, len(order)))], drawn):
        for at, sample in enumerate(samples):
            tally = Tally(sample, weights[:, place[sample.order]])
            for name in NAMES:
                values[name][at].append(MEASURES[name].values(tally))
    draws_of = {
        name: np.array([np.concatenate(chunks) for chunks in rows]) for name, rows in values.items()
    }  # (1 + C, 1 + B)
    once, method = Tally.once(samples[0]), describe_bootstrap("percentile", members, bootstrap)
    unsure = too_few(members, len(labels))

    def metrics(weights: np.ndarray) -> Metrics:
        """Of a weighted sum of conditions; clean is the first."""
        found = {}
        for name in NAMES:
            draws = weights @ draws_of[name]
            reason = MEASURES[name].reason(once)
            value = Value(None, reason) if reason else Value(float(draws[0]))
            found[name] = Assessed(value, interval_of_draws(draws[1:], bootstrap.level, method, reason or unsure))
        return found

    each = np.eye(len(samples))
    changes = list(dict.fromkeys(name for name, _ in changed))
    of_change = {name: each[1:][[at == name for at, _ in changed]].mean(axis=0) for name in changes}
    of_all = np.mean(list(of_change.values()), axis=0)
    return Reached(
        metrics(each[0]),
        {condition: metrics(row) for condition, row in zip(changed, each[1:], strict=True)},
        {name: metrics(row) for name, row in of_change.items()},
        {name: metrics(each[0] - row) for name, row in of_change.items()},
        metrics(of_all),
        metrics(each[0] - of_all),
    )
