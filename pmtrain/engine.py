"""The training step and the scoring pass, and nothing else."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import expit

from pmtrain import metrics
from pmtrain.backend import Backend
from pmtrain.data.loader import Batch
from pmtrain.data.samples import Sample
from pmtrain.errors import PmtrainError
from pmtrain.framework import paddle


class NonFiniteLoss(PmtrainError):
    """A batch's loss is NaN or infinite; the weights are those from before it, the batch norms' statistics are not."""


class TrainingStep:
    """Forward, BCE-with-logits on one logit, backward, one step of Momentum.

    Args:
        model: (N, 3, S, S) float32 -> (N, 1) logits.
        optimizer: holds the model's parameters.
        backend: what does the arithmetic.
        class_weights: what the loss of a negative and of a positive image is multiplied by; None: by nothing.

    The weighted losses of a batch are summed and divided by the number of its images, as PyTorch's `pos_weight` does
    it, and not by the sum of their weights: so an image counts the same whatever images its batch has besides, and a
    batch of one class keeps that class's weight.
    """

    def __init__(self, model, optimizer, backend: Backend, class_weights: tuple[float, float] | None = None) -> None:
        self.model = model
        self.optimizer = optimizer
        self.backend = backend
        self.class_weights = class_weights
        self.scaler = paddle.amp.GradScaler(enable=backend.scales_loss)

    def __call__(self, images: np.ndarray, labels: np.ndarray) -> float:
        """Learn from one batch, images (N, 3, S, S) and labels (N, 1); return its loss before the step.

        Raises:
            NonFiniteLoss: nothing was learned from this batch.
        """
        self.model.train()
        with self.backend.autocast():
            logits = self.model(paddle.to_tensor(images))  # (N, 1)
            # In float32 whatever the precision: a mean of half-precision logs is too coarse to print.
            loss = paddle.nn.functional.binary_cross_entropy_with_logits(
                logits.astype("float32"), paddle.to_tensor(labels), weight=self._weights(labels)
            )
        self.scaler.scale(loss).backward()
        value = loss.item()  # waits for a GPU, which meanwhile has the backward pass to do
        if math.isfinite(value):
            self.scaler.step(self.optimizer)
            self.scaler.update()
        self.optimizer.clear_grad(set_to_zero=False)  # dropped: filling 100 MB with zeros takes a CPU 3 to 11 ms
        if not math.isfinite(value):
            raise NonFiniteLoss(f"the loss is {value}", "lower --lr")
        return value

    def _weights(self, labels: np.ndarray):
        """(N, 1) float32, the weight of each image; None where none are weighted."""
        if self.class_weights is None:
            return None
        negative, positive = self.class_weights
        return paddle.to_tensor(np.where(labels == 1, positive, negative).astype(np.float32))


@dataclass(frozen=True)
class Scores:
    """One row an image, in the order of the data: everything measured of a model is measured on these."""

    samples: list[Sample]
    labels: np.ndarray  # (N,) int, 1 is the positive class
    logits: np.ndarray  # (N,) float64

    @property
    def probabilities(self) -> np.ndarray:
        """(N,) float64, P(positive)."""
        return expit(self.logits)

    @property
    def loss(self) -> float:
        """The notes' validation loss: BCE, every image weighing the same."""
        return metrics.bce(self.labels, self.logits)

    @property
    def accuracy(self) -> float:
        """The notes' accuracy: an image is called positive where its logit is not negative."""
        return float(np.mean((self.logits >= 0) == (self.labels == 1)))


def as_it_is(images: np.ndarray) -> np.ndarray:
    """(N, 3, S, S), unchanged."""
    return images


def mirrored(images: np.ndarray) -> np.ndarray:
    """(N, 3, S, S), left and right exchanged: a right eye for a left one."""
    return np.ascontiguousarray(images[..., ::-1])


Views = Sequence[Callable[[np.ndarray], np.ndarray]]
FLIPS: Views = (as_it_is, mirrored)  # of --tta


def score(
    model,
    batches: Iterable[Batch],
    backend: Backend,
    on_batch: Callable[[Batch], None] = lambda batch: None,
    views: Views = (as_it_is,),
) -> Scores:
    """The model's logit for every image, the mean over its views.

    `on_batch` is called after each batch and may raise to stop.
    """
    model.eval()
    samples: list[Sample] = []
    logits: list[np.ndarray] = []
    with paddle.no_grad(), backend.fixed_weights():
        for batch in batches:
            total = np.zeros(len(batch.samples))
            for view in views:
                with backend.autocast():
                    output = model(paddle.to_tensor(view(batch.images)))  # (N, 1)
                total += output.astype("float32").numpy().reshape(-1)
            logits.append(total / len(views))
            samples += batch.samples
            on_batch(batch)
    labels = np.array([sample.label for sample in samples], dtype=np.int64)
    return Scores(samples, labels, np.concatenate([*logits, np.empty(0)]))
