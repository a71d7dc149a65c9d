"""The memory of primitives: layout descriptors, places in memory, and tensors made of both."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import math
import mmap
from collections.abc import Callable, Sequence
from ctypes import c_int64, c_void_p
from enum import Enum, IntEnum

import numpy as np

from pmtrain.models.backends.onednn.library import check, open_library

Dims = tuple[int, ...]
PAGE = 4096


class DataType(IntEnum):
    """dnnl_data_type_t."""

    bf16 = 2
    f32 = 3

    @property
    def bytes(self) -> int:
        return {DataType.bf16: 2, DataType.f32: 4}[self]


class Layout(Enum):
    """Orders of dimensions in memory, named as in oneDNN; `any` lets the primitive choose."""

    any = "any"
    vector = "a"
    matrix = "ab"
    plain = "abcd"  # (N, C, H, W) and (O, I, k, k) as Paddle keeps them
    channels_last = "acdb"
    blocked16 = "aBcd16b"  # 16 channels innermost: (N, C / 16, H, W, 16)
    blocked8 = "aBcd8b"


def image_layout(dtype: DataType) -> Layout:
    """The fastest order for activations of this type on this processor.

    AVX-512 code is fastest with channels in blocks of 16, the f32 values of one register; AVX2 code with blocks of 8.
    With other block sizes, oneDNN falls back to reference code, a hundred times slower. Its AMX code, several times
    faster in bf16, needs channels last.
    """
    library = open_library()
    if dtype is DataType.bf16 and library.has_amx:
        return Layout.channels_last
    return Layout.blocked16 if library.has_avx512 else Layout.blocked8


def pixel_layout(dtype: DataType) -> Layout:
    """The fastest order for a network's input, which has too few channels for blocks."""
    return Layout.channels_last if image_layout(dtype) is Layout.channels_last else Layout.plain


def layout_like(images: Descriptor) -> Layout:
    """The layout of what is computed from these images: channels last stay last, all others get `image_layout`."""
    last = images == describe(images.dims, images.dtype, Layout.channels_last)
    return Layout.channels_last if last else image_layout(images.dtype)


def lines_of(images: Descriptor) -> Descriptor:
    """View the same memory with every row of pixels as a separate image, if channels are last.

    This is valid for operations that treat all pixels of a channel alike. oneDNN's batch norm reads an image several
    times, a few channels at a time; a short image stays in the cache, which is up to a quarter faster.
    """
    batch, channels, height, width = images.dims
    if images != describe(images.dims, images.dtype, Layout.channels_last):
        return images
    return describe((batch * height, channels, width, 1), images.dtype, Layout.channels_last)


ANY = 1  # dnnl_format_tag_any, which has no name that a string could give
bf16, f32 = DataType.bf16, DataType.f32


def int64s(values: Sequence[int]) -> ctypes.Array[c_int64]:
    """The values as the C array that oneDNN takes for dimensions."""
    return (c_int64 * len(values))(*values)


class Handle(c_void_p):
    """A oneDNN object, destroyed with the Python object that holds it."""

    def __init__(self, destroy: Callable[[c_void_p], int]) -> None:
        super().__init__()
        self._destroy = destroy

    def __del__(self) -> None:
        if self.value:
            self._destroy(self)
            self.value = None


class Descriptor:
    """Dimensions, data type and order in memory.

    Made by `describe` and `strided`, or taken from a primitive that chose a layout of its own. Equal where
    oneDNN calls them equal, so that they key caches.
    """

    def __init__(self, handle: c_void_p, dims: Dims, dtype: DataType, order: str, owner: object = None) -> None:
        self.handle, self.dims, self.dtype, self.order = handle, dims, dtype, order
        self._owner = owner  # what keeps a borrowed handle valid
        self.bytes = int(open_library().api.dnnl_memory_desc_get_size(handle))

    def __eq__(self, other: object) -> bool:
        if self is other:
            return True
        return (
            isinstance(other, Descriptor)
            and self.dims == other.dims
            and bool(open_library().api.dnnl_memory_desc_equal(self.handle, other.handle))
        )

    def __hash__(self) -> int:
        return hash((self.dims, self.dtype))

    def __str__(self) -> str:
        return f"{self.dtype.name} {'x'.join(map(str, self.dims))} {self.order}"


