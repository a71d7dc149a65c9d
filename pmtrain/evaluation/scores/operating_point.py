"""The operating point: the threshold from which an image is called positive."""

from __future__ import annotations

from dataclasses import dataclass

from pmtrain.evaluation.scores.score import Scores
from pmtrain.metrics import choose_threshold, parse_threshold_rule
from pmtrain.runs.checkpoint import Networks
from pmtrain.runs.records import UnitRecord
from pmtrain.system import console


@dataclass(frozen=True)
class OperatingPoint:
    """The threshold, its rule, a text for people, and `tuned`: whether it was chosen on the reported images."""

    value: float
    rule: str
    text: str
    tuned: bool


def operating_point(
    text: str,
    checkpoint: Networks,
    scores: Scores,
    prevalence: float | None = None,
    unit: UnitRecord | None = None,
) -> OperatingPoint:
    """The threshold that --threshold asks for.

    Args:
        scores: of images, or of units as `unit` says.
        prevalence: the one at which costs are to be lowest.

    Raises:
        PmtrainError: the rule can't choose on these images.
    """
    rule, info = parse_threshold_rule(text), checkpoint.info
    if rule.kind == "stored" and unit is not None:
        return OperatingPoint(unit.decision_threshold, "stored", f"stored: {unit.threshold_rule}", False)
    if rule.kind == "stored":
        mapped = ", as the calibration maps it" if info.calibration else ""
        return OperatingPoint(info.decision_threshold, "stored", f"stored: {info.threshold_rule}{mapped}", False)
    chosen = choose_threshold(scores.labels, scores.probabilities, rule, prevalence)
    if rule.kind == "fixed":
        return OperatingPoint(chosen.value, str(rule), "as given", False)
    if chosen.warning:
        console.warn(chosen.warning)
    return OperatingPoint(chosen.value, str(rule), f"{rule}, chosen on these images", True)


def threshold_to_store(rule_text: str, scores: Scores, first: bool = True) -> tuple[float, str]:
    """The threshold to store with weights and how it was chosen; `first`: say what is wrong with it."""
    rule, n = parse_threshold_rule(rule_text), len(scores.labels)
    positives = int(scores.labels.sum())
    if rule.kind != "fixed" and not 0 < positives < n:  # images of a class were all left out
        if first:
            console.warn(f"--threshold-rule {rule} needs validation images of both classes: 0.5 is stored instead")
        return 0.5, f"0.5, since validation lacked a class for {rule}"
    chosen = choose_threshold(scores.labels, scores.probabilities, rule)
    if first and chosen.warning:
        console.warn(chosen.warning)
    return chosen.value, str(rule) if rule.kind == "fixed" else f"{rule} on {n} validation images"
