"""Fitting the domain model of a checkpoint: at the end of a training, and by `pmtrain fit-domain`."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from pmtrain.config import ComputeOptions, FitDomainConfig
from pmtrain.data.dataset import Sample
from pmtrain.data.loading.cache_folder import open_cache
from pmtrain.data.loading.loader import Loader
from pmtrain.data.preprocessing.preprocess import Preprocess
from pmtrain.data.splits.split import hold_out
from pmtrain.evaluation.domain.domain_file import save_domain
from pmtrain.evaluation.domain.domain_model import DRAWS, DomainModel, Measured, as_other_cameras
from pmtrain.evaluation.domain.image_statistics import image_statistics
from pmtrain.evaluation.domain.pooled_features import PassFeatures, PooledFeatures
from pmtrain.evaluation.scores.chosen_images import listed_images
from pmtrain.evaluation.scores.ensemble import load_networks
from pmtrain.evaluation.scores.own_run import own_run
from pmtrain.models.backends.device import select_device
from pmtrain.runs.checkpoint import Checkpoint
from pmtrain.runs.network import load_network
from pmtrain.system import console
from pmtrain.system.errors import UsageError
from pmtrain.system.framework import paddle

FEATURE_BYTES = 256 << 10  # of the validation images' features in the file
MOST_TRAINING = 512  # training images whose statistics are measured
REFERENCE = 200  # training images whose features are the reference: each costs a forward pass
MOST_VALIDATION = 1000  # validation images that the cuts are set on
FEWEST = 20  # images of either kind
Value = TypeVar("Value")


def fit_domain(path: Path, config: FitDomainConfig) -> int:
    """Fit and write the domain model of each network at `path`, as of `load_networks`; return the exit code.

    Returns: 1 if there are too few images for one.
    Raises:
        PmtrainError: a checkpoint or the data can't be read.
    """
    done = [fit_one(member, config) for member in load_networks(path).members]
    return 0 if all(done) else 1


def fit_one(checkpoint: Checkpoint, config: FitDomainConfig) -> bool:
    """Fit and write the domain model of a checkpoint; False if there are too few images."""
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
        return keep_domain(checkpoint, config, loaders[0], loaders[1], config.batch_size)


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


@contextlib.contextmanager
def features_of(model: Any, validation: Loader | None) -> Iterator[PassFeatures | None]:
    """While the block lasts, collect the features of the validation images that a domain model would be cut on.

    Args:
        validation: None: none are wanted.
    """
    if validation is None:
        yield None
        return
    places = drawn(len(validation.samples), MOST_VALIDATION)
    features = PassFeatures(model, (validation.samples[place] for place in places))
    try:
        yield features
    finally:
        features.close()


def drawn_validation(validation: Loader, known: Mapping[Sample, np.ndarray] | None) -> Sequence[int]:
    """The places of the validation images to cut on: of those whose features are known, where any are."""
    places = drawn(len(validation.samples), MOST_VALIDATION)
    return [place for place in places if validation.samples[place] in known] if known else places


def keep_domain(
    checkpoint: Checkpoint,
    options: ComputeOptions,
    training: Loader,
    validation: Loader,
    batch_size: int,
    check: Callable[[], None] = lambda: None,
    known: Mapping[Sample, np.ndarray] | None = None,
) -> bool:
    """Fit the domain model of a checkpoint and write it beside it; False, saying why, if there are too few images.

    Args:
        training, validation: give the images' pixels; training images as they are, without augmentation.
        check: called after every batch; what it raises ends the fit.
        known: features (F,) of validation images by these very weights, where a pass has computed them; the others are
            then left out.
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
    places = drawn(counts[0], MOST_TRAINING), drawn_validation(validation, known)
    reference = set(drawn(len(places[0]), REFERENCE))
    with (
        console.progress(len(places[0]) + len(places[1]), "image", "domain model") as bar,
        network.backend.fixed_weights(),
    ):

        def measured(loader: Loader, chosen: Sequence[int], wanted: Collection[int], draws: int, seed: int) -> Measured:
            """`wanted`: which of the chosen images go through the network."""
            statistics, changed, features, waiting = [], [], [], []
            for number, batch in enumerate(_batches(enumerate(loader.pixels(chosen)), batch_size)):
                images = [image for _, image in batch]
                statistics += [image_statistics(image) for image in images]
                changed.append(as_other_cameras(images, seed + number, draws))
                waiting += [image for place, image in batch if place in wanted]
                while len(waiting) >= batch_size:  # whole batches: another size is another plan of the network
                    features.append(network.features(np.stack(waiting[:batch_size])))
                    del waiting[:batch_size]
                bar.update(len(batch))
                check()
            if waiting:
                features.append(network.features(np.stack(waiting)))
            return Measured(
                np.concatenate([*features, np.empty((0, network.width))]), np.array(statistics), np.concatenate(changed)
            )

        fitted = measured(training, places[0], reference, DRAWS, 0)
        unseen = measured(validation, places[1], () if known else range(len(places[1])), 1, 1 << 20)
    if known:
        unseen = unseen._replace(features=np.array([known[validation.samples[place]] for place in places[1]]))
    model = DomainModel.fit(fitted, unseen, max(FEWEST, FEATURE_BYTES // network.width))
    path = save_domain(checkpoint, model)
    console.notice(
        f"domain model: fitted on {len(fitted.statistics)} training and {len(unseen.statistics)} validation images in"
        f" {time.perf_counter() - started:.1f} s: {path}, {path.stat().st_size / 1024:.0f} KiB"
    )
    return True


def _batches(images: Iterable[Value], size: int) -> Iterator[list[Value]]:
    rest = iter(images)
    while batch := list(islice(rest, size)):
        yield batch
