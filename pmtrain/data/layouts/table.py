"""csv: a table with a row per image, as text or in an Excel file."""

from __future__ import annotations

import difflib
import os
from pathlib import Path

from pmtrain.data.dataset import first_few
from pmtrain.data.images.read import SUFFIXES
from pmtrain.data.layouts.listing import look_into, suffix_of
from pmtrain.data.layouts.rows import SPLIT_NAMES, Found, Row, TableOptions
from pmtrain.data.layouts.tables.delimited import Table, header_of, open_table, plain
from pmtrain.system.errors import PmtrainError, UsageError

# A table's columns by what they hold, in lower case with spaces, `_` and `-` left out.
COLUMNS = {
    "path": {"path", "file", "filename", "filepath", "image", "imagepath", "imagefile", "imagename", "img", "imgname"},
    "label": {"label", "labels", "class", "target", "diagnosis"},
    "split": {"split", "set", "subset", "partition"},
    "patient": {"patient", "patientid", "subject", "subjectid"},
}
NEEDED = ("path", "label")


def recognise(data: Path, options: TableOptions) -> bool:
    """Whether a table in the folder has a path and a label column."""
    return bool(_tables_in(data, options))


def read(data: Path, options: TableOptions) -> Found:
    """The rows of a table, or of the only one in a folder.

    Raises:
        PmtrainError: the table can't be read or understood, or names a file that isn't there; with the line.
        UsageError: an option names no column.
    """
    table = open_table(_the_table(data, options))
    columns = _columns(table, options)
    root = options.root or table.path.parent
    files = _Files(root)
    rows, missing = [], []
    lines: dict[str, tuple[int, str]] = {}
    for line, cells, others in table.rows(columns):
        where = f"{table.path}, line {line}"
        for role in columns:
            if role != "patient" and not cells[role]:
                raise PmtrainError(f"{where}: the {role} is empty")
        split = _split(cells["split"], where) if "split" in cells else None
        matches = files.of(cells["path"])
        if len(matches) > 1:
            raise PmtrainError(f"{where}: {cells['path']} may be {first_few(matches)}", "write the whole name")
        if matches:
            listed_once(lines, os.path.normcase(matches[0]), cells["path"], line, cells["label"], table.path)
            rows.append(Row(Path(matches[0]), cells["label"], split, cells.get("patient", ""), others, line))
        else:
            missing.append(f"{cells['path']} (line {line})")
    if missing:
        from_where = "as --root says" if options.root else "the table's own folder; --root FOLDER names another"
        raise PmtrainError(
            f"{table.path}: files that aren't there: {first_few(missing)}",
            "\n".join([f"paths are relative to {root}, {from_where}", *table.notes]),
        )
    return Found(rows, root=root, notes=table.notes + files.notes())


def listed_once(lines: dict[str, tuple[int, str]], key: str, name: str, line: int, label: str, table: Path) -> None:
    """Note a file's line and label; refuse one that was there before.

    Raises:
        PmtrainError: with both lines, and both labels where they differ.
    """
    if key in lines:
        first, first_label = lines[key]
        both = f"with two labels, {first_label!r} and {label!r}" if label != first_label else f"as {label!r} both times"
        raise PmtrainError(f"{table}, line {line}: {name} was listed on line {first} already, {both}")
    lines[key] = line, label


class _Files:
    """The files that a table's cells name, below `root`."""

    def __init__(self, root: Path) -> None:
        self.root = str(root)
        self.stems: dict[str, dict[str, list[str]]] = {}  # folder -> name without suffix -> names
        self.completed = 0

    def of(self, cell: str) -> list[str]:
        """The file of that path, with `/` or `\\`, or the images of that name where it lacks a suffix."""
        path = os.path.normpath(os.path.join(self.root, cell.replace("\\", "/")))
        if os.path.isfile(path):
            return [path]
        if suffix_of(path) in SUFFIXES:
            return []
        folder, stem = os.path.split(path)
        if folder not in self.stems:
            names: dict[str, list[str]] = {}
            for name in look_into(Path(folder)).images if os.path.isdir(folder) else ():
                names.setdefault(os.path.splitext(name)[0], []).append(name)
            self.stems[folder] = names
        matches = [os.path.join(folder, name) for name in self.stems[folder].get(stem, ())]
        self.completed += len(matches) == 1
        return matches

    def notes(self) -> tuple[str, ...]:
        return (f"{self.completed} paths without a suffix: each is the one image of that name",) * bool(self.completed)


def _the_table(data: Path, options: TableOptions) -> Path:
    if not data.is_dir():
        return data
    tables = _tables_in(data, options)
    if len(tables) != 1:
        what = f"more than one table: {first_few([path.name for path in tables])}" if tables else "no table"
        raise PmtrainError(
            f"{data}: {what} with columns for path and label",
            "give --data (and --val-data) the file itself, and name its columns by --path-column and --label-column",
        )
    return tables[0]


def _tables_in(folder: Path, options: TableOptions) -> list[Path]:
    """The tables in a folder that have a path and a label column; Excel files where no other has."""
    wanted = [{plain(getattr(options, f"{role}_column") or "")} - {""} or COLUMNS[role] for role in NEEDED]
    listing = look_into(folder)
    for paths in (listing.tables, listing.sheets):
        fitting = [path for path in paths if all(names & _plain_header(path) for names in wanted)]
        if fitting:
            return fitting
    return []


def _plain_header(path: Path) -> set[str]:
    return {plain(name) for name in header_of(path)}


def _columns(table: Table, options: TableOptions) -> dict[str, int]:
    """The place of the column for each of COLUMNS that the table has: as the options say, else by its name."""
    places: dict[str, int] = {}
    names = [plain(name) for name in table.header]
    given = {role: getattr(options, f"{role}_column") for role in COLUMNS}
    for role in sorted(COLUMNS, key=lambda role: given[role] is None):  # what is given isn't taken for anything else
        flag, name = f"--{role}-column", given[role]
        if name == "" and role not in NEEDED:
            continue
        if name is None:
            found = [
                i for i, plain_name in enumerate(names) if plain_name in COLUMNS[role] and i not in places.values()
            ]
        else:
            found = [i for i, heading in enumerate(table.header) if heading == name]
            found = found or [i for i, plain_name in enumerate(names) if plain_name == plain(name)]
        headings = [repr(table.header[i]) for i in found]
        if len(found) > 1:
            raise PmtrainError(
                f"{table.path}: more than one column may be the {role}: {first_few(headings)}",
                f"say which: {' or '.join(f'{flag} {heading}' for heading in dict.fromkeys(headings))}"
                if len(set(headings)) > 1
                else "rename all but one",
            )
        if found:
            places[role] = found[0]
        elif name is not None:
            near = difflib.get_close_matches(name, table.header, 1)
            raise UsageError(
                f"{flag} {name!r}: {table.path} has no such column",
                f"did you mean {near[0]!r}?" if near else f"it has {first_few(table.header, 20)}",
            )
        elif role in NEEDED:
            named = [name for name in table.header if name]
            raise PmtrainError(
                f"{table.path}: no column for the {role} among {first_few(named, 20) or 'none'}",
                f"say which it is by {flag}, or name it one of: {', '.join(sorted(COLUMNS[role]))}",
            )
    return places


def _split(text: str, where: str) -> str:
    split = SPLIT_NAMES.get(text.lower())
    if split is None:
        raise PmtrainError(
            f"{where}: no split {text!r}",
            f'one of: {", ".join(SPLIT_NAMES)}; another column by --split-column NAME, none by --split-column ""',
        )
    return split
