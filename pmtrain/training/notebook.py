"""The Python interface: `pmtrain.train` and `pmtrain.evaluate`, the commands `train` and `eval` as functions.

Options are keyword arguments with the names, defaults and checks of the YAML keys. Nothing is printed unless
`progress=True`; a run's train.log has every line either way. What a person can cause is raised as a PmtrainError.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel

from pmtrain.config import EvalConfig, TrainConfig, validated
from pmtrain.evaluation.scores.score_table import known
from pmtrain.evaluation.scores.scoring import Scored
from pmtrain.metrics import Assessment
from pmtrain.runs.run_folder import RunFolder
from pmtrain.system import console
from pmtrain.system.errors import UsageError

AnyPath = str | os.PathLike[str]
Config = TypeVar("Config", bound=BaseModel)


@dataclass(frozen=True)
class EpochMetrics:
    """One epoch of a run, a row of metrics.csv.

    Attributes:
        epoch: from 0.
        train_loss, val_loss: mean over images, from 0 up.
        val_accuracy: at threshold 0.5, in [0, 1].
        val_auc: in [0, 1]; None if validation lacks a class.
        lr: learning rate of the epoch's last step.
        images_per_second: training images.
    """

    epoch: int
    train_loss: float
    val_loss: float
    val_accuracy: float
    val_auc: float | None
    lr: float
    images_per_second: float


@dataclass(frozen=True)
class TrainingResult:
    """A finished run.

    Attributes:
        folder: the run folder, as `pmtrain train` leaves it.
        checkpoint: the weights of the best epoch, best.pdparams.
        best: the epoch with the highest validation AUC, then the lowest loss; it was chosen on these images.
        history: all epochs, in order.
        report: report.html; None with report=False, or if it couldn't be written.
        warnings: in the order in which they came.
    """

    folder: Path
    checkpoint: Path
    best: EpochMetrics
    history: tuple[EpochMetrics, ...]
    report: Path | None
    warnings: tuple[str, ...]


@dataclass(frozen=True)
class ImageScore:
    """One image of an evaluation, a row of predictions.csv.

    Attributes:
        file: path below the data's folder.
        patient: empty if unknown.
        label: 1 is the positive class, 0 the negative one.
        logit: the network's output; with tta=True its mean over the views.
        probability: P(positive), in [0, 1].
        prediction: 1 if the probability reaches the threshold, else 0.
        spread: standard deviation of the logits of several networks; None for one, or if only one scored the image.
    """

    file: str
    patient: str
    label: int
    logit: float
    probability: float
    prediction: int
    spread: float | None = None


@dataclass(frozen=True)
class EvaluationResult:
    """What `pmtrain eval` prints and writes.

    Attributes:
        scores: one row per image, in the order of the data.
        metrics: every metric at the threshold, with its intervals: `metrics.measures["auc"].value.value`,
            `.interval.low`, `.interval.high`; counts in `metrics.confusion`.
        loss: mean over images, from 0 up.
        accuracy: at threshold 0.5, in [0, 1], as the notes print it.
        threshold: probability from which an image is called positive, in [0, 1].
        threshold_rule: how it was chosen.
        exploratory: why the results are optimistic; empty if they aren't.
        left_out: images that couldn't be decoded, with the reason (on_bad_image="skip").
        synthetic: whether the images are SYNTHETIC.
        warnings: in the order in which they came.
    """

    scores: tuple[ImageScore, ...]
    metrics: Assessment
    loss: float
    accuracy: float
    threshold: float
    threshold_rule: str
    exploratory: tuple[str, ...]
    left_out: Mapping[str, str]
    synthetic: bool
    warnings: tuple[str, ...]


def train(*, resume: AnyPath | None = None, progress: bool = False, **options: Any) -> TrainingResult:
    """Train a classifier, as `pmtrain train` does, and return what the run reached.

    Args:
        resume: a run folder to continue; then only those options that may change.
        progress: print what the command prints.
        options: fields of TrainConfig: `data`, `layers`, `epochs`, ..., as `pmtrain train --help` lists the flags.
    Raises:
        PmtrainError: as the command's errors; UsageError for an option.
        KeyboardInterrupt: the run was stopped; it is saved and can be resumed.
    """
    checked = _checked(TrainConfig, options)
    for name, count in (("folds", checked.folds), ("seeds", checked.seeds)):
        if count:
            raise UsageError(f"{name}= is for the command line", f"pmtrain train --{name} {count}")
    _set_threads(checked.threads)
    from pmtrain.training import train as training

    reports: list[Path] = []
    with console.collected(progress) as warnings:

        def write_report(folder: Path, scored: Scored | None) -> None:
            reports.extend(_report(folder, scored))

        if resume is None:
            run = training.begin(checked)
            folder, code = run.folder.path, run.go(when_done=write_report)
        else:
            folder, code = Path(resume), training.resume(Path(resume), options, write_report)
    if code:
        raise KeyboardInterrupt(f"the run is saved; continue with pmtrain.train(resume={str(folder)!r})")
    history = tuple(EpochMetrics(**row) for row in RunFolder.open(folder).history())
    best = max(history, key=lambda row: (-1.0 if row.val_auc is None else row.val_auc, -row.val_loss))
    return TrainingResult(
        folder, RunFolder(folder).best, best, history, reports[0] if reports else None, tuple(warnings)
    )


def evaluate(checkpoint: AnyPath | Sequence[AnyPath], *, progress: bool = False, **options: Any) -> EvaluationResult:
    """Evaluate a checkpoint on labelled images, as `pmtrain eval` does, and return all scores and metrics.

    Args:
        checkpoint: a .pdparams or .safetensors file, or a run folder; the folder of a cross-validation or of
            `train --seeds`; or several of these, whose logits are averaged.
        progress: print what the command prints.
        options: fields of EvalConfig: `data`, `split`, `threshold`, `output`, ..., as `pmtrain eval --help` lists them.
    Raises:
        PmtrainError: as the command's errors; UsageError for an option.
    """
    checked = _checked(EvalConfig, options)
    _set_threads(checked.threads)
    from pmtrain.evaluation import evaluate as evaluation

    with console.collected(progress) as warnings:
        found = evaluation.evaluate(checkpoint, checked)
    scores, threshold = found.scored.scores, found.threshold
    spread = [None] * len(scores.labels) if scores.spread is None else map(known, scores.spread)
    rows = zip(scores.samples, scores.labels, scores.logits, scores.probabilities, spread, strict=True)
    return EvaluationResult(
        tuple(
            ImageScore(
                found.images.data.name_of(sample),
                sample.patient or "",
                int(label),
                float(logit),
                float(probability),
                int(probability >= threshold.value),
                apart,
            )
            for sample, label, logit, probability, apart in rows
        ),
        found.found,
        scores.loss,
        scores.accuracy,
        threshold.value,
        threshold.text,
        tuple(found.reasons),
        found.scored.left_out,
        found.images.data.synthetic,
        tuple(warnings),
    )


def _checked(model: type[Config], options: Mapping[str, Any]) -> Config:
    given = {key: value for key, value in options.items() if value is not None}
    if "nproc" in given:
        raise UsageError("nproc= is for the command line", f"pmtrain ... --nproc {given['nproc']}")
    return validated(model, given, lambda key: f"{key}=")


def _set_threads(count: int | None) -> None:
    """Set the thread count, which Paddle reads when it is loaded and not again.

    Raises:
        UsageError: Paddle is loaded already, with another count.
    """
    if count is None or os.environ.get("OMP_NUM_THREADS") == str(count):
        return
    if "paddle" in sys.modules:
        raise UsageError(
            f"threads={count}: Paddle is already loaded in this process, with another number of threads",
            f"restart Python, and set OMP_NUM_THREADS={count} before the first call of pmtrain",
        )
    os.environ["OMP_NUM_THREADS"] = str(count)


def _report(folder: Path, scored: Scored | None) -> list[Path]:
    """The report of a finished run; none, with a warning, if it couldn't be written: the run itself is whole."""
    from pmtrain.evaluation import report as reporting

    try:
        with console.hushed():
            return [reporting.report(folder, RunFolder.open(folder).report_config({}), scored)]
    except Exception as error:
        console.warn(f"the run is complete, but its report wasn't written: {error}")
        return []
