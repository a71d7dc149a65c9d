"""Two checkpoints compared on the same images: each metric's difference with its paired interval, and two tests."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pmtrain.config import CompareConfig
from pmtrain.evaluation.calibration.calibrate import summary
from pmtrain.evaluation.scores.chosen_images import Images, choose_images, compare_classes, patients
from pmtrain.evaluation.scores.ensemble import load_networks
from pmtrain.evaluation.scores.operating_point import OperatingPoint, operating_point
from pmtrain.evaluation.scores.prior_use import seen_before
from pmtrain.evaluation.scores.score import Scores
from pmtrain.evaluation.scores.scoring import Scored, ScoringPass, score_networks, scored_by_lines
from pmtrain.evaluation.scores.units import UnitScores, by_unit, require_unit, unit_report
from pmtrain.evaluation.scores.views import views_stated
from pmtrain.metrics import MEASURES, Comparison, Difference, PairedTest, compare_scores
from pmtrain.metrics.text import SYNTHETIC, TITLE_WIDTH, Notes, ends, percent, tally_text
from pmtrain.models.backends.device import select_device
from pmtrain.runs.checkpoint import Networks
from pmtrain.system import console
from pmtrain.system.errors import PmtrainError


@dataclass(frozen=True)
class Side:
    """One of the two checkpoints; `reasons` say why its results are likely too good (exploratory)."""

    checkpoint: Networks
    scored: Scored
    unit: UnitScores | None
    threshold: OperatingPoint
    reasons: list[str]

    @property
    def scores(self) -> Scores:
        """What is compared: the scores of the units, where there are any, else of the images."""
        return self.unit.scores if self.unit else self.scored.scores


@dataclass(frozen=True)
class Compared:
    """The result. A is the first checkpoint, B the second, and every difference is A's value minus B's."""

    config: CompareConfig
    images: Images
    sides: dict[str, Side]
    n_patients: int | None
    comparison: Comparison


def compare(path_a: Path, path_b: Path, config: CompareConfig) -> None:
    """Print how the checkpoints at the two paths (as of `load_networks`) differ on the same images.

    Raises:
        PmtrainError: a checkpoint or the data can't be read, or their classes differ.
    """
    console.result(FORMATS[config.format](examine(path_a, path_b, config)))


def examine(path_a: Path, path_b: Path, config: CompareConfig) -> Compared:
    """Score both and compare them; without --data, on the images of the first checkpoint's run."""
    device = select_device(config.device)
    checkpoints = {"A": load_networks(path_a), "B": load_networks(path_b)}
    images = choose_images(checkpoints["A"], config)
    compare_classes(checkpoints["B"], images.listed)
    require_unit(images, config.unit)
    sides = {}
    for name, checkpoint in checkpoints.items():
        scored = score_networks(checkpoint, ScoringPass(images, config, device))
        unit = None
        if config.unit:
            unit = by_unit(scored.scores, images, config.unit, checkpoint.info, config.aggregate, config.unit_label)
        record, scores = (unit.record, unit.scores) if unit else (None, scored.scores)
        threshold = operating_point(config.threshold, checkpoint, scores, config.prevalence, record)
        reasons = ["its threshold was chosen on these images"] * threshold.tuned + seen_before(checkpoint, images)
        sides[name] = Side(checkpoint, scored, unit, threshold, reasons)
    a, b = sides["A"], sides["B"]
    if a.scored.scores.samples != b.scored.scores.samples:
        raise PmtrainError(
            f"{images.data.root}: some images could be read for one checkpoint but not for the other",
            "make sure that nothing changes the files, and run the comparison again",
        )
    groups = a.unit.groups() if a.unit else patients(a.scored.scores.samples, images.data.name_of)
    comparison = compare_scores(
        a.scores.labels,
        a.scores.probabilities,
        b.scores.probabilities,
        a.threshold.value,
        b.threshold.value,
        groups,
        config.bootstrap,
        config.prevalence,
    )
    return Compared(config, images, sides, None if groups is None else len(set(groups)), comparison)


