"""The inference plan of the ResNets: convolutions with folded batch norms, and two poolings."""

from __future__ import annotations

from pmtrain.models.backends.onednn import primitives as ops
from pmtrain.models.backends.onednn.folding import FoldedWeights
from pmtrain.models.backends.onednn.memory import (
    Arena,
    DataType,
    Layout,
    Place,
    Tensor,
    describe,
    f32,
    image_layout,
    layout_like,
    pixel_layout,
)
from pmtrain.models.backends.onednn.primitives import After, Arg, Window
from pmtrain.models.backends.onednn.program import Program
from pmtrain.models.resnet import Block, ConvBNLayer, ResNet
from pmtrain.system.framework import paddle

STEM_POOL = Window(3, stride=2, padding=1)
FEW_PIXELS = 700  # of all images of a batch together, in a stage


def window_of(layer: ConvBNLayer) -> Window:
    """The convolution's kernel, stride and padding."""
    convolution = layer._conv
    return Window(convolution.weight.shape[2], convolution._stride[0], convolution._padding)


def in_stage_layout(program: Program, stage: list[Block], x: Tensor) -> Tensor:
    """The stage's input in the layout that the stage is computed in: `x` itself, or a copy.

    Under AVX2, oneDNN's 3x3 convolutions of many channels and few pixels are faster with channels last, by up to a
    quarter. Those of many pixels and 1x1 ones are slower so, and a layout that changes within a stage costs the gain.
    """
    layout = image_layout(x.descriptor.dtype)
    windows = [window_of(layer) for layer in stage[0].path]
    batch, _, height, width = windows[0].output(x.dims, 1)
    if (
        layout is Layout.blocked8
        and batch * height * width <= FEW_PIXELS
        and all(window.kernel == 3 for window in windows)
    ):
        layout = Layout.channels_last
    order = describe(x.dims, x.descriptor.dtype, layout)
    if order == x.descriptor:
        return x
    copy = program.buffer(order)
    program.reorder(x, copy)
    return copy


class FoldedLayers:
    """Appends layers with folded batch norms to a program, for which no activations are kept.

    Args:
        dtype: of weights and activations.
        weights: refreshed by their owner before the program runs.
    """

    def __init__(self, program: Program, dtype: DataType, weights: FoldedWeights) -> None:
        self.program, self.dtype, self.weights = program, dtype, weights

    def stages(self, model: ResNet, count: int, x: Tensor) -> Tensor:
        """The stem, the pooling and the first `count` stages."""
        x = self.max_pool(self.convolution(model.conv, x))
        for stage in model.stages[:count]:
            x = in_stage_layout(self.program, stage, x)
            for block in stage:
                x = self.block(block, x)
        return x

    def block(self, block: Block, x: Tensor) -> Tensor:
        *layers, last = block.path
        inner = x
        for layer in layers:
            inner = self.convolution(layer, inner)
        shortcut = x if block.short is None else self.convolution(block.short, x)
        return self.convolution(last, inner, added_to=shortcut)

    def convolution(self, layer: ConvBNLayer, x: Tensor, added_to: Tensor | None = None) -> Tensor:
        """Append the folded layer; the sum with `added_to` and the ReLU are computed in place."""
        window = window_of(layer)
        channels, inputs = layer._conv.weight.shape[:2]
        y = added_to or self.program.tensor(window.output(x.dims, channels), self.dtype, layout_like(x.descriptor))
        free = describe((channels, inputs, window.kernel, window.kernel), self.dtype, Layout.any)
        folded = self.weights.of(layer)
        after = After(accumulate=added_to is not None, relu=layer.relu or added_to is not None)
        primitive = ops.convolution(
            x.descriptor, free, y.descriptor, window, folded.bias.descriptor, after, inference=True
        )
        weights = folded.weights(primitive.weights(free))
        self.program.add(primitive, {Arg.SRC: x, Arg.WEIGHTS: weights, Arg.BIAS: folded.bias, Arg.DST: y})
        return y

    def max_pool(self, x: Tensor) -> Tensor:
        y = self.program.tensor(STEM_POOL.output(x.dims, x.dims[1]), self.dtype)
        pool = ops.max_pool(x.descriptor, y.descriptor, STEM_POOL, inference=True)
        self.program.add(pool, {Arg.SRC: x, Arg.DST: y})
        return y


class ResNetInference:
    """Forward for one input shape, without keeping activations.

    Args:
        model: the network; only the shapes of its layers are read, not the weights.
        shape: (N, 3, H, W).
        dtype: of weights and activations.
        weights: shared with the other plans of the engine and refreshed by their owner.
        arena: shared with the other plans of the engine; overwritten by every forward pass.
    """

    def __init__(
        self,
        model: ResNet,
        shape: tuple[int, int, int, int],
        dtype: DataType,
        weights: FoldedWeights,
        arena: Arena,
    ) -> None:
        self.program, self.arena = Program(), arena
        self._input, self._features = Place(), Place()
        x = self.program.tensor(shape, dtype, pixel_layout(dtype))
        self.program.reorder(self._input.view(describe(shape, f32, Layout.plain)), x)
        x = FoldedLayers(self.program, dtype, weights).stages(model, len(model.stages), x)
        pooled = self.program.tensor((*x.dims[:2], 1, 1), dtype, layout_like(x.descriptor))
        mean = ops.global_mean(x.descriptor, pooled.descriptor, inference=True)
        self.program.add(mean, {Arg.SRC: x, Arg.DST: pooled})
        self.program.reorder(pooled, self._features.view(describe(pooled.dims, f32, Layout.plain)))
        self.feature_dims = x.dims[:2]
        self.program.plan()

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        """(N, 3, H, W) f32, contiguous -> (N, C) f32 features."""
        features = paddle.empty(self.feature_dims, "float32")
        self.program.place(self.arena)
        self._input.move(x.data_ptr())
        self._features.move(features.data_ptr())
        self.program.run()
        return features
