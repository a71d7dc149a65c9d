"""A trained classifier: loading and prediction, used by `predict`, `explain` and the Python interface."""

from __future__ import annotations

import contextlib
import os
from collections import deque
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from itertools import zip_longest
from pathlib import Path

import numpy as np

from pmtrain.config import ComputeOptions, PredictConfig, load_config
from pmtrain.data.dataset import Sample
from pmtrain.data.images.quality import SMALLEST, Quality, fundus_quality
from pmtrain.data.loading.workers import Decoded, DecodingProcesses, DecodingThread
from pmtrain.data.preprocessing.preprocess import Preprocess
from pmtrain.data.preprocessing.retina.eye import Eye, aligned
from pmtrain.evaluation.calibration.prior import held_prevalence
from pmtrain.evaluation.domain.domain_file import load_domain
from pmtrain.evaluation.domain.domain_model import REFUSED, DomainModel, Familiarity, agreed, judged_by_all
from pmtrain.evaluation.domain.image_statistics import image_statistics
from pmtrain.evaluation.domain.pooled_features import PooledFeatures
from pmtrain.evaluation.scores.ensemble import AnyPath, load_networks
from pmtrain.evaluation.scores.scoring import adapt_to_files, described, refuse_mirror_images
from pmtrain.evaluation.scores.views import PLAIN, View, by_size, views_of
from pmtrain.metrics import shift_prior
from pmtrain.models.backends.device import select_device
from pmtrain.models.backends.onnx_runtime import SPREAD
from pmtrain.runs.checkpoint import Checkpoint, Networks
from pmtrain.runs.network import load_network
from pmtrain.system.errors import PmtrainError
from pmtrain.system.framework import paddle

# A file, and its image, uint8 (S, S, 3), by each preprocessing that a network needs, or why it can't be read.
Read = tuple[Path | None, dict[Preprocess, Decoded]]
UnderWay = tuple[Path | None, dict[Preprocess, Future[Decoded]]]


@dataclass(frozen=True, slots=True)
class Prediction:
    """The prediction for one image; if the image can't be read, only `path` and `error` are set.

    A refused image has no probability and no class, unless they were asked for by `force`.
    """

    path: Path | None  # as given; None for an image given as an array
    probability: float | None = None  # P(positive), in [0, 1]; calibrated where the checkpoint has a calibration
    label: int | None = None  # 1 (positive) if the probability is at least the threshold, else 0
    class_name: str | None = None  # the name of the label's class
    error: str | None = None
    familiarity: float | None = None  # share of the validation images that are as strange or stranger, in [0, 1]
    verdict: str | None = None  # in domain, unusual or refused; None where the checkpoint has no domain model
    reason: str | None = None  # why it is unusual or refused
    eye: str | None = None  # left, right or unknown, where the network sees all eyes as left ones
    eye_from: str | None = None  # column, file name or optic disc: how that is known
    posterior: float | None = None  # the probability shifted to another prevalence, where that is asked for
    spread: float | None = None  # standard deviation of the logits, where several networks answer
    quality: str | None = None  # good or poor; None where the network's images aren't fundus photographs, or too small
    quality_reason: str | None = None  # why it is poor


def load_classifier(
    path: AnyPath | Sequence[AnyPath],
    device: str = "auto",
    backend: str = "auto",
    precision: str = "fp32",
    prevalence: float | None = None,
    tta_views: str | None = None,
) -> Classifier:
    """Load the classifier of a checkpoint: a `.pdparams` or `.safetensors` file, or a run folder.

    Several checkpoints, or the folder of a cross-validation or of `train --seeds`, answer by the mean of their logits.

    Args:
        path: one or a sequence of them.
        device: auto, cpu, gpu or gpu:N.
        backend: auto, onednn or paddle.
        precision: fp32, bf16 or fp16, if the device supports it; auto: bf16 if supported, else fp32.
        prevalence: share of positives among the patients, in (0, 1): predictions then have a `posterior` for it.
        tta_views: test-time augmentation: a row of VIEWS, such as mirror or scales.
    Raises:
        PmtrainError: the checkpoint can't be read, or the machine or the checkpoint doesn't support an option.
    """
    asked = {"device": device, "backend": backend, "precision": precision, "prevalence": prevalence}
    options = load_config(PredictConfig, asked | {"tta_views": tta_views})
    return Classifier(load_networks(path), options, options.prevalence, views_of(options))


