"""Evaluation: a checkpoint's score for every image of a split -> metrics with intervals, printed and written."""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from pmtrain.config import EvalConfig, MeasuringOptions
from pmtrain.evaluation import charts
from pmtrain.evaluation.calibration.calibrate import fingerprint_of, summary
from pmtrain.evaluation.calibration.prior import held_prevalence
from pmtrain.evaluation.domain.compare_sets import SetComparison, Watcher, compare_sets
from pmtrain.evaluation.domain.domain_file import load_domain
from pmtrain.evaluation.domain.domain_model import DomainModel, agreed, parts_of
from pmtrain.evaluation.domain.selective import Selective, selective
from pmtrain.evaluation.robustness import shift_chart
from pmtrain.evaluation.robustness.baseline import ShortcutComparison, compare_with_shortcut, has_baseline
from pmtrain.evaluation.robustness.shift import Shifted, shift_logits, shifted
from pmtrain.evaluation.scores.chosen_images import Images, by_column, choose_images, patients
from pmtrain.evaluation.scores.ensemble import AnyPath, load_networks
from pmtrain.evaluation.scores.operating_point import OperatingPoint, operating_point
from pmtrain.evaluation.scores.prior_use import also_trained_on, scorers, seen_before
from pmtrain.evaluation.scores.score import Scores
from pmtrain.evaluation.scores.score_table import score_table, unit_table
from pmtrain.evaluation.scores.scoring import Scored, adaptation_stated, calibrated, score_networks, scored_by_lines
from pmtrain.evaluation.scores.units import UnitScores, by_unit, unit_report
from pmtrain.evaluation.scores.views import views_stated
from pmtrain.metrics import Assessment, AtPrevalence, DecisionCurve, assess, assess_at_prevalence, shift_prior
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
from pmtrain.models.backends.device import select_device
from pmtrain.runs.checkpoint import Networks
from pmtrain.system import console
from pmtrain.system.errors import UsageError
from pmtrain.system.files import new_folder, write_atomic
from pmtrain.system.parallel import ALONE, Processes, join

RESULTS = ("predictions.csv", "metrics.json")
FILES = (*RESULTS, *charts.FILES)
NO_PRIOR = (
    "the prevalence that the probabilities hold for is unknown, so they aren't shifted\n"
    "hint: pmtrain calibrate makes them hold for the images that it is fitted on"
)


@dataclass(frozen=True)
class Evaluation:
    """The result of an evaluation.

    `reasons` say why the results are likely too good (exploratory), `groups` the patient of each image,
    `subgroups` by the value of a column, `also_trained_on` how many images the run trained on as other files, and
    how many more of its patients, `shortcut` the shortcut baseline on the same images, `shift` the network on the same
    images changed (--shift), `domain` the images beside the training images (of other data than the run's, by the
    checkpoint's domain model), `selective` the metrics without the most doubtful images.
    """

    config: MeasuringOptions
    checkpoint: Networks
    images: Images
    scored: Scored
    unit: UnitScores | None
    threshold: OperatingPoint
    reasons: list[str]
    also_trained_on: tuple[int, int]
    groups: list[str] | None
    found: Assessment
    at_prevalence: AtPrevalence | None
    subgroups: dict[str, Assessment]
    shortcut: ShortcutComparison | None
    shift: Shifted | None
    domain: SetComparison | None
    selective: Selective

    @property
    def scores(self) -> Scores:
        """What is measured: the scores of the units, where there are any, else of the images."""
        return self.unit.scores if self.unit else self.scored.scores

    @property
    def word(self) -> str:
        """What one score is of: `image`, or the unit."""
        return self.unit.record.unit if self.unit else "image"

    @cached_property
    def posteriors(self) -> np.ndarray | None:
        """(N,) the probabilities shifted to --prevalence; None without it, or if it isn't known what they hold for."""
        before = held_prevalence(self.checkpoint)
        if self.config.prevalence is None or before is None:
            return None
        return shift_prior(self.scores.probabilities, before, self.config.prevalence)

    @cached_property
    def chart_data(self) -> charts.ChartData:
        """What the charts show."""
        scores, data = self.scores, self.images.data
        return charts.ChartData(
            scores.labels,
            scores.probabilities,
            self.groups,
            data.classes,
            self.found,
            self.config.ci,
            self.config.n_boot,
            self.config.seed,
            ("SYNTHETIC images",) * data.synthetic + ("EXPLORATORY",) * bool(self.reasons),
            self.posteriors,
            self.config.prevalence,
            self.word,
        )


