"""The parameters of our ResNets under the names of other libraries: one table, read in both directions."""

from __future__ import annotations

from collections.abc import Mapping

from pmtrain.models import DEPTHS

# The parameters of a batch norm: ours (and paddle.vision's) -> PyTorch's.
PADDLE_NORM = {name: name for name in ("weight", "bias", "_mean", "_variance")}
TORCH_NORM = {"weight": "weight", "bias": "bias", "_mean": "running_mean", "_variance": "running_var"}

# Stored as (in, out) by Paddle, as (out, in) by PyTorch.
LINEAR_WEIGHT = "out.weight"


def foreign_names(layers: int, norm: Mapping[str, str] = TORCH_NORM) -> dict[str, str]:
    """Our name of every parameter of a ResNet -> torchvision's.

    timm has the same names; paddle.vision has them with its own for batch norms. The stride of a bottleneck is on its
    3x3 convolution in all three (in timm's and torchvision's: v1.5), as in ours.

    Args:
        layers: a row of DEPTHS.
        norm: TORCH_NORM or PADDLE_NORM.
    """
    depth = DEPTHS[layers]
    pairs = {"conv": ("conv1", "bn1")}  # our ConvBNLayer -> their convolution and batch norm
    for stage, count in enumerate(depth.blocks):
        for index in range(count):
            ours, theirs = f"bb_{stage}_{index}", f"layer{stage + 1}.{index}"
            for place in range(3 if depth.bottleneck else 2):
                pairs[f"{ours}.conv{place}"] = f"{theirs}.conv{place + 1}", f"{theirs}.bn{place + 1}"
            if index == 0 and (stage > 0 or depth.bottleneck):
                pairs[f"{ours}.short"] = f"{theirs}.downsample.0", f"{theirs}.downsample.1"
    names = {}
    for ours, (convolution, batch_norm) in pairs.items():
        names[f"{ours}._conv.weight"] = f"{convolution}.weight"
        names |= {f"{ours}._batch_norm.{own}": f"{batch_norm}.{other}" for own, other in norm.items()}
    return names | {LINEAR_WEIGHT: "fc.weight", "out.bias": "fc.bias"}