class Network:
    """One network that is ready to run, with its preprocessing.

    Attributes:
        ways: its preprocessing at the size of each view, with the changes of the views at that size; the training size
            comes first.
        domains: its domain model, of an export of several networks one for each; empty where it has none, and
            `no_domain` says why.
    """

    def __init__(self, checkpoint: Checkpoint, device: str, options: ComputeOptions, views: Sequence[View]) -> None:
        refuse_mirror_images(checkpoint, views)
        self.preprocess = Preprocess.of(checkpoint.info)
        self.ways = by_size(views, self.preprocess)
        self.model, self.backend = load_network(checkpoint, device, options.backend, options.precision)
        self.domains, self.no_domain = load_domain(checkpoint)
        self.pooled = PooledFeatures(self.model) if self.domains else None
        self.features = np.empty((0, 0), np.float32)  # of the images just scored, as they are: (N, F)
        self.exported = checkpoint.exported

    def logits(self, images: np.ndarray) -> np.ndarray:
        """float32 (N, 3, S, S), normalised -> (N,) float64."""
        with paddle.no_grad(), self.backend.autocast():
            output = self.model(paddle.to_tensor(images))  # (N, 1)
        return output.astype("float32").numpy().reshape(-1).astype(np.float64)

    def mean_logits(self, pixels: Mapping[Preprocess, Sequence[np.ndarray]]) -> np.ndarray:
        """The mean over the views: uint8 (S, S, 3) images by each of `ways` -> (N,) float64."""
        logits: list[np.ndarray] = []
        for way, changes in self.ways.items():
            images = way.normalise(np.stack(pixels[way]))
            for change in changes:
                logits.append(self.logits(change(images)))
                if self.pooled and len(logits) == 1:
                    self.features = self.pooled.take()
        return np.mean(logits, axis=0)

    def familiarity(self, pixels: Sequence[np.ndarray]) -> list[Familiarity] | None:
        """What its domain model says of images just given to `mean_logits`; None where it has none."""
        if self.pooled is None:
            return None
        statistics = np.array([image_statistics(image) for image in pixels])
        return judged_by_all(self.domains, self.features, statistics)


