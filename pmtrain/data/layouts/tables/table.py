"""csv: a table with a row per image, as text or in an Excel file, or one for each split."""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from pmtrain.data.dataset import SPLITS, first_few
from pmtrain.data.images import source
from pmtrain.data.layouts.listing import holds_images, look_into
from pmtrain.data.layouts.rows import Found, Row, TableOptions, split_in, split_of
from pmtrain.data.layouts.tables.column_names import plain, usual_names
from pmtrain.data.layouts.tables.columns import Columns, find_columns, is_marked
from pmtrain.data.layouts.tables.delimited import Table, header_of, open_table
from pmtrain.data.layouts.tables.header import find_header
from pmtrain.data.layouts.tables.named_files import NamedFiles, find_root
from pmtrain.system.errors import PmtrainError

MANY_LABELS = 100
PEEK = 50  # lines to look at when finding the columns
SUBMISSION = re.compile(r"submission|sample_sub", re.IGNORECASE)  # a competition's table without true labels
BLANK = {"nan", "<na>", "n/a", "#n/a", "na", "nat", "null"}  # what programs write into empty cells, in lower case

SEVERAL_LABELS = (
    "keep one row for each image; of several findings, make a column of 0 and 1 for each, for --label-column"
)


class _Part(NamedTuple):
    """A table, the folder of its paths unless one is given, and its split if it has no column of splits."""

    path: Path
    folder: Path
    split: str | None = None


def recognise(data: Path, options: TableOptions) -> bool:
    """Whether a table in the folder has a path and a label column, by their names."""
    return bool(_tables_in(data, options))


def recognise_last(data: Path, options: TableOptions) -> bool:
    """Whether there are tables that are to be taken only if no other layout is possible."""
    return bool(_parts_of(data, options))


def read(data: Path, options: TableOptions) -> Found:
    """The rows of a table, of the only table in a folder, or of a folder's tables of splits.

    A line may have several images of one patient.

    Raises:
        PmtrainError: a table can't be read, is ambiguous, or names a file that doesn't exist; with the line.
        UsageError: an option names an unknown column.
    """
    parts = _parts_of(data, options) if source.is_dir(data) else [_Part(data, data.parent)]
    splits = {part.split for part in parts}
    if len(parts) != 1 and (len(splits) < len(parts) or None in splits):
        what = f"more than one table: {first_few([part.path.name for part in parts])}" if parts else "no table"
        raise PmtrainError(
            f"{data}: {what} with path and label columns",
            "give the table itself as --data (or --val-data), and its columns by --path-column and --label-column",
        )
    found = [_read(part, options) for part in parts]
    if len(found) == 1:
        return found[0]
    owners: dict[Path, str] = {}
    for part, each in zip(parts, found, strict=True):
        for row in each.rows:
            if (owner := owners.setdefault(row.path, part.path.name)) != part.path.name:
                raise PmtrainError(f"{data}: {owner} and {part.path.name} both list {row.path}", "keep the two apart")
    told = f"splits by table: {', '.join(f'{part.path.relative_to(data)} is {part.split}' for part in parts)}"
    notes = dict.fromkeys((told, *itertools.chain.from_iterable(each.notes for each in found)))
    folders = frozenset().union(*(each.folders or () for each in found))
    return Found([row for each in found for row in each.rows], data, notes=tuple(notes), folders=folders)


def _read(part: _Part, options: TableOptions) -> Found:
    table = open_table(part.path, options.sheet)
    peek = list(itertools.islice(table.lines, PEEK))
    own = source.as_folder(options.root) if options.root else part.folder
    files, root_notes = find_root(own, options.root is not None, [table.header, *(cells for _, cells in peek)])
    root = Path(files.root)
    table, peek, header_notes = find_header(table, peek, options, files.is_file)
    notes = [*table.notes, *root_notes, *header_notes]
    try:
        columns = find_columns(table, [cells for _, cells in peek], options, files.is_file)
    except PmtrainError as error:
        raise type(error)(error.message, "\n".join([error.hint, *table.notes])) from None
    notes += columns.notes
    read = _Lines(table, columns, files, options)
    rows = list(read.rows(part.split))
    if read.missing:
        told = [f"{cell} (line {line})" for cell, line in read.missing]
        if not options.skip_missing:
            where = "as set by --root" if options.root else "--root FOLDER sets another folder"
            raise PmtrainError(
                f"{table.path}: files that don't exist: {first_few(told)}",
                "\n".join(
                    [
                        *files.like(read.missing[0][0]),
                        f"paths are relative to {root}; {where}; --skip-missing leaves these rows out",
                        *notes,
                    ]
                ),
            )
        notes.append(f"left out {len(told)} rows whose file doesn't exist: {first_few(told)}")
    return Found(rows, root, notes=(*notes, *read.notes(), *files.notes()), folders=frozenset(files.folders))


