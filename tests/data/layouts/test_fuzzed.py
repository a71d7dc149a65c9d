"""Damaged and hostile files: an error for people and nothing written, or a data set; never anything else."""

from __future__ import annotations

import io
import tarfile
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pmtrain.data.images.packed import opening
from pmtrain.data.images.read import BadImage, read_image
from pmtrain.data.layouts.readers import read_dataset
from pmtrain.data.layouts.rows import TableOptions
from pmtrain.data.layouts.tables import delimited, excel
from pmtrain.system.errors import PmtrainError
from tests.data.conftest import picture
from tests.reading import refusal, workbook, write

FUZZ = settings(
    max_examples=40,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


def read_all(path: Path) -> None:
    """Read a data set and its images; what is damaged is a PmtrainError, and no file appears."""
    before = sorted(path.parent.iterdir())
    opening._open.clear()  # the same second, size and inode may be another file
    try:
        for sample in read_dataset(path).samples[:4]:
            try:
                read_image(sample.path)
            except BadImage as bad:
                assert str(sample.path) in str(bad)
    except PmtrainError as error:
        assert path.parent.name in str(error)
    assert sorted(path.parent.iterdir()) == before


@pytest.fixture(scope="module")
def whole() -> dict[str, bytes]:
    """A small data set in each kind of file."""
    import cv2

    images = {
        f"{name}/{i}.png": cv2.imencode(".png", picture(i))[1].tobytes() for i in (1, 2) for name in ("no", "yes")
    }
    made = {}
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in images.items():
            archive.writestr(name, data)
    made[".zip"] = stream.getvalue()
    for suffix, mode in ((".tar", "w"), (".tgz", "w:gz")):
        stream = io.BytesIO()
        with tarfile.open(fileobj=stream, mode=mode) as tar:
            for name, data in images.items():
                info = tarfile.TarInfo(name)
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
        made[suffix] = stream.getvalue()
    values = np.stack([picture(i)[..., 0] for i in range(4)])
    stream = io.BytesIO()
    np.savez_compressed(stream, train_images=values, train_labels=np.array([[0], [1], [0], [1]]))
    made[".npz"] = stream.getvalue()
    h5py = pytest.importorskip("h5py")
    stream = io.BytesIO()
    with h5py.File(stream, "w") as file:
        file.create_dataset("x", data=values, chunks=(1, *values.shape[1:]), compression="gzip")
        file["y"] = np.array([0, 1, 0, 1])
    made[".h5"] = stream.getvalue()
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    stream = io.BytesIO()
    cells = pa.array([{"bytes": data} for data in images.values()], pa.struct([("bytes", pa.binary())]))
    pq.write_table(pa.table({"image": cells, "label": [0, 1, 0, 1]}), stream)
    made[".parquet"] = stream.getvalue()
    return made


@pytest.mark.parametrize("suffix", [".zip", ".tar", ".tgz", ".npz", ".parquet"])
@FUZZ
@given(data=st.data())
def test_damage_anywhere_is_an_error_that_names_the_file(tmp_path, whole, suffix, data):
    content = bytearray(whole[suffix])
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.integers(0, len(content) - 1))
        content[place : place + data.draw(st.integers(0, 8))] = data.draw(st.binary(max_size=8))
    path = tmp_path / f"fuzzed{suffix}"
    path.write_bytes(content)
    read_all(path)


@pytest.mark.parametrize("suffix", [".zip", ".tar", ".tgz", ".npz", ".h5", ".parquet"])
def test_a_truncated_file_is_an_error_wherever_it_ends(tmp_path, whole, suffix):
    content = whole[suffix]
    path = tmp_path / f"cut{suffix}"
    for end in range(0, len(content), max(1, len(content) // 25)):
        path.write_bytes(content[:end])
        read_all(path)


@FUZZ
@given(st.text(max_size=200), st.sampled_from(["utf-8", "utf-16", "gb18030", "cp1252"]))
def test_any_text_is_a_table_or_an_error(tmp_path, text, encoding):
    path = tmp_path / "fuzzed.csv"
    path.write_bytes(f"path,label\n{text}".encode(encoding, "replace"))
    read_all(path)


def test_hostile_tables_are_refused(tmp_path, touch, monkeypatch):
    touch(tmp_path, "1.png", "2.png", "3.png")
    quote = write(tmp_path / "quote.csv", 'path,label\n1.png,0\n2.png,"1\n3.png,1\n')
    assert "quote.csv, line 4" in refusal(quote)
    nul = write(tmp_path / "nul.csv", "path,label\n1.png,0\n2\0.png,1\n")
    assert "nul.csv: is not a text table" in refusal(nul)
    cell = write(tmp_path / "cell.csv", f"path,label\n1.png,0\n{'x' * 200_000},1\n")
    assert "cell.csv, line 3: field larger than field limit" in refusal(cell)
    monkeypatch.setattr(delimited, "MOST_BYTES", 1000)
    assert "at most 1,000" in refusal(cell)


def test_hostile_workbooks_are_refused(tmp_path, touch, monkeypatch):
    touch(tmp_path, "1.png", "2.png")
    book = workbook(tmp_path / "a.xlsx", [("path", "label"), ("1.png", 0), ("2.png", 1)])
    assert len(read_dataset(book).samples) == 2
    monkeypatch.setattr(excel, "MOST_BYTES", 1000)
    assert "a.xlsx: has" in refusal(book) and "when unpacked" in refusal(book)
    monkeypatch.undo()
    openpyxl = pytest.importorskip("openpyxl")
    wide = openpyxl.Workbook()
    for row in range(1, 4):
        wide.active.cell(row, 16384, "x")
    wide.save(tmp_path / "wide.xlsx")
    monkeypatch.setattr(excel, "MOST_CELLS", 20_000)
    assert "wide.xlsx: has more than 20,000 cells" in refusal(tmp_path / "wide.xlsx")
    merged = openpyxl.Workbook()
    merged.active.append(("path", "label"))
    merged.active.merged_cells.add("A2:XFD1048576")
    merged.save(tmp_path / "merged.xlsx")
    assert "merged ranges of more than" in refusal(tmp_path / "merged.xlsx")


def test_a_bomb_fills_no_memory(tmp_path):
    array = np.zeros((1, 5_000, 5_000), np.uint8)
    np.savez_compressed(tmp_path / "bomb.npz", train_images=np.repeat(array, 2, 0), train_labels=np.array([0, 1]))
    tracemalloc.start()
    read_dataset(tmp_path / "bomb.npz")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert (tmp_path / "bomb.npz").stat().st_size < 1_000_000 and peak < 10_000_000


def test_a_table_may_name_files_of_an_archive_only_within_it(tmp_path, touch):
    touch(tmp_path, "secret.png")
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("labels.csv", "path,label\n../secret.png,1\n1.png,0\n")
        archive.writestr("1.png", b"1")
    assert "../secret.png (line 2)" in refusal(tmp_path / "a.zip", columns=TableOptions())
