"""Threshold rules: parse a rule, and choose the threshold on images."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pmtrain.metrics.measures import checked
from pmtrain.system.errors import PmtrainError, UsageError

FEW = 50  # with fewer images, the chosen threshold comes with a warning


@dataclass(frozen=True)
class ThresholdRule:
    """How to choose a threshold.

    Args:
        kind: `stored` (in the checkpoint), `fixed`, `youden`, `sensitivity`, `specificity` or `cost`.
        target: for `fixed` the threshold itself, for `sensitivity` and `specificity` the lowest value wanted.
        costs: for `cost`, what a false negative and a false positive cost.
    """

    kind: str
    target: float | None = None
    costs: tuple[float, float] | None = None

    def __str__(self) -> str:
        """The rule as written on the command line."""
        if self.costs:
            return f"{self.kind}={self.costs[0]:g}:{self.costs[1]:g}"
        return {"fixed": f"{self.target}"}.get(
            self.kind, self.kind + ("" if self.target is None else f"={self.target}")
        )


@dataclass(frozen=True)
class ChosenThreshold:
    """A threshold, and its results on the images that chose it (None for a class without images)."""

    value: float
    rule: ThresholdRule
    n: int
    sensitivity: float | None
    specificity: float | None
    warning: str = ""


RULES = (
    "stored, youden, a number such as 0.5, sensitivity=0.95, specificity=0.90 or cost=5:1 (false negative : positive)"
)


def parse_threshold_rule(text: str) -> ThresholdRule:
    """Parse a threshold rule.

    Args:
        text: `stored`, `youden`, a number in [0, 1], `sensitivity=T` or `specificity=T` with T in (0, 1],
            or `cost=FN:FP` with two positive numbers.
    Raises: UsageError: anything else.
    """
    kind, equals, number = text.strip().lower().partition("=")
    kind = kind.strip()
    if not equals and kind in ("stored", "youden"):
        return ThresholdRule(kind)
    if equals and kind == "cost":
        return ThresholdRule(kind, costs=_costs(text, number))
    try:
        target = float(number if equals else kind)
    except ValueError:
        raise UsageError(f"{text!r} is not a threshold rule", f"use one of {RULES}") from None
    if not equals and 0 <= target <= 1:
        return ThresholdRule("fixed", target)
    if equals and kind in ("sensitivity", "specificity") and 0 < target <= 1:
        return ThresholdRule(kind, target)
    raise UsageError(f"{text!r} is not a threshold rule, or its number is out of range", f"use one of {RULES}")


def _costs(text: str, numbers: str) -> tuple[float, float]:
    """`5:1` -> (5.0, 1.0)."""
    try:
        false_negative, false_positive = map(float, numbers.split(":"))
        if all(0 < cost < float("inf") for cost in (false_negative, false_positive)):
            return false_negative, false_positive
    except ValueError:
        pass
    raise UsageError(
        f"{text!r} is not a threshold rule: it needs two positive numbers, the cost of a false negative and of a false"
        " positive",
        f"use one of {RULES}",
    )


def choose_threshold(labels, probabilities, rule: ThresholdRule, prevalence: float | None = None) -> ChosenThreshold:
    """Choose a threshold on these images by `rule`.

    The candidates are the midpoints between neighbouring probabilities, and 0, which calls everything positive. (If two
    probabilities are adjacent floats, the candidate is the upper one.) The rules choose from them:
        youden: the highest sensitivity + specificity - 1 (Youden 1950); among ties, the highest sensitivity.
        sensitivity=T: the highest specificity with a sensitivity of at least T; among ties, the highest sensitivity.
        specificity=T: the highest sensitivity with a specificity of at least T; among ties, the highest specificity.
        cost=FN:FP: the lowest cost of false negatives and false positives; among ties, the highest sensitivity.
    Ties are compared in integers (costs to 12 digits), so rounding doesn't matter.

    Args:
        labels: (N,) int, 1 is the positive class.
        probabilities: (N,) float, P(positive), in [0, 1].
        rule: any kind except `stored`, which the caller looks up.
        prevalence: where `cost` is to be lowest, in (0, 1); None: that of these images. The other rules don't depend
            on it.
    Raises:
        PmtrainError: a class has no images, so no threshold can be chosen.
        ValueError: as `Sample`; or the rule doesn't choose on images.
    """
    y, p = checked(labels, probabilities, low=0.0, high=1.0)
    if rule.kind == "fixed" and rule.target is not None:
        return _reached(y, p, rule.target, rule, "")
    if rule.kind not in ("youden", "sensitivity", "specificity", "cost"):
        raise ValueError(f"the rule {rule} doesn't choose on images")
    positives, negatives = int(y.sum()), int(len(y) - y.sum())
    if not positives or not negatives:
        raise PmtrainError(
            f"the rule {rule} can't choose a threshold: of {len(y)} images {positives} are positive and"
            f" {negatives} negative",
            "choose it on images of both classes, or give a number as the threshold, such as 0.5",
        )
    scores, first = np.unique(np.sort(p), return_index=True)
    y_sorted = y[np.argsort(p, kind="stable")]
    # Candidate i calls images with scores[i] or more positive; the last candidate calls none positive.
    edges = np.append(first, len(y))
    missed = np.concatenate([[0], np.cumsum(y_sorted)])[edges]
    tn = edges - missed
    tp = positives - missed
    if rule.kind == "youden":
        best = np.lexsort((tp, tp * negatives + tn * positives))[-1]
    elif rule.costs:
        share = positives / len(y) if prevalence is None else prevalence
        cost = rule.costs[0] * share * missed / positives + rule.costs[1] * (1 - share) * (1 - tn / negatives)
        best = np.lexsort((-tp, np.round(cost, 12)))[0]
    else:
        meets, then = {
            "sensitivity": (tp / positives >= rule.target, (tp, tn)),
            "specificity": (tn / negatives >= rule.target, (tn, tp)),
        }[rule.kind]
        allowed = np.flatnonzero(meets)
        best = allowed[np.lexsort([key[allowed] for key in then])[-1]]
    warning = f"the threshold was chosen on {len(y)} images only; it is uncertain" if len(y) < FEW else ""
    return _reached(y, p, _midpoint(scores, int(best)), rule, warning)


def _midpoint(scores: np.ndarray, i: int) -> float:
    """The threshold that calls scores[i] and above positive, and nothing below."""
    if i == 0:
        return 0.0
    below, above = scores[i - 1], scores[i] if i < len(scores) else np.nextafter(max(1.0, scores[-1]), 2)
    middle = below + (above - below) / 2
    return float(middle if below < middle else above)


def _reached(y: np.ndarray, p: np.ndarray, value: float, rule: ThresholdRule, warning: str) -> ChosenThreshold:
    called = p >= value
    sensitivity = float(called[y == 1].mean()) if (y == 1).any() else None
    specificity = float((~called[y == 0]).mean()) if (y == 0).any() else None
    return ChosenThreshold(value, rule, len(y), sensitivity, specificity, warning)
