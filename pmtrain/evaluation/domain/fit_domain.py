"""Fitting the domain model of a checkpoint: at the end of a training, and by `pmtrain fit-domain`."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path

import numpy as np

from pmtrain.config import ComputeOptions, FitDomainConfig
from pmtrain.data.loading.cache_folder import open_cache
from pmtrain.data.loading.loader import Loader
from pmtrain.data.preprocessing.preprocess import Preprocess
from pmtrain.data.splits.split import hold_out
from pmtrain.evaluation.domain.domain_file import save_domain
from pmtrain.evaluation.domain.domain_model import DRAWS, DomainModel, Measured, as_other_cameras
from pmtrain.evaluation.domain.image_statistics import image_statistics
from pmtrain.evaluation.domain.pooled_features import PooledFeatures
from pmtrain.evaluation.scores.chosen_images import listed_images
from pmtrain.evaluation.scores.own_run import own_run
from pmtrain.models.backends.device import select_device
from pmtrain.runs.checkpoint import Checkpoint, load_checkpoint
from pmtrain.runs.network import load_network
from pmtrain.system import console
from pmtrain.system.errors import UsageError
from pmtrain.system.framework import paddle

FEATURE_BYTES = 256 << 10  # of the training images' features in the file, and again of the validation images'
MOST_VALIDATION = 1000  # validation images that the cuts are set on
FEWEST = 20  # images of either kind


def fit_domain(path: Path, config: FitDomainConfig) -> int:
    """Fit and write the domain model of the checkpoint at `path`; return the exit code, 1 if there are too few images.

    Raises:
        PmtrainError: the checkpoint or the data can't be read.
    """
    checkpoint = load_checkpoint(path)
    listed = listed_images(checkpoint, config)
    run = own_run(checkpoint, listed)
    data = run.data if run and run.data else listed
    if not data.split("val"):
        data = hold_out(data, config.val_fraction, config.seed)
    if not (run and run.data):
        console.notice(
            f"the distances are cut on {len(data.split('val'))} images as if the network hadn't been trained on them"
        )
    with contextlib.ExitStack() as stack:
        loaders = [
            stack.enter_context(
                Loader(
                    data.split(split),
                    Preprocess.of(checkpoint.info),
                    config.batch_size,
                    workers=config.workers,
                    on_bad_image=config.on_bad_image,
                    name_of=data.name_of,
                    cache=open_cache(config.cache_limit),
                    patient=True,
                )
            )
            for split in ("train", "val")
        ]
        done = keep_domain(checkpoint, config, loaders[0], loaders[1], config.batch_size)
    return 0 if done else 1


class Network:
    """A checkpoint's network, its preprocessing and its features.

    Raises:
        PmtrainError: the weights don't fit, or the device doesn't support an option.
    """

    def __init__(self, checkpoint: Checkpoint, options: ComputeOptions) -> None:
        if checkpoint.exported is not None:
            raise UsageError(
                f"{checkpoint.path}: a domain model is fitted to a checkpoint, and exported with it",
                "give the checkpoint that it was exported from",
            )
        device = select_device(options.device)
        self.model, self.backend = load_network(checkpoint, device, options.backend, options.precision)
        self.preprocess = Preprocess.of(checkpoint.info)
        self.pooled = PooledFeatures(self.model)

    @property
    def width(self) -> int:
        """Features of an image."""
        return int(self.model.out.weight.shape[0])

    def features(self, pixels: np.ndarray) -> np.ndarray:
        """uint8 (N, S, S, 3) -> (N, F) float32."""
        with paddle.no_grad(), self.backend.autocast():
            self.model(paddle.to_tensor(self.preprocess.normalise(pixels)))
        return self.pooled.take()


def drawn(count: int, most: int, seed: int = 0) -> Sequence[int]:
    """The places of `most` of `count` images, by lot, ascending; all of them if there are no more."""
    return sorted(np.random.default_rng(seed).permutation(count)[:most].tolist())


def keep_domain(
    checkpoint: Checkpoint,
    options: ComputeOptions,
    training: Loader,
    validation: Loader,
    batch_size: int,
    check: Callable[[], None] = lambda: None,
) -> bool:
    """Fit the domain model of a checkpoint and write it beside it; False, saying why, if there are too few images.

    Args:
        training, validation: give the images' pixels; training images as they are, without augmentation.
        check: called after every batch; what it raises ends the fit.
    Raises:
        PmtrainError: the network can't be run, an image can't be read, or the file can't be written.
    """
    counts = len(training.samples), len(validation.samples)
    if min(counts) < FEWEST:
        console.notice(
            f"no domain model: it needs {FEWEST} training and {FEWEST} validation images, and there are {counts[0]} and"
            f" {counts[1]}"
        )
        return False
    started = time.perf_counter()
    network = Network(checkpoint, options)
    kept = max(FEWEST, FEATURE_BYTES // network.width)
    chosen = drawn(counts[0], kept), drawn(counts[1], MOST_VALIDATION)
    with (
        console.progress(len(chosen[0]) + len(chosen[1]), "image", "domain model") as bar,
        network.backend.fixed_weights(),
    ):

        def measured(images: Iterable[np.ndarray], draws: int, seed: int) -> Iterator[Measured]:
            for number, batch in enumerate(_batches(images, batch_size)):
                statistics = np.array([image_statistics(image) for image in batch])
                yield Measured(
                    network.features(np.stack(batch)), statistics, as_other_cameras(batch, seed + number, draws)
                )
                bar.update(len(batch))
                check()

        fitted = list(measured(training.pixels(chosen[0]), DRAWS, 0))
        unseen = list(measured(validation.pixels(chosen[1]), 1, 1 << 20))
    values = Measured.joined(fitted), Measured.joined(unseen)
    model = DomainModel.fit(*values, kept)
    path = save_domain(checkpoint, model)
    console.notice(
        f"domain model: fitted on {len(values[0].features)} training and {len(values[1].features)} validation images in"
        f" {time.perf_counter() - started:.1f} s: {path.name}, {path.stat().st_size / 1024:.0f} KiB"
    )
    return True


def _batches(images: Iterable[np.ndarray], size: int) -> Iterator[list[np.ndarray]]:
    rest = iter(images)
    while batch := list(islice(rest, size)):
        yield batch
