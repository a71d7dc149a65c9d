"""Titles above the header, and second lines of it."""

from __future__ import annotations

import pytest

from pmtrain.data.layouts.readers import read_dataset
from pmtrain.data.layouts.rows import TableOptions
from tests.reading import listed, refusal, workbook, write

BOTH = {"e1.jpg": (None, 0), "e2.jpg": (None, 1)}
ROWS = [("e1.jpg", 0, 1), ("e2.jpg", 1, 0)]


@pytest.fixture(autouse=True)
def images(tmp_path, touch):
    touch(tmp_path, "e1.jpg", "e2.jpg")


@pytest.mark.parametrize(
    "text",
    [
        "Eyes of the clinic, 2024\n\nimage;label\ne1.jpg;0\ne2.jpg;1\n",
        "Eyes, 2024\nmade by Anna\nimage,label\ne1.jpg,0\ne2.jpg,1\n",
        "Eyes\nthe first one,what we saw\ne1.jpg,0\ne2.jpg,1\n",
        "image,label\n# not yet seen again\ne1.jpg,0\ne2.jpg,1\n# the end\n",
    ],
    ids=["a title", "two lines", "no known names", "comments"],
)
def test_lines_that_are_no_data_are_skipped(tmp_path, text):
    data = read_dataset(write(tmp_path / "t.csv", text))
    assert listed(data) == BOTH
    assert listed(read_dataset(tmp_path)) == BOTH  # by the folder
    assert text.startswith("image") or any("what is above it was skipped" in note for note in data.notes)


def test_a_header_of_two_lines(tmp_path):
    pytest.importorskip("openpyxl")
    lines = [("Image", "Diagnosis", None), (None, "PM", "AMD"), *ROWS]
    table = workbook(tmp_path / "t.xlsx", [("Clinic", None, None), *lines])
    data = read_dataset(table, columns=TableOptions(label_column=["Diagnosis PM"]))
    assert listed(data) == BOTH and "t.xlsx: line 3 belongs to the header" in data.notes
    assert data.samples[0].columns == (("Diagnosis AMD", "1"),)


def test_a_line_without_a_file_is_no_header(tmp_path):
    table = write(tmp_path / "t.csv", "image,label\n,0\ne1.jpg,0\ne2.jpg,1\n")
    assert "line 2: the path is empty" in refusal(table)
    assert listed(read_dataset(table, columns=TableOptions(skip_missing=True))) == BOTH


def test_sheets_that_are_hidden_or_of_text_are_not_the_first(tmp_path):
    openpyxl = pytest.importorskip("openpyxl")
    old = [("image", "label"), ("e1.jpg", 1), ("e2.jpg", 0)]
    path = workbook(tmp_path / "t.xlsx", old, [("How to read this",), ("by Anna",)], [("image", "label"), *ROWS])
    book = openpyxl.load_workbook(path)
    book["Tabelle1"].sheet_state = "hidden"
    book["Tabelle3"]["C1"] = "other"
    book.save(path)
    data = read_dataset(path)
    assert listed(data) == BOTH
    assert "t.xlsx: sheet 'Tabelle3' was read, not 'Tabelle1', 'Tabelle2'; --sheet chooses another" in data.notes
