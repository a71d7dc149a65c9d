"""The training step, and nothing else."""

from __future__ import annotations

import math

import numpy as np

from pmtrain.models.backends.choose import Backend
from pmtrain.system.errors import PmtrainError
from pmtrain.system.framework import paddle


class NonFiniteLoss(PmtrainError):
    """A batch's loss is NaN or infinite; the weights are those from before it, the batch norms' statistics are not."""


class TrainingStep:
    """Forward, BCE-with-logits on one logit, backward, one step of Momentum.

    Args:
        model: (N, 3, S, S) float32 -> (N, 1) logits.
        optimizer: holds the model's parameters.
        backend: what does the arithmetic.
        class_weights: what the loss of a negative and of a positive image is multiplied by; None: by nothing.
        label_smoothing: s in [0, 1): the targets are s / 2 and 1 - s / 2 in place of 0 and 1 (Szegedy et al. 2016).

    The weighted losses of a batch are summed and divided by the number of its images, as PyTorch's `pos_weight` does
    it, and not by the sum of their weights: so an image counts the same whatever images its batch has besides, and a
    batch of one class keeps that class's weight.
    """

    def __init__(
        self,
        model,
        optimizer,
        backend: Backend,
        class_weights: tuple[float, float] | None = None,
        label_smoothing: float = 0.0,
    ) -> None:
        self.model = model
        self.optimizer = optimizer
        self.backend = backend
        self.class_weights = class_weights
        self.label_smoothing = label_smoothing
        self.scaler = paddle.amp.GradScaler(enable=backend.scales_loss)

    def __call__(self, images: np.ndarray, labels: np.ndarray) -> float:
        """Learn from one batch, images (N, 3, S, S) and labels (N, 1) in [0, 1]; return its loss before the step.

        Raises:
            NonFiniteLoss: nothing was learned from this batch.
        """
        self.model.train()
        with self.backend.autocast():
            logits = self.model(paddle.to_tensor(images))  # (N, 1)
            # In float32 whatever the precision: a mean of half-precision logs is too coarse to print.
            loss = paddle.nn.functional.binary_cross_entropy_with_logits(
                logits.astype("float32"), paddle.to_tensor(self._targets(labels)), weight=self._weights(labels)
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

    def _targets(self, labels: np.ndarray) -> np.ndarray:
        """(N, 1) float32, what the network is to say of each image."""
        if not self.label_smoothing:
            return labels
        return (labels * (1 - self.label_smoothing) + self.label_smoothing / 2).astype(np.float32)

    def _weights(self, labels: np.ndarray):
        """(N, 1) float32, the weight of each image, a mixed one's by its shares; None if none are weighted."""
        if self.class_weights is None:
            return None
        negative, positive = self.class_weights
        return paddle.to_tensor((negative * (1 - labels) + positive * labels).astype(np.float32))