class Classifier:
    """One network or several with their weights and preprocessing, and a threshold.

    Attributes:
        networks: those that answer, by the mean of their logits. `preprocess`, `model`, `backend`, `logits` and
            `network_logits` are the first one's, which is the only one for most commands.
        classes: the names of the negative and the positive class.
        threshold: images with P(positive) of at least this are called positive; the checkpoint's, as its calibration
            maps it.
        info: the metadata of the checkpoint.
        domain: tells whether an image is of the kind that the network was trained on; None where the checkpoint has no
            domain model, and `no_domain` says why. Of several networks all have one, or none is used.
        judges_quality: whether its images are fundus photographs, large enough to judge their quality.
        described: path and SHA-256 of each network.
        prevalence: the one that posteriors are shifted to; None: there are none.
        held_prevalence: the one that probabilities hold for; None if unknown.
    """

    def __init__(
        self,
        checkpoint: Networks,
        options: ComputeOptions,
        prevalence: float | None = None,
        views: Sequence[View] = PLAIN,
    ) -> None:
        device = select_device(options.device)
        self.path = checkpoint.path
        self.described = described(checkpoint)
        self.info = checkpoint.info
        self.classes = checkpoint.info.class_names
        self.threshold = checkpoint.info.decision_threshold
        self.prevalence = prevalence
        self.held_prevalence = held_prevalence(checkpoint)
        if prevalence is not None and self.held_prevalence is None:
            raise PmtrainError(
                f"{checkpoint.path}: it isn't known which prevalence its probabilities hold for, so they can't be"
                f" shifted to {prevalence:g}",
                "pmtrain calibrate makes them hold for the images that it is fitted on",
            )
        self.networks = [Network(member, device, options, views) for member in checkpoint.members]
        first = self.networks[0]
        self.preprocess, self.model, self.backend = first.preprocess, first.model, first.backend
        lacking = next((network for network in self.networks if not network.domains), None)
        self.domain: DomainModel | None = first.domains[0] if lacking is None else None
        self.no_domain = lacking.no_domain if lacking else ""
        known = self.info.preprocessing.startswith("fundus")
        of_fundus = first.domains[0].of_fundus if first.domains else known
        self.judges_quality = of_fundus and self.info.image_size >= SMALLEST

    def adapt_bn(self, paths: Sequence[Path], batch_size: int = 10, workers: int = 0) -> int:
        """Estimate each network's batch norm statistics on these images (--adapt-bn); return how many could be read.

        Raises:
            UsageError: there are too few, or the model is an exported one.
        """
        samples = [Sample(path, 0) for path in paths]
        return min(
            adapt_to_files(each.model, each.backend, samples, each.preprocess, batch_size, workers)
            for each in self.networks
        )

    def predict(
        self,
        images: AnyPath | np.ndarray | Sequence[AnyPath | np.ndarray],
        batch_size: int = 10,
        workers: int = 0,
        force: bool = False,
    ) -> list[Prediction]:
        """Return one prediction per image, in the order given; an image that can't be read has its `error` set.

        Args:
            images: one image or several: file paths, or uint8 (H, W, 3) arrays in BGR order, as read by OpenCV.
            workers: processes that decode files; 0: a thread. A script that uses processes needs the usual
                `if __name__ == "__main__":` guard.
            force: give refused images their probability and class, too.
        Raises:
            PmtrainError: an array has a wrong shape or type.
        """
        one = isinstance(images, (str, os.PathLike)) or (isinstance(images, np.ndarray) and images.ndim == 3)
        return list(self.stream([images] if one else images, batch_size, workers, force))  # type: ignore[list-item, arg-type]

    def stream(
        self, images: Iterable[AnyPath | np.ndarray], batch_size: int = 10, workers: int = 0, force: bool = False
    ) -> Generator[Prediction, None, None]:
        """Like `predict`, but yield predictions batch by batch; only a few batches are in memory at a time.

        The network's weights must not change before the last prediction.
        """
        ways = self.ways
        # Enough images in flight to keep the workers and the network busy.
        most = batch_size + max(2 * batch_size, 4 * workers)
        under_way: deque[UnderWay] = deque()
        with contextlib.ExitStack() as stack:
            pools = {
                way: stack.enter_context(
                    contextlib.closing(DecodingProcesses(workers, way) if workers else DecodingThread(way))
                )
                for way in ways
            }
            stack.enter_context(self.fixed_weights())
            for image in images:
                if isinstance(image, np.ndarray):
                    under_way.append((None, {way: resized(image, way) for way in ways}))
                else:
                    path = Path(image)
                    under_way.append((path, {way: pool.submit(path) for way, pool in pools.items()}))
                if len(under_way) == most:
                    yield from self._predict_batch([under_way.popleft() for _ in range(batch_size)], force)
            while under_way:
                last = min(batch_size, len(under_way))
                yield from self._predict_batch([under_way.popleft() for _ in range(last)], force)

    @property
    def ways(self) -> list[Preprocess]:
        """The networks' preprocessing for each of their views, each once."""
        return list(dict.fromkeys(way for network in self.networks for way in network.ways))

    @contextlib.contextmanager
    def fixed_weights(self) -> Iterator[None]:
        """Promise that no network's weights change inside the block, as `Engine.fixed_weights`."""
        with contextlib.ExitStack() as stack:
            for network in self.networks:
                stack.enter_context(network.backend.fixed_weights())
            yield

    def _predict_batch(self, batch: list[UnderWay], force: bool) -> list[Prediction]:
        read = [(path, {way: future.result() for way, future in futures.items()}) for path, futures in batch]
        return self.predict_read(read, force)

    def predict_read(self, read: Sequence[Read], force: bool = False) -> list[Prediction]:
        """One prediction per image, computed in one batch.

        Args:
            read: the images by each of `ways`.
            force: as of `predict`.
        """
        errors = [next((x for x in images.values() if isinstance(x, str)), None) for _, images in read]
        decoded = [images for (_, images), error in zip(read, errors, strict=True) if error is None]
        paths = [path for (path, _), error in zip(read, errors, strict=True) if error is None]
        logits, judged = [], []
        eyes: list[Eye | None] = [None] * len(decoded)
        for network in self.networks if decoded else ():
            pixels: dict[Preprocess, list[np.ndarray]] = {
                way: [images[way] for images in decoded]  # type: ignore[misc]
                for way in network.ways
            }
            if network.preprocess.align_eyes:
                plain = pixels[network.preprocess]
                eyes = [network.preprocess.eye(image, path) for image, path in zip(plain, paths, strict=True)]
                for way, images in pixels.items():
                    pixels[way] = [
                        aligned(image, eye) if eye else image for image, eye in zip(images, eyes, strict=True)
                    ]
            logits.append(network.mean_logits(pixels))
            if self.domain:
                judged.append(network.familiarity(pixels[network.preprocess]) or [])
        found = iter(self._answers(np.array(logits), agreed(judged)) if decoded else ())
        qualities = iter(self.quality([images[self.preprocess] for images in decoded]))  # type: ignore[misc]
        known = iter(eyes)
        predictions = []
        for (path, _), error in zip(read, errors, strict=True):
            if error is not None:
                predictions.append(Prediction(path, error=error))
            else:
                probability, spread, familiar = next(found)
                judged_one = with_verdict(self.classify(path, probability, spread), familiar, force)
                if eye := next(known):
                    judged_one = replace(judged_one, eye=eye.side, eye_from=eye.source)
                predictions.append(with_quality(judged_one, next(qualities)))
        return predictions

    def _answers(
        self, logits: np.ndarray, familiar: list[Familiarity]
    ) -> Iterator[tuple[float, float | None, Familiarity | None]]:
        """(M, N) logits of M networks -> each image's probability, the logits' standard deviation, its verdict."""
        spreads = logits.std(axis=0, ddof=1) if len(logits) > 1 else self._exported_spread()
        yield from zip_longest(self.info.probabilities(logits.mean(axis=0)), spreads, familiar)

    @property
    def several(self) -> bool:
        """Whether predictions have a `spread`: several networks answer, or an exported model of several."""
        exported = self.networks[0].exported
        return len(self.networks) > 1 or bool(exported and exported.has(SPREAD))

    def _exported_spread(self) -> Iterable[float]:
        exported = self.networks[0].exported
        return () if exported is None or exported.spread is None else exported.spread

    def quality(self, pixels: Sequence[np.ndarray]) -> Sequence[Quality | None]:
        """Whether uint8 (S, S, 3) images are good enough; None each where the network's aren't fundus photographs."""
        return [fundus_quality(image) if self.judges_quality else None for image in pixels]

    def logits(self, pixels: np.ndarray) -> np.ndarray:
        """uint8 (N, S, S, 3), resized by `preprocess` -> the first network's logits, (N,) float64."""
        return self.network_logits(self.preprocess.normalise(pixels))

    def network_logits(self, images: np.ndarray) -> np.ndarray:
        """float32 (N, 3, S, S), normalised -> the first network's logits, (N,) float64."""
        return self.networks[0].logits(images)

    def classify(self, path: Path | None, probability: float, spread: float | None = None) -> Prediction:
        """The prediction for P(positive), by the threshold; `spread`: of the networks' logits."""
        label = int(probability >= self.threshold)
        posterior = None
        if self.prevalence is not None and self.held_prevalence is not None:
            posterior = float(shift_prior(probability, self.held_prevalence, self.prevalence))
        apart = None if spread is None else float(spread)
        return Prediction(path, float(probability), label, self.classes[label], posterior=posterior, spread=apart)


def resized(image: np.ndarray, preprocess: Preprocess) -> Future[Decoded]:
    """An image that was given as an array, in the place of a file that is being decoded.

    Raises:
        PmtrainError: it has a wrong shape or type.
    """
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or not image.size:
        raise PmtrainError(
            f"an array of type {image.dtype} and shape {image.shape} is not an image",
            "give uint8 arrays (height, width, 3) in BGR order, as cv2.imread returns them",
        )
    done: Future[Decoded] = Future()
    done.set_result(preprocess.resize(image))
    return done


def with_verdict(prediction: Prediction, familiarity: Familiarity | None, force: bool = False) -> Prediction:
    """The prediction with what the domain model says of the image; a refused one loses its class unless `force`."""
    if familiarity is None:
        return prediction
    if familiarity.verdict == REFUSED and not force:
        prediction = Prediction(prediction.path)
    return replace(
        prediction,
        familiarity=familiarity.share,
        verdict=familiarity.verdict,
        reason=familiarity.reason or None,
    )


def with_quality(prediction: Prediction, quality: Quality | None) -> Prediction:
    """The prediction with the image's quality, which changes nothing else."""
    if quality is None:
        return prediction
    return replace(prediction, quality=quality.word, quality_reason=quality.reason or None)
