"""A data set written as a table that the `csv` layout reads."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Mapping
from pathlib import Path

from pmtrain.data.dataset import DataSet, Sample
from pmtrain.data.layouts.tables.column_names import COLUMNS, plain
from pmtrain.data.splits.split import FOLD
from pmtrain.system.errors import PmtrainError
from pmtrain.system.files import new_file, safe_cell

OWN = ("path", "label", "patient", "split")


def write_manifest(path: Path, dataset: DataSet, fold_of: Mapping[Path, int] | None = None) -> None:
    """Write a row for each image, sorted by path: path, label, patient, split, and the data's other columns.

    Paths are relative to the table's folder, with forward slashes; absolute on another drive.

    Args:
        fold_of: the fold of each image, by its path, for a column `fold`; then there is a column `split` only where
            the data has a test split.
    Raises:
        PmtrainError: `path` exists already or can't be written, or an image's name can't be written to such a table.
    """
    with_split = any(sample.split == "test" or (sample.split and fold_of is None) for sample in dataset.samples)
    names = dict.fromkeys(name for sample in dataset.samples for name, _ in sample.columns)
    others = [name for name in names if fold_of is None or name.lower() != FOLD]
    header = [name for name in OWN if name != "split" or with_split]
    header += [FOLD] * (fold_of is not None) + [_renamed(name) for name in others]
    rows = []
    for sample in dataset.samples:
        row = [_path_from(path.parent, sample), dataset.classes[sample.label], sample.patient]
        if with_split:
            row.append("train" if fold_of is not None and sample.split != "test" else sample.split or "")
        if fold_of is not None:
            row.append(str(fold_of.get(sample.path, "")))
        cells = dict(sample.columns)
        rows.append(row + [cells.get(name, "") for name in others])
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(map(safe_cell, row) for row in [header, *sorted(rows)])
    with new_file(path) as file:
        file.write(text.getvalue().encode("utf-8"))


def _renamed(name: str) -> str:
    """A column's name that can't be mistaken for the path, the label, the split or the patient."""
    return f"{name} (data)" if any(plain(name) in known for known, _ in COLUMNS.values()) else name


def _path_from(folder: Path, sample: Sample) -> str:
    where = os.path.abspath(sample.path)
    try:
        where = os.path.relpath(where, os.path.abspath(folder))
    except ValueError:  # another drive of Windows
        pass
    name = where.replace(os.sep, "/")
    try:
        name.encode("utf-8")
        readable = name == name.strip() and "\\" not in name
    except UnicodeEncodeError:
        readable = False
    if not readable:
        raise PmtrainError(
            f"{where!r}: can't be written to a table: it isn't UTF-8, contains a backslash, or has a space at an end",
            "rename the file or its folder",
        )
    return name
