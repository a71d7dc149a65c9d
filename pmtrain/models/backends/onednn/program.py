"""A list of primitives with their arguments, run in order in an arena that is planned once.

A program is written as if memory were free: every result gets its own buffer. When it is complete, `plan` assigns the
memory; buffers whose lifetimes (first to last step that uses them) don't overlap may share bytes.
"""

from __future__ import annotations

import bisect
import ctypes
from collections.abc import Mapping

from pmtrain.models.backends.onednn import primitives
from pmtrain.models.backends.onednn.library import ExecArg, OneDnnError, ReferenceCode, open_library
from pmtrain.models.backends.onednn.memory import (
    PAGE,
    Arena,
    Buffer,
    DataType,
    Descriptor,
    Dims,
    Layout,
    Place,
    Tensor,
    describe,
    image_layout,
)
from pmtrain.models.backends.onednn.primitives import Arg, Primitive


class Step:
    """One primitive with the memory it works on."""

    def __init__(self, primitive: Primitive, arguments: Mapping[Arg, Tensor]) -> None:
        self.primitive, self.arguments = primitive, dict(arguments)
        self._array = (ExecArg * len(arguments))(
            *(ExecArg(index, tensor.handle.value) for index, tensor in arguments.items())
        )
        self.call = (primitive.handle, len(arguments), ctypes.addressof(self._array))


class Program:
    """Steps in order, run together or in parts (forward, then backward)."""

    def __init__(self) -> None:
        self.steps: list[Step] = []
        self.size = 0
        self._buffers: list[Buffer] = []
        self._outside: list[Arena] = []
        self._address = 0
        self._arena: Arena | None = None  # keeps the memory of the buffers alive

    def tensor(self, dims: Dims, dtype: DataType, layout: Layout | None = None) -> Tensor:
        """A new tensor in the arena; in `image_layout` unless another layout is given."""
        return self.buffer(describe(dims, dtype, layout or image_layout(dtype)))

    def buffer(self, descriptor: Descriptor) -> Tensor:
        """A new tensor in the arena, with an existing descriptor."""
        buffer = Buffer(descriptor.bytes)
        self._buffers.append(buffer)
        return buffer.view(descriptor)

    def zeros(self, descriptor: Descriptor) -> Tensor:
        """A tensor outside the arena, initially zero: for padding, which no step writes to."""
        arena = Arena()
        arena.reserve(descriptor.bytes)
        self._outside.append(arena)
        place = Place()
        place.move(arena.address)
        return place.view(descriptor)

    def add(self, primitive: Primitive, arguments: Mapping[Arg, Tensor]) -> None:
        """Append a step."""
        arguments = dict(arguments)
        if primitive.scratchpad is not None:
            arguments[Arg.SCRATCHPAD] = self.buffer(primitive.scratchpad)
        for tensor in arguments.values():
            if isinstance(tensor.place, Buffer):
                tensor.place.use(len(self.steps))
        self.steps.append(Step(primitive, arguments))

    def reorder(self, source: Tensor, target: Tensor) -> None:
        """Append a copy of one tensor to another with its own layout and data type."""
        self.add(primitives.reorder(source.descriptor, target.descriptor), {Arg.SRC: source, Arg.DST: target})

    def plan(self) -> None:
        """Assign the memory of the buffers; `size` is then the arena size that `place` needs.

        Raises:
            ReferenceCode: a step would run on oneDNN's reference code; the message names the step.
        """
        for step in self.steps:
            if step.primitive.is_reference:
                raise ReferenceCode(step.primitive.name, step.primitive.implementation)
        self._buffers = [buffer for buffer in self._buffers if buffer.first >= 0]
        self.size = lay_out(self._buffers)

    def place(self, arena: Arena) -> None:
        """Set the addresses of the buffers again if the arena has moved.

        Raises:
            MemoryError: it can't grow to the program's size.
        """
        self._arena = arena
        arena.reserve(self.size)
        if self._address != arena.address:
            self._address = arena.address
            for buffer in self._buffers:
                buffer.move(arena.address + buffer.offset)

    def run(self, first: int = 0, last: int | None = None) -> None:
        """Execute the steps from `first` up to `last`.

        Raises:
            OneDnnError: a primitive failed; the message names it and its shapes.
        """
        library = open_library()
        execute, stream = library.api.dnnl_primitive_execute, library.stream
        for step in self.steps[first:last]:
            handle, count, arguments = step.call
            status = execute(handle, stream, count, arguments)
            if status:
                raise OneDnnError(status, step.primitive.name)


def lay_out(buffers: list[Buffer]) -> int:
    """Give every buffer an offset by best fit, without overlap in time and memory; return the total size."""
    starting = sorted(buffers, key=lambda buffer: buffer.first)
    ending = sorted(buffers, key=lambda buffer: buffer.last)
    holes: list[tuple[int, int]] = []  # (offset, size), by offset, never adjacent
    total = ended = 0
    for buffer in starting:
        while ending[ended].last < buffer.first:
            _give_back(holes, ending[ended].offset, _pages(ending[ended].size))
            ended += 1
        size = _pages(buffer.size)
        fitting = [hole for hole in holes if hole[1] >= size]
        if fitting:
            offset, room = min(fitting, key=lambda hole: hole[1])
            holes.remove((offset, room))
            if room > size:
                bisect.insort(holes, (offset + size, room - size))
        elif holes and sum(holes[-1]) == total:  # the hole at the end grows
            offset, _ = holes.pop()
            total = offset + size
        else:
            offset, total = total, total + size
        buffer.offset = offset
    return total


def _pages(size: int) -> int:
    return -(-size // PAGE) * PAGE


def _give_back(holes: list[tuple[int, int]], offset: int, size: int) -> None:
    index = bisect.bisect(holes, (offset, size))
    if index < len(holes) and holes[index][0] == offset + size:
        size += holes.pop(index)[1]
    if index and sum(holes[index - 1]) == offset:
        offset, before = holes[index - 1]
        holes[index - 1] = (offset, before + size)
    else:
        holes.insert(index, (offset, size))