def evaluate(path: AnyPath | Sequence[AnyPath], config: EvalConfig) -> Evaluation:
    """Print the notes' line and the metrics of the checkpoint at `path`, and write them to `config.output`.

    `path`: as of `load_networks`.

    Raises:
        PmtrainError: the checkpoint or the data can't be read, or `config.output` already holds results.
    """
    for name in (*FILES, *(shift_chart.FILES if config.shift else ())) if config.output else ():
        if (config.output / name).exists():  # type: ignore[operator]
            raise UsageError(
                f"--output {config.output}: {name} already exists there, and results are never overwritten",
                "choose another folder",
            )
    evaluation = examine(path, config, processes=join())
    try:
        if config.output:
            write(config.output, evaluation)
    finally:  # a full disk still prints the results, and a closed pipe still leaves the files
        scores = evaluation.scored.scores
        console.result(console.validation_line(scores.accuracy, scores.loss))
        for line in as_lines(evaluation):
            console.result(line)
    return evaluation


@dataclass(frozen=True)
class Passes:
    """What the network says of the images.

    `domains` are the networks' domain models, `watched` the features (N, F) and the statistics (N, K) that each of them
    judges, where they are asked, and `shift` the logits (N, C) of the images changed (--shift).
    """

    scored: Scored
    domains: list[DomainModel]
    watched: list[tuple[np.ndarray, np.ndarray]]
    shift: np.ndarray | None


def follow(path: AnyPath, config: EvalConfig) -> None:
    """Score this process's share of the images, as one of several processes that isn't the first."""
    with console.silent():
        processes = join()
        images = processes.from_first(None)
        pass_over(load_networks(path), images, config, processes)


def pass_over(
    checkpoint: Networks,
    images: Images,
    config: MeasuringOptions,
    processes: Processes = ALONE,
    scored: Scored | None = None,
) -> Passes:
    """Everything that the network computes for an evaluation; all processes take part and get the results."""
    device = select_device(config.device)
    watchers: list[Watcher] = []

    def watch(model: Any) -> Watcher:
        watchers.append(Watcher(model))
        return watchers[-1]

    other_data = images.run is None or images.run.data is None
    domains = [load_domain(member)[0] for member in checkpoint.members] if other_data else []  # several of an export
    if config.shift and not scorers(checkpoint, images).all():
        raise UsageError(
            f"--shift {config.shift}: some of these images were trained on by some of the networks",
            "evaluate a single network, or other images",
        )
    if scored is None:
        watching = watch if domains and all(domains) else None
        baseline = has_baseline(checkpoint.members[0])
        scored = score_networks(checkpoint, images, config, device, baseline, watching, config.adapt_bn, processes)
    watched = []
    for models, watcher in zip(domains, watchers, strict=False):
        features, statistics = watcher.collected(processes)
        watched += [(part, statistics) for part in parts_of(features, models)]
    samples = scored.scores.samples
    shift = shift_logits(checkpoint, samples, config, device, processes) if config.shift else None
    return Passes(calibrated(scored, checkpoint), [model for models in domains for model in models], watched, shift)


