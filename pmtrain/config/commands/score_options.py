"""The options of everything that scores labelled images: evaluation, reports, comparisons."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from pmtrain.config.commands.compute_options import ComputeOptions
from pmtrain.config.commands.data_options import DataOptions
from pmtrain.config.commands.shared_options import (
    AdaptBn,
    Aggregate,
    BatchSize,
    Prevalence,
    Seed,
    SharedNproc,
    TextFormat,
    Tta,
    TtaViews,
)
from pmtrain.config.options import DATA, EVALUATION, OUTPUT, option
from pmtrain.config.values import AnyPath, ExternalSets, OneOf, Severities, ThresholdText

if TYPE_CHECKING:
    from pmtrain.metrics import Bootstrap


class ImageOptions(DataOptions):
    """Which labelled images."""

    split: Annotated[str, OneOf("pmtrain.data.dataset:SPLITS", "all")] | None = option(
        DATA, "Split to evaluate.  [default: val if the data has one, else all]", default=None
    )


class ScoringOptions(ComputeOptions, ImageOptions):
    """Which images are scored, at which threshold, and how confidence intervals are computed."""

    batch_size: BatchSize = 10
    tta: Tta = False
    tta_views: TtaViews = None
    threshold: ThresholdText = option(
        EVALUATION,
        "Decision threshold: stored (the checkpoint's), a number, or youden, sensitivity=0.95, specificity=0.90 or"
        " cost=5:1 (what a false negative costs : a false positive), which are chosen on the evaluated images and make"
        " the results exploratory.",
        default="stored",
    )
    unit: str | None = option(
        EVALUATION,
        "Results by patient, or by another column of the table such as eye or slide, in place of by image.",
        default=None,
    )
    aggregate: Aggregate = None
    unit_label: Annotated[str, OneOf("pmtrain.evaluation.scores.units:UNIT_LABELS")] = option(
        EVALUATION,
        "With --unit: a unit whose images have unlike labels is positive if any, all or most are.",
        default="any",
    )
    ci: float = option(EVALUATION, "Confidence level of the intervals.", default=0.95, ge=0.5, lt=1)
    n_boot: int = option(EVALUATION, "Bootstrap resamples.", default=2000, ge=100, le=1_000_000)
    seed: Seed = 0

    @property
    def bootstrap(self) -> Bootstrap:
        """How the intervals are made."""
        from pmtrain.metrics import Bootstrap  # not for --help

        return Bootstrap(self.ci, self.n_boot, self.seed)


class MeasuringOptions(ScoringOptions):
    """What is measured of the scores."""

    prevalence: Prevalence = None
    group_by: str | None = option(
        EVALUATION, "Column of the table, such as sex or camera, for results per subgroup.", default=None
    )
    defer: float = option(
        EVALUATION,
        "Share of the images to leave to a person, the most doubtful first, such as 0.1; the rest is measured, too.",
        default=0.0,
        ge=0,
        lt=1,
    )
    adapt_bn: AdaptBn = False
    shift: Annotated[str, OneOf("pmtrain.evaluation.robustness.suite:SHIFTS")] | None = option(
        EVALUATION,
        "Evaluate on changed images too. camera: other cameras' colour, light, sharpness, compression and framing;"
        " stain: other laboratories' staining and scanners.",
        default=None,
    )
    shift_severities: Severities = option(
        EVALUATION, "With --shift: severities to evaluate, such as 1,3,5.", default="1,2,3,4,5"
    )


class EvalConfig(MeasuringOptions):
    """Options of `pmtrain eval`."""

    nproc: SharedNproc = 1
    output: AnyPath | None = option(
        OUTPUT, "Folder to create, with predictions.csv, metrics.json and charts.", default=None
    )


class ReportConfig(MeasuringOptions):
    """Options of `pmtrain report`."""

    output: AnyPath | None = option(
        OUTPUT, "File to write; an existing one is replaced.  [default: RUN/report.html]", default=None
    )
    errors: int = option(
        OUTPUT,
        "Number of misclassified images to show, half false positives, half false negatives; with 0 the page holds no"
        " images.",
        default=8,
        ge=0,
        le=100,
    )
    external: ExternalSets = option(
        EVALUATION,
        "Images of another place to set beside the run's own, as NAME=DATA; can be given several times.",
        default=[],
    )

    def external_sets(self) -> list[tuple[str, Path]]:
        """Name and data of each `--external`."""
        parts = (text.partition("=") for text in self.external)
        return [(name.strip(), Path(data.strip())) for name, _, data in parts]


class CompareConfig(ScoringOptions):
    """Options of `pmtrain compare`."""

    prevalence: Prevalence = None
    format: Annotated[TextFormat, OneOf("pmtrain.evaluation.compare:FORMATS")] = "text"


# Options that a report takes from its run.
AS_TRAINED = ("workers", "device", "backend", "precision", "threads", "batch_size", "on_bad_image", "cache_limit")
