"""ResNet-50/101/152 (He et al. 2016) for one logit, with the stride on the 3x3 convolution.

Module names are those of the notes' script, so that state dicts travel both ways:
`conv`, `bb_<stage>_<block>.conv0|conv1|conv2|short`, `out`.
"""

from __future__ import annotations

import math
from typing import Any

from pmtrain.models import DEPTHS
from pmtrain.system.errors import PmtrainError
from pmtrain.system.framework import paddle

nn: Any = paddle.nn

STAGE_WIDTHS = (64, 128, 256, 512)
EXPANSION = 4  # a bottleneck's output channels over its inner width


class ConvBNLayer(nn.Layer):
    """Convolution without bias, batch norm, and a ReLU where `relu` says so."""

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


class BottleneckBlock(nn.Layer):
    """1x1 down, 3x3 (with the stride), 1x1 up, added to the input or to its projection."""

    def __init__(self, in_channels: int, width: int, stride: int, projection: bool) -> None:
        super().__init__()
        out_channels = width * EXPANSION
        self.conv0 = ConvBNLayer(in_channels, width, 1)
        self.conv1 = ConvBNLayer(width, width, 3, stride)
        self.conv2 = ConvBNLayer(width, out_channels, 1, relu=False)
        self.short = ConvBNLayer(in_channels, out_channels, 1, stride, relu=False) if projection else None

    def forward(self, x):  # (N, in, H, W)
        y = self.conv2(self.conv1(self.conv0(x)))  # (N, 4 * width, H / stride, W / stride)
        shortcut = x if self.short is None else self.short(x)
        return nn.functional.relu(paddle.add(shortcut, y))


class ResNet(nn.Layer):
    """The whole network: (N, 3, H, W) float32, H and W from 32 up -> (N, 1) logits.

    Args:
        layers: a row of DEPTHS.
    Raises:
        PmtrainError: any other depth.
    """

    def __init__(self, layers: int = 50) -> None:
        super().__init__()
        if layers not in DEPTHS:
            raise PmtrainError(f"no ResNet of {layers} layers; there are {', '.join(map(str, DEPTHS))}")
        self.layers = layers
        self.conv = ConvBNLayer(3, 64, 7, stride=2)
        self.max_pool = nn.MaxPool2D(kernel_size=3, stride=2, padding=1)
        self.stages: list[list[BottleneckBlock]] = []
        channels = 64
        for stage, (width, depth) in enumerate(zip(STAGE_WIDTHS, DEPTHS[layers], strict=True)):
            blocks = []
            for index in range(depth):
                stride = 2 if index == 0 and stage > 0 else 1
                block = BottleneckBlock(channels, width, stride, projection=index == 0)
                blocks.append(self.add_sublayer(f"bb_{stage}_{index}", block))
                channels = width * EXPANSION
            self.stages.append(blocks)
        self.avg_pool = nn.AdaptiveAvgPool2D(output_size=1)
        bound = 1 / math.sqrt(channels)
        self.out = nn.Linear(
            channels, 1, weight_attr=paddle.ParamAttr(initializer=nn.initializer.Uniform(-bound, bound))
        )

    def forward(self, x):  # (N, 3, H, W)
        x = self.max_pool(self.conv(x))  # (N, 64, H / 4, W / 4)
        for blocks in self.stages:
            for block in blocks:
                x = block(x)  # (N, 256, H/4, W/4), (N, 512, H/8, W/8), (N, 1024, H/16, W/16), (N, 2048, H/32, W/32)
        return self.out(paddle.flatten(self.avg_pool(x), 1))  # (N, 2048) -> (N, 1)
