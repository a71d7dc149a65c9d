"""What the tests of layouts share: listings to compare, and what is said of data that can't be used."""

from __future__ import annotations

from pathlib import Path

import pytest

from pmtrain.data.layouts.readers import read_dataset
from pmtrain.data.splits.split import require_both_classes
from pmtrain.system.errors import PmtrainError


def refusal(data: Path, **options) -> str:
    """What a training is told of data that it can't use."""
    with pytest.raises(PmtrainError) as caught:
        dataset = read_dataset(data, **options)
        if dataset.split("val"):  # without one, some images are held out for it
            require_both_classes(dataset)
    return str(caught.value)


def listed(dataset) -> dict[str, tuple[str | None, int]]:
    return {dataset.name_of(sample): (sample.split, sample.label) for sample in dataset.samples}


def write(path: Path, text: str, encoding: str = "utf-8") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode(encoding))
    return path


def workbook(path: Path, *sheets: list[tuple]) -> Path:
    """An Excel file with a sheet for each list of rows."""
    openpyxl = pytest.importorskip("openpyxl")
    book = openpyxl.Workbook()
    book.remove(book.active)
    for number, rows in enumerate(sheets, 1):
        sheet = book.create_sheet(f"Tabelle{number}")
        for row in rows:
            sheet.append(row)
    path.parent.mkdir(parents=True, exist_ok=True)
    book.save(path)
    return path
