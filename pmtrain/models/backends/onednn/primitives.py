"""oneDNN's operations as Python functions: descriptors in, a compiled primitive out.

A primitive holds code compiled for its shapes and no data, so it is cached by shape and shared by all layers and
programs. Scratch memory is provided by the caller (the program).
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from ctypes import byref, c_char_p, c_void_p
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

from pmtrain.models.backends.onednn.library import check, open_library
from pmtrain.models.backends.onednn.memory import DataType, Descriptor, Dims, Handle, int64s

CACHED = 2048  # primitives of each operation kept; a network of 152 layers takes about 120 for one shape


class Arg(IntEnum):
    """DNNL_ARG_*: the argument indices of primitives."""

    SRC = 1
    SRC_1 = 2
    DST = 17
    WEIGHTS = 33
    BIAS = 41
    MEAN = 49
    VARIANCE = 50
    SCALE = 51
    SHIFT = 52
    WORKSPACE = 64
    SCRATCHPAD = 80
    DIFF_SRC = 129
    DIFF_DST = 145
    DIFF_WEIGHTS = 161
    DIFF_SCALE = 255
    DIFF_SHIFT = 256


class Query(IntEnum):
    """dnnl_query_t: queries of a primitive, for the name of its code and the descriptors that it chose."""

    IMPLEMENTATION = 8
    WEIGHTS = 131
    DIFF_WEIGHTS = 132
    WORKSPACE = 135
    SCRATCHPAD = 136


TRAINING, INFERENCE, BACKWARD = 64, 96, 128  # dnnl_prop_kind_t
DIRECT = 1  # dnnl_convolution_direct
MAX, MEAN_WITHOUT_PADDING = 511, 1023  # dnnl_pooling_*
RELU, RELU_FROM_DST = 32, 256  # dnnl_eltwise_relu, dnnl_eltwise_relu_use_dst_for_bwd
ADD = 131056  # dnnl_binary_add
USE_SCALE, USE_SHIFT, FUSE_RELU = 2, 4, 8  # dnnl_normalization_flags_t
USER_SCRATCHPAD = 1  # dnnl_scratchpad_mode_user


@dataclass(frozen=True)
class After:
    """Post-operations on a primitive's result: add the previous content of the destination, then a ReLU."""

    accumulate: bool = False
    relu: bool = False


NOTHING_AFTER = After()


