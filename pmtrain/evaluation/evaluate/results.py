"""An evaluation as printed lines and as files."""

from __future__ import annotations

import contextlib
import json
import math
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pmtrain.evaluation import charts
from pmtrain.evaluation.calibration.calibrate import summary
from pmtrain.evaluation.calibration.prior import held_prevalence
from pmtrain.evaluation.evaluate.measuring import Evaluation
from pmtrain.evaluation.robustness import shift_chart
from pmtrain.evaluation.scores.score_table import score_table, unit_table
from pmtrain.evaluation.scores.scoring import adaptation_stated, scored_by_lines
from pmtrain.evaluation.scores.units import unit_report
from pmtrain.evaluation.scores.views import views_stated
from pmtrain.metrics import Assessment, DecisionCurve
from pmtrain.metrics.text import (
    SYNTHETIC,
    Notes,
    confusion_lines,
    counts_text,
    measure_lines,
    method_lines,
    prevalence_lines,
    sample_size_lines,
)
from pmtrain.runs.checkpoint import Networks
from pmtrain.system import console
from pmtrain.system.errors import UsageError
from pmtrain.system.files import new_folder, write_atomic

RESULTS = ("predictions.csv", "metrics.json")
FILES = (*RESULTS, *charts.FILES)


def as_lines(evaluation: Evaluation) -> list[str]:
    """The printed lines after the notes' line."""
    data, found, threshold = evaluation.images.data, evaluation.found, evaluation.threshold
    notes = Notes()
    lines = [SYNTHETIC] if data.synthetic else []
    lines += [
        *([evaluation.unit.told()] if evaluation.unit else []),
        f"{evaluation.word}s: {counts_text(found, data.classes)}",
        *scored_by_lines(evaluation.scored.scores, evaluation.checkpoint),
        *views_stated(evaluation.config),
        *adaptation_stated(evaluation.scored.computed.get("adapted_bn")),
        f"threshold: {threshold.value:.6g} ({threshold.text})"
        + ("; the accuracy above is at 0.5" if threshold.value != 0.5 else ""),
        *calibration_lines(evaluation.checkpoint),
        *(f"EXPLORATORY: {reason}, so these results are likely too good" for reason in evaluation.reasons),
        "",
        *measure_lines(found, notes),
        "",
        *confusion_lines(found, data.classes),
        "",
    ]
    for kind, part in evaluation.subgroups.items():
        lines += [f"{evaluation.config.group_by} = {kind or '(empty)'}: {counts_text(part, data.classes)}"]
        lines += [*measure_lines(part, notes), ""]
    if evaluation.at_prevalence:
        lines += [*prevalence_lines(evaluation.at_prevalence, notes), ""]
    lines += notes.lines() + method_lines(found, evaluation.config.seed)
    lines += sample_size_lines(found, evaluation.config.ci, evaluation.word)
    lines += evaluation.shortcut.lines() if evaluation.shortcut else []
    lines += evaluation.domain.lines() if evaluation.domain else []
    lines += evaluation.selective.lines()
    return lines + (evaluation.shift.lines() if evaluation.shift else [])


def calibration_lines(checkpoint: Networks) -> list[str]:
    """What the calibration is and does; none without one."""
    calibrator = checkpoint.info.calibration
    if calibrator is None:
        return []
    before, after = calibrator.before.get("ece"), calibrator.after.get("ece")
    known = before is not None and after is not None
    reached = f"; calibration error {before:.4f} before, {after:.4f} after (cross-fitted)" if known else ""
    return [f"{summary(calibrator)}{reached}"]


