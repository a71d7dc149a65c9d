"""One convolution of a training program: forward and both gradients, each by the way that its shape makes fast.

The ways are fixed rules by shape, never chosen by a clock: the same shapes give the same results to the bit. What
they gain was measured on one core of an AMD Zen 4 for every shape of ResNet-50 at batch 10; those within 2 % of each
other are left to the simplest.
"""

from __future__ import annotations

from functools import cached_property

from pmtrain.onednn import primitives as ops
from pmtrain.onednn.memory import Descriptor, Layout, Place, Tensor, describe, f32, strided
from pmtrain.onednn.primitives import After, Arg, Query, Window
from pmtrain.onednn.program import Program


class Convolution:
    """A convolution without bias whose weights are somebody else's.

    Args:
        program: the steps are appended to it, those of the forward pass at once.
        x: (N, I, H, W), channels last.
        weights: the (O, I, k, k) f32 parameter.
        outputs: O.
    """

    def __init__(self, program: Program, x: Tensor, weights: Place, outputs: int, window: Window) -> None:
        batch, inputs, height, width = x.dims
        self.program, self.x, self.window = program, x, window
        self.outputs, self.inputs = outputs, inputs
        self.dtype = x.descriptor.dtype
        self.dims = (outputs, inputs, window.kernel, window.kernel)
        self.y = program.tensor((batch, outputs, window.output(height), window.output(width)), self.dtype)
        self.pixels = batch * self.y.dims[2] * self.y.dims[3]
        self._parameter = weights.view(describe(self.dims, f32, Layout.oihw))
        self._free = describe(self.dims, self.dtype, Layout.any)
        self._primitive = ops.convolution(x.descriptor, self._free, self.y.descriptor, window)
        self._forward()

    @property
    def _pointwise(self) -> bool:
        """Whether it is a product of matrices, (pixels, I) times (I, O)."""
        return self.window == Window(1)

    @property
    def _few_pixels(self) -> bool:
        """Whether the weights are the larger part of the work's memory: bringing them into another order is dear."""
        return self.pixels <= max(self.outputs, self.inputs)

    @property
    def _many_pixels(self) -> bool:
        return self.pixels > 4 * max(self.outputs, self.inputs)

    def _forward(self) -> None:
        if self._pointwise and self._few_pixels:
            transposed = self._weights.seen_as(strided((self.inputs, self.outputs), self.dtype, (1, self.inputs)))
            self._multiply(self._as_matrix(self.x), transposed, self._as_matrix(self.y))
            return
        weights = self._ordered(self._weights, self._primitive.weights(self._free))
        self.program.add(self._primitive, {Arg.SRC: self.x, Arg.WEIGHTS: weights, Arg.DST: self.y})

    def data_gradient(self, gradient: Tensor, added_to: Tensor | None = None) -> Tensor:
        """From the gradient of `y`, that of `x`: in a new tensor, or added to what `added_to` holds (1x1 alone)."""
        result = added_to or self.program.buffer(self.x.descriptor)
        after = After(accumulate=added_to is not None)
        if self._pointwise and self._few_pixels:
            weights = self._weights.seen_as(describe(self.dims[:2], self.dtype, Layout.matrix))
            self._multiply(self._as_matrix(gradient), weights, self._as_matrix(result), after)
        elif self._pointwise:
            # The convolution with the transposed weights, which unlike a data gradient can add to its result.
            dims = (self.inputs, self.outputs, 1, 1)
            free = describe(dims, self.dtype, Layout.any)
            primitive = ops.convolution(self.y.descriptor, free, self.x.descriptor, self.window, after=after)
            transposed = self._weights.seen_as(strided(dims, self._weights.descriptor.dtype, (1, self.inputs, 1, 1)))
            weights = self._ordered(transposed, primitive.weights(free))
            self.program.add(primitive, {Arg.SRC: gradient, Arg.WEIGHTS: weights, Arg.DST: result})
        else:
            assert added_to is None
            primitive = ops.convolution_data_gradient(
                self.x.descriptor, self._free, self.y.descriptor, self.window, self._primitive
            )
            weights = self._ordered(self._weights, primitive.weights(self._free))
            self.program.add(primitive, {Arg.DIFF_DST: gradient, Arg.WEIGHTS: weights, Arg.DIFF_SRC: result})
        return result

    def weight_gradient(self, gradient: Tensor, into: Place) -> None:
        """From the gradient of `y`, write the f32 gradient of the weights, in their own order."""
        stride, height = self.window.stride, self.x.dims[2]
        # A view of every other row of an odd number is refused: it seems to reach into the next image.
        readable = self.window.kernel == 1 and (stride == 1 or height % stride == 0)
        direct = self.dtype == f32 and self._many_pixels and self.outputs <= self.inputs
        if readable and not (stride == 1 and direct):
            self._pointwise_weight_gradient(gradient, into)
        elif self.window == Window(3, stride=2, padding=1) and self._few_pixels and height % stride == 0:
            self._unfolded_weight_gradient(gradient, into)
        else:
            # Asked for the plain order, oneDNN falls back to its reference code, a thousand times slower.
            free = describe(self.dims, f32, Layout.any)
            primitive = ops.convolution_weight_gradient(
                self.x.descriptor, free, self.y.descriptor, self.window, self._primitive
            )
            result = self.program.buffer(primitive.weights(free, Query.DIFF_WEIGHTS))
            self.program.add(primitive, {Arg.SRC: self.x, Arg.DIFF_DST: gradient, Arg.DIFF_WEIGHTS: result})
            self._reorder(result, into.view(self._parameter.descriptor))

    def _pointwise_weight_gradient(self, gradient: Tensor, into: Place) -> None:
        """(O, pixels) times (pixels, I): the pixels that a strided convolution reads are gathered first."""
        x = self.x
        if self.window.stride > 1:
            x = self.program.tensor((x.dims[0], self.inputs, *self.y.dims[2:]), self.dtype)
            self._reorder(self._tap(self.x, 0, 0), x)
        if self.outputs > self.inputs and self._many_pixels:
            # The other way round the product has longer rows, and what is to be turned is small.
            turned = self.program.tensor((self.inputs, self.outputs), f32, Layout.matrix)
            self._multiply(self._as_matrix(x, turned=True), self._as_matrix(gradient), turned)
            view = turned.seen_as(strided((self.outputs, self.inputs), f32, (1, self.outputs)))
            self._reorder(view, into.view(describe(self.dims[:2], f32, Layout.matrix)))
        else:
            result = into.view(describe(self.dims[:2], f32, Layout.matrix))
            self._multiply(self._as_matrix(gradient, turned=True), self._as_matrix(x), result)

    def _unfolded_weight_gradient(self, gradient: Tensor, into: Place) -> None:
        """(O, pixels) times (pixels, k * k * I): what each pixel of the result was made of is laid out in a row.

        For the last strided 3x3 convolution oneDNN's own way takes twice as long.
        """
        batch, _, height, width = self.x.dims
        size, length = self.window.kernel, self.window.kernel**2 * self.inputs
        padded_dims = (batch, self.inputs, height + 2 * self.window.padding, width + 2 * self.window.padding)
        padded = self.program.zeros(describe(padded_dims, self.dtype, Layout.nhwc))
        inner = strided(self.x.dims, self.dtype, _strides(padded_dims))
        start = self.window.padding * (padded_dims[3] + 1) * self.inputs * self.dtype.bytes
        self._reorder(self.x, padded.seen_as(inner, start))
        rows = self.program.tensor((self.pixels, length), self.dtype, Layout.matrix)
        image = self.y.dims[2] * self.y.dims[3] * length
        column = strided(
            (batch, self.inputs, *self.y.dims[2:]), self.dtype, (image, 1, self.y.dims[3] * length, length)
        )
        for row in range(size):
            for tap in range(size):
                target = rows.seen_as(column, (row * size + tap) * self.inputs * self.dtype.bytes)
                self._reorder(self._tap(padded, row, tap), target)
        product = self.program.tensor((self.outputs, length), f32, Layout.matrix)
        self._multiply(self._as_matrix(gradient, turned=True), rows, product)
        self._reorder(product.seen_as(describe(self.dims, f32, Layout.nhwc)), into.view(self._parameter.descriptor))

    @cached_property
    def _weights(self) -> Tensor:
        """The weights in an order that every way here starts from.

        As f32 the parameter itself. As bf16, where more than a plain reorder is done with them, a copy with the
        inputs innermost: making it and reordering that twice takes half the time of reordering the parameter twice.
        """
        if self.dtype == f32 or (self.window.kernel == 1 and not (self._pointwise and self._few_pixels)):
            return self._parameter
        copy = self.program.tensor(self.dims, self.dtype)
        self._reorder(self._parameter, copy)
        return copy

    def _tap(self, source: Tensor, row: int, column: int) -> Tensor:
        """What the convolution multiplies with one tap of its kernel, a strided view of its padded input."""
        strides = _strides(source.dims)
        step = self.window.stride
        view = strided(
            (source.dims[0], self.inputs, *self.y.dims[2:]),
            self.dtype,
            (strides[0], 1, step * strides[2], step * strides[3]),
        )
        return source.seen_as(view, (row * strides[2] + column * strides[3]) * self.dtype.bytes)

    def _as_matrix(self, images: Tensor, turned: bool = False) -> Tensor:
        """(N, C, H, W) as (pixels, C), or as (C, pixels) without moving anything."""
        channels = images.dims[1]
        if turned:
            return images.seen_as(strided((channels, self.pixels), self.dtype, (1, channels)))
        return images.seen_as(describe((self.pixels, channels), self.dtype, Layout.matrix))

    def _multiply(self, left: Tensor, right: Tensor, result: Tensor, after: After = ops.PLAIN) -> None:
        product = ops.matmul(left.descriptor, right.descriptor, result.descriptor, after)
        self.program.add(product, {Arg.SRC: left, Arg.WEIGHTS: right, Arg.DST: result})

    def _ordered(self, weights: Tensor, order: Descriptor) -> Tensor:
        target = self.program.buffer(order)
        self._reorder(weights, target)
        return target

    def _reorder(self, source: Tensor, target: Tensor) -> None:
        self.program.add(ops.reorder(source.descriptor, target.descriptor), {Arg.SRC: source, Arg.DST: target})


def _strides(dims: tuple[int, ...]) -> tuple[int, ...]:
    """Those of (N, C, H, W), channels last, in elements."""
    _, channels, height, width = dims
    return (height * width * channels, 1, width * channels, channels)
