"""The options of a training run."""

from __future__ import annotations

from typing import Annotated, Literal

from pmtrain.config.commands.compute_options import ComputeOptions
from pmtrain.config.commands.data_options import DataOptions
from pmtrain.config.commands.shared_options import (
    AlignEyes,
    AugmentName,
    AugmentStrength,
    BatchSize,
    Folds,
    ImageSize,
    Layers,
    PreprocessName,
    Seed,
    ValFraction,
)
from pmtrain.config.options import DATA, MACHINE, NETWORK, OUTPUT, RUN, TRAINING, Options, option
from pmtrain.config.values import AnyPath, ClassWeight, NoneIsZero, OneOf, RecipeName, TrainingRule


class LoopOptions(Options):
    """Options of the training loop beyond the notes' script; all are off by default."""

    schedule: Annotated[str, OneOf("pmtrain.training.techniques.schedule:SCHEDULES")] = option(
        TRAINING,
        "Learning rate by step. constant; cosine: falls from --lr to 0 at the end; step: multiplied by --lr-factor"
        " every --lr-step-epochs.",
        default="constant",
    )
    warmup_steps: int = option(
        TRAINING, "Raise the learning rate linearly over this many first steps.", default=0, ge=0
    )
    warmup_epochs: int = option(
        TRAINING,
        "Raise the learning rate linearly over this many first epochs, but at most half of the run.",
        default=0,
        ge=0,
    )
    lr_step_epochs: int | None = option(
        TRAINING, "With --schedule step: epochs between two reductions.", default=None, ge=1
    )
    lr_factor: float = option(TRAINING, "With --schedule step: factor of each reduction.", default=0.1, gt=0, lt=1)
    nesterov: bool = option(TRAINING, "Nesterov momentum.", default=False)
    no_decay_norms: bool = option(TRAINING, "No weight decay on batch norms and biases.", default=False)
    clip_norm: float | None = option(
        TRAINING,
        "Clip gradients to this global L2 norm.",
        default=None,
        gt=0,
        allow_inf_nan=False,
    )
    ema: NoneIsZero = option(
        TRAINING,
        "Evaluate and keep an exponential moving average of the weights, with this decay per step, such as 0.98; 0:"
        " none.",
        default=0.0,
        ge=0,
        lt=1,
    )
    swa_epochs: int = option(
        TRAINING,
        "Stochastic weight averaging: hold the learning rate in this many last epochs, and evaluate and keep the mean"
        " of the weights at their ends; 0: none.",
        default=0,
        ge=0,
    )
    swa_lr: float | None = option(
        TRAINING,
        "Learning rate of the epochs of --swa-epochs.  [default: the schedule's rate at the first of them]",
        default=None,
        gt=0,
        le=10,
        allow_inf_nan=False,
    )
    init: Annotated[str, OneOf("pmtrain.training.techniques.initialisation:INITIALISATIONS")] = option(
        TRAINING,
        "Initial weights of convolutions. notes: the notes' script's; he: normal, by fan out, as torchvision's.",
        default="notes",
    )
    drop_last: bool = option(
        TRAINING, "Leave out an epoch's last batch if it is incomplete, unless it is the only one.", default=False
    )
    label_smoothing: float = option(
        TRAINING, "Label smoothing: train on s / 2 and 1 - s / 2 in place of 0 and 1.", default=0.0, ge=0, lt=1
    )
    mixup: float = option(TRAINING, "Mixup with this alpha, such as 0.2; 0: none.", default=0.0, ge=0, le=10)
    cutmix: float = option(TRAINING, "CutMix with this alpha, such as 1; 0: none.", default=0.0, ge=0, le=10)
    erasing: float = option(
        TRAINING, "Random erasing: cover a rectangle of this share of the training images.", default=0.0, ge=0, le=1
    )
    start_size: int | None = option(
        TRAINING,
        "Progressive resizing: the first epoch has training images of this many pixels, which grow in multiples"
        " of 32 to --image-size over a third of the epochs.",
        default=None,
        ge=32,
        le=4096,
    )
    freeze: int | None = option(
        TRAINING,
        "With --weights: keep the stem and this many of the four stages as they are, their batch norms' statistics"
        " too; 4: train the classifier alone.",
        default=None,
        ge=0,
        le=4,
    )
    body_lr: float | None = option(
        TRAINING,
        "Learning rate of all layers but the classifier, which has --lr.",
        default=None,
        gt=0,
        le=10,
        allow_inf_nan=False,
    )
    warmup_head: int = option(
        TRAINING, "With --weights: train the classifier alone for this many first epochs.", default=0, ge=0
    )
    patience: int | None = option(
        TRAINING, "Stop early after this many epochs in a row without a better validation AUC.", default=None, ge=1
    )


