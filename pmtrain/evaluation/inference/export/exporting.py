"""`pmtrain export`: a checkpoint as a model that runs without pmtrain, checked on real images before it is kept."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from pmtrain.config import ComputeOptions, ExportConfig, load_config
from pmtrain.data.dataset import Sample
from pmtrain.data.loading.cache_folder import open_cache
from pmtrain.data.loading.loader import read_one
from pmtrain.data.preprocessing.preprocess import Preprocess
from pmtrain.evaluation.inference.classifier import Classifier
from pmtrain.evaluation.inference.export.description import describe
from pmtrain.evaluation.inference.export.exporters import EXPORTERS, Exporter, Source
from pmtrain.evaluation.inference.export.int8 import loss_of_int8, quantized
from pmtrain.evaluation.inference.export.parity import LIMIT, compare_with_checkpoint, timed
from pmtrain.evaluation.inference.export.side_files import write_beside
from pmtrain.evaluation.scores.chosen_images import Images, choose_images, patients
from pmtrain.evaluation.scores.ensemble import load_networks
from pmtrain.runs.checkpoint import EXPORT_FILE, Ensemble, Networks
from pmtrain.system import console
from pmtrain.system.errors import UsageError
from pmtrain.system.files import new_folder, write_flushed

CARD = "MODEL_CARD.md"

# A checkpoint's path and the options -> the text of its model card.
Card = Callable[[Path, ExportConfig], str]


def export(path: Path, config: ExportConfig, card: Card) -> None:
    """Write the model at `path` to a new folder with export.json and a model card, and print what was checked.

    Raises:
        PmtrainError: the checkpoint or an image can't be read, the folder exists, a package is missing, a probability
            of the exported model differs by more than LIMIT, or int8 loses too much. No folder is left then.
    """
    exporter = EXPORTERS[config.format]
    _check_options(config)
    runtime = exporter.runtime()  # a package that is missing is told of before any work
    checkpoint = load_networks(path)
    _check_networks(checkpoint, config)
    output = config.output or _folder_beside(checkpoint) / f"export-{config.quantize or config.format}"
    classifier = Classifier(checkpoint, load_config(ComputeOptions, {"device": "cpu"}))
    images = choose_images(checkpoint, config)
    # The loss of AUC is measured on all images: a part of them would tell less than its interval.
    samples = list(images.samples) if config.quantize else spread(images.samples, config.check_images)
    pixels = read_pixels(samples, classifier.preprocess, config.cache_limit)
    source = fp32 = Source(checkpoint, config.with_preprocessing)
    if config.quantize:
        source = replace(fp32, int8=partial(quantized, images=_calibration_images(images, classifier, config)))
    batch_size = min(config.batch_size, len(pixels))
    with new_folder(output) as folder:
        exporter.write(folder, source)
        parity = compare_with_checkpoint(classifier, exporter.load(folder, source), source, pixels, batch_size)
        check: dict[str, Any] = {
            "images": len(pixels),
            "data_fingerprint": images.data.fingerprint(),
            "largest_difference_of_a_probability": parity.difference,
            "runtime": runtime,
        }
        against, speed = f"pmtrain ({classifier.backend.name})", parity.our_speed
        costs: list[str] = []
        if config.quantize:
            labels = np.array([sample.label for sample in samples])
            groups = patients(samples, images.data.name_of)
            loss = loss_of_int8(labels, parity.ours, parity.theirs, checkpoint.info.threshold, groups)
            check["int8"], costs = loss.report(), loss.lines()
            against, speed = "the same model in fp32", _speed_of(exporter, fp32, pixels[:batch_size])
        else:
            parity.refuse_difference()
            check["limit"] = LIMIT
        beside = write_beside(folder / exporter.file, checkpoint)
        write_flushed(folder / EXPORT_FILE, describe(config.format, source, check, beside))
        write_flushed(folder / CARD, card(checkpoint.path, config))
        size = sum(file.stat().st_size for file in folder.iterdir() if file.stem == "model")
    console.result(f"wrote {output}: {config.format}, {source.precision}, {size / 1e6:.1f} MB")
    limit = "" if config.quantize else f"; the limit is {LIMIT:g}"
    console.result(
        f"largest difference of a probability: {parity.difference:.1e} on {len(pixels)} images"
        f" ({runtime} against pmtrain{limit})"
    )
    for line in costs:
        console.result(line)
    console.result(
        f"speed: {parity.their_speed:.1f} images/s in batches of {batch_size}; {against}: {speed:.1f}"
        f" ({parity.their_speed / speed:.2f} times)"
    )


def _folder_beside(checkpoint: Networks) -> Path:
    """Where an export goes unless --output says: the run's folder, or that of a cross-validation or of several seeds.

    Raises:
        UsageError: there is no such folder: the networks were only named together.
    """
    if isinstance(checkpoint, Ensemble) and not checkpoint.path.is_dir():
        raise UsageError("several networks that lie in no folder of their own need --output", "give --output FOLDER")
    return checkpoint.path if checkpoint.path.is_dir() else checkpoint.path.parent


def _check_networks(checkpoint: Networks, config: ExportConfig) -> None:
    """Refuse what can't be exported, or not in this format.

    Raises:
        UsageError: it is an export, or several networks that don't fit into one.
    """
    first, *others = checkpoint.members
    for member in checkpoint.members:
        if member.exported is not None:
            raise UsageError(
                f"{member.path} is an exported model already", "give the checkpoint that it was exported from"
            )
    if not others:
        return
    if not EXPORTERS[config.format].probability:
        whole = " or ".join(name for name, row in EXPORTERS.items() if row.probability)
        raise UsageError(
            f"--format {config.format}: its file holds the weights of one network, and these are {1 + len(others)}",
            f"give --format {whole}, or export each network by itself",
        )
    for other in others:
        if Preprocess.of(other.info) != Preprocess.of(first.info):
            raise UsageError(
                f"{other.path} and {first.path} see images after other preprocessing, so no single input fits both",
                "export each network by itself; eval and predict take them together as they are",
            )


def _check_options(config: ExportConfig) -> None:
    if config.with_preprocessing and not EXPORTERS[config.format].graph:
        graphs = " or ".join(name for name, row in EXPORTERS.items() if row.graph)
        raise UsageError(
            f"--with-preprocessing: a model in the format {config.format} holds the network alone",
            f"give --format {graphs}, or leave --with-preprocessing out",
        )
    if config.quantize and config.format != "onnx":
        raise UsageError(f"--quantize {config.quantize}: only ONNX models are quantized", "give --format onnx")


def _calibration_images(images: Images, classifier: Classifier, config: ExportConfig) -> np.ndarray:
    """Training images, normalised: never those that the loss is measured on.

    Raises:
        UsageError: the data has no training images.
    """
    training = images.data.split("train")
    if not training or images.split in ("train", "all"):
        raise UsageError(
            f"--quantize {config.quantize}: needs training images that it isn't evaluated on",
            "give --data with a training split, and leave --split out",
        )
    chosen = spread(training, config.calibration_images)
    return classifier.preprocess.normalise(read_pixels(chosen, classifier.preprocess, config.cache_limit))


def _speed_of(exporter: Exporter, source: Source, pixels: np.ndarray) -> float:
    """Images per second of another export of the same checkpoint."""
    with tempfile.TemporaryDirectory() as folder:
        exporter.write(Path(folder), source)
        return timed(exporter.load(Path(folder), source), [source.inputs(pixels)])[1]


def spread(samples: Sequence[Sample], most: int) -> list[Sample]:
    """At most `most` samples, evenly spaced over all of them."""
    rows = np.unique(np.linspace(0, len(samples) - 1, min(most, len(samples))).astype(int))
    return [samples[row] for row in rows]


def read_pixels(samples: Sequence[Sample], preprocess: Preprocess, cache_limit: float | None) -> np.ndarray:
    """The images at training size: uint8 (N, S, S, 3), BGR.

    Raises:
        BadImage: one can't be decoded.
    """
    cache = open_cache(cache_limit)
    try:
        return np.stack([read_one(sample, preprocess, cache) for sample in samples])
    finally:
        if cache:
            cache.close()
