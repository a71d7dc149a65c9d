"""`pmtrain export`: a checkpoint as a model that runs without pmtrain, checked on real images before it is kept."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from pmtrain.config import ComputeOptions, ExportConfig, load_config
from pmtrain.data.dataset import Sample
from pmtrain.data.loading.cache_folder import open_cache
from pmtrain.data.loading.loader import read_one
from pmtrain.data.preprocessing.preprocess import Preprocess
from pmtrain.evaluation.inference.classifier import Classifier
from pmtrain.evaluation.inference.export.description import FILE, describe
from pmtrain.evaluation.inference.export.exporters import EXPORTERS, Source
from pmtrain.evaluation.inference.export.parity import LIMIT, compare_with_checkpoint
from pmtrain.evaluation.scores.chosen_images import choose_images
from pmtrain.runs.checkpoint import load_checkpoint
from pmtrain.system import console
from pmtrain.system.errors import PmtrainError, UsageError
from pmtrain.system.files import new_folder, write_flushed

CARD = "MODEL_CARD.md"

# A checkpoint's path and the options -> the text of its model card.
Card = Callable[[Path, ExportConfig], str]


def export(path: Path, config: ExportConfig, card: Card) -> None:
    """Write the model at `path` to a new folder with export.json and a model card, and print what was checked.

    Raises:
        PmtrainError: the checkpoint or an image can't be read, the folder exists, a package is missing, or a
            probability of the exported model differs by more than LIMIT. No folder is left then.
    """
    exporter = EXPORTERS[config.format]
    if config.with_preprocessing and not exporter.graph:
        graphs = " or ".join(name for name, row in EXPORTERS.items() if row.graph)
        raise UsageError(
            f"--with-preprocessing: a model in the format {config.format} holds the network alone",
            f"give --format {graphs}, or leave --with-preprocessing out",
        )
    checkpoint = load_checkpoint(path)
    if checkpoint.exported is not None:
        raise UsageError(f"{path} is an exported model already", "give the checkpoint that it was exported from")
    output = config.output or checkpoint.path.parent / f"export-{config.format}"
    classifier = Classifier(checkpoint, load_config(ComputeOptions, {"device": "cpu"}))
    images = choose_images(checkpoint, config)
    pixels = read_pixels(spread(images.samples, config.check_images), classifier.preprocess, config.cache_limit)
    source = Source(checkpoint, config.with_preprocessing)
    with new_folder(output) as folder:
        exporter.write(folder, source)
        parity = compare_with_checkpoint(
            classifier, exporter.load(folder, source), source, pixels, min(config.batch_size, len(pixels))
        )
        if parity.difference > LIMIT:
            raise PmtrainError(
                f"the exported model's probabilities differ from the checkpoint's by up to {parity.difference:.2g} on"
                f" {len(pixels)} images, more than {LIMIT:g}; nothing was written",
                "this is a bug in pmtrain or in the runtime: please report it with the output of `pmtrain env`",
            )
        check = {
            "images": len(pixels),
            "data_fingerprint": images.data.fingerprint(),
            "largest_difference_of_a_probability": parity.difference,
            "limit": LIMIT,
            "runtime": exporter.runtime(),
        }
        write_flushed(folder / FILE, describe(config.format, source, check))
        write_flushed(folder / CARD, card(checkpoint.path, config))
        size = sum(file.stat().st_size for file in folder.iterdir() if file.stem == "model")
    console.result(f"wrote {output}: {config.format}, {size / 1e6:.1f} MB")
    console.result(
        f"largest difference of a probability: {parity.difference:.1e} on {len(pixels)} images"
        f" ({exporter.runtime()} against pmtrain; the limit is {LIMIT:g})"
    )
    console.result(
        f"speed: {parity.their_speed:.1f} images/s in batches of {min(config.batch_size, len(pixels))};"
        f" pmtrain ({classifier.backend.name}): {parity.our_speed:.1f}"
    )


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
        return np.stack([read_one(sample.path, preprocess, cache) for sample in samples])
    finally:
        if cache:
            cache.close()
