"""Evaluation: a checkpoint's score for every image of a split -> measures with intervals, printed and written."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pmtrain import console
from pmtrain.checkpoint import Checkpoint, load_checkpoint
from pmtrain.config import EvalConfig
from pmtrain.data.samples import DataSet
from pmtrain.device import select_device
from pmtrain.engine import Scores
from pmtrain.errors import UsageError
from pmtrain.metrics import Assessment, assess
from pmtrain.metrics.text import Notes, confusion_lines, measure_lines, method_lines
from pmtrain.scoring import Cut, Images, Scored, choose_images, cut, patients, score_checkpoint, seen_before
from pmtrain.serialization import write_atomic

FILES = ("predictions.csv", "metrics.json")


def evaluate(path: Path, config: EvalConfig) -> None:
    """Print the notes' line and the measures of the checkpoint at `path`, and write them where `config.output` says.

    Raises:
        PmtrainError: the checkpoint or the data can't be read, or `config.output` already holds results.
    """
    for name in FILES if config.output else ():
        if (config.output / name).exists():  # type: ignore[operator]
            raise UsageError(
                f"--output {config.output}: holds {name} already, and results are never overwritten",
                "give another folder",
            )
    device = select_device(config.device)
    checkpoint = load_checkpoint(path)
    images = choose_images(checkpoint, config)
    scored = score_checkpoint(checkpoint, images, config, device)
    scores, data = scored.scores, images.data

    threshold = cut(config.threshold, checkpoint, scores)
    groups = patients(scores.samples, data.name_of)
    found = assess(scores.labels, scores.probabilities, threshold.value, groups, config.ci, config.n_boot, config.seed)
    reasons = ["the threshold was chosen on these images"] if threshold.tuned else []
    if seen := seen_before(checkpoint, images):
        reasons.append(seen)

    console.result(console.validation_line(scores.accuracy, scores.loss))
    for line in as_lines(found, threshold, reasons, data, config):
        console.result(line)
    if config.output:
        report = as_report(found, threshold, reasons, checkpoint, images, scored, config)
        write(config.output, scores, data, report)
        console.notice(f"wrote {' and '.join(str(config.output / name) for name in FILES)}")


def as_lines(found: Assessment, threshold: Cut, reasons: list[str], data: DataSet, config: EvalConfig) -> list[str]:
    """The lines after the notes' one."""
    negative, positive = data.classes
    lines = ["data: SYNTHETIC images, drawn by a program: no clinical claim can rest on them"] if data.synthetic else []
    of_patients = "" if found.patients is None else f" of {found.patients} patients"
    lines += [
        f"images: {found.n}{of_patients} ({found.positives} {positive}, {found.n - found.positives} {negative}),"
        f" prevalence {found.prevalence:.4f}",
        f"threshold: {threshold.value:.6g} ({threshold.text})",
        *(f"EXPLORATORY: {reason}, so the figures flatter it" for reason in reasons),
        "",
    ]
    notes = Notes()
    lines += measure_lines(found, notes)
    lines += ["", *confusion_lines(found, data.classes), ""]
    return lines + notes.lines() + method_lines(found, config.seed)


def as_report(
    found: Assessment,
    threshold: Cut,
    reasons: list[str],
    checkpoint: Checkpoint,
    images: Images,
    scored: Scored,
    config: EvalConfig,
) -> dict[str, Any]:
    """metrics.json: a measure that is undefined is null, with the reason."""
    data = images.data
    return {
        "checkpoint": str(checkpoint.path),
        "weights_sha256": checkpoint.info.weights_sha256,
        "data": str(data.root),
        "split": images.split,
        "data_fingerprint": data.fingerprint(),
        "synthetic": data.synthetic,
        "classes": list(data.classes),
        "left_out": scored.left_out,
        **scored.computed,
        "loss": scored.scores.loss,
        "accuracy_at_half": scored.scores.accuracy,
        "threshold": {
            "value": threshold.value,
            "rule": threshold.rule,
            "stored_rule": checkpoint.info.threshold_rule,
            "tuned_on_these_images": threshold.tuned,
        },
        "exploratory": bool(reasons),
        "exploratory_because": reasons,
        "ci": config.ci,
        "n_boot": config.n_boot,
        "seed": config.seed,
        **figures(found),
    }


def figures(found: Assessment) -> dict[str, Any]:
    """An assessment, ready for JSON."""
    return {
        "images": found.n,
        "positives": found.positives,
        "negatives": found.n - found.positives,
        "prevalence": found.prevalence,
        "patients": found.patients,
        "resampled": "image" if found.patients is None else "patient",
        "measures": {
            name: {
                **asdict(measured.value),
                "interval": asdict(measured.interval),
                "second_interval": None if measured.second is None else asdict(measured.second),
            }
            for name, measured in found.measures.items()
        },
        "confusion": found.confusion._asdict(),
    }


def write(folder: Path, scores: Scores, data: DataSet, report: dict[str, Any]) -> None:
    """predictions.csv, a row an image in the order of the data, and metrics.json."""
    folder.mkdir(parents=True, exist_ok=True)
    threshold = report["threshold"]["value"]
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(("file", "patient", "label", "logit", "probability", "prediction"))
    for sample, label, logit, probability in zip(
        scores.samples, scores.labels, scores.logits, scores.probabilities, strict=True
    ):
        called = int(probability >= threshold)
        rows.writerow((data.name_of(sample), sample.patient, int(label), float(logit), float(probability), called))
    write_atomic(folder / "predictions.csv", text.getvalue().encode("utf-8", errors="surrogateescape"))
    content = json.dumps(report, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    write_atomic(folder / "metrics.json", content.encode("utf-8", errors="surrogateescape"))
