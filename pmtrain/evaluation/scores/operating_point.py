"""The operating point: the threshold from which an image is called positive."""

from __future__ import annotations

from dataclasses import dataclass

from pmtrain.evaluation.scores.score import Scores
from pmtrain.metrics import choose_threshold, parse_threshold_rule
from pmtrain.runs.checkpoint import Checkpoint
from pmtrain.system import console


@dataclass(frozen=True)
class OperatingPoint:
    """The threshold, its rule, a text for people, and `tuned`: whether it was chosen on the reported images."""

    value: float
    rule: str
    text: str
    tuned: bool


def operating_point(text: str, checkpoint: Checkpoint, scores: Scores) -> OperatingPoint:
    """The threshold that --threshold asks for.

    Raises:
        PmtrainError: the rule can't choose on these images.
    """
    rule, info = parse_threshold_rule(text), checkpoint.info
    if rule.kind == "stored":
        return OperatingPoint(info.threshold, "stored", f"stored: {info.threshold_rule}", False)
    chosen = choose_threshold(scores.labels, scores.probabilities, rule)
    if rule.kind == "fixed":
        return OperatingPoint(chosen.value, str(rule), "as given", False)
    if chosen.warning:
        console.warn(chosen.warning)
    return OperatingPoint(chosen.value, str(rule), f"{rule}, chosen on these images", True)
