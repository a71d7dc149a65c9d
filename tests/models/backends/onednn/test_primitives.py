"""Single operations over many shapes, against Paddle's own kernels in float64 or NumPy."""

from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pmtrain.models.backends.onednn import primitives as ops
from pmtrain.models.backends.onednn.convolution import Convolution
from pmtrain.models.backends.onednn.library import OneDnnError, ReferenceCode
from pmtrain.models.backends.onednn.memory import (
    DataType,
    Layout,
    bf16,
    describe,
    f32,
    image_layout,
    lines_of,
    pixel_layout,
)
from pmtrain.models.backends.onednn.primitives import Arg, Window
from pmtrain.system.framework import paddle

F = paddle.nn.functional
# A sum of products in f32 is off by some 1e-7 of its terms' size; a result rounded to bf16 keeps 8 bits.
TOLERANCE = {f32: 3e-6, bf16: 1e-2}
examples = settings(
    max_examples=25, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
sizes = st.integers(1, 12)
WINDOWS = [Window(1), Window(1, stride=2), Window(3, padding=1), Window(3, stride=2, padding=1)]


def rounded(array: np.ndarray, dtype: DataType) -> np.ndarray:
    """The values that `dtype` holds, so that an operation is judged by what it was given."""
    if dtype == f32:
        return array
    bits = array.view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) & 0xFFFF0000).astype(np.uint32).view(np.float32)


def normal(seed: int, *shape: int, dtype: DataType = f32) -> np.ndarray:
    return rounded(np.random.default_rng(seed).standard_normal(shape).astype(np.float32), dtype)


def double(array: np.ndarray) -> paddle.Tensor:
    return paddle.to_tensor(array.astype(np.float64), stop_gradient=False)


def assert_close(actual: np.ndarray, expected, dtype: DataType, factor: float = 1.0) -> None:
    expected = expected.numpy() if isinstance(expected, paddle.Tensor) else expected
    scale = max(np.abs(expected).max(), 1e-3)
    assert np.abs(actual - expected).max() <= factor * TOLERANCE[dtype] * scale


@examples
@given(
    window=st.sampled_from(WINDOWS),
    batch=st.integers(1, 5),
    channels=st.tuples(st.sampled_from([16, 33, 64]), st.sampled_from([16, 24, 64])),  # whole blocks, and not
    height=sizes,
    width=sizes,
    accumulate=st.booleans(),
)
def test_convolution_and_both_gradients(arrays, dtype, window, batch, channels, height, width, accumulate):
    # A convolution with stride 2 sees two pixels or more in a network whose input has 32. With one, oneDNN's bf16
    # weight gradient multiplies memory that nobody wrote by zero, which is NaN where that memory held one.
    height, width = max(height, window.stride), max(width, window.stride)
    inputs, outputs = channels
    x = normal(0, batch, inputs, height, width, dtype=dtype)
    weights = normal(1, outputs, inputs, window.kernel, window.kernel, dtype=dtype) / 4
    out = window.output(x.shape, outputs)
    gradient, before = normal(2, *out, dtype=dtype), normal(3, *x.shape, dtype=dtype)

    x64, weights64 = double(x), double(weights)
    y64 = F.conv2d(x64, weights64, stride=window.stride, padding=window.padding)
    y64.backward(double(gradient))

    run = arrays()
    convolution = Convolution(run.program, run.tensor(x, dtype), run.place(weights), outputs, window)
    y = run.result(convolution.y)
    dy = run.tensor(gradient, dtype)
    weight_gradient = np.full(weights.shape, np.nan, np.float32)
    convolution.weight_gradient(dy, run.place(weight_gradient))
    accumulate = accumulate and window == Window(1)  # the only one whose gradient is added to another
    dx = run.result(convolution.data_gradient(dy, run.tensor(before, dtype) if accumulate else None))
    run.run()

    assert_close(y, y64, dtype)
    assert_close(weight_gradient, weights64.grad, f32, factor=10)  # many terms, but never rounded to bf16
    assert_close(dx, x64.grad.numpy() + (before if accumulate else 0), dtype)


