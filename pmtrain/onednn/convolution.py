"""One convolution of a training program: forward and both gradients, each by the way that its shape makes fast.

The ways are fixed rules by shape, never chosen by a clock: the same shapes give the same results to the bit.
"""

from __future__ import annotations

from pmtrain.onednn import primitives as ops
from pmtrain.onednn.memory import Descriptor, Dims, Layout, Place, Tensor, describe, f32, strided
from pmtrain.onednn.primitives import After, Arg, Primitive, Query, Window
from pmtrain.onednn.program import Program


class Convolution:
    """A convolution without bias whose weights are somebody else's.

    Args:
        program: the steps are appended to it, those of the forward pass at once.
        x: (N, C, H, W), channels last.
        weights: the (O, C, k, k) f32 parameter.
        channels: O.
    """

    def __init__(self, program: Program, x: Tensor, weights: Place, channels: int, window: Window) -> None:
        batch, inputs, height, width = x.dims
        self.program, self.x, self.window = program, x, window
        self.dtype = x.descriptor.dtype
        self.weights = weights
        self.dims = (channels, inputs, window.kernel, window.kernel)
        self.y = program.tensor((batch, channels, window.output(height), window.output(width)), self.dtype)
        self.forward = ops.convolution(x.descriptor, self._any_weights(), self.y.descriptor, window)
        self._run(self.forward, Arg.SRC, x, describe(self.dims, f32, Layout.oihw), self._any_weights(), Arg.DST, self.y)

    def weight_gradient(self, gradient: Tensor, into: Place) -> None:
        """From the gradient of `y`, write the f32 gradient of the weights, in their own order."""
        plain = describe(self.dims, f32, Layout.oihw)
        if self._is_matmul:
            pixels = gradient.descriptor.bytes // self.dtype.bytes // self.dims[0]
            transposed = gradient.seen_as(strided((self.dims[0], pixels), self.dtype, (1, self.dims[0])))
            x = self.x.seen_as(describe((pixels, self.dims[1]), self.dtype, Layout.matrix))
            result = into.view(describe(self.dims[:2], f32, Layout.matrix))
            product = ops.matmul(transposed.descriptor, x.descriptor, result.descriptor)
            self.program.add(product, {Arg.SRC: transposed, Arg.WEIGHTS: x, Arg.DST: result})
            return
        # Asked for the plain order, oneDNN falls back to its reference code, a thousand times slower.
        free = describe(self.dims, f32, Layout.any)
        primitive = ops.convolution_weight_gradient(
            self.x.descriptor, free, self.y.descriptor, self.window, self.forward
        )
        result = self.program.buffer(primitive.weights(free, Query.DIFF_WEIGHTS))
        self.program.add(primitive, {Arg.SRC: self.x, Arg.DIFF_DST: gradient, Arg.DIFF_WEIGHTS: result})
        self._reorder(result, into.view(plain))

    def data_gradient(self, gradient: Tensor, added_to: Tensor | None = None) -> Tensor:
        """From the gradient of `y`, that of `x`: in a new tensor, or added to what `added_to` holds."""
        result = added_to or self.program.buffer(self.x.descriptor)
        if self._is_matmul:
            # A 1x1 convolution's data gradient is a 1x1 convolution with the transposed weights.
            outputs, inputs = self.dims[:2]
            dims = (inputs, outputs, 1, 1)
            free = describe(dims, self.dtype, Layout.any)
            primitive = ops.convolution(
                self.y.descriptor, free, self.x.descriptor, self.window, after=After(accumulate=added_to is not None)
            )
            transposed = strided(dims, f32, (1, inputs, 1, 1))
            self._run(primitive, Arg.SRC, gradient, transposed, free, Arg.DST, result)
            return result
        assert added_to is None
        free = self._any_weights()
        primitive = ops.convolution_data_gradient(self.x.descriptor, free, self.y.descriptor, self.window, self.forward)
        plain = describe(self.dims, f32, Layout.oihw)
        self._run(primitive, Arg.DIFF_DST, gradient, plain, free, Arg.DIFF_SRC, result)
        return result

    @property
    def _is_matmul(self) -> bool:
        return self.window == Window(1)

    def _any_weights(self, dims: Dims | None = None) -> Descriptor:
        return describe(dims or self.dims, self.dtype, Layout.any)

    def _run(
        self, primitive: Primitive, input_: Arg, x: Tensor, stored: Descriptor, free: Descriptor, output: Arg, y: Tensor
    ) -> None:
        """Bring the weights, which the parameter stores so, into the layout that the primitive chose, and run it."""
        weights = self.program.buffer(primitive.weights(free))
        self._reorder(self.weights.view(stored), weights)
        self.program.add(primitive, {input_: x, Arg.WEIGHTS: weights, output: y})

    def _reorder(self, source: Tensor, target: Tensor) -> None:
        self.program.add(ops.reorder(source.descriptor, target.descriptor), {Arg.SRC: source, Arg.DST: target})
