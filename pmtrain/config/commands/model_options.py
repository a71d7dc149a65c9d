"""The options of commands that add to a checkpoint."""

from __future__ import annotations

from typing import Annotated

from pmtrain.config.commands.compute_options import ComputeOptions
from pmtrain.config.commands.data_options import DataOptions
from pmtrain.config.commands.score_options import ScoringOptions
from pmtrain.config.commands.shared_options import BatchSize, Seed, ValFraction
from pmtrain.config.options import EVALUATION, option
from pmtrain.config.values import OneOf, ThresholdText


class FitDomainConfig(ComputeOptions, DataOptions):
    """Options of `pmtrain fit-domain`."""

    val_fraction: ValFraction = 0.2
    batch_size: BatchSize = 10
    seed: Seed = 0


class CalibrateConfig(ScoringOptions):
    """Options of `pmtrain calibrate`."""

    method: Annotated[str, OneOf("pmtrain.evaluation.calibration.methods:METHODS", "none", "auto")] = option(
        EVALUATION,
        "Way to calibrate. temperature: one number, and the share of positives; platt: a logistic regression on the"
        " logit; isotonic: any increasing function, for many images; auto: the simplest of these whose"
        " cross-fitted loss is the lowest but for chance; none: remove the calibration.",
        default="platt",
    )
    threshold: ThresholdText = option(
        EVALUATION,
        "Decision threshold to store: stored keeps the decisions as they are; a number is one on the calibrated"
        " probability; or youden, sensitivity=0.95, specificity=0.90 or cost=5:1, chosen on these images.",
        default="stored",
    )
