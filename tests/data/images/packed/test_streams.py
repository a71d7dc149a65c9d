"""Random access to compressed bytes, compared with the whole."""

from __future__ import annotations

import gzip
import random
import zlib

import pytest

from pmtrain.data.images.packed import streams
from pmtrain.data.images.packed.streams import GZIP, RAW_DEFLATE, Inflated, Stored

WHOLE = random.Random(0).randbytes(300_000) + bytes(200_000) + random.Random(1).randbytes(100_000)


@pytest.fixture(params=["stored", "deflate", "gzip of two parts"])
def stream(request, tmp_path, monkeypatch):
    monkeypatch.setattr(streams, "SPACING", 20_000)
    monkeypatch.setattr(streams, "MOST_POINTS", 8)
    path = tmp_path / "file"
    if request.param == "stored":
        path.write_bytes(b"before" + WHOLE + b"after")
        return Stored(str(path), 6, len(WHOLE))
    if request.param == "deflate":
        raw = zlib.compressobj(wbits=-15)
        data = raw.compress(WHOLE) + raw.flush()
        path.write_bytes(b"before" + data + b"after")
        return Inflated(str(path), RAW_DEFLATE, 6, len(data))
    path.write_bytes(gzip.compress(WHOLE[:250_000]) + gzip.compress(WHOLE[250_000:]))
    return Inflated(str(path), GZIP)


def test_any_part_in_any_order_is_that_of_the_whole(stream):
    rng = random.Random(2)
    for _ in range(60):
        start, count = rng.randrange(len(WHOLE)), rng.choice([1, 512, 5_000, 120_000])
        assert stream.read_at(start, count) == WHOLE[start : start + count]
    assert stream.read_at(0, len(WHOLE) + 1) == WHOLE
    assert stream.read_at(len(WHOLE), 1) == b""


def test_copies_of_the_decompressor_are_limited(tmp_path, monkeypatch):
    monkeypatch.setattr(streams, "SPACING", 1_000)
    monkeypatch.setattr(streams, "MOST_POINTS", 8)
    path = tmp_path / "a.gz"
    path.write_bytes(gzip.compress(WHOLE))
    stream = Inflated(str(path), GZIP)
    assert stream.read_at(len(WHOLE) - 5, 5) == WHOLE[-5:]
    assert 2 < len(stream._points) <= 8


def test_truncated_and_damaged_data_are_errors(tmp_path):
    path = tmp_path / "a.gz"
    whole = gzip.compress(WHOLE)
    for data, what in ((whole[:-1000], "truncated"), (whole[:1000] + bytes(5000) + whole[6000:], "invalid")):
        path.write_bytes(data)
        with pytest.raises(OSError, match=what):
            Inflated(str(path), GZIP).read_at(len(WHOLE) - 10, 10)


def test_data_that_grow_without_end_are_an_error(tmp_path, monkeypatch):
    monkeypatch.setattr(streams, "FREE", 1 << 20)
    path = tmp_path / "bomb.gz"
    path.write_bytes(gzip.compress(bytes(1 << 24)))
    with pytest.raises(OSError, match="more than 200 times"):
        Inflated(str(path), GZIP).read_at((1 << 24) - 1, 1)
