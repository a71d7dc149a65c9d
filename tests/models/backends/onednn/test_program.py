"""The layout of buffers in the arena: no two that live together share a byte."""

from __future__ import annotations

import ctypes
import errno

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pmtrain.models.backends.onednn.memory import PAGE, Arena, Buffer
from pmtrain.models.backends.onednn.program import lay_out

lives = st.tuples(st.integers(1, 20 * PAGE), st.integers(0, 30), st.integers(0, 30))


def buffers_of(rows: list[tuple[int, int, int]]) -> list[Buffer]:
    buffers = []
    for size, one, other in rows:
        buffer = Buffer(size)
        buffer.use(min(one, other))
        buffer.use(max(one, other))
        buffers.append(buffer)
    return buffers


@given(st.lists(lives, max_size=40))
def test_buffers_that_live_together_do_not_overlap(rows):
    buffers = buffers_of(rows)
    total = lay_out(buffers)
    for index, a in enumerate(buffers):
        assert a.offset % PAGE == 0
        assert a.offset + a.size <= total
        for b in buffers[:index]:
            together = a.first <= b.last and b.first <= a.last
            apart = a.offset + a.size <= b.offset or b.offset + b.size <= a.offset
            assert apart or not together


def test_memory_is_used_again():
    # Ten of one size, each alive during two steps, two at a time.
    buffers = buffers_of([(PAGE, step, step + 1) for step in range(10)])
    assert lay_out(buffers) == 2 * PAGE


def test_an_arena_that_cannot_grow_is_empty_and_can_be_used_again(monkeypatch):
    arena = Arena()
    arena.reserve(10)
    with monkeypatch.context() as patch:
        patch.setattr("mmap.mmap", refuse)
        with pytest.raises(MemoryError, match="8,192 bytes"):
            arena.reserve(2 * PAGE)
    assert (arena.address, arena.size) == (0, 0)
    arena.reserve(10)
    assert arena.address and arena.size == PAGE
    ctypes.memset(arena.address, 1, arena.size)


def refuse(*_) -> None:
    raise OSError(errno.ENOMEM, "Cannot allocate memory")


def test_an_arena_grows_and_never_shrinks():
    arena = Arena()
    arena.reserve(10)
    assert arena.size == PAGE and arena.address % PAGE == 0
    arena.reserve(3 * PAGE)
    assert arena.size == 3 * PAGE
    arena.reserve(1)
    assert arena.size == 3 * PAGE