@pytest.mark.parametrize("size", [(32, 32), (33, 46), (97, 64)])
def test_the_stems_convolution_and_its_weight_gradient(arrays, dtype, size):
    window, outputs = Window(7, stride=2, padding=3), 64
    x, weights = normal(0, 2, 3, *size, dtype=dtype), normal(1, outputs, 3, 7, 7, dtype=dtype) / 4
    gradient = normal(2, *window.output(x.shape, outputs), dtype=dtype)
    weights64 = double(weights)
    y64 = F.conv2d(double(x), weights64, stride=2, padding=3)
    y64.backward(double(gradient))

    run = arrays()
    pixels = run.tensor(x, dtype, pixel_layout(dtype))
    convolution = Convolution(run.program, pixels, run.place(weights), outputs, window)
    y, dy = run.result(convolution.y), run.tensor(gradient, dtype)
    weight_gradient = np.full(weights.shape, np.nan, np.float32)
    convolution.weight_gradient(dy, run.place(weight_gradient))
    run.run()

    assert_close(y, y64, dtype)
    assert_close(weight_gradient, weights64.grad, f32, factor=10)


@pytest.mark.parametrize("window", WINDOWS, ids=str)
@pytest.mark.parametrize(("batch", "size"), [(10, 14), (3, 28), (5, 7)])
def test_convolution_at_the_networks_own_sizes(arrays, dtype, window, batch, size):
    test_convolution_and_both_gradients.hypothesis.inner_test(
        arrays, dtype, window, batch, (256, 128), size, size, accumulate=True
    )


@examples
@given(batch=st.integers(2, 5), channels=st.sampled_from([1, 8, 16, 20, 64]), height=sizes, width=sizes, relu=...)
def test_batch_norm_and_its_gradients(arrays, dtype, batch: int, channels: int, height: int, width: int, relu: bool):
    x = normal(0, batch, channels, height, width, dtype=dtype)
    scale, shift = normal(1, channels), normal(2, channels)
    # With a mean and a part along x, both of which a batch norm's gradient takes away.
    gradient = rounded(normal(3, *x.shape) + 1 + x, dtype)
    epsilon = 1e-5

    x64, scale64, shift64 = double(x), double(scale), double(shift)
    mean64 = x64.mean([0, 2, 3], keepdim=True)
    variance64 = ((x64 - mean64) ** 2).mean([0, 2, 3], keepdim=True)
    column = (1, channels, 1, 1)
    z64 = (x64 - mean64) / (variance64 + epsilon).sqrt() * scale64.reshape(column) + shift64.reshape(column)
    gates = (z64.numpy() > 0) if relu else np.ones(x.shape)
    (z64 * paddle.to_tensor(gates.astype(np.float64))).backward(double(gradient))

    run = arrays()
    source = run.tensor(x, dtype)
    z = run.program.buffer(source.descriptor)
    mean, variance, dscale, dshift = (run.program.tensor((channels,), f32, Layout.vector) for _ in range(4))
    scale_, shift_ = run.tensor(scale), run.tensor(shift)
    lines = lines_of(source.descriptor)
    seen = source.seen_as(lines)
    forward = ops.batch_norm(lines, lines, epsilon, relu)
    signs = {Arg.WORKSPACE: run.program.buffer(forward.workspace)} if forward.workspace else {}
    statistics = {Arg.MEAN: mean, Arg.VARIANCE: variance}
    affine = {Arg.SCALE: scale_, Arg.SHIFT: shift_}
    run.program.add(forward, {Arg.SRC: seen, Arg.DST: z.seen_as(lines)} | affine | statistics | signs)
    results = [run.result(tensor) for tensor in (z, mean, variance)]
    dz = run.tensor(gradient, dtype)
    backward, dz_lines = ops.batch_norm_gradient(lines, lines, lines, epsilon, relu, forward), dz.seen_as(lines)
    run.program.add(
        backward,
        {Arg.SRC: seen, Arg.SCALE: scale_, Arg.DIFF_DST: dz_lines, Arg.DIFF_SRC: dz_lines}
        | {Arg.DIFF_SCALE: dscale, Arg.DIFF_SHIFT: dshift}
        | statistics
        | signs,
    )
    gradients = [run.result(tensor) for tensor in (dz, dscale, dshift)]
    run.run()

    assert_close(results[0], z64.numpy() * gates, dtype, factor=3)
    np.testing.assert_allclose(results[1], mean64.numpy().ravel(), rtol=1e-5, atol=1e-6)
    assert_close(results[2], variance64.flatten(), f32, factor=3)
    # Terms of this size nearly cancel, the more so the fewer values a channel has.
    spread = np.maximum(1, 1 / np.sqrt(variance64.numpy().ravel() + epsilon))
    terms = np.abs(gradient).max((0, 2, 3)) * np.abs(scale) * spread
    errors = np.abs(gradients[0] - x64.grad.numpy()).max((0, 2, 3))
    assert (errors <= 3 * TOLERANCE[dtype] * np.maximum(terms, 1e-3)).all()
    assert_close(gradients[1], scale64.grad, f32, factor=10 * spread.max())
    assert_close(gradients[2], shift64.grad, f32, factor=10)


