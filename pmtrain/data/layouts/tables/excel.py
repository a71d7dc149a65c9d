"""Excel files: the first sheet's cells as the text that a CSV would hold."""

from __future__ import annotations

import datetime
import warnings
from collections.abc import Iterator
from pathlib import Path

from pmtrain.system.errors import PmtrainError
from pmtrain.system.files import cannot

WAY_OUT = "open it and save the sheet as CSV (CSV UTF-8), or as .xlsx"


def sheet_lines(path: Path) -> tuple[Iterator[tuple[int, list[str]]], tuple[str, ...]]:
    """Row number (from 1) and cells of the first sheet, blank rows left out, every row as long as the first one;
    then what to tell of it.

    Raises:
        PmtrainError: openpyxl isn't installed, or it can't read the file.
    """
    if path.suffix.lower() == ".xls":
        raise PmtrainError(f"{path}: Excel's old .xls files aren't read", WAY_OUT)
    try:
        import openpyxl
    except ImportError:
        raise PmtrainError(
            f"{path}: Excel files are read by openpyxl, which isn't installed",
            'pip install "pmtrain[excel]"; or save the sheet as CSV (CSV UTF-8) and give that',
        ) from None
    try:
        with open(path, "rb") as file, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of formats and drop-down lists that it doesn't know, which hold no cell
            book = openpyxl.load_workbook(file, read_only=True, data_only=True)
            sheets = book.worksheets
            sheets[0].reset_dimensions()  # what a file says of its own size may be wrong
            rows = [[_text(cell) for cell in row] for row in sheets[0].iter_rows(values_only=True)]
    except OSError as error:
        raise cannot("read", path, error) from None
    except Exception as error:  # whatever a damaged or locked file makes a reader of zipped XML say
        raise PmtrainError(
            f"{path}: can't be read as an Excel file ({type(error).__name__}); a password has to be taken off", WAY_OUT
        ) from None
    names = [repr(sheet.title) for sheet in sheets]
    notes = (f"{path.name}: sheet {names[0]} was read, not {', '.join(names[1:])}",) if len(names) > 1 else ()
    return _padded(rows), notes


def _padded(rows: list[list[str]]) -> Iterator[tuple[int, list[str]]]:
    width = 0
    for number, cells in enumerate(rows, 1):
        if any(cells):
            while cells and not cells[-1]:
                cells.pop()
            width = width or len(cells)
            yield number, cells + [""] * (width - len(cells))


def _text(cell: object) -> str:
    """As Excel shows a plain number, date or truth value."""
    if cell is None:
        return ""
    if isinstance(cell, bool):
        return str(cell).upper()
    if isinstance(cell, float) and cell.is_integer():
        return str(int(cell))
    if isinstance(cell, datetime.datetime) and cell.time() == datetime.time():
        return cell.date().isoformat()
    return str(cell).strip()
