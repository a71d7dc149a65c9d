"""Scores as a table, a row an image in the order of the data."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from pmtrain.data.dataset import Sample
from pmtrain.evaluation.scores.score import Scores
from pmtrain.evaluation.scores.units import UnitScores
from pmtrain.system.errors import PmtrainError


def score_table(
    scores: Scores,
    name_of: Callable[[Sample], str],
    threshold: float = 0.5,
    fold_of: Mapping[Path, int] | None = None,
    posteriors: np.ndarray | None = None,
) -> bytes:
    """CSV of file, patient, label, logit, probability and prediction.

    `fold_of` adds the fold by path, and `posteriors`, (N,), a column of probabilities at another prevalence.
    A logit comes back to the bit by `read_logits`.
    """
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    fold = () if fold_of is None else ("fold",)
    posterior = () if posteriors is None else ("posterior",)
    rows.writerow(("file", "patient", *fold, "label", "logit", "probability", "prediction", *posterior))
    columns = (scores.samples, scores.labels, scores.logits, scores.probabilities)
    for place, (sample, label, logit, probability) in enumerate(zip(*columns, strict=True)):
        shifted = () if posteriors is None else (float(posteriors[place]),)
        number = () if fold_of is None else (fold_of[sample.path],)
        called = int(probability >= threshold)
        values = (int(label), float(logit), float(probability), called)
        rows.writerow((name_of(sample), sample.patient, *number, *values, *shifted))
    return text.getvalue().encode("utf-8", errors="surrogateescape")


def unit_table(unit: UnitScores, threshold: float, posteriors: np.ndarray | None = None) -> bytes:
    """CSV of the unit's name, its images, label, logit of the aggregated score, probability and prediction.

    `posteriors`: as of `score_table`.
    """
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    posterior = () if posteriors is None else ("posterior",)
    rows.writerow((unit.record.unit, "images", "label", "logit", "probability", "prediction", *posterior))
    scores = unit.scores
    columns = (unit.names, unit.counts, scores.labels, scores.logits, scores.probabilities)
    for place, (name, count, label, logit, probability) in enumerate(zip(*columns, strict=True)):
        shifted = () if posteriors is None else (float(posteriors[place]),)
        called = int(probability >= threshold)
        rows.writerow((name, int(count), int(label), float(logit), float(probability), called, *shifted))
    return text.getvalue().encode("utf-8", errors="surrogateescape")


def read_logits(path: Path) -> dict[str, float]:
    """The logit of each image in a table of `score_table`, by its name.

    Raises:
        PmtrainError: the file is missing or damaged.
    """
    try:
        with open(path, newline="", encoding="utf-8", errors="surrogateescape") as file:
            return {row["file"]: float(row["logit"]) for row in csv.DictReader(file)}
    except (OSError, ValueError, KeyError, TypeError, csv.Error) as error:
        raise PmtrainError(f"{path}: can't be read: {error}", "bring back the file as the run wrote it") from None
