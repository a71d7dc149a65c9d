"""palm: the iChallenge-PM challenge's archives as people unpack them.

Photographs are known by their names alone, P0001.jpg, H0001.jpg, N0001.jpg and V0001.jpg, since the folders are called
and nested as each person's unpacker has it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pmtrain.data.dataset import SYNTHETIC_NOTE, first_few
from pmtrain.data.layouts.listing import Listing, look_into
from pmtrain.data.layouts.rows import Found, Row, TableOptions
from pmtrain.data.layouts.table import listed_once
from pmtrain.data.layouts.tables.delimited import header_of, open_table, plain
from pmtrain.system.errors import PmtrainError

# The masks of the same names are .bmp.
TRAINING = re.compile(r"[PHN]\d{4}\.(jpe?g|png)", re.IGNORECASE)
VALIDATION = re.compile(r"V\d{4}\.(jpe?g|png)", re.IGNORECASE)
CLASSES = ("non-pathological", "pathological myopia")
DEPTH = 4  # iChallenge-PM/training/PALM-Training400/PALM-Training400/P0001.jpg
PART = re.compile(r"palm-.*|(train|valid).*400.*", re.IGNORECASE)  # a folder's name as the archives have it


@dataclass
class _Folders:
    """What belongs to the challenge below one folder."""

    training: list[Path]  # folders
    validation: list[Path]  # folders
    tables: list[Path]
    sheets: list[Path]

    def add_tables(self, listing: Listing) -> None:
        self.tables += listing.tables
        self.sheets += listing.sheets

    def labels(self, strict: bool = False) -> list[Path]:
        """The tables with the columns of the challenge's labels; a CSV goes before its Excel file."""

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
            letters = {name[0].upper() for name in listing.images if TRAINING.fullmatch(name)}
            if "P" in letters and len(letters) > 1:
                found.training.append(folder)
            if any(VALIDATION.fullmatch(name) for name in listing.images):
                found.validation.append(folder)
            found.add_tables(listing)
            # A rendered set beside the challenge's is another data set.
            deeper += [child for child in listing.folders if not (child / SYNTHETIC_NOTE).exists()]
        level = deeper
    return found


def recognise(data: Path, options: TableOptions) -> bool:
    """Whether the challenge's photographs lie in the folder or below."""
    found = _look(data)
    return len(found.training) + len(found.validation) > 0


def read(data: Path, options: TableOptions) -> Found:
    """The challenge's photographs in the folder and below, or its training or validation folder alone.

    Raises:
        PmtrainError: a part is there twice, or photographs and labels don't fit one another.
    """
    found = _look(data)
    for folders, what in ((found.training, "training"), (found.validation, "validation")):
        if len(folders) > 1:
            raise PmtrainError(
                f"{data}: {what} photographs lie in more than one folder: {first_few(folders)}",
                "keep one of them, or give --data (and --val-data) the folder that is meant",
            )
    if not found.validation and (tables := found.labels()):
        raise PmtrainError(
            f"{tables[0]}: labels validation photographs (V0001.jpg, ...), but {data} holds none",
            "unpack PALM-Validation400 beside it, or give --data the training folder alone",
        )
    rows = [row for folder in found.training for row in _training(folder)]
    notes: tuple[str, ...] = ()
    for folder in found.validation:
        if not found.labels():  # beside the folder, as the challenge ships its ground truth
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
            f"{folder}: file names that begin with neither P, H nor N, so without a label: {first_few(strangers)}",
            "take them out of the training folder",
        )


def _validation(folder: Path, found: _Folders) -> tuple[list[Row], tuple[str, ...]]:
    paths = found.labels(strict=True)
    if len(paths) > 1:
        raise PmtrainError(f"{folder}: more than one table of labels: {first_few(paths)}", "keep one of them")
    if not paths:
        raise PmtrainError(
            f"{folder}: the validation photographs have no labels",
            "put the challenge's PM_Label_and_Fovea_Location.xlsx or a labels.csv (columns imgName and Label) beside"
            " that folder or in it",
        )
    table = open_table(paths[0])
    names = [plain(name) for name in table.header]
    images = {name.lower(): folder / name for name in look_into(folder).images if VALIDATION.fullmatch(name)}
    rows, missing = [], []
    lines: dict[str, tuple[int, str]] = {}
    for line, cells, _ in table.rows({"name": names.index("imgname"), "label": names.index("label")}):
        name, label = cells["name"], cells["label"]
        if label not in ("0", "1", "0.0", "1.0"):
            raise PmtrainError(f"{table.path}, line {line}: the label is {label!r}, neither 0 nor 1")
        listed_once(lines, name.lower(), name, line, label, table.path)
        if name.lower() in images:
            rows.append(Row(images.pop(name.lower()), CLASSES[int(label[0])], "val"))
        else:
            missing.append(f"{name} (line {line})")
    if missing:
        raise PmtrainError(f"{table.path}: lists files that {folder} doesn't hold: {first_few(missing)}")
    if images:
        left = [path.name for path in images.values()]
        raise PmtrainError(f"{table.path}: gives no label for files of {folder}: {first_few(left)}")
    # By parts, since Windows compares whole paths without regard to case.
    return sorted(rows, key=lambda row: row.path.parts), table.notes
