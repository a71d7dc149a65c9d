"""What a run's options come to: its batches, its class weights, and what it adds to the notes' loop."""

from __future__ import annotations

import numpy as np

from pmtrain.config import TrainConfig, flag_of
from pmtrain.config.commands.train_options import LoopOptions
from pmtrain.data.dataset import DataSet
from pmtrain.data.loading.balance import class_weights
from pmtrain.data.loading.loader import batches_in
from pmtrain.system import console
from pmtrain.system.errors import UsageError

# What to say after a run with the notes' options; the figures are those of docs/recipes.md.
RECIPES_HINT = (
    "recipes: --config robust is for fundus photographs (on iChallenge-PM validation AUC 0.998, where the notes'"
    " options gave 0.978), --config general for other images"
)


def batches_in_epoch(config: TrainConfig, data: DataSet) -> int:
    """Training batches in an epoch.

    Raises:
        UsageError: there is none, as --drop-last leaves out the only one.
    """
    images = len(data.split("train"))
    batches = batches_in(images, config.batch_size, config.drop_last)
    if not batches:
        raise UsageError(
            f"--drop-last with --batch-size {config.batch_size}: {images} training images don't fill one batch",
            "give a smaller --batch-size, or leave --drop-last out",
        )
    return batches


def added_options(config: TrainConfig) -> str:
    """The flags of what the run adds to the notes' loop; empty if nothing."""
    flags = []
    for name, option in LoopOptions.model_fields.items():
        if (value := getattr(config, name)) != option.default:
            flags.append(flag_of(name) if value is True else f"{flag_of(name)} {value}")
    return " ".join(flags)


def weights_of_classes(config: TrainConfig, data: DataSet) -> tuple[float, float] | None:
    """What the loss of a negative and of a positive image is multiplied by, as `--class-weight` has it."""
    if config.class_weight is None:
        return None
    labels = np.array([sample.label for sample in data.split("train")])
    weights = class_weights(config.class_weight, labels)
    shown = ", ".join(f"{name} {weight:.4g}" for name, weight in zip(data.classes, weights, strict=True))
    console.notice(f"weights of the training loss: {shown}")
    if config.sampler == "balanced":
        console.warn("--class-weight and --sampler balanced both make up for unequal classes: that is done twice")
    return weights
