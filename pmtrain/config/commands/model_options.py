"""The options of commands that add to a checkpoint."""

from __future__ import annotations

from pmtrain.config.commands.compute_options import ComputeOptions
from pmtrain.config.commands.data_options import DataOptions
from pmtrain.config.commands.shared_options import BatchSize, Seed, ValFraction


class FitDomainConfig(ComputeOptions, DataOptions):
    """Options of `pmtrain fit-domain`."""

    val_fraction: ValFraction = 0.2
    batch_size: BatchSize = 10
    seed: Seed = 0
