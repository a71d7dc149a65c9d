"""The options of a training run."""

from __future__ import annotations

from typing import Annotated, Literal

from pmtrain.config.compute_options import ComputeOptions
from pmtrain.config.data_options import DataOptions
from pmtrain.config.loop_options import LoopOptions
from pmtrain.config.options import DATA, OUTPUT, TRAINING, option
from pmtrain.config.shared_options import (
    AugmentName,
    BatchSize,
    Folds,
    ImageSize,
    Layers,
    PreprocessName,
    Seed,
    ValFraction,
)
from pmtrain.config.values import AnyPath, ClassWeight, OneOf, TrainingRule


class TrainConfig(LoopOptions, ComputeOptions, DataOptions):
    """Options of `pmtrain train`. The defaults are the notes' values."""

    val_fraction: ValFraction = 0.2
    folds: Folds = None
    leakage: Literal["warn", "stop", "drop"] = option(
        DATA,
        "What to do if files or patients of the training images are also among the validation or test images: warn,"
        " stop, or drop those training images.",
        default="warn",
    )
    layers: Layers = 50
    image_size: ImageSize = 224
    preprocess: PreprocessName = "notes"
    epochs: int = option(TRAINING, "Number of epochs.", default=5, ge=1)
    batch_size: BatchSize = 10
    lr: float = option(TRAINING, "Learning rate.", default=0.001, gt=0, le=10, allow_inf_nan=False)
    momentum: float = option(TRAINING, "Momentum.", default=0.9, ge=0, lt=1)
    weight_decay: float = option(TRAINING, "Weight decay: L2 penalty on all parameters.", default=0.001, ge=0, le=1)
    class_weight: ClassWeight | None = option(
        TRAINING,
        "Weight of positive images in the loss: a number, or balanced (inverse class frequencies). The validation loss"
        " is not weighted.",
        default=None,
    )
    sampler: Annotated[str, OneOf("pmtrain.data.loading.balance:SAMPLERS")] = option(
        TRAINING,
        "shuffle: every image once per epoch; balanced: images of both classes equally often.",
        default="shuffle",
    )
    augment: AugmentName = "none"
    seed: Seed = 0
    threshold_rule: TrainingRule = option(
        TRAINING,
        "How to choose the decision threshold stored with the best weights, on the validation images: youden,"
        " sensitivity=0.95, specificity=0.90, or a number. The printed accuracy is always at 0.5.",
        default="youden",
    )
    shortcut: bool = option(
        TRAINING,
        "Shortcut check: measure how well file size, image size, colour or a thumbnail alone predict the label.",
        default=True,
    )
    log_every: int = option(OUTPUT, "Print the loss every N batches.", default=20, ge=1)
    save_every: int = option(
        OUTPUT, "Save the state that --resume continues from every N batches, and every epoch.", default=500, ge=1
    )
    track: list[Annotated[str, OneOf("pmtrain.training.tracking:TRACKERS")]] = option(
        OUTPUT, "Experiment tracker to log to; can be given several times.", default=[]
    )
    output: AnyPath | None = option(OUTPUT, "Run folder to create.  [default: runs/DATE-resnetLAYERS]", default=None)
    report: bool = option(OUTPUT, "Write report.html when the run is finished.", default=True)


# Options that may change when a run is resumed. Another device, backend or thread count only changes the last bits.
RESUMABLE = {
    "data", "val_data", "root", "epochs", "workers", "device", "backend", "threads", "log_every", "save_every",
    "on_bad_image", "track", "report", "cache_limit", "patience",
}  # fmt: skip
