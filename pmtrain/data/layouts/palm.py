"""palm: the archives of the iChallenge-PM challenge, as unpacked.

Photographs are recognised by name only, P0001.jpg, H0001.jpg, N0001.jpg and V0001.jpg, because folder names and nesting
depend on the program that unpacked them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pmtrain.data.dataset import SYNTHETIC_NOTE, first_few
from pmtrain.data.images import source
from pmtrain.data.layouts.listing import Listing, look_into
from pmtrain.data.layouts.rows import Found, Row, TableOptions
from pmtrain.data.layouts.tables.column_names import plain
from pmtrain.data.layouts.tables.delimited import header_of, open_table
from pmtrain.data.layouts.tables.table import listed_once
from pmtrain.system.errors import PmtrainError

# The masks have the same names with .bmp.
TRAINING = re.compile(r"[PHN]\d{4}\.(jpe?g|png)", re.IGNORECASE)
VALIDATION = re.compile(r"V\d{4}\.(jpe?g|png)", re.IGNORECASE)
CLASSES = ("non-pathological", "pathological myopia")
DEPTH = 4  # iChallenge-PM/training/PALM-Training400/PALM-Training400/P0001.jpg
PART = re.compile(r"palm-.*|(train|valid).*400.*", re.IGNORECASE)  # folder name in the archives


@dataclass
class _Folders:
    """The challenge's files below one folder."""

    training: list[Path]  # folders
    validation: list[Path]  # folders
    tables: list[Path]
    sheets: list[Path]

    def add_tables(self, listing: Listing) -> None:
        self.tables += listing.tables
        self.sheets += listing.sheets

    def labels(self, strict: bool = False) -> list[Path]:
        """The tables with the challenge's label columns; a CSV file has priority over its Excel file."""

        def fitting(paths: list[Path], strict: bool) -> list[Path]:
            return [path for path in paths if {"imgname", "label"} <= {plain(name) for name in header_of(path, strict)}]

        return fitting(self.tables, False) or fitting(self.sheets, strict)


def _look(root: Path) -> _Folders:
    found = _Folders([], [], [], [])
    level = [root]
    for _ in range(DEPTH + 1):
        deeper = []
        for folder in level:
            listing = look_into(folder)
            ours = [name for name in listing.images if name[0] in "PHNVphnv"]
            letters = {name[0].upper() for name in ours if TRAINING.fullmatch(name)}
            if "P" in letters and len(letters) > 1:
                found.training.append(folder)
            if any(VALIDATION.fullmatch(name) for name in ours):
                found.validation.append(folder)
            found.add_tables(listing)
            # A synthetic set next to the challenge's is a different data set.
            deeper += [child for child in listing.folders if not source.is_file(child / SYNTHETIC_NOTE)]
        level = deeper
    return found


def recognise(data: Path, options: TableOptions) -> bool:
    """Whether the challenge's photographs are in the folder or below, and not sorted into folders by class."""
    found = _look(data)
    return bool(found.training or len(found.validation) == 1 or (found.validation and found.labels()))


def read(data: Path, options: TableOptions) -> Found:
    """The challenge's photographs in the folder and its subfolders; training or validation only is possible.

    Raises:
        PmtrainError: a part exists twice, or photographs and labels don't match.
    """
    found = _look(data)
    for folders, what in ((found.training, "training"), (found.validation, "validation")):
        if len(folders) > 1:
            raise PmtrainError(
                f"{data}: {what} photographs are in more than one folder: {first_few(folders)}",
                "keep one of them, or name the right folder by --data (and --val-data)",
            )
    if not found.validation and (tables := found.labels()):
        raise PmtrainError(
            f"{tables[0]}: labels validation photographs (V0001.jpg, ...), but {data} has none",
            "unpack PALM-Validation400 next to it, or give only the training folder as --data",
        )
    rows = [row for folder in found.training for row in _training(folder)]
    notes: tuple[str, ...] = ()
    for folder in found.validation:
        if not found.labels():  # next to the folder, as in the challenge's archives
            beside = folder.resolve().parent
            for place in (beside, *(child for child in look_into(beside).folders if "gt" in child.name.lower())):
                found.add_tables(look_into(place))
        labelled, notes = _validation(folder, found)
        rows += labelled
    return Found(rows, positive=CLASSES[1], notes=notes)


def _training(folder: Path) -> Iterator[Row]:
    strangers = []
    for name in look_into(folder).images:
        letter = name[0].upper()
        if letter in "PHN":
            yield Row(folder / name, CLASSES[letter == "P"], "train")
        elif not VALIDATION.fullmatch(name):
            strangers.append(name)
    if strangers:
        raise PmtrainError(
            f"{folder}: file names that don't begin with P, H or N, so they have no label: {first_few(strangers)}",
            "move them out of the training folder",
        )


def _validation(folder: Path, found: _Folders) -> tuple[list[Row], tuple[str, ...]]:
    paths = found.labels(strict=True)
    if len(paths) > 1:
        raise PmtrainError(f"{folder}: more than one table of labels: {first_few(paths)}", "keep one of them")
    if not paths:
        raise PmtrainError(
            f"{folder}: the validation photographs have no labels",
            "put the challenge's PM_Label_and_Fovea_Location.xlsx or a labels.csv (columns imgName and Label) next to"
            " that folder or in it",
        )
    table = open_table(paths[0])
    names = [plain(name) for name in table.header]
    images = {name.lower(): folder / name for name in look_into(folder).images if VALIDATION.fullmatch(name)}
    rows, missing = [], []
    lines: dict[str, tuple[int, str]] = {}
    for line, cells in table.rows({"name": names.index("imgname"), "label": names.index("label")}):
        name, label = cells["name"], cells["label"]
        if label not in ("0", "1", "0.0", "1.0"):
            raise PmtrainError(f"{table.path}, line {line}: the label is {label!r}; it must be 0 or 1")
        listed_once(lines, name.lower(), name, line, label, table.path)
        if name.lower() in images:
            rows.append(Row(images.pop(name.lower()), CLASSES[int(label[0])], "val"))
        else:
            missing.append(f"{name} (line {line})")
    if missing:
        raise PmtrainError(f"{table.path}: lists files that are not in {folder}: {first_few(missing)}")
    if images:
        left = [path.name for path in images.values()]
        raise PmtrainError(f"{table.path}: has no label for files in {folder}: {first_few(left)}")
    # By parts, because Windows ignores case when it compares whole paths.
    return sorted(rows, key=lambda row: row.path.parts), table.notes
