"""External data sets beside a run's own images: what changes, and whether the calibration carries over."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pmtrain.config import ListingOptions, ReportConfig
from pmtrain.evaluation.domain.compare_sets import NETWORK, SAME
from pmtrain.evaluation.domain.domain_model import VERDICTS
from pmtrain.evaluation.evaluate.measuring import Evaluation, examine
from pmtrain.evaluation.evaluate.results import metrics_of
from pmtrain.metrics import (
    Assessed,
    Assessment,
    Change,
    Interval,
    ScoredSet,
    roc_points,
    unpaired_changes,
)
from pmtrain.metrics.text import ends, percent
from pmtrain.system import console
from pmtrain.system.console import csv_row

INTERNAL = "internal"
SHOWN = (
    "auc",
    "sensitivity",
    "specificity",
    "brier",
    "ece",
    "calibration_slope",
    "calibration_intercept",
)
WIDEST_SLOPE = 1.0  # of an interval that still says whether the slope is near 1
POINTS = 200  # of a ROC curve in the file


@dataclass(frozen=True)
class ExternalSet:
    """One external set: its name, its evaluation, what changes against the internal images, the calibration in words.

    Args:
        changes: of each measure of SHOWN, external minus internal.
    """

    name: str
    evaluation: Evaluation
    changes: dict[str, Change]
    calibration: str

    def lines(self) -> list[str]:
        """What the set says about the network, in sentences."""
        seen = [f"EXPLORATORY: {reason}. Such figures are likely too good." for reason in self.evaluation.reasons]
        return [*seen, auc_sentence(self.changes["auc"]), self.calibration, *distance_lines(self.evaluation)]


def examine_externals(checkpoint: Path, config: ReportConfig) -> dict[str, Evaluation]:
    """The evaluation of each set of `--external`, all its images, at the same threshold; by name, in the order given.

    Raises:
        PmtrainError: as `examine`.
    """
    found = {}
    for name, data in config.external_sets():
        console.notice(f"external set {name}:")
        kept = {"data": data, "positive": config.positive, "negative": config.negative, "exclude": config.exclude}
        listing = {field: about.default for field, about in ListingOptions.model_fields.items()}
        alone = {"group_by": None, "shift": None, "prevalence": None, "split": "all"}
        found[name] = examine(checkpoint, config.model_copy(update={**listing, **kept, **alone}))
        for reason in found[name].reasons:
            console.warn(f"external set {name}: {reason}, so its results are likely too good")
    return found


def beside(internal: Evaluation, externals: dict[str, Evaluation]) -> list[ExternalSet]:
    """The external sets beside the internal images."""
    if not externals:
        return []
    config, (first, *others) = internal.config, [scored_set(each) for each in (internal, *externals.values())]
    threshold = internal.threshold.value
    changes = unpaired_changes(first, others, threshold, SHOWN, config.bootstrap)
    at_home = calibration_faults(internal.found)
    return [
        ExternalSet(name, each, changed, calibration_sentence(each, at_home))
        for (name, each), changed in zip(externals.items(), changes, strict=True)
    ]


def main_interval(measured: Change | Assessed) -> Interval:
    """DeLong's interval of an AUC where there is one, else the bootstrap's."""
    second = measured.second
    delong = second is not None and second.low is not None and second.method.startswith("DeLong")
    return second if second is not None and delong else measured.interval


def scored_set(evaluation: Evaluation) -> ScoredSet:
    """What the comparison needs of an evaluation."""
    return ScoredSet(evaluation.scores.labels, evaluation.scores.probabilities, evaluation.groups)


def auc_sentence(change: Change) -> str:
    """Whether the AUC is lower than on the internal images."""
    interval = main_interval(change)
    if change.value is None or interval.low is None or interval.high is None:
        return f"The change of the AUC can't be told: {interval.note}."
    size = f"{abs(change.value):.3f} {'lower' if change.value < 0 else 'higher'} than on the internal images"
    between = f"change {change.value:+.3f}, {percent(interval.level)} CI {interval.low:+.3f} to {interval.high:+.3f}"
    if interval.high < 0 or interval.low > 0:
        return f"The AUC is {size} ({between})."
    return f"The AUC is not shown to differ from that on the internal images ({between})."


def calibration_faults(found: Assessment) -> list[str]:
    """What is wrong with the probabilities for certain, in words, by the intervals of slope and intercept."""
    slope, intercept = (found.measures[name].interval for name in ("calibration_slope", "calibration_intercept"))
    told = f"{percent(slope.level)} CI"
    faults = []
    if intercept.low is not None and intercept.high is not None and not intercept.low <= 0 <= intercept.high:
        way = "too high" if intercept.high < 0 else "too low"
        value = _value(found, "calibration_intercept")
        faults.append(f"on average {way} (intercept {value}, {told} {ends(intercept, 2)})")
    if slope.low is not None and slope.high is not None and not slope.low <= 1 <= slope.high:
        way = "too extreme: the high ones too high, the low ones too low"
        way = way if slope.high < 1 else "too cautious: the high ones too low, the low ones too high"
        faults.append(f"{way} (slope {_value(found, 'calibration_slope')}, {told} {ends(slope, 2)})")
    return faults


def _value(found: Assessment, name: str) -> str:
    value = found.measures[name].value.value
    return "undefined" if value is None else f"{value:.2f}"


def calibration_sentence(evaluation: Evaluation, at_home: Sequence[str] = ()) -> str:
    """Whether the calibration carries over to these images, in plain words.

    Args:
        at_home: the faults on the internal images.
    """
    found = evaluation.found
    mean = float(np.mean(evaluation.scores.probabilities))
    shares = f"mean probability {mean:.2f}, share of positive {evaluation.word}s {found.prevalence:.2f}"
    slope = found.measures["calibration_slope"]
    if faults := calibration_faults(found):
        home = " They aren't right on the internal images either." if at_home else ""
        return (
            f"The calibration does not carry over: the probabilities are {' and '.join(faults)}; {shares}."
            f"{home} Calibrate on images of this place before using them."
        )
    if slope.interval.low is None or slope.interval.high is None:
        reason = slope.value.reason or slope.interval.note
        return f"Whether the calibration carries over can't be told: {reason}; {shares}."
    if slope.interval.high - slope.interval.low > WIDEST_SLOPE:
        return (
            f"Whether the calibration carries over can't be told from {found.n} {evaluation.word}s: the slope lies"
            f" anywhere from {ends(slope.interval, 2)}; {shares}."
        )
    return (
        f"Nothing speaks against the calibration carrying over: the intervals of slope ({ends(slope.interval, 2)}) and"
        f" intercept ({ends(found.measures['calibration_intercept'].interval, 2)}) hold 1 and 0; {shares}."
    )


def distance_lines(evaluation: Evaluation) -> list[str]:
    """How far the set lies from the training images; none without a domain model."""
    domain = evaluation.domain
    if domain is None:
        return []
    counts = Counter(each.verdict for each in domain.familiar)
    shares = [f"{100 * counts[verdict] / len(domain.familiar):.1f} % {verdict}" for verdict in VERDICTS]
    lines = [f"Of single images, by the domain model: {', '.join(shares)}."]
    if domain.statistics is None or domain.features is None:
        return [*lines, f"How far the set lies from the training images is not tested: {domain.reason}."]
    verdict = domain.verdict.split(";")[0]  # what is said there of the calibration is measured here
    told = f"{domain.statistics.text('image statistics')} and {domain.features.text(NETWORK)}"
    lines.append(f"{verdict[0].upper()}{verdict[1:]}: told from the training images with an AUC of {told}.")
    if domain.verdict != SAME:
        lines.append(
            f"They differ most in {', '.join(f'{name} (AUC {auc:.3f})' for name, auc in domain.named.items())}."
        )
    return lines


def as_record(internal: Evaluation, sets: Sequence[ExternalSet]) -> dict[str, Any]:
    """The figures of all sets, ready for JSON."""
    config = internal.config
    return {
        "checkpoint": str(internal.checkpoint.path),
        "weights_sha256": internal.checkpoint.info.weights_sha256,
        "threshold": internal.threshold.value,
        "threshold_rule": internal.threshold.text,
        "confidence_level": config.ci,
        "n_boot": config.n_boot,
        "seed": config.seed,
        INTERNAL: _set_record(internal),
        "external": {
            each.name: {
                **_set_record(each.evaluation),
                "change": {name: asdict(change) for name, change in each.changes.items()},
                "calibration": each.calibration,
            }
            for each in sets
        },
    }


def _set_record(evaluation: Evaluation) -> dict[str, Any]:
    data = evaluation.images.data
    return {
        "data": str(data.root),
        "split": evaluation.images.split,
        "data_fingerprint": data.fingerprint(),
        "synthetic": data.synthetic,
        "classes": list(data.classes),
        "exploratory_reasons": evaluation.reasons,
        "left_out": evaluation.scored.left_out,
        **metrics_of(evaluation.found),
        "domain": evaluation.domain.report() if evaluation.domain else None,
        "roc": _roc_record(evaluation),
    }


def _roc_record(evaluation: Evaluation) -> dict[str, list[float | None]] | None:
    """At most POINTS of the ROC curve; the first threshold is infinite, null here."""
    if evaluation.chart_data.missing:
        return None
    curve = roc_points(evaluation.scores.labels, evaluation.scores.probabilities)
    kept = np.unique(np.linspace(0, len(curve.fpr) - 1, POINTS).round().astype(int))
    thresholds = [None if np.isinf(each) else float(each) for each in curve.thresholds[kept]]
    return {"threshold": thresholds, "fpr": curve.fpr[kept].tolist(), "tpr": curve.tpr[kept].tolist()}


def as_table(internal: Evaluation, sets: Sequence[ExternalSet]) -> Iterator[str]:
    """The same as CSV lines: one for each set and measure."""
    yield csv_row(
        "set", "images", "positives", "metric", "value", "low", "high",
        "change", "change_low", "change_high", "change_method",
    )  # fmt: skip
    for name, evaluation, changes in [
        (INTERNAL, internal, {}),
        *((each.name, each.evaluation, each.changes) for each in sets),
    ]:
        found = evaluation.found
        for measure in SHOWN:
            measured, change = found.measures[measure], changes.get(measure)
            cells: tuple[object, ...] = (None,) * 4
            if change is not None:
                used = main_interval(change)
                cells = (change.value, used.low, used.high, used.method)
            interval = main_interval(measured)
            yield csv_row(
                name, found.n, found.positives, measure, measured.value.value, interval.low, interval.high, *cells
            )


def written(internal: Evaluation, sets: Sequence[ExternalSet]) -> dict[str, bytes]:
    """The files' contents by their ending: JSON and CSV."""
    record = json.dumps(as_record(internal, sets), indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    table = "".join(line + "\n" for line in as_table(internal, sets))
    return {
        "json": record.encode("utf-8", errors="surrogateescape"),
        "csv": table.encode("utf-8", errors="surrogateescape"),
    }
