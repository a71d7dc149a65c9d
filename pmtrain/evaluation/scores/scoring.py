"""A checkpoint's score for every chosen image."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from pmtrain.config import ScoringOptions
from pmtrain.data.dataset import DataSet, Sample
from pmtrain.data.images.shortcut_features import FeatureTable
from pmtrain.data.loading.cache_folder import open_cache
from pmtrain.data.loading.loader import Batch, Loader
from pmtrain.data.preprocessing.preprocess import Preprocess
from pmtrain.evaluation.scores.chosen_images import Images
from pmtrain.evaluation.scores.prior_use import scorers
from pmtrain.evaluation.scores.score import Scores, score
from pmtrain.evaluation.scores.views import PLAIN, View, by_size, mirrored, views_of
from pmtrain.models.adapt_bn import adapt, even_batches
from pmtrain.models.backends.choose import Backend
from pmtrain.runs.checkpoint import Checkpoint, Networks
from pmtrain.runs.network import load_network
from pmtrain.system import console
from pmtrain.system.errors import PmtrainError, UsageError
from pmtrain.system.framework import paddle
from pmtrain.system.parallel import ALONE, Processes
from pmtrain.system.version import __version__


@dataclass(frozen=True)
class Scored:
    """A checkpoint's scores, the images left out with the reason, and what computed them, ready for JSON.

    `features` are the images' shortcut features, where they were computed in the same pass.
    """

    scores: Scores
    left_out: dict[str, str]
    computed: dict[str, Any]
    features: FeatureTable | None = None


@dataclass(frozen=True)
class ScoringPass:
    """A pass over images: which, how, and what else is done in it.

    Args:
        features: compute the shortcut features of the images that are decoded, too.
        watch: given a network, gives what is called after each of its batches of training-size images.
        adapt_bn: estimate the batch norms' statistics on these images first.
        processes: those that share the images, whole batches in turn; each gets all scores.
    """

    images: Images
    options: ScoringOptions
    device: str
    features: bool = False
    watch: Callable[[Any], Callable[[Batch], None]] | None = None
    adapt_bn: bool = False
    processes: Processes = ALONE


def score_networks(networks: Networks, wanted: ScoringPass) -> Scored:
    """As `score_checkpoint`; of several networks the mean logit, of each image by those that weren't trained on it.

    Each network's own preprocessing is applied. `watch` is called with each of them.
    """
    if isinstance(networks, Checkpoint):
        return score_checkpoint(networks, wanted)
    images = wanted.images
    may = scorers(networks, images)
    logits = np.full(may.shape, np.nan)
    place_of = {sample: place for place, sample in enumerate(images.samples)}
    parts = []
    for row, member in enumerate(networks.members):
        own = replace(images, samples=tuple(itertools.compress(images.samples, may[row])))
        if own.samples:
            features = wanted.features and bool(may.all())
            parts.append(score_checkpoint(member, replace(wanted, images=own, features=features)))
            scores = parts[-1].scores
            logits[row, [place_of[sample] for sample in scores.samples]] = scores.logits
    left_out = {name: reason for part in parts for name, reason in part.left_out.items()}
    kept = np.array([images.data.name_of(sample) not in left_out for sample in images.samples])
    samples = list(itertools.compress(images.samples, kept))
    computed = parts[0].computed | {"networks": described(networks)}
    return calibrated(Scored(averaged(samples, logits[:, kept]), left_out, computed, parts[0].features), networks)


def averaged(samples: list[Sample], logits: np.ndarray) -> Scores:
    """Scores of the mean logit.

    Args:
        logits: (M, N) of M networks, NaN where a network doesn't score an image; each image has at least one.
    """
    count = (~np.isnan(logits)).sum(axis=0)
    mean = np.nansum(logits, axis=0) / count
    squares = np.nansum((logits - mean) ** 2, axis=0)
    spread = np.where(count > 1, np.sqrt(squares / np.maximum(count - 1, 1)), np.nan)
    labels = np.array([sample.label for sample in samples], dtype=np.int64)
    return Scores(samples, labels, mean, spread=spread, scored_by=count)


def described(networks: Networks) -> list[dict[str, str]]:
    """The networks for JSON."""
    return [{"path": str(each.path), "weights_sha256": each.info.weights_sha256} for each in networks.members]


def scored_by_lines(scores: Scores, networks: Networks) -> list[str]:
    """The line that says which networks scored the images; none for a single network."""
    if scores.scored_by is None or scores.spread is None:
        return []
    most, fewest, count = int(scores.scored_by.max()), int(scores.scored_by.min()), len(networks.members)
    if fewest == count:
        spread = float(scores.spread.mean())
        return [f"scores: mean logit of {count} networks, whose standard deviation is {spread:.4g} on average"]
    by = "one" if most == 1 else f"{most}" if most == fewest else f"{fewest} to {most}"
    alone = ": these are results of single networks, which the mean of all usually exceeds" if most == 1 else ""
    return [f"scores: out-of-fold, each image by the {by} of {count} networks that had not seen it{alone}"]


def score_checkpoint(checkpoint: Checkpoint, wanted: ScoringPass) -> Scored:
    """The checkpoint's logit for every image that can be decoded.

    Raises:
        UsageError: as `adapt`.
        PmtrainError: an image is bad and the options say `stop`; none is left; the weights don't fit the network.
    """
    options, processes = wanted.options, wanted.processes
    views = views_of(options)
    refuse_mirror_images(checkpoint, views)
    model, backend = load_network(checkpoint, wanted.device, options.backend, options.precision)
    data, samples = wanted.images.data, wanted.images.samples
    preprocess, adapted = Preprocess.of(checkpoint.info), None
    if wanted.adapt_bn:
        cache = open_cache(options.cache_limit)
        adapted = adapt_to_files(model, backend, samples, preprocess, options.batch_size, options.workers, cache=cache)
    sizes = by_size(views, preprocess)
    total = np.zeros(())
    watcher = wanted.watch(model) if wanted.watch else None
    with console.progress(len(samples) * len(sizes), "image", "evaluation") as bar:

        def on_batch(batch: Batch) -> None:
            bar.update(len(batch.samples) * processes.size)
            if watcher and way == preprocess:
                watcher(batch)

        for way, changes in sizes.items():
            asked = wanted.features and way == preprocess
            with Loader(
                samples,
                way,
                options.batch_size,
                workers=options.workers,
                seed=0,
                shuffle=False,
                on_bad_image=options.on_bad_image,
                name_of=data.name_of,
                cache=open_cache(options.cache_limit),
                patient=True,
                features=FeatureTable(sample.path for sample in samples) if asked else None,
                share=(processes.rank, processes.size),
            ) as loader:
                scores = joined(score(model, loader.epoch(0), backend, on_batch, changes), loader, processes)
                loader.require_images()
                total = total + scores.logits * len(changes)
                if way == preprocess:
                    scored = as_scored(scores, loader, data, backend, views)
    scores = replace(scores, logits=total / len(views))
    scored = replace(scored, scores=scores, computed={**scored.computed, "adapted_bn": adapted})
    for name, reason in scored.left_out.items():
        console.warn(f"left out: {name}: {reason}")
    check_finite(scores.logits, checkpoint)
    return calibrated(scored, checkpoint)


def adapt_to_files(
    model: Any,
    backend: Backend,
    samples: Sequence[Sample],
    preprocess: Preprocess,
    batch_size: int,
    workers: int = 0,
    **options: Any,
) -> int:
    """`adapt` to images on disk, in random order; those that can't be read are left out. Returns how many counted.

    Args:
        batch_size: of the forward pass, at least BATCH.
        options: further ones of Loader.
    Raises:
        UsageError: as `adapt`.
    """
    size = even_batches(len(samples), batch_size)
    shuffled = {"seed": 0, "shuffle": True, "on_bad_image": "skip", "patient": True}
    with Loader(samples, preprocess, size, workers=workers, **(options | shuffled)) as loader:
        return adapt(model, backend, (batch.images for batch in loader.epoch(0) if len(batch.images)))


def adaptation_stated(images: int | None) -> list[str]:
    """The line that says what the scores depend on; none where nothing was adapted."""
    if not images:
        return []
    return [
        f"batch norms: statistics of these {images} images (--adapt-bn), so each score depends on the others;"
        " threshold and calibration were chosen without"
    ]


def joined(scores: Scores, loader: Loader, processes: Processes) -> Scores:
    """All processes' scores, in the order of the samples; the loader then has all bad images and features."""
    if processes.size == 1:
        return scores
    own = dict(zip(loader.own_places(), scores.logits.tolist(), strict=True))
    logits: dict[int, float] = {}
    features = loader.features.rows if loader.features else {}
    for part, bad, rows in processes.gathered((own, loader.bad, features)):
        logits |= part
        loader.bad |= bad
        features |= rows
    found = sorted(logits)
    samples = [loader.samples[place] for place in found]
    labels = np.array([sample.label for sample in samples], np.int64)
    return Scores(samples, labels, np.array([logits[place] for place in found], np.float64))


