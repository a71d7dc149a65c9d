"""The layouts that photographs lie in on disk: one row of READERS each."""

from __future__ import annotations

import csv
import difflib
import os
import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from pmtrain.data.images import SUFFIXES
from pmtrain.data.samples import SYNTHETIC_NOTE, DataSet, Sample, first_few
from pmtrain.errors import PmtrainError, UsageError

# What people call their splits, in lower case.
SPLIT_NAMES = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
    "testing": "test",
}

# Class names that say "without the disease", in lower case with `_` for `-` and spaces.
NEGATIVE_NAME = re.compile(
    r"0|0\.0|no|false|normal|healthy|negative|neg|uninfected|unaffected|benign|control|controls|no_.+|not_.+|non.*"
)

# A table's columns by what they hold, in lower case with spaces, `_` and `-` left out.
COLUMNS = {
    "path": {"path", "file", "filename", "filepath", "image", "imagepath", "imagefile", "imagename", "img", "imgname"},
    "label": {"label", "labels", "class", "target", "diagnosis"},
    "split": {"split", "set", "subset", "partition"},
    "patient": {"patient", "patientid", "subject", "subjectid"},
}


class Row(NamedTuple):
    """One photograph as a layout tells of it, its class still in the layout's words."""

    path: Path
    label: str
    split: str | None = None
    patient: str = ""
    columns: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Reader:
    """A layout: how it is recognised, how it is read, and what it looks like, in a line for people.

    `certain`: where it is recognised, no other layout is meant.
    """

    recognise: Callable[[Path], bool]
    read: Callable[[Path], list[Row]]
    looks: str
    certain: bool = False


def read_dataset(
    data: Path, *, val_data: Path | None = None, data_format: str = "auto", positive: str | None = None
) -> DataSet:
    """Read the listing of a data set; no image is opened.

    Args:
        data: the folder, or the table of the `csv` layout.
        val_data: photographs to validate on; they take the place of the validation split that `data` may have.
        data_format: a row of READERS, or `auto` to recognise it.
        positive: the positive class; None: the one that isn't called normal, healthy, no_..., 0 and the like.
    Raises:
        PmtrainError: the layout is unknown or ambiguous, or the labels don't make two classes.
        UsageError: `data_format` or `positive` names nothing that there is.
    """
    layout, rows = _read_rows(data, data_format)
    if val_data is not None:
        _, held_out = _read_rows(val_data, data_format)
        held_out = [row for row in held_out if row.split == "val"] or held_out
        rows = [row._replace(split=row.split or "train") for row in rows if row.split != "val"]
        rows += [row._replace(split="val") for row in held_out]
        paths = Counter(os.path.abspath(row.path) for row in rows)
        if shared := [path for path, count in paths.items() if count > 1]:
            raise PmtrainError(f"{data} and {val_data} share files: {first_few(shared)}", "keep the two apart")
    classes = _classes(rows, positive, data)
    samples = tuple(Sample(row.path, int(row.label == classes[1]), row.split, row.patient, row.columns) for row in rows)
    root = data if data.is_dir() else data.parent
    homes = {row.path.parent for row in rows}  # a table may lie far from its images
    homes |= {root, root.resolve().parent, *(home.parent for home in homes)}
    synthetic = any((folder / SYNTHETIC_NOTE).exists() for folder in homes)
    return DataSet(root, layout, classes, samples, synthetic)


def find_dataset(folder: Path) -> Path | None:
    """A data set of a known layout in `folder` or one level down, None if there is none.

    Of several the first by name is taken, a synthetic one last.
    """
    if not folder.is_dir():
        return None
    children = _look_into(folder).folders
    # Parts of one data set would look like data sets of their own.
    if any(_is_part(child.name) for child in children) and _recognised(folder):
        return folder
    for child in sorted(children, key=lambda child: ((child / SYNTHETIC_NOTE).exists(), child.name)):
        if _recognised(child):
            return child
    return folder if _recognised(folder) else None


def _is_part(name: str) -> bool:
    return name.lower() in SPLIT_NAMES or name.lower().startswith("palm-")


def _read_rows(data: Path, data_format: str) -> tuple[str, list[Row]]:
    """The layout's name and the rows of one folder or table."""
    if not data.exists():
        raise PmtrainError(f"{data}: no such file or folder")
    if data_format == "auto":
        data_format = _recognise(data)
    elif data_format not in READERS:
        near = difflib.get_close_matches(data_format, READERS, 1)
        raise UsageError(
            f"no data format {data_format!r}" + (f"; did you mean {near[0]!r}?" if near else ""),
            f"one of: auto, {', '.join(READERS)}",
        )
    rows = READERS[data_format].read(data)
    if not rows:
        raise PmtrainError(f"{data}: no images found in the {data_format} layout", LAYOUTS_HINT)
    return data_format, rows


