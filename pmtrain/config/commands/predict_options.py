"""The options of commands on images without labels: predictions and explanations."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pmtrain.config.commands.compute_options import ComputeOptions
from pmtrain.config.commands.shared_options import (
    AdaptBn,
    Aggregate,
    BatchSize,
    PatientPattern,
    Prevalence,
    SharedNproc,
    Tta,
    TtaViews,
    Workers,
)
from pmtrain.config.options import DATA, EVALUATION, MACHINE, OUTPUT, option
from pmtrain.config.values import AnyPath, OneOf
from pmtrain.system.hardware import available_cpus


class PredictConfig(ComputeOptions):
    """Options of `pmtrain predict`."""

    batch_size: BatchSize = 10
    workers: Workers = min(2, available_cpus())
    prevalence: Prevalence = None
    format: Annotated[str, OneOf("pmtrain.evaluation.inference.predict:FORMATS")] = option(
        OUTPUT,
        "Format of the output; palm is the iChallenge-PM submission.",
        default="csv",
    )
    force: bool = option(
        EVALUATION,
        "Give refused images, which are unlike the training images, a class, too.",
        default=False,
    )
    adapt_bn: AdaptBn = False
    tta: Tta = False
    tta_views: TtaViews = None
    unit: str | None = option(
        EVALUATION,
        "One prediction per patient, or per another column of --table such as eye or slide, in place of per image.",
        default=None,
        min_length=1,
    )
    table: AnyPath | None = option(
        DATA, "With --unit: table (CSV, Excel) that names the patient, or other unit, of each file.", default=None
    )
    patient_pattern: PatientPattern = None
    aggregate: Aggregate = None
    nproc: SharedNproc = 1
    output: AnyPath | None = option(OUTPUT, "File to create; without it, rows go to stdout.", default=None)


class ExplainConfig(ComputeOptions):
    """Options of `pmtrain explain`."""

    backend: Literal["paddle"] = option(
        MACHINE, "Kernels to use: Paddle's own, which give the gradients.", default="paddle"
    )
    precision: Literal["fp32"] = option(MACHINE, "Number format to compute in.", default="fp32")
    layer: str | None = option(
        EVALUATION,
        "Layer to explain: conv, or a block bb_STAGE_BLOCK such as bb_2_5.  [default: the last, bb_3_2]",
        default=None,
    )
    output: AnyPath = option(OUTPUT, "Folder for the pictures and the maps.", default=Path("gradcam"))