@examples
@given(batch=st.integers(1, 4), channels=st.sampled_from([1, 16, 40]), height=st.integers(2, 15), width=sizes)
def test_max_pooling_and_its_gradient(arrays, dtype, batch, channels, height, width):
    window = Window(3, stride=2, padding=1)
    shape = (batch, channels, height, width)
    # No two equal values in a plane, or the choice between them would be free; all are exact in bf16.
    planes = np.tile(np.arange(height * width, dtype=np.float32), (batch * channels, 1))
    x = np.random.default_rng(0).permuted(planes, axis=1).reshape(shape)
    out = window.output(shape, channels)
    gradient = normal(1, *out, dtype=dtype)
    x64 = double(x)
    y64 = F.max_pool2d(x64, 3, 2, 1)

    run = arrays()
    source = run.tensor(x, dtype)
    y = run.program.tensor(out, dtype)
    forward = ops.max_pool(source.descriptor, y.descriptor, window)
    argmax = run.program.buffer(forward.workspace)
    run.program.add(forward, {Arg.SRC: source, Arg.DST: y, Arg.WORKSPACE: argmax})
    dy, dx = run.tensor(gradient, dtype), run.program.buffer(source.descriptor)
    backward = ops.max_pool_gradient(dx.descriptor, dy.descriptor, window, forward)
    run.program.add(backward, {Arg.DIFF_DST: dy, Arg.DIFF_SRC: dx, Arg.WORKSPACE: argmax})
    values, gradients = run.result(y), run.result(dx)
    run.run()

    np.testing.assert_array_equal(values, y64.numpy())
    y64.backward(double(gradient))
    assert_close(gradients, x64.grad, dtype, factor=4)  # up to four windows choose a pixel


@examples
@given(batch=st.integers(1, 4), channels=st.sampled_from([1, 16, 40]), height=sizes, width=sizes)
def test_global_mean_and_its_gradient(arrays, dtype, batch, channels, height, width):
    x, gradient = normal(0, batch, channels, height, width, dtype=dtype), normal(1, batch, channels, 1, 1, dtype=dtype)
    run = arrays()
    source = run.tensor(x, dtype)
    y = run.program.tensor(gradient.shape, dtype)
    forward = ops.global_mean(source.descriptor, y.descriptor)
    run.program.add(forward, {Arg.SRC: source, Arg.DST: y})
    dy, dx = run.tensor(gradient, dtype), run.program.buffer(source.descriptor)
    backward = ops.global_mean_gradient(dx.descriptor, dy.descriptor, forward)
    run.program.add(backward, {Arg.DIFF_DST: dy, Arg.DIFF_SRC: dx})
    values, gradients = run.result(y), run.result(dx)
    run.run()
    assert_close(values, x.astype(np.float64).mean((2, 3), keepdims=True), dtype)
    assert_close(gradients, np.broadcast_to(gradient.astype(np.float64) / (height * width), x.shape), dtype)


