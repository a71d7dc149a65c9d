"""The architectures: one row a model, built by name. Paddle is imported when one is built."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from pmtrain.system.errors import PmtrainError

if TYPE_CHECKING:
    from pmtrain.models.resnet import ResNet

# Bottleneck blocks in each of the four stages (He et al. 2016, table 1).
DEPTHS: dict[int, tuple[int, ...]] = {
    50: (3, 4, 6, 3),
    101: (3, 4, 23, 3),
    152: (3, 8, 36, 3),
}


def build_model(layers: int) -> ResNet:
    """A ResNet of `layers` layers with fresh weights, its layers and parameters numbered from 0.

    Numbering matters: Paddle's optimizer keeps its state under parameter names (`conv2d_0.w_0`), so a resumed
    run must count as the first one did.

    Raises:
        PmtrainError: `layers` is not a row of DEPTHS.
    """
    from pmtrain.models.resnet import ResNet
    from pmtrain.system.framework import paddle

    with paddle.utils.unique_name.guard():
        return ResNet(layers)


def layers_of(names: Iterable[str]) -> int:
    """The depth of the network that a state dict with these parameter names belongs to.

    Raises:
        PmtrainError: the names are no ResNet's of DEPTHS.
    """
    blocks = {tuple(name.split(".")[0].split("_")[1:]) for name in names if name.startswith("bb_")}
    counts = tuple(sum(1 for block in blocks if block[0] == str(stage)) for stage in range(4))
    for layers, depth in DEPTHS.items():
        if depth == counts:
            return layers
    raise PmtrainError(
        f"the weights hold residual blocks {counts} by stage; known are "
        + ", ".join(f"ResNet-{layers} {depth}" for layers, depth in DEPTHS.items()),
        "give a checkpoint that pmtrain or the notes' script saved",
    )
