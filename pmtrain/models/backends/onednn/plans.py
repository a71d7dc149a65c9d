"""The models that the engine has plans for, a row each: all that it needs to know of one."""

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
        parameters: the order of the gradients that `backward` returns: all that lie before the head.
    """

    parameters: list[paddle.Tensor]

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        """(N, C, H, W) f32, contiguous -> (N, F) f32 features, with everything kept that `backward` needs."""

    def backward(self, gradient: paddle.Tensor) -> list[paddle.Tensor]:
        """(N, F) f32, contiguous: the loss by the features -> f32 gradients by the parameters, in fresh tensors."""


class InferencePlan(Protocol):
    """Forward for one shape of images, nothing kept."""

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        """(N, C, H, W) f32, contiguous -> (N, F) f32 features."""


@dataclass(frozen=True)
class Plans:
    """A row of PLANS.

    Args:
        training: makes the plan of a model, a shape, the type of activations, and the arena that plans share.
        inference: makes the plan of a model, a shape, the type, the folded weights and the arena.
        head: the layer that stays Paddle's, from features to logits.
        fits: whether they can serve images of a shape, in training or not.
    """

    training: Callable[[Any, Shape, DataType, Arena], TrainingPlan]
    inference: Callable[[Any, Shape, DataType, FoldedWeights, Arena], InferencePlan]
    head: Callable[[Any], paddle.nn.Layer]
    fits: Callable[[Shape, bool], bool]


def _fits_resnet(shape: Shape, training: bool) -> bool:
    """32 pixels a side are what the network promises.

    One image of no more leaves the last stage a single value a channel. Paddle's batch norms pass it on as it is in
    training, since it has no statistics; oneDNN's would make 0 of it.
    """
    batch, channels, height, width = shape
    one_value = batch == 1 and height <= 32 and width <= 32
    return batch > 0 and channels == 3 and min(height, width) >= 32 and not (training and one_value)


# By the very class: what is derived from one may compute something else.
PLANS: dict[type, Plans] = {
    ResNet: Plans(
        training.ResNetTraining,
        inference.ResNetInference,
        head=lambda model: model.out,
        fits=_fits_resnet,
    ),
}