class _Lines:
    """Read the lines of a table into rows; problems are errors with the line number, or notes."""

    def __init__(self, table: Table, columns: Columns, files: NamedFiles, options: TableOptions) -> None:
        self.table, self.columns, self.files, self.options = table, columns, files, options
        self.missing: list[tuple[str, int]] = []
        self.unnamed = 0  # empty file cells of lines that may have several images
        self.together = 0  # lines with several images in one cell
        self.splits: dict[str, str | None] = {}  # by cell
        self.labels: dict[str, str] = {}  # the first by cell

    def rows(self, split: str | None = None) -> Iterator[Row]:
        """The rows; `split` is that of all lines if no column has it."""
        columns, files = self.columns, self.files
        seen: dict[str, tuple[int, str]] = {}
        several = len(columns.paths) > 1
        used = columns.places()
        others = [(name, place) for place, name in enumerate(self.table.header) if name and place not in used]
        skipped = self.missing if self.options.skip_missing else None
        # With one image and one label column, a file that is quick to find needs nothing of what follows.
        simple = not several and len(columns.labels) == 1 and not columns.one_hot
        path_place, label_place = columns.paths[0], columns.labels[0]
        for line, cells in self.table.checked(max(used) + 1, skipped):
            patient = cells[columns.patient] if columns.patient is not None else ""
            if patient.lower() in BLANK:
                patient = ""
            rest: tuple[tuple[str, str], ...] = ()
            if others:
                rest = tuple([(name, cells[place] if place < len(cells) else "") for name, place in others])
            if simple and (quick := files.quickly(cells[path_place])):
                key, path = os.path.normcase(quick[0]), quick[1]
                label = self.labels.get(cells[label_place]) or self._label(cells, 0, line)
                if columns.split is not None:
                    cell = cells[columns.split]
                    split = self.splits.get(cell) or self._split(cell, line)
                if key in seen:
                    listed_once(seen, key, cells[path_place], line, label, self.table.path)
                seen[key] = line, label
                yield Row(path, label, split, patient, rest, line)
                continue
            for number, place in enumerate(columns.paths):
                cell = cells[place]
                matches = files.of(cell)
                if len(matches) != 1:
                    if not cell and several:
                        self.unnamed += 1
                        continue
                    matches = self._matches(cell, matches, line)
                if not matches:
                    self.missing.append((cell, line))
                    continue
                # Not before the file is there: a line of totals has neither label nor split.
                label = self._label(cells, number, line)
                if columns.split is not None:
                    split = self._split(cells[columns.split], line)
                # A line with several images is one patient.
                if not patient and (several or len(matches) > 1):
                    patient = f"line {line}"
                for match in matches:
                    listed_once(seen, os.path.normcase(match), cell, line, label, self.table.path)
                    yield Row(files.path(match), label, split, patient, rest, line)

    def _matches(self, cell: str, matches: list[str], line: int) -> list[str]:
        """The files of a cell that doesn't name exactly one."""
        where = f"{self.table.path}, line {line}"
        if not cell and self.options.skip_missing:
            return []
        if not cell:
            raise PmtrainError(f"{where}: the path is empty", "--skip-missing leaves out rows without a file")
        if matches:
            raise PmtrainError(
                f"{where}: {cell} matches several files: {first_few(matches)}", "write the full name, or give --root"
            )
        together = self.files.several(cell)
        self.together += bool(together)
        return together

    def _label(self, cells: Sequence[str], number: int, line: int) -> str:
        """The label of an image: from the only label column or its own, or the name of the column that is 1."""
        places = self.columns.labels
        if not self.columns.one_hot:
            cell = cells[places[number if len(places) > 1 else 0]]
            label = "" if cell.lower() in BLANK else cell
            if label and len(self.labels) < MANY_LABELS:
                self.labels[cell] = label
        else:
            marked = [self.table.header[place] for place in places if is_marked(cells[place])]
            if len(marked) > 1:
                raise PmtrainError(
                    f"{self.table.path}, line {line}: {' and '.join(marked)} are both 1",
                    "give one --label-column, which is then positive and all others negative",
                )
            label = marked[0] if marked else ""
        if not label and not self.options.blank_labels:
            raise PmtrainError(
                f"{self.table.path}, line {line}: the label is empty", "--exclude '' leaves out rows without a label"
            )
        return label

    def _split(self, text: str, line: int) -> str:
        if text not in self.splits:
            self.splits[text] = self.columns.flags.get(text.lower()) if self.columns.flags else split_of(text)
        if (split := self.splits[text]) is None:
            raise PmtrainError(
                f"{self.table.path}, line {line}: " + (f"unknown split {text!r}" if text else "the split is empty"),
                f"one of: {', '.join(self.columns.flags or SPLITS)}; --split-column NAME chooses another column,"
                ' --split-column="" none',
            )
        return split

    def notes(self) -> list[str]:
        notes = [f"{self.unnamed} cells for file names are empty"] * bool(self.unnamed)
        return notes + [f"{self.together} cells name several images, of one patient each"] * bool(self.together)


