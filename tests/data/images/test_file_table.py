"""The table of files: each file is hashed once, and again as soon as it has changed."""

from __future__ import annotations

import hashlib
import os
import threading
import time
import tracemalloc
from pathlib import Path

import pytest

from pmtrain.data.images import file_table
from pmtrain.data.images.file_table import FileTable, is_settled
from pmtrain.data.images.source import state

CONTENT = bytes(range(256)) * 5000  # more than is read at a time


@pytest.fixture
def hashed(monkeypatch) -> list[int]:
    """How many bytes each hash was of."""
    lengths: list[int] = []
    real = hashlib.sha256

    class Counted:
        def __init__(self, data: bytes = b"") -> None:
            self.hash, self.length = real(data), len(data)

        def update(self, data: bytes) -> None:
            self.hash.update(data)
            self.length += len(data)

        def digest(self) -> bytes:
            lengths.append(self.length)
            return self.hash.digest()

    monkeypatch.setattr(hashlib, "sha256", Counted)
    return lengths


@pytest.fixture
def settled(monkeypatch) -> None:
    monkeypatch.setattr(file_table, "SETTLED", -1.0)


@pytest.fixture
def path(tmp_path) -> Path:
    path = tmp_path / "眼.png"
    path.write_bytes(CONTENT)
    return path


EXPECTED = hashlib.sha256(CONTENT).digest()


def test_a_file_is_hashed_once_whoever_asks(path, settled, hashed):
    table = FileTable()
    assert table.digest(path) == (len(CONTENT), EXPECTED)
    assert table.digest(path) == (len(CONTENT), EXPECTED)
    assert table.read(path) == (CONTENT, state(path), EXPECTED)
    assert hashed == [len(CONTENT)]
    other = FileTable()
    assert other.read(path) == (CONTENT, state(path), EXPECTED)
    assert other.digest(path) == (len(CONTENT), EXPECTED)
    assert hashed == [len(CONTENT)] * 2


def test_a_changed_file_is_hashed_again(path, settled, hashed):
    table = FileTable()
    table.digest(path)
    path.write_bytes(CONTENT[::-1])
    os.utime(path, (1, 1))
    assert table.digest(path) == (len(CONTENT), hashlib.sha256(CONTENT[::-1]).digest())


def test_a_file_that_changed_just_now_is_not_remembered(path, hashed):
    table = FileTable()
    for _ in range(2):
        assert table.digest(path)[1] == EXPECTED
    assert hashed == [len(CONTENT)] * 2
    stat = os.stat(path)
    assert not is_settled(state(path))
    assert is_settled(f"1 {stat.st_mtime_ns - 10**10} {time.time_ns() - 10**10} 1")


def test_what_is_learnt_holds_for_that_state_alone(path, settled, hashed):
    table = FileTable()
    table.learn(path, state(path), b"x" * 32)
    assert table.digest(path) == (len(CONTENT), b"x" * 32) and not hashed
    os.utime(path, (5, 5))
    assert table.digest(path) == (len(CONTENT), EXPECTED)


def test_threads_that_ask_at_once_have_it_hashed_once(path, settled, hashed):
    table, start, found = FileTable(), threading.Barrier(8), []

    def ask() -> None:
        start.wait()
        found.append(table.digest(path)[1])

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [EXPECTED] * 8 and hashed == [len(CONTENT)]


def test_a_missing_file_is_an_error_of_the_system(tmp_path):
    for ask in (FileTable().digest, FileTable().read):
        with pytest.raises(FileNotFoundError):
            ask(tmp_path / "gone.png")


def test_pictures_are_counted_once_and_again_after_a_change(path, settled):
    table, counted = FileTable(), []

    def count(file: Path) -> int:
        counted.append(file.name)
        return len(counted) + 1

    assert [table.pictures(path, count) for _ in range(3)] == [2, 2, 2]
    path.write_bytes(b"")
    assert table.pictures(path, count) == 3
    assert table.pictures(path.with_name("gone"), count) == 1


def test_a_hundred_thousand_files_take_little_memory(settled):
    paths = [Path(f"/data/{number:06}.png") for number in range(100_000)]
    names = [str(path) for path in paths]  # which the paths keep
    state, table = "1234567 1700000000000000000 1700000000000000000 12345678", FileTable()
    tracemalloc.start()
    for number, path in enumerate(paths):
        table.learn(path, state, number.to_bytes(32, "big"))
    taken, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert taken < 300 * len(names)