def examine(
    path: AnyPath | Sequence[AnyPath],
    config: MeasuringOptions,
    scored: Scored | None = None,
    processes: Processes = ALONE,
) -> Evaluation:
    """Score the checkpoint at `path` and measure it, for all images and for each subgroup.

    Args:
        path: as of `load_networks`.
        scored: its scores of these very images by these very options, where they are known already.
        processes: those that share the images; the others are in `follow`.
    """
    select_device(config.device)
    checkpoint = load_networks(path)
    first = checkpoint.members[0]
    images = processes.from_first(choose_images(checkpoint, config))
    kinds = by_column(images, config.group_by) if config.group_by else {}
    passes = pass_over(checkpoint, images, config, processes, scored)
    scored, unit = passes.scored, None
    scores = scored.scores
    of_images = groups = patients(scores.samples, images.data.name_of)
    if config.unit:
        unit = by_unit(scores, images, config.unit, checkpoint.info, config.aggregate, config.unit_label)
        scores, groups = unit.scores, unit.groups()
    threshold = operating_point(config.threshold, checkpoint, scores, config.prevalence, unit.record if unit else None)
    image_threshold = checkpoint.info.decision_threshold if unit else threshold.value
    seen = seen_before(checkpoint, images)
    reasons = ["the threshold was chosen on these images"] * threshold.tuned + [seen] * bool(seen)
    calibration = checkpoint.info.calibration
    fitted_here = calibration is not None and calibration.data == fingerprint_of(images)
    reasons += ["the calibration was fitted on these images"] * fitted_here
    copies, related = also_trained_on(checkpoint, images)
    of_these = f"of these {len(images.samples)} images"
    reasons += [f"{copies} {of_these} are byte-for-byte copies of training images"] * bool(copies)
    reasons += [f"{related} {of_these} are of patients who also have training images"] * bool(related)

    def measured(rows: np.ndarray) -> Assessment:
        return assess(
            scores.labels[rows],
            scores.probabilities[rows],
            threshold.value,
            None if groups is None else [groups[row] for row in rows],
            config.ci,
            config.n_boot,
            config.seed,
        )

    kind_of = np.array([kinds.get(sample, "") for sample in scores.samples], dtype=object)
    subgroups = {kind: measured(np.flatnonzero(kind_of == kind)) for kind in in_order(set(kind_of)) if kinds}
    found = measured(np.arange(len(scores.labels)))
    at_prevalence = None
    if config.prevalence is not None:
        at_prevalence = assess_at_prevalence(
            scores.labels,
            scores.probabilities,
            threshold.value,
            config.prevalence,
            groups,
            config.ci,
            config.n_boot,
            config.seed,
        )
        if held_prevalence(checkpoint) is None:
            console.warn(NO_PRIOR)
    by_all = scores_by_all(scored.scores, checkpoint)
    shortcut = compare_with_shortcut(first, scored, of_images, config, images.data.classes) if by_all else None
    of_image = scored.scores  # what is said of single images stays by image
    shift = None
    if passes.shift is not None:
        shift = shifted(checkpoint, of_image, passes.shift, image_threshold, of_images, config)
    domain = compared(passes.domains, passes.watched, of_images, config.seed) if by_all and passes.watched else None
    familiar = domain.familiar if domain else None
    doubts = selective(
        of_image.labels,
        of_image.probabilities,
        image_threshold,
        config.defer,
        familiar,
        config.ci,
        of_image.spread,
    )
    return Evaluation(
        config,
        checkpoint,
        images,
        scored,
        unit,
        threshold,
        reasons,
        (copies, related),
        groups,
        found,
        at_prevalence,
        subgroups,
        shortcut,
        shift,
        domain,
        doubts,
    )


def scores_by_all(scores: Scores, checkpoint: Networks) -> bool:
    """Whether every image was scored by every network."""
    return scores.scored_by is None or bool((scores.scored_by == len(checkpoint.members)).all())


def compared(
    models: Sequence[DomainModel],
    watched: Sequence[tuple[np.ndarray, np.ndarray]],
    groups: list[str] | None,
    seed: int,
) -> SetComparison:
    """The images beside the training images; of several networks the set by the first, each image by all of them."""
    judged = [model.judge(*seen) for model, seen in zip(models, watched, strict=True)]
    return replace(compare_sets(models[0], *watched[0], groups, seed), familiar=agreed(judged))


def in_order(kinds: set[str]) -> list[str]:
    """Values of a column: numbers by size, others by the alphabet; an empty cell comes first."""
    try:
        return sorted(kinds, key=lambda kind: float(kind or "-inf"))
    except ValueError:
        return sorted(kinds)


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
