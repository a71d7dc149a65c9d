"""The training plan of the ResNets: forward, keeping what the backward pass needs, and backward.

Activations are f32 or bf16, in `image_layout`; weights, batch-norm statistics and all gradients of parameters
are f32, in Paddle's own tensors, whose addresses are read at every step.
"""

from __future__ import annotations

from pmtrain.models.backends.onednn import primitives as ops
from pmtrain.models.backends.onednn.convolution import Convolution
from pmtrain.models.backends.onednn.folding import FoldedWeights
from pmtrain.models.backends.onednn.memory import (
    Arena,
    DataType,
    Layout,
    Place,
    Tensor,
    array_at,
    describe,
    f32,
    layout_like,
    lines_of,
    pixel_layout,
)
from pmtrain.models.backends.onednn.primitives import Arg
from pmtrain.models.backends.onednn.program import Program
from pmtrain.models.backends.onednn.resnet.inference import STEM_POOL, FoldedLayers, in_stage_layout, window_of
from pmtrain.models.resnet import Block, ConvBNLayer, ResNet
from pmtrain.system.framework import paddle


class ResNetTraining:
    """Forward and backward for one input shape.

    Args:
        model: the network; its parameters are read and its running statistics updated in place.
        shape: (N, 3, H, W).
        dtype: of activations and of their gradients.
        weights: folded, of the layers that are frozen: those have no gradients.
        arena: shared with the other plans of the engine; a forward pass of any of them overwrites it.
    Attributes:
        parameters: in the order of the gradients that `backward` returns: all that aren't frozen, except the last
            layer's.
    """

    def __init__(
        self,
        model: ResNet,
        shape: tuple[int, int, int, int],
        dtype: DataType,
        weights: FoldedWeights,
        arena: Arena,
    ) -> None:
        self.program, self.dtype, self.arena = Program(), dtype, arena
        self.parameters: list[paddle.Tensor] = []
        self._values: list[Place] = []
        self._gradients: list[Place] = []
        self.norms: list[_ConvBatchNorm] = []
        self._input, self._features, self._features_gradient = Place(), Place(), Place()

        pixels = self._input.view(describe(shape, f32, Layout.plain))
        x = self.program.tensor(shape, dtype, pixel_layout(dtype))
        self.program.reorder(pixels, x)
        self._weights, self._frozen = weights, model.frozen
        frozen = model.frozen_stages
        if frozen is None:
            stem = _ConvBatchNorm(self, model.conv, x)
            pool = _StemPool(self, stem.z)
            x = pool.y
        else:
            x = FoldedLayers(self.program, dtype, weights).stages(model, frozen, x)
        blocks: list[_Block] = []
        for stage in model.stages[frozen or 0 :]:
            for block in stage:
                taken = in_stage_layout(self.program, stage, x) if block is stage[0] else x
                blocks.append(_Block(self, block, x, taken))
                x = blocks[-1].out
        mean = _GlobalMean(self, x, self._features, self._features_gradient)
        self._forward_steps = len(self.program.steps)

        gradient = mean.backward()
        for planned in reversed(blocks[1:]):
            gradient = planned.backward(gradient)
        if frozen is None:
            stem.parameter_gradients(pool.backward(blocks[0].backward(gradient)), overwrite=True)
        else:
            blocks[0].parameter_gradients(gradient)
        self.program.plan()
        self.feature_dims = x.dims[:2]

    def bind(self, parameter: paddle.Tensor) -> tuple[Place, Place]:
        """Places for a parameter's value and gradient, whose addresses are set at every step."""
        value, gradient = Place(), Place()
        self.parameters.append(parameter)
        self._values.append(value)
        self._gradients.append(gradient)
        return value, gradient

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        """(N, 3, H, W) f32, contiguous -> (N, C) f32 features; updates the running statistics by one batch."""
        features = paddle.empty(self.feature_dims, "float32")
        self._weights.refresh(of=self._frozen)
        self.program.place(self.arena)
        self._bind_parameters()
        self._input.move(x.data_ptr())
        self._features.move(features.data_ptr())
        self.program.run(0, self._forward_steps)
        for norm in self.norms:
            norm.update_running_statistics()
        return features

    def backward(self, gradient: paddle.Tensor) -> list[paddle.Tensor]:
        """(N, C) f32, contiguous: gradient of the features -> the gradients of all `parameters`, in new
        tensors, because Paddle uses them as `.grad` without a copy.
        """
        gradients = [paddle.empty(parameter.shape, "float32") for parameter in self.parameters]
        self._bind_parameters()
        for place, tensor in zip(self._gradients, gradients, strict=True):
            place.move(tensor.data_ptr())
        self._features_gradient.move(gradient.data_ptr())
        self.program.run(self._forward_steps)
        return gradients

    def _bind_parameters(self) -> None:
        for place, parameter in zip(self._values, self.parameters, strict=True):
            place.move(parameter.data_ptr())


