"""The training step, and nothing else."""

from __future__ import annotations

import math

import numpy as np

from pmtrain.models.backends.choose import Backend
from pmtrain.system.errors import PmtrainError
from pmtrain.system.framework import paddle
from pmtrain.system.parallel import ALONE, Processes


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
        parts: in how many parts a batch is computed, one after the other, which takes less memory.
        processes: those that compute a batch together, each its share of the images.

    The weighted losses of a batch are summed and divided by the number of its images, as PyTorch's `pos_weight` does
    it, and not by the sum of their weights: so an image counts the same whatever images its batch has besides, and a
    batch of one class keeps that class's weight.

    Parts and processes give the gradients of the whole batch, except that a batch norm in training mode normalises each
    part by itself; its running statistics become the processes' mean.
    """

    def __init__(
        self,
        model,
        optimizer,
        backend: Backend,
        class_weights: tuple[float, float] | None = None,
        label_smoothing: float = 0.0,
        parts: int = 1,
        processes: Processes = ALONE,
    ) -> None:
        self.model = model
        self.optimizer = optimizer
        self.backend = backend
        self.class_weights = class_weights
        self.label_smoothing = label_smoothing
        self.parts = parts
        self.processes = processes
        self.images = 0  # of the last batch, over all processes
        self.scaler = paddle.amp.GradScaler(enable=backend.scales_loss)

    def __call__(self, images: np.ndarray, labels: np.ndarray) -> float:
        """Learn from one batch, images (N, 3, S, S) and labels (N, 1) in [0, 1]; return its loss before the step.

        With several processes, N is this one's share, which may be 0, and the loss is the whole batch's; it is 0 if no
        process has an image.

        Raises:
            NonFiniteLoss: nothing was learned from this batch.
            PmtrainError: another process has ended.
        """
        self.model.train()
        whole = self.parts == 1 and self.processes.size == 1
        value = 0.0
        for x, y in zip(np.array_split(images, self.parts), np.array_split(labels, self.parts), strict=True):
            if len(x):
                loss = self._loss(x, y)
                share = loss if whole else loss * len(x)  # a sum over images, until all parts are together
                self.scaler.scale(share).backward()
                value += share.item()  # waits for a GPU, which meanwhile has the backward pass to do
        self.images = len(images)
        if not whole:
            with paddle.no_grad():
                value = self._joined(value)
        if math.isfinite(value) and self.images:
            self.scaler.step(self.optimizer)
            self.scaler.update()
        self.optimizer.clear_grad(set_to_zero=False)  # dropped: filling 100 MB with zeros takes a CPU 3 to 11 ms
        if not math.isfinite(value):
            raise NonFiniteLoss(f"the loss is {value}", "lower --lr")
        return value

    def _loss(self, images: np.ndarray, labels: np.ndarray):
        """The mean loss of some images."""
        with self.backend.autocast():
            logits = self.model(paddle.to_tensor(images))  # (N, 1)
            # In float32 whatever the precision: a mean of half-precision logs is too coarse to print.
            return paddle.nn.functional.binary_cross_entropy_with_logits(
                logits.astype("float32"), paddle.to_tensor(self._targets(labels)), weight=self._weights(labels)
            )

    def _joined(self, loss: float) -> float:
        """Make the gradients those of the mean over the whole batch; return the mean of its losses, given their sum."""
        parameters = [each for each in self.model.parameters() if not each.stop_gradient]
        norms = [each for each in self.model.sublayers() if isinstance(each, paddle.nn.BatchNorm2D)]
        statistics = [each for norm in norms for each in (norm._mean, norm._variance)]
        gradients = [paddle.zeros(each.shape) if each.grad is None else each.grad for each in parameters]
        # In one vector, because a collective of many small tensors takes longer.
        pieces = [*gradients, *(each * self.images for each in statistics), paddle.to_tensor([loss, self.images])]
        vector = paddle.concat([piece.astype("float32").reshape([-1]) for piece in pieces])
        self.processes.sum(vector)
        self.images = int(vector[-1])
        if not self.images:
            return 0.0
        vector = vector / self.images
        parts = paddle.split(vector, [math.prod(piece.shape) for piece in pieces])
        for parameter, part in zip(parameters, parts, strict=False):
            parameter.grad = part.reshape(parameter.shape)
        for buffer, part in zip(statistics, parts[len(parameters) :], strict=False):
            paddle.assign(part.reshape(buffer.shape), buffer)
        return float(vector[-2])

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