class TrainConfig(LoopOptions, ComputeOptions, DataOptions):
    """Options of `pmtrain train`. The defaults are the notes' values."""

    recipe: Annotated[str, RecipeName()] | None = option(
        RUN,
        "Options that were measured together; --config and flags override them. robust: fundus photographs, also from"
        " other cameras; accurate: three such networks as one; fast: the same as robust in a quarter of the time;"
        " pathology: stained tissue and cells; patches: its old name; general: other images; notes: the defaults.",
        default=None,
    )
    val_fraction: ValFraction = 0.2
    folds: Folds = None
    seeds: int | None = option(
        RUN,
        "Number of networks to train, with --seed and the seeds after it; they are kept as one classifier.",
        default=None,
        ge=2,
        le=100,
    )
    leakage: Literal["warn", "stop", "drop"] = option(
        DATA,
        "What to do if files or patients of the training images are also among the validation or test images: warn,"
        " stop, or drop those training images.",
        default="warn",
    )
    layers: Layers = 50
    image_size: ImageSize = 224
    preprocess: PreprocessName = "notes"
    align_eyes: AlignEyes = False
    weights: str | None = option(
        NETWORK,
        "Weights to start from: a file (pmtrain, paddle.vision, PaddleClas, torchvision, timm), a run folder, or"
        " imagenet. Depth and preprocessing follow them unless given.",
        default=None,
        min_length=1,
    )
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
    augment_strength: AugmentStrength = 1.0
    seed: Seed = 0
    threshold_rule: TrainingRule = option(
        TRAINING,
        "How to choose the decision threshold stored with the best weights, on the validation images: youden,"
        " sensitivity=0.95, specificity=0.90, cost=5:1 (what a false negative costs : a false positive), or a number."
        " The printed accuracy is always at 0.5.",
        default="youden",
    )
    calibrate: Annotated[str, OneOf("pmtrain.evaluation.calibration.methods:METHODS")] | None = option(
        TRAINING,
        "Calibrate the probabilities of the best weights on the validation images: temperature, platt or isotonic."
        " It also undoes --class-weight and --sampler balanced in them. The decisions stay the same.",
        default=None,
    )
    shortcut: bool = option(
        TRAINING,
        "Shortcut check: measure how well file size, image size, colour or a thumbnail alone predict the label.",
        default=True,
    )
    domain: bool = option(
        TRAINING,
        "Domain model: at the end, learn from the images to tell whether other images are of their kind.",
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
    accumulate: int = option(
        MACHINE, "Compute each batch in this many parts, one after the other, to need less memory.", default=1, ge=1
    )
    sync_bn: bool = option(
        MACHINE,
        "With --nproc on GPUs: batch norm over the images of all processes (paddle.nn.SyncBatchNorm).",
        default=False,
    )
    nproc: int = option(
        MACHINE,
        "Processes that compute each batch together, a share of its images each; Linux only. With --folds or --seeds:"
        " trainings side by side. They share the threads.",
        default=1,
        ge=1,
        le=1024,
    )


# Options that may change when a run is resumed. Another device, backend or thread count only changes the last bits.
RESUMABLE = {
    "data", "val_data", "root", "epochs", "workers", "device", "backend", "threads", "log_every", "save_every",
    "on_bad_image", "track", "report", "cache_limit", "patience", "domain", "accumulate", "nproc",
}  # fmt: skip