def listed_once(lines: dict[str, tuple[int, str]], key: str, name: str, line: int, label: str, table: Path) -> None:
    """Record a file's line and label; refuse a file that was listed before.

    Raises:
        PmtrainError: names both lines, and both labels if they differ.
    """
    if key in lines:
        first, first_label = lines[key]
        both = f"with two labels, {first_label!r} and {label!r}" if label != first_label else f"as {label!r} both times"
        hint = "remove one of the two lines" if label == first_label else SEVERAL_LABELS
        raise PmtrainError(f"{table}, line {line}: {name} is already listed on line {first}, {both}", hint)
    lines[key] = line, label


def _parts_of(folder: Path, options: TableOptions) -> list[_Part]:
    """The tables in a folder that have path and label columns.

    Else those in its split folders, in its folders without images, or those whose cells name files in the folder.
    """
    if own := _tables_in(folder, options):
        return [_Part(path, folder, split_in(path.stem)) for path in own] if len(own) > 1 else [_Part(own[0], folder)]
    children = look_into(folder).folders
    by_split = {child: _in_split(child, options) for child in children if split_of(child.name)}
    if by_split and all(len(tables) == 1 for tables in by_split.values()):
        return [_Part(tables[0], child, split_of(child.name)) for child, tables in by_split.items()]
    others = [child for child in children if child not in by_split and not holds_images(child)]
    if beside := [path for child in others for path in _tables_in(child, options)]:
        return [_Part(path, folder, split_in(path.stem) if len(beside) > 1 else None) for path in beside]
    return [_Part(path, folder) for path in _by_content(folder, options)]


def _in_split(folder: Path, options: TableOptions) -> list[Path]:
    return _tables_in(folder, options) or _by_content(folder, options)


def _by_content(folder: Path, options: TableOptions) -> list[Path]:
    """The tables whose cells name files in the folder."""
    listing = look_into(folder)
    return [path for path in (*listing.tables, *listing.sheets) if _is_table(_Part(path, folder), options)]


def _is_table(part: _Part, options: TableOptions) -> bool:
    """Whether a table's cells name files, and it has a label."""
    try:
        first = next(iter(_read(part, replace(options, skip_missing=True, blank_labels=True)).rows), None)
    except PmtrainError:
        return False
    return first is not None


def _tables_in(folder: Path, options: TableOptions) -> list[Path]:
    """The tables with usual or given names of columns; Excel files only if there is no other."""
    wanted = [{plain(name) for name in options.columns_of(role)} or usual_names(role) for role in ("path", "label")]
    listing = look_into(folder)
    for paths in (listing.tables, listing.sheets):
        fitting = [path for path in paths if all(names & _plain_header(path) for names in wanted)]
        fitting = [path for path in fitting if not SUBMISSION.search(path.name)] or fitting
        if fitting:
            return fitting
    return []


def _plain_header(path: Path) -> set[str]:
    return {plain(name) for name in header_of(path)}