def _recognised(data: Path) -> list[str]:
    """The layouts that `data` may be in; one alone where that one is certain."""
    names = [name for name, reader in READERS.items() if reader.recognise(data)]
    return next(([name] for name in names if READERS[name].certain), names)


def _recognise(data: Path) -> str:
    names = _recognised(data)
    if not names:
        raise PmtrainError(f"{data}: holds no known layout", LAYOUTS_HINT)
    if len(names) > 1:
        raise PmtrainError(
            f"{data}: may be read in more than one layout: {', '.join(names)}",
            f"choose one: --data-format {' or '.join(names)}\n{LAYOUTS_HINT}",
        )
    return names[0]


def _classes(rows: list[Row], positive: str | None, data: Path) -> tuple[str, str]:
    """The negative and the positive class among the rows' labels."""
    counts = Counter(row.label for row in rows)
    names = sorted(counts)
    if len(names) != 2:
        listed = first_few([f"{name} ({counts[name]} images)" for name in names])
        raise PmtrainError(
            f"{data}: the labels make {len(names)} class{'es' * (len(names) != 1)}, two are needed: {listed}",
            "keep two, or merge them into two",
        )
    if positive is not None:
        matching = [name for name in names if name == positive] or [
            name for name in names if name.lower() == positive.lower()
        ]
        if len(matching) != 1:
            raise UsageError(
                f"--positive {positive!r} is no class of {data}", f"--positive {names[0]!r} or --positive {names[1]!r}"
            )
        return names[1 - names.index(matching[0])], matching[0]
    negatives = [name for name in names if NEGATIVE_NAME.fullmatch(re.sub(r"[-\s]+", "_", name.lower()))]
    if len(negatives) != 1:
        raise UsageError(
            f"{data}: which of {names[0]!r} and {names[1]!r} is the positive class?",
            f"--positive {names[0]!r} or --positive {names[1]!r}",
        )
    return negatives[0], names[1 - names.index(negatives[0])]


# Listing folders


class Listing(NamedTuple):
    """What lies in one folder, sorted by name, hidden files left out."""

    folders: list[Path]
    images: list[str]  # names alone: a data set may hold 100,000
    tables: list[Path]  # .csv, .tsv
    sheets: list[Path]  # Excel's own files


TABLE_SUFFIXES = (".csv", ".tsv", ".txt")
SHEET_SUFFIXES = (".xlsx", ".xls")


def _look_into(folder: Path) -> Listing:
    folders, images, tables, sheets = [], [], [], []
    for entry in _visible(folder):
        suffix = _suffix(entry.name)
        if entry.is_dir():
            folders.append(entry.name)
        elif suffix in SUFFIXES:
            images.append(entry.name)
        elif suffix in TABLE_SUFFIXES[:2]:
            tables.append(entry.name)
        elif suffix in SHEET_SUFFIXES and not entry.name.startswith("~$"):  # Excel's lock on an open file
            sheets.append(entry.name)
    within = [[folder / name for name in sorted(names)] for names in (folders, tables, sheets)]
    return Listing(within[0], sorted(images), within[1], within[2])


