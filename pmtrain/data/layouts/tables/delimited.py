"""Read text tables: delimiters, quotes, encodings, line endings."""

from __future__ import annotations

import codecs
import csv
import io
import itertools
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from pmtrain.data.images import source
from pmtrain.data.layouts.listing import SHEET_SUFFIXES, suffix_of
from pmtrain.data.layouts.tables.excel import sheet_lines
from pmtrain.system.errors import PmtrainError, UsageError
from pmtrain.system.files import cannot, plain_cell

DELIMITERS = ",;\t|"
COMMENTS = re.compile(r"(?:#[ \t!].*\n)+")  # above the header
BOMS = {codecs.BOM_UTF8: "utf-8-sig", codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}
# Encodings of Excel's plain CSV, by country.
OLD_ENCODINGS = {
    "gb18030": "GB18030, as Excel saves CSV in China",
    "cp1252": "Windows-1252, as Excel saves CSV in Europe",
}
HEAD = 1 << 16  # bytes: enough for a header
MOST_BYTES = 1 << 28  # of a table, which is read as a whole

Lines = Iterator[tuple[int, list[str]]]


@dataclass(frozen=True)
class Table:
    """The column names of a table, and its other lines: number (from 1) and cells, without blank lines."""

    path: Path
    header: list[str]
    lines: Lines
    notes: tuple[str, ...] = ()
    header_line: int = 1

    def without_header(self) -> Table:
        """The same table with the first line as a row; the columns are named `1`, `2`, ..."""
        names = [str(number) for number in range(1, len(self.header) + 1)]
        return replace(self, header=names, lines=itertools.chain([(self.header_line, self.header)], self.lines))

    def rows(self, columns: dict[str, int]) -> Iterator[tuple[int, dict[str, str], tuple[tuple[str, str], ...]]]:
        """Line number, the cells of `columns` (key -> place) by key, and (name, cell) of every other named column.

        Raises:
            PmtrainError: a line has more cells than the header, or too few for `columns`.
        """
        width = len(self.header)
        others = [(name, place) for place, name in enumerate(self.header) if name and place not in columns.values()]
        for line, cells in self.lines:
            if len(cells) != width and (len(cells) <= max(columns.values()) or any(cells[width:])):
                raise PmtrainError(
                    f"{self.path}, line {line}: {len(cells)} cells, but the header has {width}",
                    "put cells that contain the delimiter in double quotes",
                )
            rest = tuple((name, cells[place] if place < len(cells) else "") for name, place in others) if others else ()
            yield line, {key: cells[place] for key, place in columns.items()}, rest


def open_table(path: Path, sheet: str | None = None) -> Table:
    """Open a text table, or an Excel file (by suffix); `sheet` names one of its sheets.

    A .jsonl file has a JSON object per line. Other text is UTF-8 or, as saved by Excel, UTF-16 with a byte order mark,
    GB18030 (includes GBK and GB 2312) or Windows-1252 (includes nearly all of Latin-1). The delimiter is the comma,
    semicolon, tab or `|` that splits the header into the most cells, or a blank if none of them splits it. Comments
    (`# ...`) above the header are skipped.

    Raises:
        PmtrainError: it can't be read or decoded.
    """
    if suffix_of(path.name) in SHEET_SUFFIXES:
        lines, notes = sheet_lines(path, sheet)
    elif sheet is not None:
        raise UsageError(f"--sheet {sheet!r}: {path} is a text table, which has no sheets", "leave it out")
    else:
        text, notes = _decode(path, _content(path))
        lines = _text_lines(path, text)
    line, header = next(lines, (1, []))
    return Table(path, header, lines, notes, line)


def _content(path: Path) -> bytes:
    try:
        if (size := source.size(path)) > MOST_BYTES:
            raise PmtrainError(f"{path}: has {size:,} bytes; a table has at most {MOST_BYTES:,}")
        return source.read(path)
    except OSError as error:
        raise cannot("read", path, error) from None


def header_of(path: Path, strict: bool = False) -> list[str]:
    """The column names of a table; empty if the file isn't a table. With `strict`, raises as `open_table`."""
    try:
        if suffix_of(path.name) in SHEET_SUFFIXES:
            return open_table(path).header
        with source.open_file(path) as file:
            text, _ = _decode(path, file.read(HEAD), whole=False)
        return next(_text_lines(path, text), (0, []))[1]
    except OSError as error:
        if strict:
            raise cannot("read", path, error) from None
    except PmtrainError:
        if strict:
            raise
    return []


