"""`pmtrain calibrate`: probabilities that mean something, kept in the checkpoint's side file beside the raw logit."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from pmtrain.config import CalibrateConfig
from pmtrain.evaluation.calibration.methods import SHOWN, fit
from pmtrain.evaluation.calibration.prior import prior_of
from pmtrain.evaluation.scores.chosen_images import Images, choose_images, patients
from pmtrain.evaluation.scores.operating_point import operating_point
from pmtrain.evaluation.scores.prior_use import seen_before
from pmtrain.evaluation.scores.scoring import score_checkpoint
from pmtrain.metrics import MEASURES
from pmtrain.metrics.text import SYNTHETIC, TITLE_WIDTH
from pmtrain.metrics.thresholds import FEW
from pmtrain.models.backends.device import select_device
from pmtrain.runs.calibrator import Calibrator, raw_threshold
from pmtrain.runs.checkpoint import MODEL, Checkpoint, load_checkpoint, replace_info
from pmtrain.system import console
from pmtrain.system.errors import UsageError

NONE = "none"  # the method that removes a calibration


def calibrate(path: Path, config: CalibrateConfig) -> None:
    """Fit a calibration on the chosen images, print its measures and keep it; or remove the one that is there.

    Raises:
        PmtrainError: the checkpoint or the data can't be read, or a class has no images.
    """
    checkpoint = load_checkpoint(path)
    if checkpoint.path.name == MODEL:
        raise UsageError(f"{path}: this state is for resuming", "calibrate best.pdparams, or the run's folder")
    info = checkpoint.info
    if config.method == NONE:
        replace_info(checkpoint, info.model_copy(update={"calibration": None}))
        console.notice(f"{checkpoint.path}: probabilities are the network's own again")
        return
    images = choose_images(checkpoint, config)
    scored = score_checkpoint(checkpoint, images, config, select_device(config.device))
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
        info = info.model_copy(
            update={"threshold": raw_threshold(point.value, calibrator), "threshold_rule": rule},
        )
    kept = replace_info(checkpoint, info)
    for line in [SYNTHETIC] * images.data.synthetic + as_lines(calibrator):
        console.result(line)
    own = f"{info.threshold:.6g} on the network's own probability"
    console.result(f"threshold: {info.decision_threshold:.6g} ({info.threshold_rule}), which is {own}")
    console.notice(f"kept in {kept}; the weights and the logits are as before")


def as_lines(calibrator: Calibrator) -> list[str]:
    """What the calibration is, and its measures before and after."""
    lines = [summary(calibrator), "", f"{'':<{TITLE_WIDTH}}  {'before':>8}  {'after':>8}"]
    for title, *values in before_and_after(calibrator):
        lines.append(f"{title:<{TITLE_WIDTH}}  {values[0]:>8}  {values[1]:>8}")
    told = (
        f"after: cross-fitted in {calibrator.folds} folds, each image by a map fitted without it"
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


def summary(calibrator: Calibrator) -> str:
    """`calibration: platt, fitted on 400 images at a prevalence of 0.5275`, and the map."""
    if calibrator.knots:
        how = f"{len(calibrator.knots)} steps"
    else:
        how = f"logit x {calibrator.slope:.4g} {calibrator.intercept:+.4g}"
    return (
        f"calibration: {calibrator.method} ({how}), fitted on {calibrator.images} images at a prevalence of"
        f" {calibrator.prevalence:.4f}"
    )


def fingerprint_of(images: Images) -> str:
    """Of the images alone that are scored."""
    return replace(images.data, samples=images.samples).fingerprint()


def _warn(checkpoint: Checkpoint, images: Images) -> None:
    if (seen := seen_before(checkpoint, images)).startswith("the network was trained on"):
        console.warn(f"{seen}: a calibration fitted on training images is overconfident")
    if len(images.samples) < FEW:
        console.warn(f"the calibration is fitted on {len(images.samples)} images only; it is uncertain")
