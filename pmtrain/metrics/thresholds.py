"""Where to cut: a rule in words, and the threshold that it chooses on some images."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pmtrain.metrics.measures import checked
from pmtrain.system.errors import PmtrainError, UsageError

FEW = 50  # images, under which a chosen threshold comes with a warning


@dataclass(frozen=True)
class ThresholdRule:
    """How a threshold is had: `stored` (the checkpoint's), `fixed`, `youden`, `sensitivity` or `specificity`.

    Args:
        kind: one of these.
        target: the threshold itself for `fixed`, the least value wanted for the last two.
    """

    kind: str
    target: float | None = None

    def __str__(self) -> str:
        """As it is written on the command line."""
        return {"fixed": f"{self.target}"}.get(
            self.kind, self.kind + ("" if self.target is None else f"={self.target}")
        )


@dataclass(frozen=True)
class ChosenThreshold:
    """A threshold with what it reaches on the images it was chosen on (None for a class they lack)."""

    value: float
    rule: ThresholdRule
    n: int
    sensitivity: float | None
    specificity: float | None
    warning: str = ""


RULES = "stored, youden, a number such as 0.5, sensitivity=0.95 or specificity=0.90"


def parse_threshold_rule(text: str) -> ThresholdRule:
    """Read a rule.

    Args:
        text: `stored`, `youden`, a number in [0, 1], `sensitivity=T` or `specificity=T` with T in (0, 1].
    Raises: UsageError: anything else.
    """
    kind, equals, number = text.strip().lower().partition("=")
    kind = kind.strip()
    if not equals and kind in ("stored", "youden"):
        return ThresholdRule(kind)
    try:
        target = float(number if equals else kind)
    except ValueError:
        raise UsageError(f"{text!r} is no threshold rule", f"use one of {RULES}") from None
    if not equals and 0 <= target <= 1:
        return ThresholdRule("fixed", target)
    if equals and kind in ("sensitivity", "specificity") and 0 < target <= 1:
        return ThresholdRule(kind, target)
    raise UsageError(f"{text!r} is no threshold rule, or its number is out of range", f"use one of {RULES}")


def choose_threshold(labels, probabilities, rule: ThresholdRule) -> ChosenThreshold:
    """The threshold that `rule` chooses on these images.

    A cut lies halfway between two neighbouring probabilities, so that images near it on either side are equally far;
    the cut that calls everything positive is 0. (Where two probabilities are neighbours among the floats, it is the
    upper one.) Of these:
        youden: the highest sensitivity + specificity - 1 (Youden 1950); if several, the most sensitive.
        sensitivity=T: of those of sensitivity T or more the highest specificity; if several, the most sensitive.
        specificity=T: of those of specificity T or more the highest sensitivity; if several, the most specific.
    A tie is found in whole numbers, so it doesn't hang on rounding.

    Args:
        labels: (N,) int, 1 is the positive class.
        probabilities: (N,) float, P(positive), in [0, 1].
        rule: any kind but `stored`, which the caller has to look up.
    Raises:
        PmtrainError: a class is absent, so that nothing can be chosen.
        ValueError: as `Sample`; a rule that isn't chosen on images.
    """
    y, p = checked(labels, probabilities, low=0.0, high=1.0)
    if rule.kind == "fixed" and rule.target is not None:
        return _reached(y, p, rule.target, rule, "")
    if rule.kind not in ("youden", "sensitivity", "specificity"):
        raise ValueError(f"the rule {rule} isn't chosen on images")
    positives, negatives = int(y.sum()), int(len(y) - y.sum())
    if not positives or not negatives:
        raise PmtrainError(
            f"the rule {rule} can't choose a threshold: of {len(y)} images {positives} are positive and"
            f" {negatives} negative",
            "choose it on images of both classes, or give the threshold as a number, such as 0.5",
        )
    scores, first = np.unique(np.sort(p), return_index=True)
    y_sorted = y[np.argsort(p, kind="stable")]
    # At cut i everything from scores[i] upwards is called positive; after the last one nothing is.
    edges = np.append(first, len(y))
    missed = np.concatenate([[0], np.cumsum(y_sorted)])[edges]
    tn = edges - missed
    tp = positives - missed
    if rule.kind == "youden":
        best = np.lexsort((tp, tp * negatives + tn * positives))[-1]
    else:
        meets, then = {
            "sensitivity": (tp / positives >= rule.target, (tp, tn)),
            "specificity": (tn / negatives >= rule.target, (tn, tp)),
        }[rule.kind]
        allowed = np.flatnonzero(meets)
        best = allowed[np.lexsort([key[allowed] for key in then])[-1]]
    warning = f"the threshold was chosen on {len(y)} images only; expect it to vary" if len(y) < FEW else ""
    return _reached(y, p, _cut(scores, int(best)), rule, warning)


def _cut(scores: np.ndarray, i: int) -> float:
    """The threshold from which on scores[i], and nothing below it, is positive."""
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
