"""What a run's options come to: what is said of them at its start and end, and its class weights."""

from __future__ import annotations

import numpy as np

from pmtrain.config import TrainConfig
from pmtrain.config.stated import added_options, recipe_stated
from pmtrain.data.dataset import DataSet
from pmtrain.data.loading.balance import class_weights
from pmtrain.system import console

# What to say after a run with the notes' options; the figures are those of docs/recipes.md.
RECIPES_HINT = (
    "recipes: --recipe robust is for fundus photographs (on iChallenge-PM validation AUC 0.997, where the notes'"
    " options gave 0.978), --recipe accurate for three such networks as one, --recipe fast for the same sooner,"
    " --recipe pathology for stained tissue, --recipe general for other images"
)


def tell_options(config: TrainConfig) -> None:
    """Say which recipe the run has, and what it adds to the notes' loop."""
    if recipe := recipe_stated(config):
        console.notice(recipe)
    if added := added_options(config):
        console.notice(f"training loop: {added}")


def tell_recipes(config: TrainConfig) -> None:
    """Say what recipes give, after a training with the notes' options."""
    if config.preprocess == "notes" and not added_options(config):
        console.notice(RECIPES_HINT)


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