def plain(name: str) -> str:
    """A column name in lower case, without spaces, `_`, `-` and `.`."""
    return re.sub(r"[\s_.-]+", "", name.lower())


def _decode(path: Path, raw: bytes, whole: bool = True) -> tuple[str, tuple[str, ...]]:
    """The text, and notes on its encoding; unless `whole`, the last character may be incomplete."""
    marked = next((encoding for bom, encoding in BOMS.items() if raw.startswith(bom)), None) or _utf16(raw)
    for encoding in [marked] if marked else ["utf-8", "cp1252" if _is_western(raw) else "gb18030"]:
        try:
            text = codecs.getincrementaldecoder(encoding)().decode(raw, final=whole)
        except UnicodeDecodeError:
            continue
        if "\0" in text:
            break
        told = f"{path.name} isn't UTF-8: it was read as {OLD_ENCODINGS[encoding]}" if encoding in OLD_ENCODINGS else ""
        return text, (told,) * bool(told)
    raise PmtrainError(
        f"{path}: is not a text table in UTF-8, UTF-16, GB18030 or Windows-1252",
        "save it as CSV UTF-8 (in Excel: Save as, CSV UTF-8)",
    )


def _utf16(raw: bytes) -> str | None:
    """The encoding of UTF-16 without a mark: of the bytes of Western letters, every second one is 0."""
    start = raw[:200]
    for place, encoding in ((1, "utf-16-le"), (0, "utf-16-be")):
        if (
            len(start) > 1
            and start[place::2].count(0) > 0.6 * len(start[place::2])
            and not start[1 - place :: 2].count(0)
        ):
            return encoding
    return None


def _is_western(raw: bytes) -> bool:
    """Whether bytes above 127 are single, like Western letters, rather than in pairs, like Chinese characters."""
    runs = re.findall(rb"[\x80-\xff]+", raw)
    return sum(len(run) == 1 for run in runs) > len(runs) / 2


def _json_lines(path: Path, text: str) -> Lines:
    """The keys of the first object, then every object's values, as the hub has metadata.jsonl."""
    header: list[str] = []
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            row = None
        if not isinstance(row, dict):
            raise PmtrainError(
                f"{path}, line {number}: is not a JSON object", 'write one per line: {"file_name": "1.png", "label": 0}'
            )
        if not header:
            header = list(row)
            yield number, header
        yield number, [_json_text(row.get(name)) for name in header]


def _json_text(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return (
        value.strip()
        if isinstance(value, str)
        else json.dumps(value)
        if isinstance(value, (dict, list))
        else str(value)
    )


def _text_lines(path: Path, text: str) -> Lines:
    if suffix_of(path.name) == ".jsonl":
        yield from _json_lines(path, text)
        return
    if said := re.match(r'"?sep=([,;\t])"?\r?\n', text):  # an Excel directive (sep=)
        delimiter, skipped = said[1], 1
        text = text[said.end() :]
    else:
        comments = COMMENTS.match(text)
        skipped = comments[0].count("\n") if comments else 0
        text = text[comments.end() :] if comments else text

        def width(mark: str) -> int:
            return len(next(_records(path, text, mark), (0, []))[1])

        delimiter = max(DELIMITERS, key=width)
        if width(delimiter) == 1:
            delimiter = " "
    for line, cells in _records(path, text, delimiter):
        yield line + skipped, cells


def _records(path: Path, text: str, delimiter: str) -> Lines:
    record: list[str] = []  # its lines

    def lines() -> Iterator[str]:
        for line in io.StringIO(text, newline=""):
            record.append(line)
            yield line

    reader = csv.reader(lines(), delimiter=delimiter, skipinitialspace=True)
    last: list[str] = []
    marked = "'" in text
    try:
        for cells in reader:
            last = record.copy() if len(record) > 1 else []
            record.clear()
            stripped = [cell.strip() for cell in cells]
            if any(stripped):
                yield reader.line_num, [*map(plain_cell, stripped)] if marked else stripped
        # A quote that is never closed makes one record of all that follows.
        for _ in csv.reader(last, delimiter=delimiter, skipinitialspace=True, strict=True):
            pass
    except csv.Error as error:
        raise PmtrainError(f"{path}, line {reader.line_num}: {error}") from None