@functools.lru_cache(maxsize=4096)
def describe(dims: Dims, dtype: DataType, layout: Layout) -> Descriptor:
    """A dense descriptor in one of the named layouts; the blocked ones pad the channels to whole blocks."""
    api = open_library().api
    handle = Handle(api.dnnl_memory_desc_destroy)
    what = f"{dtype.name} {dims} {layout.name}"
    if layout is Layout.any:
        check(api.dnnl_memory_desc_create_with_tag(handle, len(dims), int64s(dims), dtype, ANY), what)
    else:
        name = layout.value.encode()
        check(api.dnnl_memory_desc_create_with_string_tag(handle, len(dims), int64s(dims), dtype, name), what)
    return Descriptor(handle, dims, dtype, layout.name)


@functools.lru_cache(maxsize=4096)
def strided(dims: Dims, dtype: DataType, strides: Dims) -> Descriptor:
    """A descriptor by strides, counted in elements: a transposed or a partial view of other memory."""
    api = open_library().api
    handle = Handle(api.dnnl_memory_desc_destroy)
    order = f"strides {strides}"
    what = f"{dtype.name} {dims} {order}"
    check(api.dnnl_memory_desc_create_with_strides(handle, len(dims), int64s(dims), dtype, int64s(strides)), what)
    return Descriptor(handle, dims, dtype, order)


class Place:
    """A place in memory whose address is set later, and again whenever it moves; 0 means none."""

    def __init__(self) -> None:
        self.address = 0
        self._tensors: list[Tensor] = []

    def view(self, descriptor: Descriptor, offset: int = 0) -> Tensor:
        """A tensor at this place, `offset` bytes from the start."""
        tensor = Tensor(self, descriptor, offset)
        tensor.point(self.address)
        self._tensors.append(tensor)
        return tensor

    def move(self, address: int) -> None:
        """Set the address of every tensor at this place."""
        if address != self.address:
            self.address = address
            for tensor in self._tensors:
                tensor.point(address)


class Buffer(Place):
    """A place of `size` bytes in a program's arena, `offset` bytes from its start, alive from the step `first` to the
    step `last`."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size
        self.first = self.last = -1
        self.offset = 0

    def use(self, step: int) -> None:
        """Record that this step reads or writes the buffer."""
        if self.first < 0:
            self.first = step
        self.last = max(self.last, step)


class Tensor:
    """A place seen through a descriptor: what a primitive takes as an argument (dnnl_memory_t)."""

    def __init__(self, place: Place, descriptor: Descriptor, offset: int = 0) -> None:
        library = open_library()
        self.place, self.descriptor, self.offset = place, descriptor, offset
        self.handle = Handle(library.api.dnnl_memory_destroy)
        check(library.api.dnnl_memory_create(self.handle, descriptor.handle, library.engine, None), str(descriptor))
        self._set = library.api.dnnl_memory_set_data_handle

    @property
    def dims(self) -> Dims:
        return self.descriptor.dims

    @property
    def address(self) -> int:
        return self.place.address + self.offset

    def point(self, address: int) -> None:
        """Set the address of the place; 0 for none."""
        check(self._set(self.handle, address + self.offset if address else None), str(self.descriptor))

    def seen_as(self, descriptor: Descriptor, offset: int = 0) -> Tensor:
        """The same memory through another descriptor, `offset` bytes further on."""
        return self.place.view(descriptor, self.offset + offset)


class Arena:
    """Memory shared by programs that don't run at the same time; as large as the largest needs."""

    def __init__(self) -> None:
        self.address = 0
        self.size = 0
        self._first_byte: ctypes.c_char | None = None

    def reserve(self, size: int) -> None:
        """Make room for `size` bytes; growing loses the content and changes `address`.

        Raises:
            MemoryError: there isn't enough memory; the arena is then empty and can be used again.
        """
        if size <= self.size:
            return
        # Free the old memory before allocating more.
        self._first_byte, self.address, self.size = None, 0, 0
        wanted = math.ceil(size / PAGE) * PAGE
        try:
            memory = mmap.mmap(-1, wanted)
        except OSError as error:
            raise MemoryError(f"{wanted:,} bytes for the oneDNN engine: {error.strerror}") from None
        if hasattr(mmap, "MADV_HUGEPAGE"):
            with contextlib.suppress(OSError):  # a kernel without them
                memory.madvise(mmap.MADV_HUGEPAGE)
        self._first_byte = ctypes.c_char.from_buffer(memory)
        self.address, self.size = ctypes.addressof(self._first_byte), wanted


def array_at(address: int, shape: Sequence[int]) -> np.ndarray:
    """The f32 values at an address, in C order, as an array that shares the memory."""
    count = math.prod(shape)
    return np.frombuffer(memoryview((ctypes.c_float * count).from_address(address)), np.float32).reshape(shape)
