"""Cross-validation: train one network per fold, each validated on images that it never saw, and combine the results.

Every fold is a separate run with the same seed, so with the same initial weights. The main results are those of the
last epoch: the number of epochs is fixed beforehand, so nothing is chosen on the images that are measured. The best
epoch of each fold is chosen on its validation images, so its results are marked as exploratory.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from pmtrain.config import TrainConfig
from pmtrain.data.dataset import DataSet
from pmtrain.data.splits.split import folds, given_folds
from pmtrain.data.splits.split_command import warn_of_loners
from pmtrain.evaluation.evaluate.results import metrics_of
from pmtrain.evaluation.scores.chosen_images import patients
from pmtrain.evaluation.scores.score import Scores
from pmtrain.evaluation.scores.score_table import read_logits, score_table
from pmtrain.metrics import Assessment, Bootstrap, assess
from pmtrain.metrics.text import SYNTHETIC, Notes, confusion_lines, counts_text, measure_lines, method_lines
from pmtrain.system import console
from pmtrain.system.console import quoted
from pmtrain.system.errors import PmtrainError, UsageError
from pmtrain.system.files import write_atomic
from pmtrain.training.saving import RunState
from pmtrain.training.several.members import Part, Prepared, Whole
from pmtrain.training.several.together import (
    LEVEL,
    MEASURED,
    N_BOOT,
    THRESHOLD,
    keep_together,
    spread,
    told,
    write_json,
)

SCORES, METRICS_FILE = "out-of-fold.csv", "folds.json"


def check(config: TrainConfig) -> None:
    """Raises: UsageError, where an option doesn't go with a cross-validation."""
    if config.val_data is not None:
        raise UsageError(
            f"--val-data {config.val_data} with --folds: cross-validation uses every image for validation once",
            "leave one of them out, or join the two sets in one table",
        )
    if config.patience is not None:
        raise UsageError(
            f"--patience {config.patience} with --folds: all folds are trained for the same number of epochs",
            "leave --patience out, and give --epochs",
        )


def parts_of(config: TrainConfig) -> list[Part]:
    """The folds' folders; their options are those of the whole."""
    return [Part(f"fold-{number}", {}) for number in range(1, (config.folds or 0) + 1)]


def prepared(data: DataSet, config: TrainConfig) -> Prepared:
    """The folds' data.

    Raises:
        PmtrainError: the data can't be divided into folds.
    """
    divisions, method = divided(data, config)
    return Prepared(divisions, _joined(divisions[0]), {"folds": {"n_folds": len(divisions), "method": method}})


def divided(data: DataSet, config: TrainConfig) -> tuple[list[DataSet], str]:
    """The folds, from the data's `fold` column or drawn at random, and a description of the method.

    Raises:
        PmtrainError: the data can't be divided into folds.
    """
    k = config.folds or 0
    if data.split("val"):
        console.notice("the data's own validation split is divided into folds together with the training images")
    if given := given_folds(data, k):
        return given, "by the column fold of the data"
    warn_of_loners(data, "patient")
    by = "patient" if any(sample.patient for sample in data.samples) else "image"
    return folds(data, k, config.seed), f"drawn by {by}, the classes' shares kept alike, seed {config.seed}"


def _joined(data: DataSet) -> DataSet:
    """The data with all images outside the test split in the training split."""
    samples = (replace(sample, split=sample.split if sample.split == "test" else "train") for sample in data.samples)
    return replace(data, samples=tuple(samples))


