"""The names that libraries give to the layers of one and the same ResNet: one row of LIBRARIES a library.

All of them compute what pmtrain.models.resnet does: a 7x7 stem of stride 2, a 3x3 max pooling of stride 2 padded by 1,
the stride of a bottleneck on its 3x3 convolution (v1.5), a projection where shapes differ, batch norms with an epsilon
of 1e-5, and the mean over height and width. Their input is RGB; the network itself doesn't depend on that.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from pmtrain.models import DEPTHS, STAGE_WIDTHS


class Names(NamedTuple):
    """A row of LIBRARIES: how a library names the parts of a ResNet.

    Args:
        stem: the first convolution and its batch norm.
        block: a residual block; `{s}` counts stages and `{b}` the stage's blocks from 0, `{n}` all blocks from 0;
            `{s1}` counts stages from 1, `{s4}` from 4.
        layer: the convolutions inside a block and their batch norms; `{i}` counts from 0, `{i1}` from 1.
        short: the projection's convolution and its batch norm.
        head: the classifier.
        statistics: a batch norm's running mean and variance.
        head_by_output: the classifier's weight has the shape (outputs, inputs), not (inputs, outputs).
        preprocessing: what the published weights were trained with, a row of PREPROCESSING.
    """

    stem: tuple[str, str]
    block: str
    layer: tuple[str, str]
    short: tuple[str, str]
    head: str
    statistics: tuple[str, str]
    head_by_output: bool
    preprocessing: str


_PYTORCH = ("running_mean", "running_var")
_PADDLE = ("_mean", "_variance")

LIBRARIES: dict[str, Names] = {
    "pmtrain": Names(
        ("conv._conv", "conv._batch_norm"),
        "bb_{s}_{b}",
        ("conv{i}._conv", "conv{i}._batch_norm"),
        ("short._conv", "short._batch_norm"),
        "out",
        _PADDLE,
        head_by_output=False,
        preprocessing="notes",
    ),
    # timm's ResNets of the same form have the same names.
    "torchvision": Names(
        ("conv1", "bn1"),
        "layer{s1}.{b}",
        ("conv{i1}", "bn{i1}"),
        ("downsample.0", "downsample.1"),
        "fc",
        _PYTORCH,
        head_by_output=True,
        preprocessing="imagenet",
    ),
    "paddle.vision": Names(
        ("conv1", "bn1"),
        "layer{s1}.{b}",
        ("conv{i1}", "bn{i1}"),
        ("downsample.0", "downsample.1"),
        "fc",
        _PADDLE,
        head_by_output=False,
        preprocessing="imagenet",
    ),
    "PaddleClas": Names(
        ("stem.0.conv", "stem.0.bn"),
        "blocks.{n}",
        ("conv{i}.conv", "conv{i}.bn"),
        ("short.conv", "short.bn"),
        "fc",
        _PADDLE,
        head_by_output=False,
        preprocessing="imagenet",
    ),
    # nn.Sequential(*list(torchvision.models.resnet50().children())[:-1])
    "torchvision, layers numbered": Names(
        ("0", "1"),
        "{s4}.{b}",
        ("conv{i1}", "bn{i1}"),
        ("downsample.0", "downsample.1"),
        "9",
        _PYTORCH,
        head_by_output=True,
        preprocessing="imagenet",
    ),
}


LINEAR_WEIGHT, LINEAR_BIAS = "out.weight", "out.bias"


def layer_names(library: str, layers: int) -> Iterator[tuple[str, str, tuple[int, int, int, int]]]:
    """The convolutions and batch norms of a ResNet: convolution, its batch norm, the convolution's shape (O, I, k, k).

    In the order of the network, a block's projection last; the same for every library.

    Args:
        library: a row of LIBRARIES.
        layers: a row of DEPTHS.
    """
    names, depth = LIBRARIES[library], DEPTHS[layers]
    yield (*names.stem, (64, 3, 7, 7))
    kernels = (1, 3, 1) if depth.bottleneck else (3, 3)
    inputs, count = 64, 0
    for stage, width in enumerate(STAGE_WIDTHS):
        outputs = width * depth.expansion
        for block in range(depth.blocks[stage]):
            place = names.block.format(s=stage, s1=stage + 1, s4=stage + 4, b=block, n=count)
            before = inputs
            for index, kernel in enumerate(kernels):
                after = outputs if index == len(kernels) - 1 else width
                convolution, norm = (f"{place}.{name.format(i=index, i1=index + 1)}" for name in names.layer)
                yield convolution, norm, (after, before, kernel, kernel)
                before = after
            if block == 0 and (stage > 0 or inputs != outputs):
                convolution, norm = (f"{place}.{name}" for name in names.short)
                yield convolution, norm, (outputs, inputs, 1, 1)
            inputs, count = outputs, count + 1


def array_shapes(library: str, layers: int) -> dict[str, tuple[int, ...]]:
    """Name -> shape of all arrays of a ResNet but its classifier's, in the same order for every library."""
    shapes: dict[str, tuple[int, ...]] = {}
    for convolution, norm, shape in layer_names(library, layers):
        shapes[f"{convolution}.weight"] = shape
        for part in ("weight", "bias", *LIBRARIES[library].statistics):
            shapes[f"{norm}.{part}"] = shape[:1]
    return shapes


def foreign_names(layers: int, library: str = "torchvision") -> dict[str, str]:
    """This project's name of every array of a ResNet, its classifier's too -> a library's."""
    ours, theirs = array_shapes("pmtrain", layers), array_shapes(library, layers)
    head = LIBRARIES[library].head
    classifier = {LINEAR_WEIGHT: f"{head}.weight", LINEAR_BIAS: f"{head}.bias"}
    return dict(zip(ours, theirs, strict=True)) | classifier
