"""The architectures: one row per depth. Paddle is imported only when a network is built."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, NamedTuple

from pmtrain.system.errors import PmtrainError

if TYPE_CHECKING:
    from pmtrain.models.resnet import ResNet


class Depth(NamedTuple):
    """A row of DEPTHS: the number of residual blocks in each of the four stages, and the kind of block."""

    blocks: tuple[int, int, int, int]
    bottleneck: bool  # 1x1, 3x3, 1x1; else the basic block with two 3x3

    @property
    def expansion(self) -> int:
        """The ratio of a block's output channels to its inner width."""
        return 4 if self.bottleneck else 1


STAGE_WIDTHS = (64, 128, 256, 512)  # inner widths of the blocks

# He et al. 2016, table 1.
DEPTHS: dict[int, Depth] = {
    18: Depth((2, 2, 2, 2), bottleneck=False),
    34: Depth((3, 4, 6, 3), bottleneck=False),
    50: Depth((3, 4, 6, 3), bottleneck=True),
    101: Depth((3, 4, 23, 3), bottleneck=True),
    152: Depth((3, 8, 36, 3), bottleneck=True),
}


def build_model(layers: int) -> ResNet:
    """Build a ResNet of `layers` layers with new weights; layers and parameters are numbered from 0.

    Paddle's optimizer keeps its state by parameter name (`conv2d_0.w_0`), so a resumed run needs the same numbers as
    the first one.

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
        PmtrainError: they don't belong to a ResNet of DEPTHS.
    """
    inside = {tuple(name.split(".")[:2]) for name in names if name.startswith("bb_")}
    blocks = {tuple(block.split("_")[1:]) for block, *_ in inside}
    counts = tuple(sum(1 for block in blocks if block[0] == str(stage)) for stage in range(4))
    bottleneck = any("conv2" in layer for _, *layer in inside)  # the third layer, which a basic block doesn't have
    for layers, depth in DEPTHS.items():
        if depth == (counts, bottleneck):
            return layers
    raise PmtrainError(
        f"the weights have {'bottleneck' if bottleneck else 'basic'} blocks {counts} per stage; supported are "
        + ", ".join(f"ResNet-{layers} {depth.blocks}" for layers, depth in DEPTHS.items()),
        "give a checkpoint saved by pmtrain or the notes' script",
    )
