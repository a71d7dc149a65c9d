"""Patients rather than pictures: the scores of a unit's images as one score of the unit."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import logit

from pmtrain.data.dataset import Sample
from pmtrain.evaluation.scores.chosen_images import Images
from pmtrain.evaluation.scores.score import Scores
from pmtrain.metrics.measures import TINY
from pmtrain.runs.records import CheckpointInfo, UnitRecord
from pmtrain.system import console
from pmtrain.system.errors import UsageError

PATIENT = "patient"
TOP = 3

# Probabilities of a unit's images (K,), and the threshold on one of them -> the unit's score in [0, 1].
AGGREGATES: dict[str, Callable[[np.ndarray, float], float]] = {
    "mean": lambda p, threshold: float(p.mean()),
    "max": lambda p, threshold: float(p.max()),
    # P(at least one), if images were independent.
    "noisy-or": lambda p, threshold: float(1 - np.prod(1 - p)),
    "top-3": lambda p, threshold: float(np.sort(p)[-TOP:].mean()),
    "share": lambda p, threshold: float((p >= threshold).mean()),
}
# Labels of a unit's images -> whether the unit is positive.
UNIT_LABELS: dict[str, Callable[[np.ndarray], bool]] = {
    "any": lambda labels: bool(labels.any()),
    "all": lambda labels: bool(labels.all()),
    "majority": lambda labels: bool(2 * labels.sum() >= len(labels)),
}


@dataclass(frozen=True)
class UnitScores:
    """One row a unit, each with the unit's first image as its sample.

    Args:
        scores: of the units; a logit is that of the aggregated score.
        record: how they were aggregated.
        chosen: whether that was chosen on validation images, and not by default.
        names: of each unit.
        counts: (N,) images of each unit.
        unlike: number of units whose images have unlike labels.
        rule: a row of UNIT_LABELS.
    """

    scores: Scores
    record: UnitRecord
    chosen: bool
    names: list[str]
    counts: np.ndarray
    unlike: int
    rule: str

    def told(self) -> str:
        """How images became units, in a line."""
        record = self.record
        text = f"by {record.unit}: {self.record.aggregate} of {int(self.counts.sum())} images' probabilities"
        if self.unlike:
            text += f"; {self.unlike} with unlike labels are positive if {self.rule} of their images are"
        return text

    def groups(self) -> list[str]:
        """(N,) what to resample: the patient of each unit where every unit has one, else the unit."""
        patients = [sample.patient for sample in self.scores.samples]
        return patients if all(patients) and self.record.unit != PATIENT else self.names


def names_of_units(images: Images, samples: list[Sample], unit: str) -> list[str]:
    """(N,) the unit of each image.

    Raises:
        UsageError: there is no such column, or an image has no value in it.
    """
    if unit == PATIENT:
        names = [sample.patient for sample in samples]
        wanted = "name the patients: --patient-column or --patient-pattern"
    else:
        columns = list(dict.fromkeys(name for sample in samples for name, _ in sample.columns))
        if unit not in columns:
            raise UsageError(
                f"--unit {unit}: {images.data.root} has no such column",
                f"it has {', '.join([PATIENT, *columns])}",
            )
        names = [dict(sample.columns).get(unit, "") for sample in samples]
        wanted = f"fill the column {unit}"
    if missing := sum(not name for name in names):
        raise UsageError(f"--unit {unit}: {missing} of {len(names)} images have no {unit}", wanted)
    return names


def require_unit(images: Images, unit: str | None) -> None:
    """Raises: UsageError: as `names_of_units`, before the images are scored; never without a unit."""
    if unit is not None:
        names_of_units(images, list(images.samples), unit)


def by_unit(
    scores: Scores, images: Images, unit: str, info: CheckpointInfo, aggregate: str | None, rule: str
) -> UnitScores:
    """The units' scores.

    Args:
        aggregate: a row of AGGREGATES; None for the one that the checkpoint keeps for this unit, and `mean` where it
            keeps none.
        rule: a row of UNIT_LABELS.
    Raises:
        UsageError: as `names_of_units`.
    """
    record, chosen = record_for(info, unit, aggregate)
    return aggregated(scores, images, record, rule, chosen)


def record_for(info: CheckpointInfo, unit: str, aggregate: str | None) -> tuple[UnitRecord, bool]:
    """How to make images one, and whether that was chosen on validation images; `aggregate` as of `by_unit`."""
    kept = info.unit if info.unit is not None and info.unit.unit == unit else None
    if kept is not None and aggregate in (None, kept.aggregate):
        return kept, True
    if aggregate is None:
        console.warn(
            f"--unit {unit}: the checkpoint keeps no way to aggregate, so the mean is taken, with the threshold of an"
            f" image\nhint: pmtrain calibrate --unit {unit} chooses both on validation images"
        )
    threshold = info.decision_threshold
    record = UnitRecord(
        unit=unit,
        aggregate=aggregate or "mean",
        image_threshold=threshold,
        threshold=threshold,
        threshold_rule=f"{info.threshold_rule}, of an image",
        units=0,
        images=0,
    )
    return record, False


def aggregated_logit(probabilities: np.ndarray, record: UnitRecord) -> float:
    """(K,) probabilities of a unit's images -> the logit of their aggregate, before the record's calibration."""
    value = AGGREGATES[record.aggregate](probabilities, record.image_threshold)
    return float(logit(np.clip(value, TINY, 1 - TINY)))


def aggregated(scores: Scores, images: Images, record: UnitRecord, rule: str, chosen: bool) -> UnitScores:
    """The units' scores as a record says, in the order of their first images."""
    rows: dict[str, list[int]] = defaultdict(list)
    for row, name in enumerate(names_of_units(images, scores.samples, record.unit)):
        rows[name].append(row)
    members = [np.array(each) for each in rows.values()]
    of_labels, probabilities = UNIT_LABELS[rule], scores.probabilities
    logits = np.array([aggregated_logit(probabilities[each], record) for each in members])
    labels = np.array([int(of_labels(scores.labels[each])) for each in members], dtype=np.int64)
    unlike = sum(len(set(scores.labels[each])) > 1 for each in members)
    samples = [scores.samples[each[0]] for each in members]
    counts = np.array([len(each) for each in members])
    return UnitScores(
        Scores(samples, labels, logits, record.calibration), record, chosen, list(rows), counts, unlike, rule
    )


def unit_report(unit: UnitScores | None) -> dict[str, Any] | None:
    """How images became units; None without --unit. The counts of `images` in metrics.json are then of units."""
    if unit is None:
        return None
    chosen = {"chosen_on_validation": unit.chosen, "label_rule": unit.rule, "unlike_labels": unit.unlike}
    return {**unit.record.model_dump(), **chosen, "images_scored": int(unit.counts.sum())}
