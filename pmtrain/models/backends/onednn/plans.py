"""The table of models that the engine has plans for, one row per model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from pmtrain.models.backends.onednn.folding import FoldedWeights
from pmtrain.models.backends.onednn.memory import Arena, DataType
from pmtrain.models.backends.onednn.resnet import inference, training
from pmtrain.models.resnet import ResNet
from pmtrain.system.framework import paddle

Shape = tuple[int, int, int, int]  # (N, C, H, W) of the images


class TrainingPlan(Protocol):
    """Forward and backward for one shape of images.

    Attributes:
        parameters: in the order of the gradients that `backward` returns: all before the head that aren't frozen.
    """

    parameters: list[paddle.Tensor]

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        """(N, C, H, W) f32, contiguous -> (N, F) f32 features, keeping what `backward` needs."""

    def backward(self, gradient: paddle.Tensor) -> list[paddle.Tensor]:
        """(N, F) f32, contiguous: gradient of the features -> f32 gradients of the parameters, in new tensors."""


class InferencePlan(Protocol):
    """Forward for one shape of images, without keeping activations."""

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        """(N, C, H, W) f32, contiguous -> (N, F) f32 features."""


@dataclass(frozen=True)
class Plans:
    """A row of PLANS.

    Args:
        training, inference: make the plan of a model, a shape, the type of activations, the folded weights and the
            arena that plans share.
        frozen: the model's layers that have no gradients and whose batch norms keep their statistics in training.
        head: the layer that Paddle computes, from features to logits.
        fits: whether the plans support images of a shape, in training or inference.
    """

    training: Callable[[Any, Shape, DataType, FoldedWeights, Arena], TrainingPlan]
    inference: Callable[[Any, Shape, DataType, FoldedWeights, Arena], InferencePlan]
    frozen: Callable[[Any], list[Any]]
    head: Callable[[Any], paddle.nn.Layer]
    fits: Callable[[Shape, bool], bool]


def _fits_resnet(shape: Shape, training: bool) -> bool:
    """The network supports sides of at least 32 pixels.

    A single image of 32 pixels has one value per channel in the last stage. In training, Paddle's batch norm returns it
    unchanged, because it has no statistics; oneDNN's would return 0.
    """
    batch, channels, height, width = shape
    one_value = batch == 1 and height <= 32 and width <= 32
    return batch > 0 and channels == 3 and min(height, width) >= 32 and not (training and one_value)


# By exact class: a subclass may compute something else.
PLANS: dict[type, Plans] = {
    ResNet: Plans(
        training.ResNetTraining,
        inference.ResNetInference,
        frozen=lambda model: model.frozen,
        head=lambda model: model.out,
        fits=_fits_resnet,
    ),
}