def as_text(compared: Compared) -> str:
    """One line for each metric, for people."""
    config, data, comparison = compared.config, compared.images.data, compared.comparison
    labels, notes = compared.sides["A"].scores.labels, Notes()
    lines = [SYNTHETIC] if data.synthetic else []
    for name, side in compared.sides.items():
        lines.append(f"{name}: {side.checkpoint.path}, threshold {side.threshold.value:.6g} ({side.threshold.text})")
    tally = tally_text(len(labels), int(labels.sum()), compared.n_patients, data.classes)
    lines.append(f"{config.unit or 'image'}s: {tally}")
    lines += views_stated(config)
    for name, side in compared.sides.items():
        lines += [f"{name}: {line}" for line in scored_by_lines(side.scored.scores, side.checkpoint)]
        lines += [f"{name}: {side.unit.told()}"] if side.unit else []
        if side.checkpoint.info.calibration:
            lines.append(f"{name}: {summary(side.checkpoint.info.calibration)}")
        lines += [f"EXPLORATORY: {name}: {reason}, so these results are likely too good" for reason in side.reasons]
    lines += ["", f"{'':<{TITLE_WIDTH}}  {'A':>7}  {'B':>7}  {'A - B':>7}"]
    for name, difference in comparison.differences.items():
        lines.append(f"{MEASURES[name].title:<{TITLE_WIDTH}}  {_difference_text(difference, notes)}")
    if comparison.at_prevalence:
        share = int(labels.sum()) / len(labels)
        lines += ["", f"at a prevalence of {config.prevalence:g} (of these images: {share:.4f}):"]
        for name, difference in comparison.at_prevalence.items():
            lines.append(f"{MEASURES[name].title:<{TITLE_WIDTH}}  {_difference_text(difference, notes)}")
    lines += ["", f"AUC: {_test_text(comparison.delong)}", f"Accuracy: {_test_text(comparison.mcnemar)}", ""]
    method = comparison.differences["accuracy"].interval.method
    lines += notes.lines()
    lines.append(
        f"intervals: {method}, seed {config.seed}; the thresholds are held fixed;"
        f" not adjusted for multiple comparisons ({len(MEASURES)} metrics)"
    )
    return "\n".join(lines)


def _difference_text(found: Difference, notes: Notes) -> str:
    a, b = ("undef." if side.value is None else f"{side.value:.4f}" for side in (found.a, found.b))
    text = f"{a:>7}  {b:>7}  "
    if found.difference is None:
        return f"{text}undefined: {found.a.reason or found.b.reason}"
    text += f"{found.difference:7.4f} "
    if found.interval.low is None:
        return f"{text}(no interval: {found.interval.note})"
    return f"{text}({percent(found.interval.level)} CI {ends(found.interval)})" + notes.mark(found.interval.note)


def _test_text(test: PairedTest) -> str:
    if test.p is None:
        return f"{test.method}: not tested: {test.note}"
    p = "p < 0.0001" if test.p < 0.0001 else f"p = {test.p:.4f}"
    parts = [] if test.statistic is None else [f"z = {test.statistic:.3f}"]
    parts.append(p)
    if test.counts:
        parts.append(f"only A is right on {test.counts[0]} images, only B on {test.counts[1]}")
    return f"{test.method}: {', '.join(parts)}" + (f" ({test.note})" if test.note else "")


def as_json(compared: Compared) -> str:
    """The same for programs."""
    config, images, comparison = compared.config, compared.images, compared.comparison
    labels = compared.sides["A"].scores.labels
    report: dict[str, Any] = {
        name.lower(): {
            "checkpoint": str(side.checkpoint.path),
            "weights_sha256": side.checkpoint.info.weights_sha256,
            "threshold": {
                "value": side.threshold.value,
                "rule": side.threshold.rule,
                "stored_rule": side.checkpoint.info.threshold_rule,
                "tuned_on_these_images": side.threshold.tuned,
            },
            "calibration": side.checkpoint.info.calibration and side.checkpoint.info.calibration.model_dump(),
            "unit": unit_report(side.unit),
            "exploratory": bool(side.reasons),
            "exploratory_reasons": side.reasons,
            **side.scored.computed,
        }
        for name, side in compared.sides.items()
    }
    report |= {
        "data": str(images.data.root),
        "split": images.split,
        "data_fingerprint": images.data.fingerprint(),
        "synthetic": images.data.synthetic,
        "classes": list(images.data.classes),
        "left_out": compared.sides["A"].scored.left_out,
        "images": len(labels),
        "positives": int(labels.sum()),
        "patients": compared.n_patients,
        "confidence_level": config.ci,
        "n_boot": config.n_boot,
        "seed": config.seed,
        "prevalence": config.prevalence,
        "at_prevalence": {name: asdict(found) for name, found in comparison.at_prevalence.items()},
        "differences": {name: asdict(found) for name, found in comparison.differences.items()},
        "delong": asdict(comparison.delong),
        "mcnemar": asdict(comparison.mcnemar),
    }
    return json.dumps(report, indent=2, ensure_ascii=False, allow_nan=False)


FORMATS: dict[str, Callable[[Compared], str]] = {"text": as_text, "json": as_json}
