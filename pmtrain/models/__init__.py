"""The architectures: one row a model, built by name. Paddle is imported when one is built."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, NamedTuple

from pmtrain.system.errors import PmtrainError

if TYPE_CHECKING:
    from pmtrain.models.resnet import ResNet


class Depth(NamedTuple):
    """A row of DEPTHS: residual blocks in each of the four stages, and the kind of block."""

    blocks: tuple[int, int, int, int]
    bottleneck: bool  # 1x1, 3x3, 1x1; else the basic block of two 3x3


# He et al. 2016, table 1.
DEPTHS: dict[int, Depth] = {
    18: Depth((2, 2, 2, 2), bottleneck=False),
    34: Depth((3, 4, 6, 3), bottleneck=False),
    50: Depth((3, 4, 6, 3), bottleneck=True),
    101: Depth((3, 4, 23, 3), bottleneck=True),
    152: Depth((3, 8, 36, 3), bottleneck=True),
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
    inside = {tuple(name.split(".")[:2]) for name in names if name.startswith("bb_")}
    blocks = {tuple(block.split("_")[1:]) for block, *_ in inside}
    counts = tuple(sum(1 for block in blocks if block[0] == str(stage)) for stage in range(4))
    bottleneck = any("conv2" in layer for _, *layer in inside)  # the third layer, which a basic block has not
    for layers, depth in DEPTHS.items():
        if depth == (counts, bottleneck):
            return layers
    raise PmtrainError(
        f"the weights hold {'bottleneck' if bottleneck else 'basic'} blocks {counts} by stage; known are "
        + ", ".join(f"ResNet-{layers} {depth.blocks}" for layers, depth in DEPTHS.items()),
        "give a checkpoint that pmtrain or the notes' script saved",
    )
