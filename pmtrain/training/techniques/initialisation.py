"""Initialisation of the weights, where it isn't the network's own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from pmtrain.system.framework import paddle


def as_built(model: Any, seed: int) -> None:
    """Leave the weights as the network drew them: those of the notes' script."""


def he(model: Any, seed: int) -> None:
    """Draw each convolution's weights anew from a normal distribution of mean 0 and variance 2 / fan_out.

    fan_out is the number of output channels times the area of the kernel. All else stays: scales of batch norms are 1,
    shifts 0, and the last layer's weights uniform in +-1 / sqrt(fan_in). That is torchvision's ResNet
    (`kaiming_normal_(mode="fan_out")`), but for the last layer's bias, which is 0 here.

    Source: He et al. 2015, equation 14.
    """
    rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(4,)))
    for layer in model.sublayers():
        if isinstance(layer, paddle.nn.Conv2D):
            out, _, height, width = layer.weight.shape
            drawn = rng.standard_normal(layer.weight.shape, np.float32)
            layer.weight.set_value(drawn * np.float32(np.sqrt(2 / (out * height * width))))


# (model, seed): sets the model's weights. NumPy draws them, so that they are the same on every device.
INITIALISATIONS: dict[str, Callable[[Any, int], None]] = {"notes": as_built, "he": he}