@examples
@given(batch=st.integers(1, 4), channels=st.sampled_from([1, 16, 40]), height=sizes, width=sizes)
def test_add_with_relu_and_its_gradient_in_place(arrays, dtype, batch, channels, height, width):
    shape = (batch, channels, height, width)
    first, second, gradient = (normal(seed, *shape, dtype=dtype) for seed in range(3))
    run = arrays()
    a, b = run.tensor(first, dtype), run.tensor(second, dtype)
    run.program.add(
        ops.add(a.descriptor, b.descriptor, a.descriptor, relu=True), {Arg.SRC: a, Arg.SRC_1: b, Arg.DST: a}
    )
    total = run.result(a)
    dy = run.tensor(gradient, dtype)
    backward = ops.relu_gradient(dy.descriptor, dy.descriptor, a.descriptor)
    run.program.add(backward, {Arg.DST: a, Arg.DIFF_DST: dy, Arg.DIFF_SRC: dy})
    through = run.result(dy)
    run.run()
    expected = np.maximum(first.astype(np.float64) + second, 0)
    assert_close(total, expected, dtype)
    np.testing.assert_array_equal(through, gradient * (total > 0))


@examples
@given(rows=sizes, inner=sizes, columns=sizes)
def test_matmul(arrays, dtype, rows, inner, columns):
    left, right = (normal(seed, *shape, dtype=dtype) for seed, shape in enumerate([(rows, inner), (inner, columns)]))
    run = arrays()
    a, b = run.tensor(left, dtype), run.tensor(right, dtype)
    c = run.program.tensor((rows, columns), dtype, Layout.matrix)
    run.program.add(ops.matmul(a.descriptor, b.descriptor, c.descriptor), {Arg.SRC: a, Arg.WEIGHTS: b, Arg.DST: c})
    result = run.result(c)
    run.run()
    assert_close(result, left.astype(np.float64) @ right, dtype)


def test_a_failure_names_the_operation_and_the_shapes():
    x, w = describe((1, 3, 8, 8), f32, image_layout(f32)), describe((4, 5, 3, 3), f32, Layout.any)
    with pytest.raises(OneDnnError) as error:
        ops.convolution(x, w, describe((1, 4, 8, 8), f32, image_layout(f32)), Window(3, padding=1))
    assert re.search(r"convolution of f32 1x3x8x8 blocked\d+ with f32 4x5x3x3.*invalid arguments", str(error.value))


def test_a_failure_while_it_runs_names_the_operation_and_the_shapes(arrays):
    run = arrays()
    x = run.tensor(normal(0, 1, 16, 8, 8))
    run.program.add(ops.global_mean(x.descriptor, describe((1, 16, 1, 1), f32, image_layout(f32))), {Arg.SRC: x})
    with pytest.raises(OneDnnError, match=r"pooling of f32 1x16x8x8 blocked\d+ to f32 1x16x1x1.*invalid arguments"):
        run.run()


def test_reference_code_is_refused_and_named(arrays):
    # A weight gradient in the parameter's own order is what oneDNN has no other code for, on any processor.
    x, window = describe((1, 16, 8, 8), f32, image_layout(f32)), Window(3, padding=1)
    dims = (16, 16, 3, 3)
    forward = ops.convolution(x, describe(dims, f32, Layout.any), x, window)
    primitive = ops.convolution_weight_gradient(x, describe(dims, f32, Layout.plain), x, window, forward)
    program, place = arrays().program, arrays().place
    source, dy = (program.buffer(x) for _ in range(2))
    result = place(np.zeros(dims, np.float32)).view(describe(dims, f32, Layout.plain))
    program.add(primitive, {Arg.SRC: source, Arg.DIFF_DST: dy, Arg.DIFF_WEIGHTS: result})
    with pytest.raises(ReferenceCode, match=r"ref:any.* here for the weight gradient f32 16x16x3x3"):
        program.plan()


def test_a_primitive_is_compiled_once_for_its_shapes():
    x, w = describe((2, 16, 8, 8), f32, image_layout(f32)), describe((16, 16, 3, 3), f32, Layout.any)
    assert ops.convolution(x, w, x, Window(3, padding=1)) is ops.convolution(x, w, x, Window(3, padding=1))