def refuse_mirror_images(checkpoint: Checkpoint, views: Sequence[View]) -> None:
    """
    Raises:
        UsageError: the network was trained on eyes of one side, and the views are mirror images.
    """
    if checkpoint.info.align_eyes and any(view.change is mirrored for view in views):
        raise UsageError(
            f"--tta: {checkpoint.path} was trained with --align-eyes, so it has seen no mirror images",
            "leave it out, or give --tta-views turns or scales",
        )


def check_finite(logits: np.ndarray, checkpoint: Checkpoint) -> None:
    """
    Raises:
        PmtrainError: a score is infinite or no number.
    """
    if not np.isfinite(logits).all():
        raise PmtrainError(
            f"{checkpoint.path}: the network's output isn't finite on"
            f" {int((~np.isfinite(logits)).sum())} of {len(logits)} images",
            "evaluate an earlier checkpoint, or give --precision fp32",
        )


def calibrated(scored: Scored, checkpoint: Networks) -> Scored:
    """The same scores with the checkpoint's calibration."""
    return replace(scored, scores=replace(scored.scores, calibration=checkpoint.info.calibration))


def as_scored(scores: Scores, loader: Loader, data: DataSet, backend: Backend, views: Sequence[View] = PLAIN) -> Scored:
    """The scores of a loader's images, with the images left out and what computed them."""
    left_out = {data.name_of(sample): reason for sample, reason in loader.bad_images}
    computed = {
        "device": backend.device,
        "backend": backend.name,
        "precision": backend.precision,
        "views": [view.name for view in views],
        "adapted_bn": None,  # or how many images the batch norms were adapted to
        "versions": {"pmtrain": __version__, "paddle": paddle.__version__, "numpy": np.__version__},
    }
    return Scored(scores, left_out, computed, loader.features)
