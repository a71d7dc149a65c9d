"""Read text tables: delimiters, quotes, encodings, line endings."""

from __future__ import annotations

import codecs
import contextlib
import csv
import io
import itertools
import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pmtrain.data.images import source
from pmtrain.data.images.packed.old_encodings import SAID, likely_encodings
from pmtrain.data.images.read import SUFFIXES
from pmtrain.data.layouts.classes import says_negative
from pmtrain.data.layouts.listing import SHEET_SUFFIXES, suffix_of
from pmtrain.data.layouts.tables.column_names import COLUMNS, plain, usual_names
from pmtrain.data.layouts.tables.excel import sheet_lines
from pmtrain.system.errors import PmtrainError, UsageError
from pmtrain.system.files import cannot, plain_cell

DELIMITERS = ",;\t|"
COMMENTS = re.compile(r"(?:#[ \t!].*\n)+")  # above the header
BOMS = {codecs.BOM_UTF8: "utf-8-sig", codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}
KNOWN_NAMES = set().union(*map(usual_names, COLUMNS))
TITLES = 10  # lines that may stand above the header
WHOLE = (*SHEET_SUFFIXES, ".json")  # can't be read in part
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

    def checked(self, least: int, skipped: list[tuple[str, int]] | None = None) -> Lines:
        """The lines, each with at least `least` cells, and none to the right of the header.

        Args:
            skipped: takes first cell and number of the lines that don't fit; None: they are an error.
        Raises:
            PmtrainError: a line doesn't fit.
        """
        width = len(self.header)
        for line, cells in self.lines:
            if len(cells) != width and (len(cells) < least or any(cells[width:])):
                if cells[0].startswith("#"):  # a comment
                    continue
                if skipped is not None:
                    skipped.append((cells[0], line))
                    continue
                raise PmtrainError(
                    f"{self.path}, line {line}: {len(cells)} cells, but the header has {width}",
                    "put cells that contain the delimiter in double quotes; --skip-missing leaves such lines out",
                )
            yield line, cells

    def rows(self, columns: dict[str, int]) -> Iterator[tuple[int, dict[str, str]]]:
        """Line number, and the cells of `columns` (key -> place) by key; raises as `checked`."""
        for line, cells in self.checked(max(columns.values()) + 1):
            yield line, {key: cells[place] for key, place in columns.items()}


def open_table(path: Path, sheet: str | None = None) -> Table:
    """Open a text table, or an Excel file (by suffix); `sheet` names one of its sheets.

    A .jsonl file has a JSON object per line, a .json file a list of them or a label for each name. Other text is UTF-8
    or, as saved by Excel, UTF-16 or one of the encodings of `old_encodings`. The delimiter is the comma, semicolon, tab
    or `|` that splits the header into the most cells, or a blank if none splits it. Comments (`# ...`) above it are
    skipped.

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
    """The column names of a table: of its first lines, the one with the most usual names, or else the first.

    Empty if the file isn't a table. With `strict`, raises as `open_table`.
    """
    try:
        if suffix_of(path.name) in WHOLE:
            table = open_table(path)
            lines = [table.header, *(cells for _, cells in itertools.islice(table.lines, TITLES))]
        else:
            with source.open_file(path) as file:
                text, _ = _decode(path, file.read(HEAD), whole=False)
            lines = [cells for _, cells in itertools.islice(_text_lines(path, text), TITLES + 1)]
        return max(lines, key=lambda cells: sum(plain(cell) in KNOWN_NAMES for cell in cells), default=[])
    except OSError as error:
        if strict:
            raise cannot("read", path, error) from None
    except PmtrainError:
        if strict:
            raise
    return []


def _decode(path: Path, raw: bytes, whole: bool = True) -> tuple[str, tuple[str, ...]]:
    """The text, and notes on its encoding; unless `whole`, the last character may be incomplete."""
    marked = next((encoding for bom, encoding in BOMS.items() if raw.startswith(bom)), None) or _utf16(raw)
    for encoding in [marked] if marked else _encodings(raw):
        try:
            text = codecs.getincrementaldecoder(encoding)().decode(raw, final=whole)
        except UnicodeDecodeError:
            continue
        if "\0" in text:
            break
        told = f"{path.name} isn't UTF-8: it was read as {SAID[encoding]}" if encoding in SAID else ""
        return text, (told,) * bool(told)
    raise PmtrainError(
        f"{path}: is not a text table in UTF-8, UTF-16, GB18030, Windows-1252 or the like",
        "save it as CSV UTF-8 (in Excel: Save as, CSV UTF-8)",
    )


def _encodings(raw: bytes) -> Iterator[str]:
    yield "utf-8"
    yield from likely_encodings(raw, _known_words)


def _known_words(text: str) -> int:
    """The number of column names and negative labels in several languages in the first lines."""
    words = set(re.split(r"[,;\t|\r\n\"]+", text[:5000])) - {""}
    return sum(plain(word) in KNOWN_NAMES or says_negative(word) for word in words)


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


def _json_lines(path: Path, text: str) -> Lines:
    """Each line's object, as the hub has metadata.jsonl."""
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            yield number, _json(path, line, f", line {number}")