def conclude(whole: Whole, reached: list[RunState]) -> None:
    """Print and write the results over folds and on all folds' images together, and keep the networks as one.

    Raises:
        PmtrainError: the folds weren't trained for the same number of epochs, or a table of scores is damaged.
    """
    folder, config, made = whole.folder, whole.config, whole.members
    if len(epochs := {at.epoch for at in reached}) > 1:
        raise PmtrainError(
            f"{folder.path}: its folds have {', '.join(str(at.epoch) for at in reached)} epochs",
            f"train them equally long: pmtrain train --resume {quoted(folder.path)} --epochs {max(epochs)}",
        )
    data = made[0].data
    fold_of = {sample.path: fold.number for fold in made for sample in fold.data.split("val")}
    logits = {fold.number: read_logits(fold.folder.validation) for fold in made}
    scored = [
        (sample, logits[fold_of[sample.path]].get(data.name_of(sample)))
        for sample in data.samples
        if sample.path in fold_of
    ]
    left_out = [data.name_of(sample) for sample, logit in scored if logit is None]
    samples = [sample for sample, logit in scored if logit is not None]
    scores = Scores(
        samples,
        np.array([sample.label for sample in samples]),
        np.array([logit for _, logit in scored if logit is not None]),
    )
    groups = patients(samples, data.name_of)
    found = assess(scores.labels, scores.probabilities, THRESHOLD, groups, Bootstrap(LEVEL, N_BOOT, config.seed))
    last = [{key: at.history[-1][f"val_{key}"] for key in MEASURED} for at in reached]
    best = [at.best or {} for at in reached]
    method = folder.info()["folds"]["method"]
    report = {
        "epochs": epochs.pop(),
        "method": method,
        "seed": config.seed,
        "data": str(data.root),
        "data_fingerprint": folder.info()["data"]["fingerprint"],
        "synthetic": data.synthetic,
        "classes": list(data.classes),
        "left_out": left_out,
        "folds": [
            {
                "fold": fold.number,
                "images": len(logits[fold.number]),
                "last": one,
                "best": b,
            }
            for fold, one, b in zip(made, last, best, strict=True)
        ],
        "last_epoch": {key: spread([one[key] for one in last]) for key in MEASURED},
        "best_epoch": {
            **{key: spread([one[key] for one in best]) for key in MEASURED},
            "exploratory": True,
            "exploratory_reasons": ["each fold's epoch was chosen on the images that are measured"],
        },
        "pooled": {
            "threshold": THRESHOLD,
            "confidence_level": LEVEL,
            "n_boot": N_BOOT,
            "seed": config.seed,
            "loss": scores.loss,
            **metrics_of(found),
        },
    }
    write_atomic(folder.path / SCORES, score_table(scores, data.name_of, THRESHOLD, fold_of))
    write_json(folder.path / METRICS_FILE, report)
    together = keep_together(whole)
    for line in as_lines(report, found, data):
        console.result(line)
    if together:
        console.notice(told(whole, together))
    console.notice(
        f"where: {folder.path} (scores: {SCORES}, metrics: {METRICS_FILE}, networks: fold-1 to fold-{len(made)})"
    )


def as_lines(report: dict[str, Any], found: Assessment, data: DataSet) -> list[str]:
    """The lines to print after the last fold."""
    notes = Notes()
    columns = ("mean", "std", "min", "max")

    def rows(values: Mapping[str, Any]) -> list[str]:
        return [
            f"{title:<9}" + "".join(f"{'-' if x is None else f'{x:.4f}':>9}" for x in values[key].values())
            for key, title in MEASURED.items()
        ]

    head = " " * 9 + "".join(f"{column:>9}" for column in columns)
    k, epochs = len(report["folds"]), report["epochs"]
    return [
        "",
        *[SYNTHETIC] * data.synthetic,
        f"{k} folds, {report['method']}; last epoch, {epochs} of {epochs}, at {THRESHOLD}:",
        head,
        *rows(report["last_epoch"]),
        f"EXPLORATORY: each fold's best epoch, chosen on the images that are measured, at {THRESHOLD}:",
        head,
        *rows(report["best_epoch"]),
        "",
        "all folds' images together, each scored by the network that never saw it, last epoch:",
        f"images: {counts_text(found, data.classes)}",
        *[f"left out, since they can't be decoded: {len(report['left_out'])}"] * bool(report["left_out"]),
        f"threshold: {THRESHOLD}",
        "",
        *measure_lines(found, notes),
        "",
        *confusion_lines(found, data.classes),
        "",
        *notes.lines(),
        *method_lines(found, report["seed"]),
    ]
