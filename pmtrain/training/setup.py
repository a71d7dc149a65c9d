"""What a run's options come to: its batches, its class weights, and what it adds to the notes' loop."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from pmtrain.config import TrainConfig, flag_of
from pmtrain.config.commands.train_options import LoopOptions
from pmtrain.config.load import recipe_options
from pmtrain.config.options import off_flag_of
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


def recipe_stated(config: TrainConfig) -> str:
    """The run's recipe, with the flags of what it has in place of the recipe's own values; empty without one."""
    if config.recipe is None:
        return ""
    own = recipe_options(config.recipe)
    values = {name: getattr(config, name) for name in own}
    # None can't be given as a flag: a member of several trainings has no `seeds` of its own.
    changed = {name: value for name, value in values.items() if value not in (own[name], None)}
    return f"recipe: {config.recipe}" + (f", but {_as_flags(changed)}" if changed else "")


def added_options(config: TrainConfig) -> str:
    """The flags of what the run adds to the notes' loop; empty if nothing."""
    values = {name: getattr(config, name) for name in LoopOptions.model_fields}
    return _as_flags({name: value for name, value in values.items() if value != LoopOptions.model_fields[name].default})


def _as_flags(values: Mapping[str, Any]) -> str:
    def flag(name: str, value: Any) -> str:
        if isinstance(value, bool):
            return flag_of(name) if value else off_flag_of(name)
        return f"{flag_of(name)} {value}"

    return " ".join(flag(name, value) for name, value in values.items())


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
