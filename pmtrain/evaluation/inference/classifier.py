"""A trained classifier: loading and prediction, used by `predict`, `explain` and the Python interface."""

from __future__ import annotations

import contextlib
import os
from collections import deque
from collections.abc import Generator, Iterable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from pmtrain.config import ComputeOptions, PredictConfig, load_config
from pmtrain.data.loading.workers import Decoded, DecodingProcesses, DecodingThread
from pmtrain.data.preprocessing.preprocess import Preprocess
from pmtrain.evaluation.calibration.prior import held_prevalence
from pmtrain.evaluation.domain.domain_file import load_domain
from pmtrain.evaluation.domain.domain_model import REFUSED, Familiarity
from pmtrain.evaluation.domain.image_statistics import image_statistics
from pmtrain.evaluation.domain.pooled_features import PooledFeatures
from pmtrain.metrics import shift_prior
from pmtrain.models.backends.device import select_device
from pmtrain.runs.checkpoint import Checkpoint, load_checkpoint
from pmtrain.runs.network import load_network
from pmtrain.system.errors import PmtrainError
from pmtrain.system.framework import paddle

AnyPath = str | os.PathLike[str]


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
    posterior: float | None = None  # the probability shifted to another prevalence, where that is asked for


def load_classifier(
    path: AnyPath,
    device: str = "auto",
    backend: str = "auto",
    precision: str = "fp32",
    prevalence: float | None = None,
) -> Classifier:
    """Load the classifier of a checkpoint: a `.pdparams` or `.safetensors` file, or a run folder.

    Args:
        device: auto, cpu, gpu or gpu:N.
        backend: auto, onednn or paddle.
        precision: fp32, bf16 or fp16, if the device supports it; auto: bf16 if supported, else fp32.
        prevalence: share of positives among the patients, in (0, 1): predictions then have a `posterior` for it.
    Raises:
        PmtrainError: the checkpoint can't be read, or the machine or the checkpoint doesn't support an option.
    """
    asked = {"device": device, "backend": backend, "precision": precision, "prevalence": prevalence}
    options = load_config(PredictConfig, asked)
    return Classifier(load_checkpoint(Path(path)), options, options.prevalence)


class Classifier:
    """A network with its weights, its preprocessing and its threshold.

    Attributes:
        classes: the names of the negative and the positive class.
        threshold: images with P(positive) of at least this are called positive; the checkpoint's, as its calibration
            maps it.
        info: the metadata of the checkpoint.
        domain: tells whether an image is of the kind that the network was trained on; None where the checkpoint has no
            domain model, and `no_domain` says why.
        prevalence: the one that posteriors are shifted to; None: there are none.
        held_prevalence: the one that probabilities hold for; None if unknown.
    """

    def __init__(self, checkpoint: Checkpoint, options: ComputeOptions, prevalence: float | None = None) -> None:
        device = select_device(options.device)
        self.path = checkpoint.path
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
        self.preprocess = Preprocess.of(checkpoint.info)
        self.model, self.backend = load_network(checkpoint, device, options.backend, options.precision)
        self.domain, self.no_domain = load_domain(checkpoint)
        self.pooled = PooledFeatures(self.model) if self.domain else None

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
        pool = DecodingProcesses(workers, self.preprocess) if workers else DecodingThread(self.preprocess)
        # Enough images in flight to keep the workers and the network busy.
        most = batch_size + max(2 * batch_size, 4 * workers)
        under_way: deque[tuple[Path | None, Future[Decoded]]] = deque()
        with contextlib.closing(pool), self.backend.fixed_weights():
            for image in images:
                if isinstance(image, np.ndarray):
                    under_way.append((None, self._resized(image)))
                else:
                    path = Path(image)
                    under_way.append((path, pool.submit(path)))
                if len(under_way) == most:
                    yield from self._predict_batch([under_way.popleft() for _ in range(batch_size)], force)
            while under_way:
                last = min(batch_size, len(under_way))
                yield from self._predict_batch([under_way.popleft() for _ in range(last)], force)

    def _resized(self, image: np.ndarray) -> Future[Decoded]:
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or not image.size:
            raise PmtrainError(
                f"an array of type {image.dtype} and shape {image.shape} is not an image",
                "give uint8 arrays (height, width, 3) in BGR order, as cv2.imread returns them",
            )
        done: Future[Decoded] = Future()
        done.set_result(self.preprocess.resize(image))
        return done

    def _predict_batch(self, batch: list[tuple[Path | None, Future[Decoded]]], force: bool) -> list[Prediction]:
        read = [(path, future.result()) for path, future in batch]
        pixels = [decoded for _, decoded in read if not isinstance(decoded, str)]
        probabilities = iter(self.info.probabilities(self.logits(np.stack(pixels))) if pixels else ())
        familiar = iter(self.familiarity(pixels))
        found = []
        for path, decoded in read:
            if isinstance(decoded, str):
                found.append(Prediction(path, error=decoded))
            else:
                found.append(with_verdict(self.classify(path, next(probabilities)), next(familiar), force))
        return found

    def familiarity(self, pixels: Sequence[np.ndarray]) -> Sequence[Familiarity | None]:
        """What the domain model says of images just given to `logits`; None each where there is no domain model."""
        if self.domain is None or self.pooled is None or not pixels:
            return [None] * len(pixels)
        return self.domain.judge(self.pooled.take(), np.array([image_statistics(image) for image in pixels]))

    def logits(self, pixels: np.ndarray) -> np.ndarray:
        """uint8 (N, S, S, 3), resized by `preprocess` -> the network's logits, (N,) float64."""
        return self.network_logits(self.preprocess.normalise(pixels))

    def network_logits(self, images: np.ndarray) -> np.ndarray:
        """float32 (N, 3, S, S), normalised -> the network's logits, (N,) float64."""
        with paddle.no_grad(), self.backend.autocast():
            output = self.model(paddle.to_tensor(images))  # (N, 1)
        return output.astype("float32").numpy().reshape(-1).astype(np.float64)

    def classify(self, path: Path | None, probability: float) -> Prediction:
        """The prediction for P(positive), by the threshold."""
        label = int(probability >= self.threshold)
        posterior = None
        if self.prevalence is not None and self.held_prevalence is not None:
            posterior = float(shift_prior(probability, self.held_prevalence, self.prevalence))
        return Prediction(path, float(probability), label, self.classes[label], posterior=posterior)


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
