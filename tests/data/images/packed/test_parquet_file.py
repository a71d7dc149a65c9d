"""Parquet files as pyarrow writes them."""

from __future__ import annotations

import random
import subprocess
import sys

import pytest

from pmtrain.data.images.packed import parquet_file
from pmtrain.data.images.packed.parquet_file import ParquetFile
from pmtrain.system.errors import PmtrainError
from tests.conftest import environment

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")
IMAGES = [random.Random(index).randbytes(100 + index) for index in range(70)]
STRUCT = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


def write(path, images=IMAGES, name="image", kind=STRUCT, **options):
    cells = [{"bytes": data, "path": "a.png"} for data in images] if kind == STRUCT else images
    pq.write_table(pa.table({"label": list(range(len(images))), name: pa.array(cells, kind)}), path, **options)
    return str(path)


@pytest.mark.parametrize(
    ("name", "kind"), [("image", STRUCT), ("scan", STRUCT), ("img", pa.binary()), ("b", pa.large_binary())]
)
def test_images_are_those_that_were_written(tmp_path, name, kind):
    file = ParquetFile(write(tmp_path / "a.parquet", name=name, kind=kind, row_group_size=20))
    assert list(file.members) == [str(index) for index in range(70)] and file.column == name
    order = list(range(70))
    random.Random(0).shuffle(order)
    assert all(file.read(str(index)) == IMAGES[index] and file.size(str(index)) == 100 + index for index in order)
    for row in ("70", "-1", "01", "x", ""):
        with pytest.raises(KeyError):
            file.read(row)
    assert file.values(["label"]) == {"label": list(range(70))}


def test_few_row_groups_are_kept_in_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(parquet_file, "KEPT", 10_000)
    file = ParquetFile(write(tmp_path / "a.parquet", row_group_size=10))
    for index in range(70):
        file.read(str(index))
        assert sum(size for _, size in parquet_file._kept.values()) <= 10_000


def test_a_row_without_an_image_is_an_error(tmp_path):
    file = ParquetFile(write(tmp_path / "a.parquet", [b"1", None, b""]))
    assert [file.size(str(row)) for row in range(3)] == [1, 0, 0] and file.read("2") == b""
    with pytest.raises(OSError, match="no image bytes"):
        file.read("1")


def test_a_footer_that_makes_pyarrow_end_the_process_is_refused(tmp_path):
    """One byte each: among them a column that may not be empty, whose counts say that it may."""
    path = tmp_path / "a.parquet"
    write(path, [b"1"], kind=pa.binary())
    code = """
import sys
from pmtrain.data.images.packed.parquet_file import ParquetFile
from pmtrain.system.errors import PmtrainError
whole = open(sys.argv[1], "rb").read()
for place in range(len(whole) - 8 - int.from_bytes(whole[-8:-4], "little"), len(whole) - 8):
    if whole[place] == 2:
        open(sys.argv[1], "wb").write(whole[:place] + bytes(1) + whole[place + 1:])
        try:
            ParquetFile(sys.argv[1]).read("0")
        except (PmtrainError, OSError, KeyError) as error:
            print(error)
"""
    done = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True, env=environment({}))
    assert done.returncode == 0, done.stderr
    assert "pyarrow can't read it" in done.stdout


def test_what_is_refused(tmp_path, monkeypatch):
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"label": [1], "path": ["a.png"]}), path)
    with pytest.raises(PmtrainError, match="a.parquet: has no column of image bytes; its columns are label, path"):
        ParquetFile(str(path))
    write(path)
    whole = path.read_bytes()
    for data in (b"", b"PAR1", whole[:-20], whole[: len(whole) // 2], b"PAR1" + bytes(500) + b"PAR1"):
        path.write_bytes(data)
        with pytest.raises(PmtrainError, match="a.parquet: is not a whole Parquet file"):
            ParquetFile(str(path))
    path.write_bytes(whole[:300] + bytes(1000) + whole[1300:])
    with pytest.raises(OSError, match="damaged"):
        ParquetFile(str(path)).read("0")
    monkeypatch.setattr(parquet_file, "LARGEST_GROUP", 1000)
    with pytest.raises(PmtrainError, match="in one row group"):
        ParquetFile(write(path))
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(PmtrainError, match=r"pmtrain\[parquet\]"):
        ParquetFile(str(path))
