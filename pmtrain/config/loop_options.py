"""Options of the training loop beyond the notes' script; all are off by default."""

from __future__ import annotations

from typing import Annotated

from pmtrain.config.options import TRAINING, Options, option
from pmtrain.config.values import OneOf


class LoopOptions(Options):
    """What a run may add to the notes' loop, and when it ends."""

    schedule: Annotated[str, OneOf("pmtrain.training.techniques.schedule:SCHEDULES")] = option(
        TRAINING,
        "Learning rate by step. constant; cosine: falls from --lr to 0 at the end; step: multiplied by --lr-factor"
        " every --lr-step-epochs.",
        default="constant",
    )
    warmup_steps: int = option(
        TRAINING, "Raise the learning rate linearly over this many first steps.", default=0, ge=0
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
    ema: float | None = option(
        TRAINING,
        "Evaluate and keep an exponential moving average of the weights, with this decay per step, such as 0.98.",
        default=None,
        gt=0,
        lt=1,
    )
    init: Annotated[str, OneOf("pmtrain.training.techniques.initialisation:INITIALISATIONS")] = option(
        TRAINING,
        "Initial weights of convolutions. notes: the notes' script's; he: normal, by fan out, as torchvision's.",
        default="notes",
    )
    drop_last: bool = option(TRAINING, "Leave out an epoch's last batch if it is incomplete.", default=False)
    label_smoothing: float = option(
        TRAINING, "Label smoothing: train on s / 2 and 1 - s / 2 in place of 0 and 1.", default=0.0, ge=0, lt=1
    )
    mixup: float = option(TRAINING, "Mixup with this alpha, such as 0.2; 0: none.", default=0.0, ge=0, le=10)
    cutmix: float = option(TRAINING, "CutMix with this alpha, such as 1; 0: none.", default=0.0, ge=0, le=10)
    patience: int | None = option(
        TRAINING, "Stop early after this many epochs in a row without a better validation AUC.", default=None, ge=1
    )
