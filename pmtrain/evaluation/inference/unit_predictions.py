"""Predictions by patient, or by another unit: the probabilities of its images as one, as the checkpoint keeps it."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pmtrain.config import PredictConfig
from pmtrain.data.layouts.patients import from_names
from pmtrain.data.layouts.rows import Row
from pmtrain.data.layouts.tables.lookup import column_by_image
from pmtrain.evaluation.inference.classifier import Classifier, Prediction
from pmtrain.evaluation.scores.units import PATIENT, aggregated_logit, record_for
from pmtrain.metrics import shift_prior
from pmtrain.runs.calibrator import probabilities_of
from pmtrain.runs.records import UnitRecord
from pmtrain.system import console
from pmtrain.system.console import csv_row
from pmtrain.system.errors import UsageError


@dataclass(frozen=True)
class UnitPrediction:
    """The prediction for one unit.

    Args:
        name: of the unit.
        images: all that were given, and `used` how many of them count: an image that can't be read or is refused
            doesn't.
        probability, class_name, posterior: as of a Prediction; None where no image counts.
        error: why there is no probability.
    """

    name: str
    images: tuple[Path | None, ...]
    used: int
    probability: float | None = None
    class_name: str | None = None
    posterior: float | None = None
    error: str | None = None


def units_of(paths: Sequence[Path], config: PredictConfig) -> list[str]:
    """(N,) the unit of each image.

    Raises:
        UsageError: the options don't tell it, or an image has none.
    """
    unit = config.unit or ""
    if config.table is not None and config.patient_pattern is not None:
        raise UsageError("--table and --patient-pattern both tell the patients", "give one of them")
    if config.table is not None:
        names, wanted = column_by_image(config.table, unit, paths), f"fill the column {unit} for each image"
    elif config.patient_pattern is not None and unit == PATIENT:
        rows, notes = from_names([Row(path, "") for path in paths], config.patient_pattern)
        for note in notes:
            console.notice(note)
        names, wanted = [row.patient for row in rows], "give a pattern that matches each file name"
    else:
        by_name = " or --patient-pattern PATTERN" if unit == PATIENT else ""
        raise UsageError(f"--unit {unit}: which images belong together isn't known", f"give --table TABLE{by_name}")
    if lacking := [path.name for path, name in zip(paths, names, strict=True) if not name]:
        raise UsageError(
            f"--unit {unit}: {len(lacking)} of {len(paths)} images have none, such as {lacking[0]}", wanted
        )
    return names


def predict_units(
    classifier: Classifier, predictions: Iterable[Prediction], names: Sequence[str], config: PredictConfig
) -> tuple[UnitRecord, list[UnitPrediction]]:
    """How the images of a unit become one, and a prediction for each unit, in the order of their first images."""
    record, _ = record_for(classifier.info, config.unit or "", config.aggregate)
    members: dict[str, list[Prediction]] = defaultdict(list)
    for name, prediction in zip(names, predictions, strict=True):
        members[name].append(prediction)
    return record, [_unit(classifier, record, name, images) for name, images in members.items()]


def _unit(classifier: Classifier, record: UnitRecord, name: str, images: Sequence[Prediction]) -> UnitPrediction:
    paths = tuple(image.path for image in images)
    used = np.array([image.probability for image in images if image.probability is not None])
    if not len(used):
        reason = next((image.error or image.reason for image in images if image.error or image.reason), "")
        return UnitPrediction(name, paths, 0, error=f"no image can be used; the first: {reason}")
    logit = aggregated_logit(used, record)
    probability = float(probabilities_of(np.array([logit]), record.calibration)[0])
    held = record.calibration.prevalence if record.calibration else classifier.held_prevalence
    posterior = None
    if classifier.prevalence is not None and held is not None:
        posterior = float(shift_prior(probability, held, classifier.prevalence))
    label = int(probability >= record.decision_threshold)
    return UnitPrediction(name, paths, len(used), probability, classifier.classes[label], posterior)


def _as_csv(record: UnitRecord, units: Iterable[UnitPrediction], shifted: bool, about: Any) -> Iterator[str]:
    posterior = ["posterior"] * shifted
    yield csv_row(record.unit, "images", "used", "probability", "prediction", "error", *posterior)
    for each in units:
        more = [each.posterior] * shifted
        yield csv_row(each.name, len(each.images), each.used, each.probability, each.class_name, each.error, *more)


def _as_json(record: UnitRecord, units: Iterable[UnitPrediction], shifted: bool, about: Any) -> Iterator[str]:
    rows = [
        {
            record.unit: each.name,
            "images": [str(path) for path in each.images],
            "used": each.used,
            "probability": each.probability,
            "prediction": each.class_name,
            "error": each.error,
            **({"posterior": each.posterior} if shifted else {}),
        }
        for each in units
    ]
    text = json.dumps({**about, "unit": record.model_dump(), "predictions": rows}, ensure_ascii=False)
    yield text if text.isprintable() else json.dumps(json.loads(text))


# Record, predictions, whether they have a posterior, and what the JSON says of the checkpoint -> lines.
UNIT_FORMATS: dict[str, Callable[[UnitRecord, Iterable[UnitPrediction], bool, Any], Iterator[str]]] = {
    "csv": _as_csv,
    "json": _as_json,
}
