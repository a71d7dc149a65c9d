"""Tables of text and of Excel, whoever saved them."""

from __future__ import annotations

import csv
import datetime
import io
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pmtrain.data.layouts.tables.delimited import header_of, open_table
from pmtrain.system.errors import PmtrainError
from tests.reading import workbook, write

# What a cell may hold: the outer spaces are no part of it, and a NUL is no text. Python's writer leaves "\\r" unquoted.
TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\0\r"), max_size=12)
CHINESE = st.text(st.sampled_from("眼底照片1234 ,;\t\"'\\/\n正常近视abcXYZ-_"), max_size=12)


def rows_of(path: Path) -> list[list[str]]:
    table = open_table(path)
    return [table.header, *(cells for _, cells in table.lines)]


@pytest.fixture(scope="module")
def file(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("tables") / "t.csv"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "gbk"])
@given(data=st.data())
def test_what_python_writes_is_read_back(file, encoding, data):
    header = ["路径", "label"]
    # An apostrophe before what a spreadsheet would take for a formula is pmtrain's own, and is taken off.
    cells = (CHINESE if encoding == "gbk" else TEXT).map(str.strip).filter(lambda cell: not cell.startswith("'"))
    line_end = data.draw(st.sampled_from(["\n", "\r\n", "\r"]))
    if line_end == "\r":
        cells = cells.filter(lambda cell: "\n" not in cell)
    rows = data.draw(st.lists(st.tuples(cells, cells).filter(any), max_size=5))
    text = io.StringIO(newline="")
    writer = csv.writer(
        text,
        delimiter=data.draw(st.sampled_from(",;\t")),
        quoting=data.draw(st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL, csv.QUOTE_NONNUMERIC])),
        lineterminator=line_end,
    )
    writer.writerows([header, *rows])
    write(file, text.getvalue(), encoding)
    assert rows_of(file) == [header, *map(list, rows)]
    assert header_of(file) == header


def test_bytes_that_are_not_utf_8_are_gb18030(tmp_path):
    path = write(tmp_path / "t.csv", "path,label\n眼.jpg,近视\n𠀀.jpg,正常\n", "gb18030")
    assert rows_of(path)[1:] == [["眼.jpg", "近视"], ["𠀀.jpg", "正常"]]
    assert "GB18030" in open_table(path).notes[0]
    assert open_table(write(path, "path,label\n眼.jpg,近视\n")).notes == ()


@pytest.mark.parametrize("raw", [b"path,label\n\xff\xff\x98\x98,0\n", b"a\0b,c\n", b"\xff\xfea", b"PK\x03\x04\0\0"])
def test_bytes_that_are_no_text_are_refused(tmp_path, raw):
    (tmp_path / "t.csv").write_bytes(raw)
    with pytest.raises(PmtrainError, match="CSV UTF-8"):
        list(open_table(tmp_path / "t.csv").lines)


def test_a_header_is_read_from_the_beginning_of_a_large_file(tmp_path):
    path = write(tmp_path / "t.csv", "path,label\n" + "眼.jpg,近视\n" * 20_000)
    assert header_of(path) == ["path", "label"]
    assert header_of(tmp_path / "gone.csv") == []
    with pytest.raises(PmtrainError, match=r"gone\.csv"):
        header_of(tmp_path / "gone.csv", strict=True)


@pytest.mark.parametrize(
    ("text", "rows"),
    [
        ('sep=;\r\n"a, b";c\r\n1;2\r\n', [["a, b", "c"], ["1", "2"]]),
        ('"image, path";label\n"x, y";1\n', [["image, path", "label"], ["x, y", "1"]]),
        ('\n\n"a\nb",c\n1,2\n', [["a\nb", "c"], ["1", "2"]]),
        ("a\n1\n", [["a"], ["1"]]),
        ("", [[]]),
    ],
    ids=["a line for Excel", "the other delimiter in quotes", "two lines in one cell", "one column", "nothing"],
)
def test_delimiters_are_told_by_the_header(tmp_path, text, rows):
    assert rows_of(write(tmp_path / "t.csv", text)) == rows


def test_line_numbers_are_those_of_the_file(tmp_path):
    path = write(tmp_path / "t.csv", 'sep=,\na,b\n\n1,2\n"x\ny",3\n4,5\n')
    assert [line for line, _ in open_table(path).lines] == [4, 6, 7]


def test_excel_cells_are_what_a_csv_would_hold(tmp_path):
    row = ("眼", 1, 2.0, 0.5, True, None, datetime.datetime(2024, 2, 3), " x ")
    path = workbook(tmp_path / "t.xlsx", [tuple("abcdefgh"), row, (), ("only",)])
    table = open_table(path)
    assert table.header == list("abcdefgh") and table.notes == ()
    assert list(table.lines) == [
        (2, ["眼", "1", "2", "0.5", "TRUE", "", "2024-02-03", "x"]),
        (4, ["only", *[""] * 7]),
    ]


def test_excel_without_openpyxl_says_what_to_install(tmp_path, monkeypatch):
    path = workbook(tmp_path / "t.xlsx", [("path", "label")])
    monkeypatch.setitem(sys.modules, "openpyxl", None)
    with pytest.raises(PmtrainError, match=r'pip install "pmtrain\[excel\]"'):
        open_table(path)
    assert header_of(path) == []


@pytest.mark.parametrize("name", ["t.xlsx", "t.xls"])
def test_an_excel_file_that_cannot_be_read_says_the_way_out(tmp_path, name):
    (tmp_path / name).write_bytes(b"\xd0\xcf\x11\xe0")
    with pytest.raises(PmtrainError, match=rf"{name}: .*\n?.*CSV"):
        open_table(tmp_path / name)