class _ConvBatchNorm:
    """Convolution, batch norm and, if the layer has one, ReLU."""

    def __init__(self, plan: ResNetTraining, layer: ConvBNLayer, x: Tensor) -> None:
        convolution, self.norm = layer._conv, layer._batch_norm
        self.program, self.relu = plan.program, layer.relu
        channels = self.norm.weight.shape[0]
        weights, self._weights_gradient = plan.bind(convolution.weight)
        scale, self._scale_gradient = plan.bind(self.norm.weight)
        shift, self._shift_gradient = plan.bind(self.norm.bias)

        self.convolution = Convolution(plan.program, x, weights, channels, window_of(layer))
        y = self.y = self.convolution.y
        self.z = plan.program.buffer(y.descriptor)
        self.per_channel = describe((channels,), f32, Layout.vector)
        self.scale = scale.view(self.per_channel)
        self.mean = plan.program.buffer(self.per_channel)
        self.variance = plan.program.buffer(self.per_channel)
        lines = self.lines = lines_of(y.descriptor)
        self.primitive = ops.batch_norm(lines, lines, self.norm._epsilon, self.relu)
        arguments = {
            Arg.SRC: y.seen_as(lines),
            Arg.SCALE: self.scale,
            Arg.SHIFT: shift.view(self.per_channel),
            Arg.DST: self.z.seen_as(lines),
            Arg.MEAN: self.mean,
            Arg.VARIANCE: self.variance,
        }
        self.signs: dict[Arg, Tensor] = {}  # where the ReLU passed values
        if self.primitive.workspace is not None:
            self.signs[Arg.WORKSPACE] = plan.program.buffer(self.primitive.workspace)
        plan.program.add(self.primitive, arguments | self.signs)
        plan.norms.append(self)

    def backward(self, gradient: Tensor, overwrite: bool, added_to: Tensor | None = None) -> Tensor:
        """From the gradient of `z`, compute that of the layer's input, in a new tensor or added to `added_to`."""
        return self.convolution.data_gradient(self.parameter_gradients(gradient, overwrite), added_to)

    def parameter_gradients(self, gradient: Tensor, overwrite: bool) -> Tensor:
        """From the gradient of `z`, write those of the three parameters and return that of the convolution's output,
        in place of the gradient of `z` if `overwrite`.
        """
        through = gradient if overwrite else self.program.buffer(gradient.descriptor)
        lines = self.lines
        primitive = ops.batch_norm_gradient(lines, lines, lines, self.norm._epsilon, self.relu, self.primitive)
        arguments = {
            Arg.SRC: self.y.seen_as(lines),
            Arg.MEAN: self.mean,
            Arg.VARIANCE: self.variance,
            Arg.SCALE: self.scale,
            Arg.DIFF_DST: gradient.seen_as(lines),
            Arg.DIFF_SRC: through.seen_as(lines),
            Arg.DIFF_SCALE: self._scale_gradient.view(self.per_channel),
            Arg.DIFF_SHIFT: self._shift_gradient.view(self.per_channel),
        }
        self.program.add(primitive, arguments | self.signs)
        self.convolution.weight_gradient(through, self._weights_gradient)
        return through

    def update_running_statistics(self) -> None:
        """running = momentum * running + (1 - momentum) * batch, the variance biased, as Paddle does."""
        momentum = self.norm._momentum
        for running, batch in ((self.norm._mean, self.mean), (self.norm._variance, self.variance)):
            values = array_at(running.data_ptr(), running.shape)
            values *= momentum
            values += (1 - momentum) * array_at(batch.address, batch.dims)


