"""Read Excel files: the cells of a sheet as text, as in a CSV file."""

from __future__ import annotations

import datetime
import itertools
import re
import warnings
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

from pmtrain.data.images import source
from pmtrain.system.errors import PmtrainError, UsageError
from pmtrain.system.files import cannot

MOST_BYTES = 1 << 28  # of a file, unpacked
MOST_CELLS = 20_000_000
PEEK = 50  # rows that are looked at to see whether a sheet has a table
WAY_OUT = "open it and save the sheet as CSV (CSV UTF-8), or as .xlsx"


def sheet_lines(path: Path, sheet: str | None = None) -> tuple[Iterator[tuple[int, list[str]]], tuple[str, ...]]:
    """Row number (from 1) and cells of a sheet, and notes; by default of the first visible one that has a table.

    Blank rows are left out, and all rows are as long as the longest. Every cell of a merged range gets its value.

    Raises:
        PmtrainError: openpyxl isn't installed, or it can't read the file.
        UsageError: there is no such sheet.
    """
    if path.suffix.lower() == ".xls":
        raise PmtrainError(f"{path}: old Excel files (.xls) aren't supported", WAY_OUT)
    try:
        import openpyxl
    except ImportError:
        raise PmtrainError(
            f"{path}: reading Excel files needs openpyxl, which isn't installed",
            'pip install "pmtrain[excel]"; or save the sheet as CSV (CSV UTF-8) and use that',
        ) from None
    try:
        with source.open_file(path) as file, warnings.catch_warnings():
            warnings.simplefilter(
                "ignore"
            )  # warnings about unsupported formats and drop-down lists, which don't affect cells
            _check_size(path, file)
            book = openpyxl.load_workbook(file, read_only=True, data_only=True)
            if _merged(path, file):  # a read-only workbook ignores merged cells
                book = openpyxl.load_workbook(file, data_only=True)
            sheets = {each.title: each for each in book.worksheets}
            name = _chosen(path, sheet, book.worksheets)
            rows = _rows(path, sheets[name])
            if not book.read_only:
                _fill(rows, sheets[name].merged_cells.ranges)
    except PmtrainError:
        raise
    except OSError as error:
        raise cannot("read", path, error) from None
    except Exception as error:  # a damaged or encrypted file can raise anything in a reader of zipped XML
        raise PmtrainError(
            f"{path}: can't be read as an Excel file ({type(error).__name__}); if it has a password, remove it", WAY_OUT
        ) from None
    others = [repr(other) for other in sheets if other != name]
    told = f"{path.name}: sheet {name!r} was read, not {', '.join(others)}; --sheet chooses another"
    return _padded(rows), (told,) * (bool(others) and sheet is None)


def _chosen(path: Path, name: str | None, sheets: list[Any]) -> str:
    """The name of the sheet to read."""
    if name is None:
        visible = [sheet for sheet in sheets if sheet.sheet_state == "visible"] or sheets
        return next((sheet for sheet in visible if _has_table(path, sheet)), visible[0]).title
    if name not in (names := [sheet.title for sheet in sheets]):
        raise UsageError(f"--sheet {name!r}: {path} has no such sheet", f"it has {', '.join(map(repr, names))}")
    return name


def _has_table(path: Path, sheet: Any) -> bool:
    """Whether there are at least two rows with several cells each, unlike in a sheet of explanations."""
    wide = (row for row in _rows(path, sheet, PEEK) if sum(map(bool, row)) > 1)
    return sum(1 for _ in itertools.islice(wide, 2)) == 2


def _rows(path: Path, sheet: Any, most: int | None = None) -> list[list[str]]:
    """The cells of the first `most` rows, or of all."""
    if hasattr(sheet, "reset_dimensions"):
        sheet.reset_dimensions()  # the size stated in a file may be wrong
    rows, count = [], 0
    for row in itertools.islice(sheet.iter_rows(values_only=True), most):
        rows.append([_text(cell) for cell in row])
        count += len(row)
        if count > MOST_CELLS:
            raise _too_large(path, f"more than {MOST_CELLS:,} cells")
    return rows


def _check_size(path: Path, file: BinaryIO) -> None:
    """Refuse a file that would fill the memory."""
    with zipfile.ZipFile(file) as archive:
        size = sum(info.file_size for info in archive.infolist())
    if size > MOST_BYTES:
        raise _too_large(path, f"{size:,} bytes when unpacked, more than {MOST_BYTES:,}")


def _too_large(path: Path, what: str) -> PmtrainError:
    return PmtrainError(f"{path}: has {what}", "save the sheet as CSV (CSV UTF-8), without its empty cells")


def _merged(path: Path, file: BinaryIO) -> bool:
    """Whether a sheet of the file has merged cells."""
    from openpyxl.utils import range_boundaries

    count = 0
    with zipfile.ZipFile(file) as archive:
        for name in archive.namelist():
            if name.startswith("xl/worksheets/sheet"):
                for reference in re.findall(rb'<mergeCell [^>]*ref="([^"]+)"', archive.read(name)):
                    left, top, right, bottom = range_boundaries(reference.decode())
                    count += (right - left + 1) * (bottom - top + 1)
    if count > MOST_CELLS:
        raise _too_large(path, f"merged ranges of more than {MOST_CELLS:,} cells")
    return count > 0


def _fill(rows: list[list[str]], ranges: Iterable[Any]) -> None:
    """Give every cell of a merged range the value of its first."""
    for each in ranges:
        value = rows[each.min_row - 1][each.min_col - 1]
        for row in rows[each.min_row - 1 : each.max_row]:
            row[each.min_col - 1 : each.max_col] = [value] * (each.max_col - each.min_col + 1)


def _padded(rows: list[list[str]]) -> Iterator[tuple[int, list[str]]]:
    for cells in rows:
        while cells and not cells[-1]:
            cells.pop()
    width = max(map(len, rows), default=0)
    for number, cells in enumerate(rows, 1):
        if cells:
            yield number, cells + [""] * (width - len(cells))


def _text(cell: object) -> str:
    """Format a number, date or boolean as Excel shows it."""
    if cell is None:
        return ""
    if isinstance(cell, bool):
        return str(cell).upper()
    if isinstance(cell, float) and cell.is_integer():
        return str(int(cell))
    if isinstance(cell, datetime.datetime) and cell.time() == datetime.time():
        return cell.date().isoformat()
    return str(cell).strip()
