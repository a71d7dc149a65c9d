"""Evaluation: a checkpoint's score for every image of a split -> measures, printed and written."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pmtrain import __version__, console, metrics
from pmtrain.backend import choose_backend
from pmtrain.checkpoint import Checkpoint, apply_state, load_checkpoint
from pmtrain.config import EvalConfig
from pmtrain.data.loader import Batch, Loader
from pmtrain.data.samples import DataSet, Sample
from pmtrain.data.select import select
from pmtrain.data.split import hold_out
from pmtrain.data.transforms import Preprocess
from pmtrain.device import select_device
from pmtrain.engine import Scores, score
from pmtrain.errors import PmtrainError, UsageError
from pmtrain.files import write_atomic
from pmtrain.framework import paddle
from pmtrain.models import build_model
from pmtrain.run_folder import RunFolder

FILES = ("predictions.csv", "metrics.json")


def evaluate(path: Path, config: EvalConfig) -> None:
    """Print the notes' line and the measures of the checkpoint at `path`, and write them where `config.output` says.

    Raises:
        PmtrainError: the checkpoint or the data can't be read, or `config.output` already holds results.
    """
    for name in FILES if config.output else ():
        if (config.output / name).exists():  # type: ignore[operator]
            raise UsageError(
                f"--output {config.output}: holds {name} already, and results are never overwritten",
                "give another folder",
            )
    device = select_device(config.device)
    checkpoint = load_checkpoint(path)
    data, samples, split = choose_images(checkpoint, config)

    model = build_model(checkpoint.info.layers)
    apply_state(model, checkpoint.state, checkpoint.path)
    backend = choose_backend(model, device, config)
    preprocess = Preprocess(checkpoint.info.preprocessing, checkpoint.info.image_size)
    with Loader(
        samples,
        preprocess,
        config.batch_size,
        workers=config.workers,
        seed=0,
        shuffle=False,
        on_bad_image=config.on_bad_image,
        name_of=data.name_of,
    ) as loader:
        with console.progress(len(samples), "image", "evaluation") as bar:

            def on_batch(batch: Batch) -> None:
                bar.update(len(batch.samples))

            scores = score(model, loader.epoch(0), backend, on_batch)
        for sample, reason in loader.bad_images:
            console.warn(f"left out: {data.name_of(sample)}: {reason}")
    if not len(scores.labels):
        raise PmtrainError(f"{data.root}: none of the {len(samples)} images could be decoded")

    report = measure(scores, checkpoint.info.threshold)
    console.result(console.validation_line(scores.accuracy, scores.loss))
    for line in as_lines(report, checkpoint, data):
        console.result(line)
    if config.output:
        context = {
            "checkpoint": str(checkpoint.path),
            "weights_sha256": checkpoint.info.weights_sha256,
            "data": str(data.root),
            "split": split,
            "synthetic": data.synthetic,
            "data_fingerprint": data.fingerprint(),
            "left_out": {data.name_of(sample): reason for sample, reason in loader.bad_images},
            "device": device,
            "backend": backend.name,
            "precision": backend.precision,
            "versions": {"pmtrain": __version__, "paddle": paddle.__version__},
        }
        write(config.output, scores, data, report | context)
        console.notice(f"wrote {' and '.join(str(config.output / name) for name in FILES)}")


def choose_images(checkpoint: Checkpoint, config: EvalConfig) -> tuple[DataSet, tuple[Sample, ...], str]:
    """The data set, the samples to score and the name of their split.

    Without --data it is the data of the checkpoint's own run. Images that a run held out for validation are held
    out again, so that its training images are never taken for validation images.

    Raises:
        PmtrainError: the data can't be read, holds no such split, or has its classes the other way round.
    """
    run = RunFolder.around(checkpoint.path)
    options = config
    if run and config.data is None:
        kept = run.config()
        options = config.model_copy(
            update={
                "data": kept.data,
                "val_data": config.val_data or kept.val_data,
                "data_format": kept.data_format if config.data_format == "auto" else config.data_format,
                "positive": config.positive or kept.positive,
            }
        )
    data = select(options, make_synthetic_set=False)
    known = checkpoint.info.class_names
    if set(data.classes) == set(known) and data.classes != known:
        raise PmtrainError(
            f"{data.root}: {data.classes[1]!r} is its positive class, yet the checkpoint's is {known[1]!r}",
            f"give --positive {known[1]!r}",
        )
    if run and not data.split("val"):
        kept = run.config()
        held = hold_out(data, kept.val_fraction, kept.seed)
        if held.fingerprint() == run.info()["data"]["fingerprint"]:
            console.notice("these are the images of the checkpoint's own run: those that it held out are evaluated")
            data = held
    split = config.split or ("val" if data.split("val") else "all")
    samples = data.samples if split == "all" else data.split(split)
    if not samples:
        there = sorted({sample.split for sample in data.samples if sample.split})
        raise UsageError(
            f"--split {split}: {data.root} has no such split",
            f"it has {', '.join(there) or 'none'}; or give --split all",
        )
    console.notice(f"evaluating {len(samples)} images, split: {split}")
    return data, samples, split


def measure(scores: Scores, threshold: float) -> dict[str, Any]:
    """Every figure of an evaluation, ready for JSON; a measure that is undefined is null, with the reason."""
    measured = metrics.evaluate_measures(scores.labels, scores.probabilities, threshold)
    positives = int(scores.labels.sum())
    return {
        "images": len(scores.labels),
        "positives": positives,
        "negatives": len(scores.labels) - positives,
        "loss": scores.loss,
        "threshold": threshold,
        "measures": {name: asdict(value) for name, value in measured.items()},
    }


PRINTED = {"accuracy": "accuracy", "auc": "AUC", "sensitivity": "sensitivity", "specificity": "specificity"}


def as_lines(report: dict[str, Any], checkpoint: Checkpoint, data: DataSet) -> list[str]:
    """The lines after the notes' one: `name: value (count/of)`."""
    negative, positive = data.classes
    lines = ["data: SYNTHETIC images, drawn by a program: no clinical claim can rest on them"] if data.synthetic else []
    lines.append(f"images: {report['images']} ({report['positives']} {positive}, {report['negatives']} {negative})")
    for name, title in PRINTED.items():
        value = report["measures"][name]
        if value["value"] is None:
            lines.append(f"{title}: undefined ({value['reason']})")
        else:
            counts = "" if value["k"] is None else f" ({value['k']}/{value['n']})"
            lines.append(f"{title}: {value['value']:.4f}{counts}")
    lines.append(f"threshold: {report['threshold']:g} (rule {checkpoint.info.threshold_rule})")
    return lines


def write(folder: Path, scores: Scores, data: DataSet, report: dict[str, Any]) -> None:
    """predictions.csv, a row an image in the order of the data, and metrics.json."""
    folder.mkdir(parents=True, exist_ok=True)
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(("file", "label", "probability"))
    for sample, label, probability in zip(scores.samples, scores.labels, scores.probabilities, strict=True):
        rows.writerow((data.name_of(sample), int(label), float(probability)))
    write_atomic(folder / "predictions.csv", text.getvalue().encode("utf-8", errors="surrogateescape"))
    write_atomic(folder / "metrics.json", (json.dumps(report, indent=2, ensure_ascii=False) + "\n").encode())
