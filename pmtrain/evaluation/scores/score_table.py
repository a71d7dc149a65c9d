"""Scores as a table, a row an image in the order of the data."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from pmtrain.data.dataset import Sample
from pmtrain.evaluation.scores.score import Scores
from pmtrain.evaluation.scores.units import UnitScores
from pmtrain.system.errors import PmtrainError
from pmtrain.system.files import plain_cell, safe_cell


def score_table(
    scores: Scores,
    name_of: Callable[[Sample], str],
    threshold: float = 0.5,
    fold_of: Mapping[Path, int] | None = None,
    posteriors: np.ndarray | None = None,
) -> bytes:
    """CSV of file, patient, label, logit, probability and prediction, and of several networks their spread.

    `fold_of` adds the fold by path, and `posteriors`, (N,), a column of probabilities at another prevalence.
    A logit comes back to the bit by `read_logits`.
    """
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    fold = () if fold_of is None else ("fold",)
    posterior = () if posteriors is None else ("posterior",)
    spread = () if scores.spread is None else ("spread",)
    rows.writerow(("file", "patient", *fold, "label", "logit", "probability", "prediction", *posterior, *spread))
    columns = (scores.samples, scores.labels, scores.logits, scores.probabilities)
    for place, (sample, label, logit, probability) in enumerate(zip(*columns, strict=True)):
        shifted = () if posteriors is None else (float(posteriors[place]),)
        number = () if fold_of is None else (fold_of[sample.path],)
        called = int(probability >= threshold)
        values = (int(label), float(logit), float(probability), called)
        apart = () if scores.spread is None else (known(scores.spread[place]),)
        rows.writerow((safe_cell(name_of(sample)), safe_cell(sample.patient), *number, *values, *shifted, *apart))
    return text.getvalue().encode("utf-8", errors="surrogateescape")


def known(value: float) -> float | None:
    """The value; None for NaN, which is an empty cell and null."""
    return None if np.isnan(value) else float(value)


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
        rows.writerow((safe_cell(name), int(count), int(label), float(logit), float(probability), called, *shifted))
    return text.getvalue().encode("utf-8", errors="surrogateescape")


class ScoredRow(NamedTuple):
    """What a table of `score_table` says of an image."""

    patient: str
    label: int
    logit: float


def read_logits(path: Path) -> dict[str, float]:
    """The logit of each image in a table of `score_table`, by its name.

    Raises:
        PmtrainError: the file is missing or damaged.
    """
    return {name: row.logit for name, row in read_scores(path).items()}


def read_scores(path: Path) -> dict[str, ScoredRow]:
    """The rows of a table of `score_table`, by the image's name.

    Raises:
        PmtrainError: the file is missing or damaged.
    """
    try:
        with open(path, newline="", encoding="utf-8", errors="surrogateescape") as file:
            rows = list(csv.DictReader(file))
        return {
            plain_cell(row["file"]): ScoredRow(plain_cell(row["patient"] or ""), int(row["label"]), float(row["logit"]))
            for row in rows
        }
    except (OSError, ValueError, KeyError, TypeError, csv.Error) as error:
        raise PmtrainError(f"{path}: can't be read: {error}", "bring back the file as the run wrote it") from None
