"""Random access to compressed bytes, compared with the whole."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import random
import zlib

import pytest

from pmtrain.data.images.packed import streams
from pmtrain.data.images.packed.streams import GZIP, RAW_DEFLATE, Inflated, Spooled, Stored, StreamFile, part_of

WHOLE = random.Random(0).randbytes(300_000) + bytes(200_000) + random.Random(1).randbytes(100_000)


@pytest.fixture(params=["stored", "deflate", "gzip of two parts", "bzip2 of two parts", "xz", "part of gzip"])
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
        return Inflated(Stored(str(path), 6, len(data)), RAW_DEFLATE)
    if request.param == "bzip2 of two parts":
        path.write_bytes(bz2.compress(WHOLE[:250_000]) + bz2.compress(WHOLE[250_000:]))
        return Spooled(Stored(str(path)))
    if request.param == "xz":
        path.write_bytes(lzma.compress(WHOLE) + bytes(8))
        return Spooled(Stored(str(path)))
    if request.param == "part of gzip":
        path.write_bytes(gzip.compress(b"before" + WHOLE + b"after"))
        return part_of(Inflated(Stored(str(path)), GZIP), 6, len(WHOLE))
    path.write_bytes(gzip.compress(WHOLE[:250_000]) + gzip.compress(WHOLE[250_000:]))
    return Inflated(Stored(str(path)), GZIP)


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
    stream = Inflated(Stored(str(path)), GZIP)
    assert stream.read_at(len(WHOLE) - 5, 5) == WHOLE[-5:]
    assert 2 < len(stream._points) <= 8


def test_truncated_and_damaged_data_are_errors(tmp_path):
    path = tmp_path / "a.gz"
    whole = gzip.compress(WHOLE)
    for data, what in ((whole[:-1000], "truncated"), (whole[:1000] + bytes(5000) + whole[6000:], "invalid")):
        path.write_bytes(data)
        with pytest.raises(OSError, match=what):
            Inflated(Stored(str(path)), GZIP).read_at(len(WHOLE) - 10, 10)


def test_a_stream_as_a_file(tmp_path):
    (tmp_path / "a").write_bytes(b"before" + WHOLE + b"after")
    file = StreamFile(part_of(Stored(str(tmp_path / "a")), 6, len(WHOLE)))
    assert file.read() == WHOLE and file.read() == b""
    assert file.seek(-10, io.SEEK_END) == len(WHOLE) - 10 and file.read(20) == WHOLE[-10:]
    file.seek(5)
    assert file.seek(5, io.SEEK_CUR) == file.tell() == 10 and file.read(3) == WHOLE[10:13]


@pytest.mark.parametrize("compress", [bz2.compress, lzma.compress])
def test_what_is_spooled_is_checked(tmp_path, monkeypatch, compress):
    path = tmp_path / "file"
    path.write_bytes(compress(WHOLE)[:-1000])
    with pytest.raises(OSError, match="damaged"):
        Spooled(Stored(str(path)))
    monkeypatch.setattr(streams, "FREE", 1 << 20)
    path.write_bytes(compress(bytes(1 << 24)))
    with pytest.raises(OSError, match="more than 200 times"):
        Spooled(Stored(str(path)))


def test_data_that_grow_without_end_are_an_error(tmp_path, monkeypatch):
    monkeypatch.setattr(streams, "FREE", 1 << 20)
    path = tmp_path / "bomb.gz"
    path.write_bytes(gzip.compress(bytes(1 << 24)))
    with pytest.raises(OSError, match="more than 200 times"):
        Inflated(Stored(str(path)), GZIP).read_at((1 << 24) - 1, 1)
