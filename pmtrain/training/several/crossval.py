"""Cross-validation: train one network per fold, each validated on images that it never saw, and combine the results.

Every fold is a separate run with the same seed, so with the same initial weights. The main results are those of the
last epoch: the number of epochs is fixed beforehand, so nothing is chosen on the images that are measured. The best
epoch of each fold is chosen on its validation images, so its results are marked as exploratory.
"""

from __future__ import annotations

import gc
import json
import statistics
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from pmtrain.config import TrainConfig
from pmtrain.data.dataset import DataSet
from pmtrain.data.select import select
from pmtrain.data.splits import leakage
from pmtrain.data.splits.record import contents, read_record, write_record
from pmtrain.data.splits.split import folds, given_folds
from pmtrain.data.splits.split_command import warn_of_loners
from pmtrain.evaluation.evaluate import metrics_of
from pmtrain.evaluation.scores.chosen_images import patients
from pmtrain.evaluation.scores.score import Scores
from pmtrain.evaluation.scores.score_table import read_logits, score_table
from pmtrain.metrics import Assessment, assess
from pmtrain.metrics.text import SYNTHETIC, Notes, confusion_lines, counts_text, measure_lines, method_lines
from pmtrain.models.backends.device import gpu_names, select_device
from pmtrain.runs.records import STATE
from pmtrain.runs.resume_state import load_resume
from pmtrain.runs.run_folder import RunFolder
from pmtrain.system import console, environment
from pmtrain.system.console import quoted
from pmtrain.system.errors import PmtrainError, UsageError
from pmtrain.system.files import write_atomic
from pmtrain.system.framework import paddle
from pmtrain.system.stop import StopSignal
from pmtrain.training.run import Run
from pmtrain.training.saving import RunState
from pmtrain.training.techniques.starting_weights import weights_again, with_weights
from pmtrain.training.tracking import require
from pmtrain.training.train import command_line, data_record, other_data, resolved, resumed_config, trainable
from pmtrain.training.train import dry_run as rehearse

SCORES, METRICS_FILE = "out-of-fold.csv", "folds.json"
MEASURED = {"accuracy": "Accuracy", "auc": "AUC", "loss": "Loss"}
THRESHOLD = 0.5  # any other threshold would have been chosen on the images that are measured
LEVEL, N_BOOT = 0.95, 2000


@dataclass(frozen=True)
class Fold:
    """One fold: its number from 1, the data with the fold as validation split, and its run folder."""

    number: int
    data: DataSet
    folder: RunFolder


def train(config: TrainConfig) -> int:
    """Train `config.folds` networks and print their results; return the exit code as `train.train` does.

    Raises:
        PmtrainError: the data can't be divided into folds, or as `train.train`.
    """
    device = select_device(config.device)
    require(config.track)
    config, weights = with_weights(config)
    parts, method = divided(select(config), config)
    checked = [trainable(part, config) for part in parts]
    with paddle.utils.unique_name.guard():
        whole = resolved(config, Run(config, checked[0].data, device, weights))
    folder = RunFolder.create(whole)
    folder.write_info({})  # the whole is there once this is filled
    about = {
        "command": command_line(),
        "device": device,
        "backend": whole.backend,
        "environment": environment.describe(gpu_names()),
        "weights": weights and weights.record,
    }
    known = contents(parts[0].samples)
    made = [Fold(number, part, _fold_folder(folder, number)) for number, part in enumerate(parts, 1)]
    for fold in made:
        RunFolder.create(whole.model_copy(update={"folds": None, "output": fold.folder.path}))
        of = {"number": fold.number, "n_folds": len(parts)}
        record = data_record(fold.data, checked[fold.number - 1])
        fold.folder.write_info({**about, "data": record, "fold": of})
        write_record(fold.folder.images, fold.data, known)
    folder.write_info(
        {**about, "data": data_record(_joined(parts[0])), "folds": {"n_folds": len(parts), "method": method}}
    )
    return go(folder, whole, made, device)


