"""`pmtrain calibrate`: probabilities that mean something, kept in the checkpoint's side file beside the raw logit."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from pmtrain.config import CalibrateConfig
from pmtrain.evaluation.calibration.methods import SHOWN, fit
from pmtrain.evaluation.calibration.prior import prior_of
from pmtrain.evaluation.scores.chosen_images import Images, choose_images, patients
from pmtrain.evaluation.scores.ensemble import load_networks
from pmtrain.evaluation.scores.operating_point import operating_point
from pmtrain.evaluation.scores.prior_use import seen_before
from pmtrain.evaluation.scores.score import Scores
from pmtrain.evaluation.scores.scoring import ScoringPass, score_networks
from pmtrain.evaluation.scores.units import AGGREGATES, UnitScores, aggregated, require_unit
from pmtrain.metrics import MEASURES, evaluate_measures
from pmtrain.metrics.text import SYNTHETIC, TITLE_WIDTH
from pmtrain.metrics.thresholds import FEW
from pmtrain.models.backends.device import select_device
from pmtrain.runs.calibrator import Calibrator, raw_threshold
from pmtrain.runs.checkpoint import MODEL, Ensemble, Networks, kept_in, replace_info
from pmtrain.runs.records import UnitRecord
from pmtrain.system import console
from pmtrain.system.errors import UsageError

NONE = "none"  # the method that removes a calibration


def calibrate(path: Path, config: CalibrateConfig) -> None:
    """Fit a calibration on the chosen images, print its measures and keep it; or remove the one that is there.

    Raises:
        PmtrainError: the checkpoint or the data can't be read, or a class has no images.
    """
    checkpoint = load_networks(path)
    if checkpoint.path.name == MODEL:
        raise UsageError(f"{path}: this state is for resuming", "calibrate best.pdparams, or the run's folder")
    if isinstance(checkpoint, Ensemble):
        kept_in(checkpoint)  # now, not after the work
    info = checkpoint.info
    if config.method == NONE:
        replace_info(checkpoint, info.model_copy(update={"calibration": None, "unit": None}))
        console.notice(f"{checkpoint.path}: probabilities are the network's own again")
        return
    images = choose_images(checkpoint, config)
    require_unit(images, config.unit)
    scored = score_networks(checkpoint, ScoringPass(images, config, select_device(config.device)))
    scores = replace(scored.scores, calibration=None)
    _warn(checkpoint, images)
    prior, groups = prior_of(checkpoint), patients(scores.samples, images.data.name_of)
    calibrator = fit(config.method, scores.logits, scores.labels, prior, groups, fingerprint_of(images), config.seed)
    if config.method == "temperature" and prior is None:
        console.warn("the share of positives in the training is unknown, so it is taken for that of these images")
    info = info.model_copy(update={"calibration": calibrator})
    calibrated = replace(checkpoint, info=info)
    if config.threshold != "stored":
        point = operating_point(config.threshold, calibrated, replace(scores, calibration=calibrator))
        rule = point.rule if not point.tuned else f"{point.rule} on {len(scores.labels)} images of the calibration"
        own = min(raw_threshold(point.value, calibrator), 1.0)  # above 1 where nothing is to be positive
        info = info.model_copy(update={"threshold": own, "threshold_rule": rule})
    unit_lines: list[str] = []
    if config.unit:
        unit = chosen_unit(config, replace(checkpoint, info=info), replace(scores, calibration=calibrator), images)
        info, unit_lines = info.model_copy(update={"unit": unit}), unit_as_lines(unit)
    elif info.unit is not None:
        console.warn(f"the aggregation by {info.unit.unit} is dropped, as it was chosen for other probabilities")
        info = info.model_copy(update={"unit": None})
    kept = replace_info(checkpoint, info)
    for line in [SYNTHETIC] * images.data.synthetic + as_lines(calibrator):
        console.result(line)
    raw = f"{info.threshold:.6g} on the network's own probability"
    console.result(f"threshold: {info.decision_threshold:.6g} ({info.threshold_rule}), which is {raw}")
    for line in unit_lines:
        console.result(line)
    console.notice(f"kept in {kept}; the weights and the logits are as before")


def chosen_unit(config: CalibrateConfig, checkpoint: Networks, scores: Scores, images: Images) -> UnitRecord:
    """The aggregation with the highest AUC (of equal ones the first of AGGREGATES), or the one of --aggregate.

    It has a calibration and a threshold of its own.

    Args:
        checkpoint: with the calibration of its images.
        scores: of the images, calibrated.
    """
    info, rule = checkpoint.info, config.threshold if config.threshold != "stored" else "youden"

    def made(aggregate: str, calibration: Calibrator | None = None, threshold: float = 0.5) -> UnitScores:
        record = UnitRecord(
            unit=config.unit or "",
            aggregate=aggregate,
            image_threshold=info.decision_threshold,
            threshold=threshold,
            threshold_rule=rule,
            units=0,
            images=len(scores.labels),
            calibration=calibration,
        )
        return aggregated(scores, images, record, config.unit_label, chosen=True)

    found = {name: made(name).scores for name in AGGREGATES}
    aucs = {name: evaluate_measures(each.labels, each.probabilities, 0.5)["auc"].value for name, each in found.items()}
    best = config.aggregate or max(aucs, key=lambda name: aucs[name] or 0.0)
    raw = found[best]
    groups = made(best).groups()
    prior = float(raw.labels.mean())  # of units it isn't known otherwise
    calibration = fit(config.method, raw.logits, raw.labels, prior, groups, seed=config.seed)
    point = operating_point(rule, checkpoint, replace(raw, calibration=calibration))
    record = made(best, calibration, min(raw_threshold(point.value, calibration), 1.0)).record
    told = f"{point.rule} on {len(raw.labels)} {config.unit}s of the calibration"
    return record.model_copy(update={"units": len(raw.labels), "aucs": aucs, "threshold_rule": told})


def unit_as_lines(record: UnitRecord) -> list[str]:
    """What was chosen for units."""
    how = f"by {record.unit}: {record.aggregate}, on {record.units} {record.unit}s of {record.images} images; AUC:"
    lines = ["", how]
    lines += [f"  {name:<10}{'-' if auc is None else f'{auc:.4f}':>8}" for name, auc in record.aucs.items()]
    lines += as_lines(record.calibration, record.unit) if record.calibration else []
    return [*lines, f"threshold: {record.decision_threshold:.6g} ({record.threshold_rule})"]


def as_lines(calibrator: Calibrator, word: str = "image") -> list[str]:
    """What the calibration is, and its measures before and after; `word`: what one score is of."""
    lines = [summary(calibrator, word)]
    if calibrator.tried:
        losses = ", ".join(f"{method} {loss:.4f}" for method, loss in calibrator.tried.items())
        lines.append(f"chosen as the simplest of those with about the lowest cross-fitted loss: {losses}")
    lines += ["", f"{'':<{TITLE_WIDTH}}  {'before':>8}  {'after':>8}"]
    for title, *values in before_and_after(calibrator):
        lines.append(f"{title:<{TITLE_WIDTH}}  {values[0]:>8}  {values[1]:>8}")
    told = (
        f"after: cross-fitted in {calibrator.folds} folds, each {word} by a map{' chosen and' * bool(calibrator.tried)}"
        " fitted without it"
        if calibrator.folds
        else "after: unknown, the images are too few to cross-fit, or the scores too poor"
    )
    return [*lines, "", told]


def before_and_after(calibrator: Calibrator) -> list[tuple[str, str, str]]:
    """Title, value before and value after (cross-fitted) of each calibration measure."""
    titles = {name: MEASURES[name].title for name in SHOWN} | {"loss": "Loss"}

    def shown(value: float | None) -> str:
        return "-" if value is None else f"{value:.4f}"

    return [
        (title, shown(calibrator.before.get(name)), shown(calibrator.after.get(name))) for name, title in titles.items()
    ]


def summary(calibrator: Calibrator, word: str = "image") -> str:
    """`calibration: platt, fitted on 400 images at a prevalence of 0.5275`, and the map."""
    if calibrator.knots:
        how = f"{len(calibrator.knots)} steps"
    else:
        how = f"logit x {calibrator.slope:.4g} {calibrator.intercept:+.4g}"
    return (
        f"calibration: {calibrator.method} ({how}), fitted on {calibrator.images} {word}s at a prevalence of"
        f" {calibrator.prevalence:.4f}"
    )


def fingerprint_of(images: Images) -> str:
    """Of the images alone that are scored."""
    return replace(images.data, samples=images.samples).fingerprint()


def _warn(checkpoint: Networks, images: Images) -> None:
    for seen in (reason for reason in seen_before(checkpoint, images) if " trained on " in reason):
        console.warn(f"{seen}: a calibration fitted on training images is overconfident")
    if len(images.samples) < FEW:
        console.warn(f"the calibration is fitted on {len(images.samples)} images only; it is uncertain")
