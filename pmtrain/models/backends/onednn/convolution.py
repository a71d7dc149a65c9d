"""One convolution of a training program: forward and both gradients, each by the way that its shape makes fast.

The ways are fixed rules by shape, never chosen by a clock: the same shapes give the same results to the bit. What
they gain was measured for every shape of ResNet-50 at batch 10, on an AMD Zen 4 (channels blocked), on an Intel Xeon
with AMX (bf16, channels last), and for ResNet-18 as well on an AMD Zen 2 (AVX2).
"""

from __future__ import annotations

from pmtrain.models.backends.onednn import primitives as ops
from pmtrain.models.backends.onednn.memory import (
    Descriptor,
    Dims,
    Layout,
    Place,
    Tensor,
    describe,
    f32,
    layout_like,
    strided,
)
from pmtrain.models.backends.onednn.primitives import After, Arg, Query, Window
from pmtrain.models.backends.onednn.program import Program


class Convolution:
    """A convolution without bias whose weights are somebody else's.

    Args:
        program: the steps are appended to it, those of the forward pass at once.
        x: (N, I, H, W), in `image_layout`, or in `pixel_layout` for the few channels of an image.
        weights: the (O, I, k, k) f32 parameter.
        outputs: O.
        window: its k, stride and padding.

    The gradients' steps are appended when they are asked for: a program's backward pass goes the other way round.
    """

    def __init__(self, program: Program, x: Tensor, weights: Place, outputs: int, window: Window) -> None:
        self.program, self.x, self.window = program, x, window
        self.outputs, self.inputs = outputs, x.dims[1]
        self.dtype = x.descriptor.dtype
        self.dims = (outputs, self.inputs, window.kernel, window.kernel)
        self.y = program.tensor(window.output(x.dims, outputs), self.dtype, layout_like(x.descriptor))
        self.pixels = self.y.dims[0] * self.y.dims[2] * self.y.dims[3]
        self._weights = weights.view(describe(self.dims, f32, Layout.plain))
        self._free = describe(self.dims, self.dtype, Layout.any)
        self._primitive = ops.convolution(x.descriptor, self._free, self.y.descriptor, window)
        ordered = self._ordered(self._weights, self._primitive.weights(self._free))
        program.add(self._primitive, {Arg.SRC: x, Arg.WEIGHTS: ordered, Arg.DST: self.y})

    def data_gradient(self, gradient: Tensor, added_to: Tensor | None = None) -> Tensor:
        """From the gradient of `y`, that of `x`: in a new tensor, or added to what `added_to` holds."""
        if self.window == Window(1):
            result = added_to or self.program.buffer(self.x.descriptor)
            # The convolution with the transposed weights, which unlike a data gradient can add to its result.
            dims = (self.inputs, self.outputs, 1, 1)
            free = describe(dims, self.dtype, Layout.any)
            after = After(accumulate=added_to is not None)
            primitive = ops.convolution(self.y.descriptor, free, self.x.descriptor, self.window, after=after)
            transposed = self._weights.seen_as(strided(dims, f32, (1, self.inputs, 1, 1)))
            weights = self._ordered(transposed, primitive.weights(free))
            self.program.add(primitive, {Arg.SRC: gradient, Arg.WEIGHTS: weights, Arg.DST: result})
            return result
        result = self.program.buffer(self.x.descriptor)
        primitive = ops.convolution_data_gradient(
            self.x.descriptor, self._free, self.y.descriptor, self.window, self._primitive
        )
        weights = self._ordered(self._weights, primitive.weights(self._free))
        self.program.add(primitive, {Arg.DIFF_DST: gradient, Arg.WEIGHTS: weights, Arg.DIFF_SRC: result})
        if added_to is None:
            return result
        total = ops.add(added_to.descriptor, result.descriptor, added_to.descriptor)
        self.program.add(total, {Arg.SRC: added_to, Arg.SRC_1: result, Arg.DST: added_to})
        return added_to

    def weight_gradient(self, gradient: Tensor, into: Place) -> None:
        """From the gradient of `y`, write the f32 gradient of the weights, in their own order."""
        if self._is_faster_as_product():
            self._weight_gradient_as_product(gradient, into)
            return
        # Asked for the plain order, oneDNN falls back to its reference code, a thousand times slower.
        free = describe(self.dims, f32, Layout.any)
        primitive = ops.convolution_weight_gradient(
            self.x.descriptor, free, self.y.descriptor, self.window, self._primitive
        )
        if primitive.is_reference and self._views_rows():  # AVX2, of images no more than two pixels high
            self._weight_gradient_as_product(gradient, into)
            return
        result = self.program.buffer(primitive.weights(free, Query.DIFF_WEIGHTS))
        self.program.add(primitive, {Arg.SRC: self.x, Arg.DIFF_DST: gradient, Arg.DIFF_WEIGHTS: result})
        self.program.reorder(result, into.view(self._weights.descriptor))

    def _views_rows(self) -> bool:
        """A view of every other row of an odd number is refused: it seems to reach into the next image."""
        return self.x.dims[2] % self.window.stride == 0

    def _is_faster_as_product(self) -> bool:
        if not self._views_rows():
            return False
        few_pixels = self.pixels <= max(self.outputs, self.inputs)
        if self.x.descriptor == self._last_order(self.x.dims):
            return few_pixels or self.window.kernel == 1
        under_avx2 = self.y.descriptor == describe(self.y.dims, self.dtype, Layout.blocked8)
        return few_pixels and (self.window.kernel == 1 or self.window.stride > 1 or under_avx2)

    def _weight_gradient_as_product(self, gradient: Tensor, into: Place) -> None:
        """(O, pixels) times (pixels, k * k * I): what each pixel of the result was made of is laid out in a row.

        With many channels and few pixels, bringing the direct way's result into the parameter's order costs up to
        half as much as computing it; here a 1x1 convolution's is in that order already. For the last strided 3x3
        convolution the direct way itself takes twice as long, and under AVX2 half as long again for the others. Where
        channels come last, nothing is laid out anew for a 1x1 convolution.
        """
        kernel = self.window.kernel
        rows = self._rows()
        turned_order = strided((self.outputs, self.pixels), self.dtype, (1, self.outputs))
        turned = self._channels_last(gradient).seen_as(turned_order)
        matrix = describe((self.outputs, rows.dims[1]), f32, Layout.matrix)
        product = into.view(matrix) if kernel == 1 else self.program.buffer(matrix)
        primitive = ops.matmul(turned.descriptor, rows.descriptor, product.descriptor)
        self.program.add(primitive, {Arg.SRC: turned, Arg.WEIGHTS: rows, Arg.DST: product})
        if kernel > 1:
            order = describe(self.dims, f32, Layout.channels_last)
            self.program.reorder(product.seen_as(order), into.view(self._weights.descriptor))

    def _rows(self) -> Tensor:
        """(pixels, k * k * I): a pixel of the result in each row, the taps of the kernel one after the other."""
        kernel, length = self.window.kernel, self.window.kernel**2 * self.inputs
        batch, _, out_height, out_width = self.y.dims
        x = self._padded()
        matrix = describe((self.pixels, length), self.dtype, Layout.matrix)
        if self.window == Window(1):
            return x.seen_as(matrix)
        rows = self.program.buffer(matrix)
        image, row = out_height * out_width * length, out_width * length
        column = strided((batch, self.inputs, out_height, out_width), self.dtype, (image, 1, row, length))
        for tap in range(kernel * kernel):
            target = rows.seen_as(column, tap * self.inputs * self.dtype.bytes)
            self.program.reorder(self._tap(x, *divmod(tap, kernel)), target)
        return rows

    def _padded(self) -> Tensor:
        """`x`, channels last, with a border of zeros where the convolution pads."""
        padding = self.window.padding
        if not padding:
            return self._channels_last(self.x)
        batch, channels, height, width = self.x.dims
        dims = (batch, channels, height + 2 * padding, width + 2 * padding)
        padded = self.program.zeros(self._last_order(dims))
        inner = strided(self.x.dims, self.dtype, _strides(dims))
        self.program.reorder(self.x, padded.seen_as(inner, padding * (dims[3] + 1) * channels * self.dtype.bytes))
        return padded

    def _tap(self, padded: Tensor, row: int, column: int) -> Tensor:
        """What one tap of the kernel is multiplied with: a strided view of the padded input."""
        image, channel, line, pixel = _strides(padded.dims)
        stride = self.window.stride
        dims = (padded.dims[0], self.inputs, *self.y.dims[2:])
        view = strided(dims, self.dtype, (image, channel, stride * line, stride * pixel))
        return padded.seen_as(view, (row * line + column * pixel) * self.dtype.bytes)

    def _channels_last(self, tensor: Tensor) -> Tensor:
        """The tensor itself where its channels come last, else a copy."""
        order = self._last_order(tensor.dims)
        return tensor if tensor.descriptor == order else self._ordered(tensor, order)

    def _last_order(self, dims: Dims) -> Descriptor:
        return describe(dims, self.dtype, Layout.channels_last)

    def _ordered(self, tensor: Tensor, order: Descriptor) -> Tensor:
        target = self.program.buffer(order)
        self.program.reorder(tensor, target)
        return target


def _strides(dims: tuple[int, ...]) -> tuple[int, ...]:
    """Those of (N, C, H, W), channels last, in elements."""
    _, channels, height, width = dims
    return (height * width * channels, 1, width * channels, channels)
