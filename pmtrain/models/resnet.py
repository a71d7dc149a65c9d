"""ResNet-18/34/50/101/152 (He et al. 2016) for one logit, with the stride of a bottleneck on its 3x3 convolution.

Module names are those of the notes' script, so that state dicts can be exchanged:
`conv`, `bb_<stage>_<block>.conv0|conv1|conv2|short`, `out`. A basic block has no `conv2`.
"""

from __future__ import annotations

import math
from typing import Any

from pmtrain.models import DEPTHS, STAGE_WIDTHS
from pmtrain.system.errors import PmtrainError
from pmtrain.system.framework import paddle

nn: Any = paddle.nn


class ConvBNLayer(nn.Layer):
    """Convolution without bias, batch norm, and optionally a ReLU."""

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: int, stride: int = 1, relu: bool = True
    ) -> None:
        super().__init__()
        self._conv = nn.Conv2D(
            in_channels, out_channels, kernel_size, stride, padding=(kernel_size - 1) // 2, bias_attr=False
        )
        self._batch_norm = nn.BatchNorm2D(out_channels)
        self.relu = relu

    def forward(self, x):  # (N, in, H, W)
        y = self._batch_norm(self._conv(x))  # (N, out, H / stride, W / stride)
        return nn.functional.relu(y) if self.relu else y


class BasicBlock(nn.Layer):
    """Two 3x3 convolutions (the first with the stride), added to the input, or to its projection if shapes differ."""

    EXPANSION = 1  # ratio of output channels to the inner width

    def __init__(self, in_channels: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv0 = ConvBNLayer(in_channels, width, 3, stride)
        self.conv1 = ConvBNLayer(width, width, 3, relu=False)
        projection = stride > 1 or in_channels != width
        self.short = ConvBNLayer(in_channels, width, 1, stride, relu=False) if projection else None

    @property
    def path(self) -> tuple[ConvBNLayer, ...]:
        """The layers of the residual path, in order."""
        return self.conv0, self.conv1

    def forward(self, x):  # (N, in, H, W)
        y = self.conv1(self.conv0(x))  # (N, width, H / stride, W / stride)
        shortcut = x if self.short is None else self.short(x)
        return nn.functional.relu(paddle.add(shortcut, y))


class BottleneckBlock(nn.Layer):
    """1x1 down, 3x3 (with the stride), 1x1 up, added to the input, or to its projection if shapes differ."""

    EXPANSION = 4

    def __init__(self, in_channels: int, width: int, stride: int) -> None:
        super().__init__()
        out_channels = width * self.EXPANSION
        self.conv0 = ConvBNLayer(in_channels, width, 1)
        self.conv1 = ConvBNLayer(width, width, 3, stride)
        self.conv2 = ConvBNLayer(width, out_channels, 1, relu=False)
        projection = stride > 1 or in_channels != out_channels
        self.short = ConvBNLayer(in_channels, out_channels, 1, stride, relu=False) if projection else None

    @property
    def path(self) -> tuple[ConvBNLayer, ...]:
        """The layers of the residual path, in order."""
        return self.conv0, self.conv1, self.conv2

    def forward(self, x):  # (N, in, H, W)
        y = self.conv2(self.conv1(self.conv0(x)))  # (N, 4 * width, H / stride, W / stride)
        shortcut = x if self.short is None else self.short(x)
        return nn.functional.relu(paddle.add(shortcut, y))


Block = BasicBlock | BottleneckBlock


class ResNet(nn.Layer):
    """The complete network: (N, 3, H, W) float32, H and W at least 32 -> (N, 1) logits.

    Args:
        layers: a row of DEPTHS.
    Raises:
        PmtrainError: the depth isn't supported.
    """

    def __init__(self, layers: int = 50) -> None:
        super().__init__()
        if layers not in DEPTHS:
            raise PmtrainError(f"no ResNet with {layers} layers; supported are {', '.join(map(str, DEPTHS))}")
        self.layers = layers
        self.frozen_stages: int | None = None
        self.conv = ConvBNLayer(3, 64, 7, stride=2)
        self.max_pool = nn.MaxPool2D(kernel_size=3, stride=2, padding=1)
        self.stages: list[list[Block]] = []
        depth = DEPTHS[layers]
        kind = BottleneckBlock if depth.bottleneck else BasicBlock
        channels = 64
        for stage, (width, count) in enumerate(zip(STAGE_WIDTHS, depth.blocks, strict=True)):
            blocks = []
            for index in range(count):
                stride = 2 if index == 0 and stage > 0 else 1
                blocks.append(self.add_sublayer(f"bb_{stage}_{index}", kind(channels, width, stride)))
                channels = width * kind.EXPANSION
            self.stages.append(blocks)
        self.avg_pool = nn.AdaptiveAvgPool2D(output_size=1)
        bound = 1 / math.sqrt(channels)
        self.out = nn.Linear(
            channels, 1, weight_attr=paddle.ParamAttr(initializer=nn.initializer.Uniform(-bound, bound))
        )

    def freeze(self, stages: int | None) -> None:
        """Freeze the stem and the first `stages` stages, and nothing else; None: nothing at all.

        What is frozen gets no gradients, and its batch norms normalize by their running statistics and keep them, in
        training too.
        """
        self.frozen_stages = stages
        frozen = {id(layer) for layer in self.frozen}
        for layer in self.sublayers():
            if isinstance(layer, ConvBNLayer):
                stopped = id(layer) in frozen
                norm = layer._batch_norm
                norm._use_global_stats = True if stopped else None
                for parameter in (layer._conv.weight, norm.weight, norm.bias):
                    parameter.stop_gradient = stopped

    @property
    def frozen(self) -> list[ConvBNLayer]:
        """The layers that `freeze` froze."""
        if self.frozen_stages is None:
            return []
        blocks = [block for stage in self.stages[: self.frozen_stages] for block in stage]
        parts = [part for block in blocks for part in block.sublayers()]
        return [self.conv, *(part for part in parts if isinstance(part, ConvBNLayer))]

    def forward(self, x):  # (N, 3, H, W)
        x = self.max_pool(self.conv(x))  # (N, 64, H / 4, W / 4)
        for blocks in self.stages:
            for block in blocks:
                # Bottlenecks: (N, 256, H/4, W/4), (N, 512, H/8, W/8), (N, 1024, H/16, W/16), (N, 2048, H/32, W/32);
                # basic blocks: a quarter of the channels.
                x = block(x)
        return self.out(paddle.flatten(self.avg_pool(x), 1))  # (N, 512) or (N, 2048) -> (N, 1)