def as_report(evaluation: Evaluation) -> dict[str, Any]:
    """metrics.json: a measure that is undefined is null, with the reason."""
    data, config, threshold = evaluation.images.data, evaluation.config, evaluation.threshold
    info, scores = evaluation.checkpoint.info, evaluation.scored.scores
    report = {
        "checkpoint": str(evaluation.checkpoint.path),
        "weights_sha256": info.weights_sha256,
        "data": str(data.root),
        "split": evaluation.images.split,
        "data_fingerprint": data.fingerprint(),
        "synthetic": data.synthetic,
        "classes": list(data.classes),
        "left_out": evaluation.scored.left_out,
        **evaluation.scored.computed,
        "loss": scores.loss,
        "accuracy_at_0.5": scores.accuracy,
        "threshold": {
            "value": threshold.value,
            "rule": threshold.rule,
            "stored_rule": info.threshold_rule,
            "tuned_on_these_images": threshold.tuned,
            "stored_on_raw_probability": info.threshold,
        },
        "calibration": None if info.calibration is None else info.calibration.model_dump(),
        "exploratory": bool(evaluation.reasons),
        "exploratory_reasons": evaluation.reasons,
        "seen_in_training": dict(zip(("duplicate", "same_patient"), evaluation.also_trained_on, strict=True)),
        "confidence_level": config.ci,
        "n_boot": config.n_boot,
        "seed": config.seed,
        "unit": unit_report(evaluation.unit),
        **metrics_of(evaluation.found),
        "at_prevalence": None
        if evaluation.at_prevalence is None
        else {**asdict(evaluation.at_prevalence), "shifted_from": held_prevalence(evaluation.checkpoint)},
        "decision_curve": decision_record(evaluation.chart_data.decisions),
        "shortcut": evaluation.shortcut.report() if evaluation.shortcut else None,
    }
    report["domain"] = evaluation.domain.report() if evaluation.domain else None
    names = [data.name_of(scores.samples[place]) for place in evaluation.selective.to_a_person]
    report["selective"] = {"curve": [kept.report() for kept in evaluation.selective.curve], "deferred": names}
    if evaluation.shift:
        report["shift"] = evaluation.shift.report()
    if config.group_by:
        report["group_by"] = config.group_by
        report["subgroups"] = {kind: metrics_of(part) for kind, part in evaluation.subgroups.items()}
    return report


def decision_record(curve: DecisionCurve) -> dict[str, Any]:
    """A decision curve, ready for JSON: a list a column, an interval that there isn't as null."""
    columns = ("thresholds", "model", "low", "high", "treat_all", "gain", "gain_low", "gain_high")
    values = {name: [None if math.isnan(x) else x for x in getattr(curve, name).tolist()] for name in columns}
    return {"prevalence": curve.prevalence, "method": curve.method, "note": curve.note, **values}


def metrics_of(found: Assessment) -> dict[str, Any]:
    """An assessment, ready for JSON."""
    return {
        "images": found.n,
        "positives": found.positives,
        "negatives": found.n - found.positives,
        "prevalence": found.prevalence,
        "patients": found.patients,
        "bootstrap_unit": "image" if found.patients is None else "patient",
        "metrics": {
            name: {
                **asdict(measured.value),
                "interval": asdict(measured.interval),
                "analytic_interval": None if measured.second is None else asdict(measured.second),
            }
            for name, measured in found.measures.items()
        },
        "confusion_matrix": found.confusion._asdict(),
        "sample_size": None if found.sample_size is None else found.sample_size._asdict(),
    }


def require_new(folder: Path, shift: bool) -> None:
    """
    Args:
        shift: whether the results of --shift will be among them.
    Raises:
        UsageError: results are in the folder already.
    """
    for name in (*FILES, *(shift_chart.FILES if shift else ())):
        if (folder / name).exists():
            raise UsageError(
                f"--output {folder}: {name} already exists there, and results are never overwritten",
                "choose another folder",
            )


def write(folder: Path, evaluation: Evaluation) -> None:
    """predictions.csv, a row an image in the order of the data, metrics.json and the charts.

    A new folder appears with all of them at once.
    """
    with contextlib.nullcontext(folder) if folder.exists() else new_folder(folder) as place:
        written = _write_into(place, evaluation)
    names = [*charts.CHARTS, *[shift_chart.NAME] * bool(evaluation.shift)]
    kinds = " and ".join(charts.FORMATS)
    console.notice(f"wrote to {folder}: {', '.join(written)} and {len(names)} charts ({', '.join(names)}; {kinds})")


def _write_into(folder: Path, evaluation: Evaluation) -> list[str]:
    """The files; return the names of those that are no charts."""
    scores, threshold = evaluation.scored.scores, evaluation.threshold.value
    write_atomic(
        folder / "predictions.csv",
        score_table(scores, evaluation.images.data.name_of, threshold, posteriors=evaluation.posteriors)
        if evaluation.unit is None
        else unit_table(evaluation.unit, threshold, evaluation.posteriors),
    )
    content = json.dumps(as_report(evaluation), indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    write_atomic(folder / "metrics.json", content.encode("utf-8", errors="surrogateescape"))
    written = [*RESULTS]
    charts.write_charts(folder, evaluation.chart_data)
    if evaluation.shift:
        shift_chart.write_shift(folder, evaluation.shift, evaluation.chart_data.marks)
        written.append(shift_chart.FILES[0])
    return written