def resume(path: Path, flags: Mapping[str, Any]) -> int:
    """Resume the cross-validation in the folder `path`, inside a fold; return the exit code as `train` does.

    Raises:
        PmtrainError: as `train.resume`.
    """
    folder = RunFolder.open(path)
    config = resumed_config(folder, flags)
    device = select_device(config.device)
    if not folder.info():
        raise PmtrainError(f"{path} was stopped during set-up, before training", "start a new run")
    listed = select(config)
    made = []
    for number in range(1, (config.folds or 0) + 1):
        own = _fold_folder(folder, number)
        record = read_record(own.images)
        data = record.applied(listed, own.info()["data"]["fingerprint"])
        if data is None or len(data.samples) != len(record.splits):
            raise other_data(listed)
        made.append(Fold(number, data, own))
    return go(folder, config, made, device)


def dry_run(config: TrainConfig) -> int:
    """Check everything and train one step of the first fold, without writing anything."""
    return rehearse(config, lambda data, config: divided(data, config)[0][0])


def divided(data: DataSet, config: TrainConfig) -> tuple[list[DataSet], str]:
    """The folds, from the data's `fold` column or drawn at random, and a description of the method.

    Raises:
        PmtrainError: the data can't be divided into folds.
    """
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


def _fold_folder(folder: RunFolder, number: int) -> RunFolder:
    own = RunFolder(folder.path / f"fold-{number}")
    own.whole = folder.path
    return own


def go(folder: RunFolder, config: TrainConfig, made: list[Fold], device: str) -> int:
    """Train the remaining folds, then print and write the results of all folds; return the exit code."""
    reached = []
    with console.logged(folder.log), StopSignal() as stop:
        for fold in made:
            code, at = train_fold(fold, config, len(made), device, stop)
            if code:
                return code
            if stop.signum:  # it came after the fold's last batch
                console.notice(f"stopped; go on with: pmtrain train --resume {quoted(folder.path)}")
                return 128 + stop.signum
            reached.append(at)
        conclude(folder, config, made, reached)
    return 0


def train_fold(fold: Fold, config: TrainConfig, k: int, device: str, stop: StopSignal) -> tuple[int, RunState]:
    """Train one network to the end, from its latest state if there is one; return the exit code and position."""
    saved = load_resume(fold.folder.last) if (fold.folder.last / STATE).exists() else None
    if saved and saved.state["epoch"] >= config.epochs:
        fold.folder.write_metrics(saved.state["history"])  # the process may have been killed just before
        return 0, RunState(**saved.state)
    # Paddle numbers names per process; with the guard, every fold starts from 0 again.
    with paddle.utils.unique_name.guard():
        weights = None if saved else weights_again(config, fold.folder.info().get("weights"))
        run = Run(config, leakage.without(fold.data, fold.folder.dropped_files()), device, weights)
        run.folder = fold.folder
        if saved:
            run.restore(saved)
            console.notice(f"resuming fold {fold.number} of {k} at epoch {run.at.epoch}, batch {run.at.batch}")
        else:
            console.result(f"[fold] {fold.number}/{k}")
        code, at = run.go(stop), run.at
    del run, saved
    gc.collect()  # free the network's memory before the next one is built
    return code, at


def conclude(folder: RunFolder, config: TrainConfig, made: list[Fold], reached: list[RunState]) -> None:
    """Print and write the results over folds and on all folds' images together.

    Raises:
        PmtrainError: the folds weren't trained for the same number of epochs, or a table of scores is damaged.
    """
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
    found = assess(scores.labels, scores.probabilities, THRESHOLD, groups, LEVEL, N_BOOT, config.seed)
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
    content = json.dumps(report, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    write_atomic(folder.path / METRICS_FILE, content.encode("utf-8", errors="surrogateescape"))
    for line in as_lines(report, found, data):
        console.result(line)
    console.notice(
        f"where: {folder.path} (scores: {SCORES}, metrics: {METRICS_FILE}, networks: fold-1 to fold-{len(made)})"
    )


def spread(values: list[float | None]) -> dict[str, float | None]:
    """Mean, standard deviation (ddof 1) and range over folds; None if a fold has no value."""
    known = [value for value in values if value is not None]
    if len(known) < len(values):
        return dict.fromkeys(("mean", "std", "min", "max"))
    return {
        "mean": statistics.fmean(known),
        "std": statistics.stdev(known),
        "min": min(known),
        "max": max(known),
    }


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
