"""The options of `pmtrain pretrain`."""

from __future__ import annotations

from pmtrain.config.commands.compute_options import ComputeOptions
from pmtrain.config.commands.shared_options import (
    AugmentName,
    AugmentStrength,
    BatchSize,
    CacheLimit,
    ImageSize,
    Layers,
    OnBadImage,
    PreprocessName,
    Seed,
    Workers,
)
from pmtrain.config.options import DATA, OUTPUT, TRAINING, option
from pmtrain.config.values import AnyPath
from pmtrain.system.hardware import available_cpus


class PretrainConfig(ComputeOptions):
    """Options of `pmtrain pretrain`. The network and its input are those of the recipe `robust`."""

    data: AnyPath | None = option(
        DATA, "Images without labels: a folder or an archive; its subfolders count too.", default=None
    )
    on_bad_image: OnBadImage = "stop"
    layers: Layers = 18
    image_size: ImageSize = 128
    preprocess: PreprocessName = "fundus-local"
    epochs: int = option(TRAINING, "Number of epochs.", default=50, ge=1)
    batch_size: BatchSize = 20
    lr: float = option(TRAINING, "Learning rate.", default=0.02, gt=0, le=10, allow_inf_nan=False)
    momentum: float = option(TRAINING, "Momentum.", default=0.9, ge=0, lt=1)
    weight_decay: float = option(TRAINING, "Weight decay: L2 penalty on all parameters.", default=0.0001, ge=0, le=1)
    augment: AugmentName = "camera"
    augment_strength: AugmentStrength = 1.0
    seed: Seed = 0
    workers: Workers = min(2, available_cpus())
    cache_limit: CacheLimit = None
    log_every: int = option(OUTPUT, "Print the loss every N batches.", default=20, ge=1)
    output: AnyPath | None = option(
        OUTPUT, "Folder to create.  [default: runs/DATE-pretrain-resnetLAYERS]", default=None
    )