@dataclass(frozen=True)
class Window:
    """Kernel, stride and padding of a convolution or a pooling, equal in both directions."""

    kernel: int
    stride: int = 1
    padding: int = 0

    def output(self, dims: Dims, channels: int) -> Dims:
        """The output shape (N, channels, H', W') for the input shape (N, C, H, W)."""
        height, width = ((size + 2 * self.padding - self.kernel) // self.stride + 1 for size in dims[2:])
        return (dims[0], channels, height, width)


class Primitive:
    """Compiled code for one operation on fixed shapes.

    Attributes:
        name: the operation with its shapes, for errors and profiles.
        implementation: oneDNN's name for the code that it chose, such as `jit:avx2` or `ref:any`.
        scratchpad: the temporary memory that it needs, or None.
    """

    def __init__(self, name: str, description: Handle) -> None:
        api = open_library().api
        self.name, self.description = name, description
        self.handle = Handle(api.dnnl_primitive_destroy)
        check(api.dnnl_primitive_create(self.handle, description), name)
        chosen = c_char_p()
        check(api.dnnl_primitive_desc_query(description, Query.IMPLEMENTATION, 0, byref(chosen)), name)
        self.implementation = (chosen.value or b"").decode()
        scratchpad = self.chosen(Query.SCRATCHPAD, (), DataType.f32)
        self.scratchpad = scratchpad if scratchpad is not None and scratchpad.bytes else None

    def chosen(self, query: Query, dims: Dims, dtype: DataType) -> Descriptor | None:
        """The descriptor of one of its arguments; None if it has no such argument."""
        handle = open_library().api.dnnl_primitive_desc_query_md(self.description, query, 0)
        return Descriptor(c_void_p(handle), dims, dtype, "chosen by oneDNN", owner=self.description) if handle else None

    def weights(self, like: Descriptor, query: Query = Query.WEIGHTS) -> Descriptor:
        """The layout of its weights or of their gradient, if it was free to choose."""
        chosen = self.chosen(query, like.dims, like.dtype)
        assert chosen is not None
        return chosen

    @property
    def is_reference(self) -> bool:
        """Whether oneDNN has only plain loops for it here, up to a thousand times slower than compiled code."""
        return "ref" in re.split("[:_]", self.implementation)

    @property
    def workspace(self) -> Descriptor | None:
        """The memory that a forward primitive leaves for its backward primitive; None if it needs none."""
        chosen = self.chosen(Query.WORKSPACE, (), DataType.f32)
        return chosen if chosen is not None and chosen.bytes else None


@functools.lru_cache(maxsize=16)
def _attributes(after: After = NOTHING_AFTER) -> Handle:
    api = open_library().api
    attributes = Handle(api.dnnl_primitive_attr_destroy)
    check(api.dnnl_primitive_attr_create(attributes), "attributes")
    check(api.dnnl_primitive_attr_set_scratchpad_mode(attributes, USER_SCRATCHPAD), "scratchpad mode")
    if after != NOTHING_AFTER:
        operations = Handle(api.dnnl_post_ops_destroy)
        check(api.dnnl_post_ops_create(operations), "post-operations")
        if after.accumulate:
            check(api.dnnl_post_ops_append_sum(operations, 1.0, 0, 0), "post-operation sum")
        if after.relu:
            check(api.dnnl_post_ops_append_eltwise(operations, RELU, 0.0, 0.0), "post-operation ReLU")
        check(api.dnnl_primitive_attr_set_post_ops(attributes, operations), "post-operations")
    return attributes


def _compiled(name: str, create: Callable[..., int], *arguments: Any) -> Primitive:
    description = Handle(open_library().api.dnnl_primitive_desc_destroy)
    check(create(description, open_library().engine, *arguments), name)
    return Primitive(name, description)


def _geometry(window: Window) -> list:
    padding = int64s((window.padding,) * 2)
    return [int64s((window.stride,) * 2), int64s((0, 0)), padding, padding]


def _handles(*descriptors: Descriptor | None) -> list[c_void_p | None]:
    return [descriptor.handle if descriptor is not None else None for descriptor in descriptors]


@functools.lru_cache(maxsize=CACHED)
def convolution(
    src: Descriptor,
    weights: Descriptor,
    dst: Descriptor,
    window: Window,
    bias: Descriptor | None = None,
    after: After = NOTHING_AFTER,
    inference: bool = False,
) -> Primitive:
    """SRC (N, C, H, W), WEIGHTS (O, C, k, k), BIAS (O) -> DST (N, O, H', W')."""
    return _compiled(
        f"convolution of {src} with {weights} to {dst}, {window}, {after}",
        open_library().api.dnnl_convolution_forward_primitive_desc_create,
        INFERENCE if inference else TRAINING, DIRECT,
        *_handles(src, weights, bias, dst), *_geometry(window), _attributes(after),
    )  # fmt: skip


@functools.lru_cache(maxsize=CACHED)
def convolution_data_gradient(
    diff_src: Descriptor, weights: Descriptor, diff_dst: Descriptor, window: Window, forward: Primitive
) -> Primitive:
    """DIFF_DST, WEIGHTS -> DIFF_SRC."""
    return _compiled(
        f"data gradient {diff_src} of a convolution with {weights} from {diff_dst}, {window}",
        open_library().api.dnnl_convolution_backward_data_primitive_desc_create,
        DIRECT, *_handles(diff_src, weights, diff_dst), *_geometry(window), forward.description, _attributes(),
    )  # fmt: skip


@functools.lru_cache(maxsize=CACHED)
def convolution_weight_gradient(
    src: Descriptor, diff_weights: Descriptor, diff_dst: Descriptor, window: Window, forward: Primitive
) -> Primitive:
    """SRC, DIFF_DST -> DIFF_WEIGHTS, which may be f32 where the others are bf16."""
    return _compiled(
        f"weight gradient {diff_weights} of a convolution of {src} from {diff_dst}, {window}",
        open_library().api.dnnl_convolution_backward_weights_primitive_desc_create,
        DIRECT, *_handles(src, diff_weights, None, diff_dst), *_geometry(window), forward.description, _attributes(),
    )  # fmt: skip


@functools.lru_cache(maxsize=CACHED)
def batch_norm(src: Descriptor, dst: Descriptor, epsilon: float, relu: bool) -> Primitive:
    """SRC (N, C, H, W), SCALE (C), SHIFT (C) -> DST, MEAN (C), VARIANCE (C, biased), and WORKSPACE with a ReLU."""
    return _compiled(
        f"batch norm of {src} to {dst}, epsilon {epsilon}",
        open_library().api.dnnl_batch_normalization_forward_primitive_desc_create,
        TRAINING, *_handles(src, dst), epsilon, _norm_flags(relu), _attributes(),
    )  # fmt: skip


@functools.lru_cache(maxsize=CACHED)
def batch_norm_gradient(
    diff_src: Descriptor, diff_dst: Descriptor, src: Descriptor, epsilon: float, relu: bool, forward: Primitive
) -> Primitive:
    """SRC, MEAN, VARIANCE, DIFF_DST, SCALE (and WORKSPACE) -> DIFF_SRC, DIFF_SCALE, DIFF_SHIFT."""
    return _compiled(
        f"gradient {diff_src} of the batch norm of {src} from {diff_dst}",
        open_library().api.dnnl_batch_normalization_backward_primitive_desc_create,
        BACKWARD, *_handles(diff_src, diff_dst, src), epsilon, _norm_flags(relu), forward.description, _attributes(),
    )  # fmt: skip


def _norm_flags(relu: bool) -> int:
    return USE_SCALE | USE_SHIFT | (FUSE_RELU if relu else 0)


def _pool_geometry(kernel: Dims, stride: int, padding: int) -> list:
    pad = int64s((padding,) * 2)
    return [int64s((stride,) * 2), int64s(kernel), int64s((0, 0)), pad, pad]


@functools.lru_cache(maxsize=CACHED)
def max_pool(src: Descriptor, dst: Descriptor, window: Window, inference: bool = False) -> Primitive:
    """SRC (N, C, H, W) -> DST (N, C, H', W') and, in training, WORKSPACE."""
    return _compiled(
        f"max pooling of {src} to {dst}, {window}",
        open_library().api.dnnl_pooling_forward_primitive_desc_create,
        INFERENCE if inference else TRAINING, MAX, *_handles(src, dst),
        *_pool_geometry((window.kernel,) * 2, window.stride, window.padding), _attributes(),
    )  # fmt: skip


@functools.lru_cache(maxsize=CACHED)
def max_pool_gradient(diff_src: Descriptor, diff_dst: Descriptor, window: Window, forward: Primitive) -> Primitive:
    """DIFF_DST, WORKSPACE -> DIFF_SRC."""
    return _compiled(
        f"gradient {diff_src} of max pooling from {diff_dst}, {window}",
        open_library().api.dnnl_pooling_backward_primitive_desc_create,
        MAX, *_handles(diff_src, diff_dst),
        *_pool_geometry((window.kernel,) * 2, window.stride, window.padding), forward.description, _attributes(),
    )  # fmt: skip


@functools.lru_cache(maxsize=CACHED)
def global_mean(src: Descriptor, dst: Descriptor, inference: bool = False) -> Primitive:
    """SRC (N, C, H, W) -> DST (N, C, 1, 1), the mean over H and W."""
    return _compiled(
        f"global average pooling of {src} to {dst}",
        open_library().api.dnnl_pooling_forward_primitive_desc_create,
        INFERENCE if inference else TRAINING, MEAN_WITHOUT_PADDING, *_handles(src, dst),
        *_pool_geometry(src.dims[2:], 1, 0), _attributes(),
    )  # fmt: skip


@functools.lru_cache(maxsize=CACHED)
def global_mean_gradient(diff_src: Descriptor, diff_dst: Descriptor, forward: Primitive) -> Primitive:
    """DIFF_DST (N, C, 1, 1) -> DIFF_SRC (N, C, H, W)."""
    return _compiled(
        f"gradient {diff_src} of global average pooling from {diff_dst}",
        open_library().api.dnnl_pooling_backward_primitive_desc_create,
        MEAN_WITHOUT_PADDING, *_handles(diff_src, diff_dst),
        *_pool_geometry(diff_src.dims[2:], 1, 0), forward.description, _attributes(),
    )  # fmt: skip


@functools.lru_cache(maxsize=CACHED)
def relu_gradient(diff_src: Descriptor, diff_dst: Descriptor, dst: Descriptor) -> Primitive:
    """DST of the ReLU, DIFF_DST -> DIFF_SRC, optionally in place."""
    api = open_library().api
    forward = _compiled(
        f"ReLU of {dst}", api.dnnl_eltwise_forward_primitive_desc_create,
        TRAINING, RELU_FROM_DST, *_handles(dst, dst), 0.0, 0.0, _attributes(),
    )  # fmt: skip
    return _compiled(
        f"gradient {diff_src} of the ReLU of {dst} from {diff_dst}", api.dnnl_eltwise_backward_primitive_desc_create,
        RELU_FROM_DST, *_handles(diff_src, diff_dst, dst), 0.0, 0.0, forward.description, _attributes(),
    )  # fmt: skip


@functools.lru_cache(maxsize=CACHED)
def add(first: Descriptor, second: Descriptor, dst: Descriptor, relu: bool = False) -> Primitive:
    """SRC + SRC_1 -> DST, optionally in place, optionally with a ReLU."""
    return _compiled(
        f"sum of {first} and {second} to {dst}", open_library().api.dnnl_binary_primitive_desc_create,
        ADD, *_handles(first, second, dst), _attributes(After(relu=relu)),
    )  # fmt: skip


@functools.lru_cache(maxsize=CACHED)
def matmul(src: Descriptor, weights: Descriptor, dst: Descriptor) -> Primitive:
    """SRC (M, K) times WEIGHTS (K, N) -> DST (M, N)."""
    return _compiled(
        f"product of {src} and {weights} to {dst}", open_library().api.dnnl_matmul_primitive_desc_create,
        *_handles(src, weights, None, dst), _attributes(),
    )  # fmt: skip


@functools.lru_cache(maxsize=CACHED)
def reorder(src: Descriptor, dst: Descriptor) -> Primitive:
    """SRC -> DST in another layout or data type."""
    library = open_library()
    name = f"reorder of {src} to {dst}"
    description = Handle(library.api.dnnl_primitive_desc_destroy)
    status = library.api.dnnl_reorder_primitive_desc_create(
        description, src.handle, library.engine, dst.handle, library.engine, _attributes()
    )
    check(status, name)
    return Primitive(name, description)