def _visible(folder: Path) -> Iterator[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            yield from (entry for entry in entries if not entry.name.startswith(".") and entry.name != "__MACOSX")
    except OSError as error:
        raise PmtrainError(f"{folder}: can't be listed: {error.strerror}") from None


def _suffix(name: str) -> str:
    return os.path.splitext(name)[1].lower()


def _images_under(folder: Path) -> Iterator[Path]:
    """Every image in `folder` and below, in a fixed order."""
    listing = _look_into(folder)
    yield from (folder / name for name in listing.images)
    for child in listing.folders:
        if not child.is_symlink():  # it may lead back to where we are
            yield from _images_under(child)


def _holds_images(folder: Path) -> bool:
    """Whether there is an image in `folder` or below, found without listing it all."""
    folders = []
    for entry in _visible(folder):
        if entry.is_dir():
            if not entry.is_symlink():
                folders.append(Path(entry.path))
        elif _suffix(entry.name) in SUFFIXES:
            return True
    return any(_holds_images(child) for child in folders)


# palm: the iChallenge-PM challenge's archives as people unpack them

# The masks of the same names are .bmp.
PALM_TRAINING = re.compile(r"[PHN]\d{4}\.(jpe?g|png)", re.IGNORECASE)
PALM_VALIDATION = re.compile(r"V\d{4}\.(jpe?g|png)", re.IGNORECASE)
PALM_CLASSES = ("non-pathological", "pathological myopia")
PALM_DEPTH = 3  # training/PALM-Training400/PALM-Training400/P0001.jpg


@dataclass
class PalmFolders:
    """What belongs to the challenge below one folder."""

    training: list[Path]  # folders
    validation: list[Path]  # folders
    tables: list[Path]
    sheets: list[Path]


def _palm_folders(root: Path) -> PalmFolders:
    found = PalmFolders([], [], [], [])
    level = [root]
    for _ in range(PALM_DEPTH + 1):
        deeper = []
        for folder in level:
            listing = _look_into(folder)
            letters = {name[0].upper() for name in listing.images if PALM_TRAINING.fullmatch(name)}
            if "P" in letters and len(letters) > 1:
                found.training.append(folder)
            if any(PALM_VALIDATION.fullmatch(name) for name in listing.images):
                found.validation.append(folder)
            found.tables += listing.tables
            found.sheets += listing.sheets
            # A rendered set beside the challenge's is another data set.
            deeper += [child for child in listing.folders if not (child / SYNTHETIC_NOTE).exists()]
        level = deeper
    return found


def _is_palm(data: Path) -> bool:
    if not data.is_dir():
        return False
    found = _palm_folders(data)
    return len(found.training) + len(found.validation) > 0


def _read_palm(data: Path) -> list[Row]:
    if not data.is_dir():
        raise PmtrainError(f"{data}: the palm layout is a folder, not a file", LAYOUTS_HINT)
    found = _palm_folders(data)
    for folders, what in ((found.training, "training"), (found.validation, "validation")):
        if len(folders) > 1:
            raise PmtrainError(
                f"{data}: {what} photographs lie in more than one folder: {first_few(folders)}",
                "keep one of them, or give --data (and --val-data) the folder that is meant",
            )
    if not found.validation and (tables := _palm_tables(found)):
        raise PmtrainError(
            f"{tables[0]}: labels validation photographs (V0001.jpg, ...), but {data} holds none",
            "unpack PALM-Validation400 beside it, or give --data the training folder alone",
        )
    rows = [row for folder in found.training for row in _palm_training(folder)]
    for folder in found.validation:
        if not _palm_tables(found):  # beside the folder, as the challenge ships its ground truth
            beside = folder.resolve().parent
            for place in (beside, *(child for child in _look_into(beside).folders if "gt" in child.name.lower())):
                listing = _look_into(place)
                found.tables += listing.tables
                found.sheets += listing.sheets
        rows += _palm_validation(folder, found)
    return rows


def _palm_training(folder: Path) -> Iterator[Row]:
    strangers = []
    for name in _look_into(folder).images:
        letter = name[0].upper()
        if letter in "PHN":
            yield Row(folder / name, PALM_CLASSES[letter == "P"], "train")
        elif not PALM_VALIDATION.fullmatch(name):
            strangers.append(name)
    if strangers:
        raise PmtrainError(
            f"{folder}: file names that begin with neither P, H nor N, so without a label: {first_few(strangers)}",
            "take them out of the training folder",
        )


def _palm_tables(found: PalmFolders) -> list[Path]:
    """Those with the columns of the challenge's labels."""
    return [path for path in found.tables if {"imgname", "label"} <= {_plain(name) for name in _header(path)}]


def _palm_validation(folder: Path, found: PalmFolders) -> list[Row]:
    tables = _palm_tables(found)
    if len(tables) > 1:
        raise PmtrainError(f"{folder}: more than one table of labels: {first_few(tables)}", "keep one of them")
    if not tables and found.sheets:
        raise PmtrainError(
            f"{found.sheets[0]}: the validation labels are an Excel file, which isn't read",
            "open it and save the sheet as labels.csv (CSV UTF-8) beside it",
        )
    if not tables:
        raise PmtrainError(
            f"{folder}: the validation photographs have no labels",
            "put the challenge's labels.csv (columns imgName and Label) beside that folder or in it",
        )
    table = tables[0]
    images = {name.lower(): folder / name for name in _look_into(folder).images if PALM_VALIDATION.fullmatch(name)}
    rows, missing = [], []
    lines: dict[str, tuple[int, str]] = {}
    for line, cells, _ in _cells(table, {"imgname": "path", "label": "label"}):
        name, label = cells["path"], cells["label"]
        if label not in ("0", "1", "0.0", "1.0"):
            raise PmtrainError(f"{table}, line {line}: the label is {label!r}, neither 0 nor 1")
        _listed_once(lines, name.lower(), name, line, label, table)
        if name.lower() in images:
            rows.append(Row(images.pop(name.lower()), PALM_CLASSES[int(label[0])], "val"))
        else:
            missing.append(f"{name} (line {line})")
    if missing:
        raise PmtrainError(f"{table}: lists files that {folder} doesn't hold: {first_few(missing)}")
    if images:
        names = [path.name for path in images.values()]
        raise PmtrainError(f"{table}: gives no label for files of {folder}: {first_few(names)}")
    return sorted(rows)


# folder: a folder per class, below split folders or not


def _unwrapped(folder: Path) -> tuple[Path, list[Path]]:
    """The folder that holds the class or split folders, and these: single wrapping folders are stepped through."""
    while True:
        listing = _look_into(folder)
        folders = [child for child in listing.folders if _holds_images(child)]
        if len(folders) != 1 or listing.images or folders[0].name.lower() in SPLIT_NAMES:
            return folder, folders
        if _look_into(folders[0]).images:  # a class folder, the only one
            return folder, folders
        folder = folders[0]


def _is_folder(data: Path) -> bool:
    if not data.is_dir():
        return False
    _, folders = _unwrapped(data)
    splits = [folder for folder in folders if folder.name.lower() in SPLIT_NAMES]
    if splits:
        return any(_holds_images(child) for folder in splits for child in _look_into(folder).folders)
    return len(folders) > 1


def _read_folder(data: Path) -> list[Row]:
    if not data.is_dir():
        raise PmtrainError(f"{data}: the folder layout is a folder, not a file", LAYOUTS_HINT)
    base, folders = _unwrapped(data)
    splits: dict[str, Path] = {}
    for folder in _look_into(base).folders:
        split = SPLIT_NAMES.get(folder.name.lower())
        if split is None:
            continue
        if split in splits:
            raise PmtrainError(
                f"{data}: {splits[split].name} and {folder.name} both are the {split} split", "keep one of them"
            )
        splits[split] = folder
    if not splits:
        return list(_class_rows(folders, None))
    strangers = [folder.name for folder in folders if folder not in splits.values()]
    if strangers:
        raise PmtrainError(
            f"{base}: image folders beside the split folders: {first_few(strangers)}",
            f"move them into {' or '.join(folder.name for folder in splits.values())}, or out of {base.name}",
        )
    rows = []
    for split in sorted(splits):
        in_split = list(_class_rows(_look_into(splits[split]).folders, split))
        if not in_split:
            raise PmtrainError(
                f"{splits[split]}: the split is empty: it holds no class folder with images",
                "fill it, or take the folder away",
            )
        rows += in_split
    return rows


def _class_rows(folders: list[Path], split: str | None) -> Iterator[Row]:
    for folder in folders:
        for path in _images_under(folder):
            yield Row(path, folder.name, split)


# csv: a table with a row per image


def _is_csv(data: Path) -> bool:
    return data.suffix.lower() in TABLE_SUFFIXES if data.is_file() else bool(_tables_in(data))


def _tables_in(folder: Path) -> list[Path]:
    """The tables in a folder that have a path and a label column."""
    tables = []
    for path in _look_into(folder).tables:
        names = {_plain(name) for name in _header(path)}
        if names & COLUMNS["path"] and names & COLUMNS["label"]:
            tables.append(path)
    return tables


def _read_csv(data: Path) -> list[Row]:
    table = data
    if data.is_dir():
        tables = _tables_in(data)
        if len(tables) != 1:
            what = f"more than one table: {first_few([path.name for path in tables])}" if tables else "no table"
            raise PmtrainError(
                f"{data}: {what} with columns for path and label", "give --data (and --val-data) the .csv file itself"
            )
        table = tables[0]
    if table.suffix.lower() in SHEET_SUFFIXES:
        raise PmtrainError(f"{table}: Excel files aren't read", "save the sheet as CSV (CSV UTF-8) and give that")
    _, header = next(_lines(table), (0, []))
    names = [_plain(name) for name in header]
    wanted = {}
    for role, known in COLUMNS.items():
        columns = [name for name in names if name in known]
        if len(columns) > 1:
            raise PmtrainError(
                f"{table}: more than one column may be the {role}: {first_few(columns)}", "rename all but one"
            )
        if columns:
            wanted[columns[0]] = role
        elif role in ("path", "label"):
            raise PmtrainError(
                f"{table}: no column for the {role} among {first_few(header) or 'none'}",
                f"name it one of: {', '.join(sorted(COLUMNS[role]))}",
            )
    rows, missing = [], []
    lines: dict[str, tuple[int, str]] = {}
    folder = str(table.parent)
    for line, cells, others in _cells(table, wanted):
        for role in wanted.values():
            if role != "patient" and not cells[role]:
                raise PmtrainError(f"{table}, line {line}: the {role} is empty")
        split = None
        if "split" in cells:
            split = SPLIT_NAMES.get(cells["split"].lower())
            if split is None:
                raise PmtrainError(
                    f"{table}, line {line}: no split {cells['split']!r}", f"one of: {', '.join(SPLIT_NAMES)}"
                )
        path = os.path.normpath(os.path.join(folder, cells["path"].replace("\\", "/")))
        _listed_once(lines, os.path.normcase(path), cells["path"], line, cells["label"], table)
        if not os.path.isfile(path):
            missing.append(f"{cells['path']} (line {line})")
        rows.append(Row(Path(path), cells["label"], split, cells.get("patient", ""), others))
    if missing:
        raise PmtrainError(
            f"{table}: files that aren't there: {first_few(missing)}",
            f"paths are relative to {table.parent}, the table's own folder",
        )
    return rows


def _listed_once(lines: dict[str, tuple[int, str]], key: str, name: str, line: int, label: str, table: Path) -> None:
    """Note a file's line and label; refuse one that was there before."""
    if key in lines:
        first, first_label = lines[key]
        both = f"with two labels, {first_label!r} and {label!r}" if label != first_label else f"as {label!r} both times"
        raise PmtrainError(f"{table}, line {line}: {name} was listed on line {first} already, {both}")
    lines[key] = line, label


# Tables


def _plain(name: str) -> str:
    """A column's name without case, spaces, `_` and `-`."""
    return re.sub(r"[\s_-]+", "", name.lower())


def _header(table: Path) -> list[str]:
    """The column names; empty where the file is no table."""
    try:
        return next((cells for _, cells in _lines(table, errors="replace")), [])
    except PmtrainError:
        return []


def _cells(table: Path, wanted: dict[str, str]) -> Iterator[tuple[int, dict[str, str], tuple[tuple[str, str], ...]]]:
    """Line number, the cells of the wanted columns (plain name -> key in the result), (name, cell) of the others."""
    lines = _lines(table)
    _, header = next(lines)
    names = [_plain(name) for name in header]
    columns = {key: names.index(name) for name, key in wanted.items()}
    others = [(name, column) for column, name in enumerate(header) if name and column not in columns.values()]
    for line, cells in lines:
        if len(cells) != len(header) and (len(cells) <= max(columns.values()) or any(cells[len(header) :])):
            raise PmtrainError(
                f"{table}, line {line}: {len(cells)} cells, but the header has {len(header)}",
                "a cell with the delimiter in it must be in double quotes",
            )
        rest = tuple((name, cells[column] if column < len(cells) else "") for name, column in others)
        yield line, {key: cells[column] for key, column in columns.items()}, rest


def _lines(table: Path, errors: str = "strict") -> Iterator[tuple[int, list[str]]]:
    """Line number (from 1) and cells of every line that isn't blank; comma, semicolon or tab, by the header."""
    try:
        with open(table, encoding="utf-8-sig", errors=errors, newline="") as file:
            first = file.readline()
            file.seek(0)
            reader = csv.reader(file, delimiter=max(",;\t", key=first.count), skipinitialspace=True)
            for cells in reader:
                if any(cell.strip() for cell in cells):
                    yield reader.line_num, [cell.strip() for cell in cells]
    except UnicodeDecodeError as error:
        raise PmtrainError(f"{table}: not UTF-8 text ({error.reason})", "save it as CSV UTF-8") from None
    except csv.Error as error:
        raise PmtrainError(f"{table}, line {reader.line_num}: {error}") from None
    except OSError as error:
        raise PmtrainError(f"{table}: {error.strerror}") from None


# A layout is one row: how it is recognised, how it is read, what it looks like.
READERS: dict[str, Reader] = {
    "palm": Reader(
        _is_palm,
        _read_palm,
        "PALM-Training400/P0001.jpg, H0001.jpg, N0001.jpg and PALM-Validation400/V0001.jpg with labels.csv",
        certain=True,
    ),
    "folder": Reader(_is_folder, _read_folder, "CLASS/image.jpg, or train/CLASS/image.jpg and val/CLASS/image.jpg"),
    "csv": Reader(_is_csv, _read_csv, "a .csv file: path,label and, if you like, split,patient; paths relative to it"),
}

LAYOUTS_HINT = "the layouts are\n" + "\n".join(f"  {name:<7} {reader.looks}" for name, reader in READERS.items())