class _Block:
    """A residual block, relu(path(x) + shortcut(x)); `x` is `given`, or a copy of it in another layout."""

    def __init__(self, plan: ResNetTraining, block: Block, given: Tensor, x: Tensor) -> None:
        self.program, self.given = plan.program, given
        self.path: list[_ConvBatchNorm] = []
        inner = x
        for layer in block.path:
            self.path.append(_ConvBatchNorm(plan, layer, inner))
            inner = self.path[-1].z
        self.short = _ConvBatchNorm(plan, block.short, x) if block.short is not None else None
        shortcut = self.short.z if self.short is not None else x
        self.out = inner  # the sum is computed in place
        primitive = ops.add(self.out.descriptor, shortcut.descriptor, self.out.descriptor, relu=True)
        plan.program.add(primitive, {Arg.SRC: self.out, Arg.SRC_1: shortcut, Arg.DST: self.out})

    def backward(self, gradient: Tensor) -> Tensor:
        """From the gradient of `out`, which is overwritten, compute that of the block's input."""
        first, inner = self._before_the_first(gradient)
        shortcut = gradient if self.short is None else self.short.backward(gradient, overwrite=True)
        result = first.backward(inner, overwrite=True, added_to=shortcut)
        if result.descriptor == self.given.descriptor:
            return result
        copy = self.program.buffer(self.given.descriptor)
        self.program.reorder(result, copy)
        return copy

    def parameter_gradients(self, gradient: Tensor) -> None:
        """As `backward`, where nobody needs the gradient of the block's input."""
        first, inner = self._before_the_first(gradient)
        if self.short is not None:
            self.short.parameter_gradients(gradient, overwrite=True)
        first.parameter_gradients(inner, overwrite=True)

    def _before_the_first(self, gradient: Tensor) -> tuple[_ConvBatchNorm, Tensor]:
        """The path's first layer, and the gradient of what it gives."""
        same = gradient.descriptor
        primitive = ops.relu_gradient(same, same, self.out.descriptor)
        self.program.add(primitive, {Arg.DST: self.out, Arg.DIFF_DST: gradient, Arg.DIFF_SRC: gradient})
        first, *middle, last = self.path
        inner = last.backward(gradient, overwrite=False)
        for layer in reversed(middle):
            inner = layer.backward(inner, overwrite=True)
        return first, inner


class _StemPool:
    """The 3x3 max pooling after the stem."""

    def __init__(self, plan: ResNetTraining, x: Tensor) -> None:
        self.program, self.x = plan.program, x
        self.y = plan.program.tensor(STEM_POOL.output(x.dims, x.dims[1]), x.descriptor.dtype)
        self.primitive = ops.max_pool(x.descriptor, self.y.descriptor, STEM_POOL)
        assert self.primitive.workspace is not None
        self.argmax = plan.program.buffer(self.primitive.workspace)
        plan.program.add(self.primitive, {Arg.SRC: x, Arg.DST: self.y, Arg.WORKSPACE: self.argmax})

    def backward(self, gradient: Tensor) -> Tensor:
        result = self.program.buffer(self.x.descriptor)
        primitive = ops.max_pool_gradient(result.descriptor, gradient.descriptor, STEM_POOL, self.primitive)
        arguments = {Arg.DIFF_DST: gradient, Arg.DIFF_SRC: result, Arg.WORKSPACE: self.argmax}
        self.program.add(primitive, arguments)
        return result


class _GlobalMean:
    """The average over height and width, written as f32 where Paddle's last layer reads it."""

    def __init__(self, plan: ResNetTraining, x: Tensor, features: Place, gradient: Place) -> None:
        self.plan, self.x = plan, x
        dims = (*x.dims[:2], 1, 1)
        pooled = plan.program.tensor(dims, plan.dtype, layout_like(x.descriptor))
        self.primitive = ops.global_mean(x.descriptor, pooled.descriptor)
        plan.program.add(self.primitive, {Arg.SRC: x, Arg.DST: pooled})
        plan.program.reorder(pooled, features.view(describe(dims, f32, Layout.plain)))
        self.gradient = gradient.view(describe(dims, f32, Layout.plain))

    def backward(self) -> Tensor:
        program = self.plan.program
        pooled = program.tensor(self.gradient.dims, self.plan.dtype, layout_like(self.x.descriptor))
        self.plan.program.reorder(self.gradient, pooled)
        result = program.buffer(self.x.descriptor)
        primitive = ops.global_mean_gradient(result.descriptor, pooled.descriptor, self.primitive)
        program.add(primitive, {Arg.DIFF_DST: pooled, Arg.DIFF_SRC: result})
        return result