def _json_objects(path: Path, text: str) -> Iterator[tuple[int, Any]]:
    """The objects of a list; or of an object with a label, or an object, for each file name."""
    content = _json(path, text, "")
    if isinstance(content, dict) and suffix_of(next(iter(content), "")) in SUFFIXES:
        rows = [row if isinstance(row, dict) else {"label": row} for row in content.values()]
        content = [{"file": name} | row for name, row in zip(content, rows, strict=True)]
    if not isinstance(content, list):
        raise PmtrainError(f"{path}: is no list of JSON objects", 'for example [{"file_name": "1.png", "label": 0}]')
    yield from enumerate(content, 1)


def _json(path: Path, text: str, where: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        raise PmtrainError(
            f"{path}{where}: is not JSON", 'write one object per line: {"file_name": "1.png", "label": 0}'
        ) from None


def _json_rows(path: Path, objects: Iterable[tuple[int, Any]]) -> Lines:
    """The keys of the first object, then every object's values."""
    header: list[str] = []
    for number, row in objects:
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


JSON = {".jsonl": _json_lines, ".json": _json_objects}


def _text_lines(path: Path, text: str) -> Lines:
    if read_json := JSON.get(suffix_of(path.name)):
        yield from _json_rows(path, read_json(path, text))
        return
    if said := re.match(r'"?sep=([,;\t])"?\r?\n', text):  # an Excel directive (sep=)
        delimiter, skipped = said[1], 1
        text = text[said.end() :]
    else:
        comments = COMMENTS.match(text)
        skipped = comments[0].count("\n") if comments else 0
        text = text[comments.end() :] if comments else text

        def widths(mark: str) -> list[int]:
            """The number of cells in each of the first lines."""
            found = []
            with contextlib.suppress(PmtrainError):  # of the wrong delimiter, quotes make no sense
                for _, cells in itertools.islice(_records(path, text, mark), TITLES + 1):
                    found.append(len(cells))
            return found

        by_mark = {mark: widths(mark) for mark in DELIMITERS}
        # That of the header, or under a title, which may have a comma, that of the lines below it.
        delimiter = max(by_mark, key=lambda mark: by_mark[mark][:1])
        below = max(by_mark, key=lambda mark: max(by_mark[mark][1:], default=1))
        if max(by_mark[delimiter][1:], default=1) == 1 < max(by_mark[below][1:], default=1):
            delimiter = below
        if max(by_mark[delimiter], default=1) == 1:
            delimiter = " "
    records = _records(path, text, delimiter)
    yield from ((line + skipped, cells) for line, cells in records) if skipped else records


def _records(path: Path, text: str, delimiter: str) -> Lines:
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, skipinitialspace=True)
    start = end = 0  # lines of the last record
    marked = "'" in text
    strip = str.strip
    try:
        for cells in reader:
            start, end = end, reader.line_num
            stripped = list(map(strip, cells))
            if any(stripped):
                yield end, [*map(plain_cell, stripped)] if marked else stripped
        # A quote that is never closed makes one record of all that follows.
        last = itertools.islice(io.StringIO(text, newline=""), start if end - start > 1 else end, end)
        for _ in csv.reader(last, delimiter=delimiter, skipinitialspace=True, strict=True):
            pass
    except csv.Error as error:
        raise PmtrainError(f"{path}, line {reader.line_num}: {error}") from None
