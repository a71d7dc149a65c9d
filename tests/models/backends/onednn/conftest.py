"""Small programs over NumPy arrays, and the reason to skip where this machine has no engine."""

from __future__ import annotations

import math

import numpy as np
import pytest

from pmtrain.models.backends.onednn.library import Library, LibraryUnavailable, open_library
from pmtrain.models.backends.onednn.memory import (
    Arena,
    DataType,
    Layout,
    Place,
    Tensor,
    array_at,
    bf16,
    describe,
    f32,
    image_layout,
)
from pmtrain.models.backends.onednn.program import Program
from pmtrain.models.backends.onednn.threads import prepare_threads

LAYOUTS = {1: Layout.vector, 2: Layout.matrix, 4: Layout.plain}
# What activations are kept in, and whether as on a processor with AMX (channels last) or on one without (blocked).
ARITHMETIC = {"f32": (f32, False), "bf16, blocked": (bf16, False), "bf16, channels last": (bf16, True)}


class Arrays:
    """A program whose inputs and results are f32 arrays in C order; inside, images are as the engine keeps them."""

    def __init__(self) -> None:
        self.program = Program()
        self._held: list[np.ndarray] = []

    def place(self, array: np.ndarray) -> Place:
        """Where an array lies; what is written there is seen in the array."""
        assert array.dtype == np.float32 and array.flags.c_contiguous
        self._held.append(array)
        place = Place()
        place.move(array.ctypes.data)
        return place

    def tensor(self, array: np.ndarray, dtype: DataType = f32, images: Layout | None = None) -> Tensor:
        """A copy of an array in `dtype` and the program's own layout, or for images the one given."""
        source = self.place(array).view(describe(array.shape, f32, LAYOUTS[array.ndim]))
        layout = (images or image_layout(dtype)) if array.ndim == 4 else LAYOUTS[array.ndim]
        target = self.program.tensor(array.shape, dtype, layout)
        self.program.reorder(source, target)
        return target

    def result(self, tensor: Tensor) -> np.ndarray:
        """The array that holds the tensor's values once the program has run."""
        array = np.full(tensor.dims, np.nan, np.float32)
        self.program.reorder(tensor, self.place(array).view(describe(tensor.dims, f32, LAYOUTS[len(tensor.dims)])))
        return array

    def run(self) -> None:
        self.program.plan()
        arena = Arena()
        self.program.place(arena)
        if self.program.size:
            # What the program doesn't write itself must not matter.
            array_at(arena.address, (self.program.size // 4,))[:] = math.nan
        self.program.run()


@pytest.fixture(scope="session", autouse=True)
def _library():
    try:
        library = open_library()
    except LibraryUnavailable as error:
        pytest.skip(error.message)
    if not library.has_avx2:
        pytest.skip("the processor has no AVX2")
    prepare_threads()
    return library


@pytest.fixture(params=ARITHMETIC)
def dtype(request, _library, monkeypatch) -> DataType:
    """Each working type that this processor has instructions for, in each order that the engine keeps it in."""
    dtype, tiles = ARITHMETIC[request.param]
    if dtype is bf16 and not _library.has_bf16:
        pytest.skip("the processor has no bf16 instructions")
    monkeypatch.setattr(Library, "has_amx", property(lambda _: tiles))
    return dtype


@pytest.fixture
def precision(dtype) -> str:
    """The same by the names that `attach` takes."""
    return {f32: "fp32", bf16: "bf16"}[dtype]


@pytest.fixture
def arrays() -> type[Arrays]:
    return Arrays
