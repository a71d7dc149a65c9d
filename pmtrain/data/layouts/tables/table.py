"""csv: a table with a row per image, as text or in an Excel file."""

from __future__ import annotations

import itertools
import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

from pmtrain.data.dataset import first_few
from pmtrain.data.images import source
from pmtrain.data.images.read import SUFFIXES
from pmtrain.data.layouts.listing import look_into, suffix_of
from pmtrain.data.layouts.rows import Found, Row, TableOptions
from pmtrain.data.layouts.tables.columns import Columns, find_columns, has_no_header, is_marked, usual_names
from pmtrain.data.layouts.tables.delimited import Table, header_of, open_table, plain
from pmtrain.system.errors import PmtrainError

PEEK = 50  # lines to look at when finding the columns
MANY = 1000  # files of one folder after which the folder is listed
# In a cell, what must be normalized.
_UNUSUAL = re.compile(r"[\\:]|//|^/|/$|(?:^|/)\.\.?(?:/|$)|^$" if os.sep == "/" else "")


def recognise(data: Path, options: TableOptions) -> bool:
    """Whether a table in the folder has a path and a label column."""
    return bool(_tables_in(data, options))


def read(data: Path, options: TableOptions) -> Found:
    """The rows of a table, or of the only table in a folder; a line may have several images of one patient.

    Raises:
        PmtrainError: the table can't be read, is ambiguous, or names a file that doesn't exist; with the line.
        UsageError: an option names an unknown column.
    """
    table = open_table(_the_table(data, options), options.sheet)
    peek = list(itertools.islice(table.lines, PEEK))
    first_lines = [table.header, *(cells for _, cells in peek)]
    files, root_note = _root(table.path, first_lines, options)
    root = Path(files.root)
    table = replace(table, lines=itertools.chain(peek, table.lines))
    notes = [*table.notes, *root_note]
    if has_no_header(table.header, files.is_file):
        notes.append(f"{table.path.name} has no header: its columns are called 1, 2, ...")
        table, first_lines = table.without_header(), [[], *first_lines]
    try:
        columns = find_columns(table, first_lines[1:], options, files.is_file)
    except PmtrainError as error:
        raise type(error)(error.message, "\n".join([error.hint, *table.notes])) from None
    notes += columns.notes
    read = _Lines(table, columns, files, options)
    rows = list(read.rows())
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

    def __init__(self, table: Table, columns: Columns, files: _Files, options: TableOptions) -> None:
        self.table, self.columns, self.files, self.options = table, columns, files, options
        self.missing: list[tuple[str, int]] = []
        self.unnamed = 0  # empty file cells of lines that may have several images

    def rows(self) -> Iterator[Row]:
        seen: dict[str, tuple[int, str]] = {}
        several = len(self.columns.paths) > 1
        for line, cells, others in self.table.rows(self.columns.places()):
            where = f"{self.table.path}, line {line}"
            split = self._split(cells["split"], where) if "split" in cells else None
            # A line with several images is one patient.
            patient = cells.get("patient", "") or (f"line {line}" if several else "")
            for number in range(len(self.columns.paths)):
                cell = cells[f"path {number}"]
                if not cell and several:
                    self.unnamed += 1
                    continue
                if not cell:
                    raise PmtrainError(f"{where}: the path is empty")
                matches = self.files.of(cell)
                if len(matches) > 1:
                    raise PmtrainError(
                        f"{where}: {cell} matches several files: {first_few(matches)}", "write the full name"
                    )
                if not matches:
                    self.missing.append((cell, line))
                    continue
                label = self._label(cells, number, where)
                listed_once(seen, os.path.normcase(matches[0]), cell, line, label, self.table.path)
                yield Row(self.files.path(matches[0]), label, split, patient, others, line)

    def _label(self, cells: dict[str, str], number: int, where: str) -> str:
        """The label of an image: from the only label column or its own, or the name of the column that is 1."""
        places = self.columns.labels
        if not self.columns.one_hot:
            label = cells[f"label {number if len(places) > 1 else 0}"]
        else:
            marked = [self.table.header[place] for i, place in enumerate(places) if is_marked(cells[f"label {i}"])]
            if len(marked) > 1:
                raise PmtrainError(
                    f"{where}: {' and '.join(marked)} are both 1",
                    "give one --label-column, which is then positive and all others negative",
                )
            label = marked[0] if marked else ""
        if not label and not self.options.blank_labels:
            raise PmtrainError(f"{where}: the label is empty", "--exclude '' leaves out rows without a label")
        return label

    def _split(self, text: str, where: str) -> str:
        if not text:
            raise PmtrainError(f"{where}: the split is empty")
        split = self.columns.split_names.get(text.lower())
        if split is None:
            raise PmtrainError(
                f"{where}: unknown split {text!r}",
                f"one of: {', '.join(self.columns.split_names)}; --split-column NAME chooses another column,"
                ' --split-column="" none',
            )
        return split

    def notes(self) -> list[str]:
        return [f"{self.unnamed} cells for file names are empty"] * bool(self.unnamed)


def listed_once(lines: dict[str, tuple[int, str]], key: str, name: str, line: int, label: str, table: Path) -> None:
    """Record a file's line and label; refuse a file that was listed before.

    Raises:
        PmtrainError: names both lines, and both labels if they differ.
    """
    if key in lines:
        first, first_label = lines[key]
        both = f"with two labels, {first_label!r} and {label!r}" if label != first_label else f"as {label!r} both times"
        raise PmtrainError(f"{table}, line {line}: {name} is already listed on line {first}, {both}")
    lines[key] = line, label


class _Files:
    """Find the files that the cells of a table name, below `root`.

    Args:
        moved: what the cells begin with and what isn't here: paths of another machine.
    """

    def __init__(self, root: Path, moved: str = "") -> None:
        self.root, self.moved = os.path.normpath(root), moved
        self.prefix = "" if self.root == os.curdir else os.path.join(self.root, "")
        self.stems: dict[str, dict[str, list[str]]] = {}  # folder -> name without suffix -> names
        self.archive = source.container_of(self.root)
        self.asked: Counter[str] = Counter()
        self.listed: dict[str, frozenset[str]] = {}
        self.completed = 0
        self.folders: dict[str, Path] = {}  # of the files that became paths

    def path(self, match: str) -> Path:
        """A file that `of` found, as a path."""
        folder, name = _parted(match)
        if folder not in self.folders:
            self.folders[folder] = Path(folder)
        return self.folders[folder] / name

    def is_file(self, cell: str) -> bool:
        """Whether the cell names an image that exists; not counted in `completed`."""
        completed, matches = self.completed, self.of(cell)
        self.completed = completed
        return bool(matches) and all(suffix_of(match) in SUFFIXES for match in matches)

    def of(self, cell: str) -> list[str]:
        """The file with that path, with `/` or `\\`; without a suffix, the images with that name."""
        if self.moved:
            cell = cell.replace("\\", "/").removeprefix(self.moved)
        path = self.prefix + cell
        if _UNUSUAL.search(cell):
            path = os.path.normpath(os.path.join(self.root, cell.replace("\\", "/")))
        if not path.startswith(self.archive):  # a table in an archive names nothing outside of it
            return []
        folder, name = _parted(path)
        if name in self._images(folder) or source.is_file(path):
            return [path]
        if suffix_of(name) in SUFFIXES:
            return []
        if folder not in self.stems:
            names: dict[str, list[str]] = {}
            for image in look_into(Path(folder)).images if source.is_dir(folder) else ():
                names.setdefault(os.path.splitext(image)[0], []).append(image)
            self.stems[folder] = names
        matches = [os.path.join(folder, image) for image in self.stems[folder].get(name, ())]
        self.completed += len(matches) == 1
        return matches

    def _images(self, folder: str) -> frozenset[str]:
        """The images in a folder of which many files are asked for; listing it is quicker than asking for each."""
        if folder not in self.listed:
            self.asked[folder] += 1
            if self.asked[folder] <= MANY:
                return frozenset()
            self.listed[folder] = frozenset(look_into(Path(folder)).images if source.is_dir(folder) else ())
        return self.listed[folder]

    def like(self, cell: str) -> list[str]:
        """A hint that names the images whose names differ from the cell's in case or suffix only."""
        folder, name = _parted(os.path.normpath(os.path.join(self.root, cell.replace("\\", "/"))))
        stem = os.path.splitext(name)[0].casefold()
        beside = look_into(Path(self.root)).folders if source.is_dir(self.root) else []
        folders = [Path(folder), *beside] if source.is_dir(folder) else beside
        images = [image for each in dict.fromkeys(folders) for image in look_into(each).images]
        alike = [image for image in images if os.path.splitext(image)[0].casefold() == stem]
        return [f"there is {first_few(alike)}: the table must have the same letters and suffix, or none"] * bool(alike)

    def notes(self) -> tuple[str, ...]:
        return (f"{self.completed} paths without a suffix: each matches exactly one image",) * bool(self.completed)


def _parted(path: str) -> tuple[str, str]:
    """`os.path.split` of a normalized path, but quicker; a bare name is in the current folder."""
    folder, _, name = path.rpartition(os.sep)
    if folder and not folder.endswith(os.sep):
        return folder, name
    folder, name = os.path.split(path)
    return folder or os.curdir, name


def _root(table: Path, first_lines: Iterable[list[str]], options: TableOptions) -> tuple[_Files, list[str]]:
    """Where the files are: as given, in the table's own folder, or in the one folder next to it that has them.

    Absolute paths of another machine are read from the first part on that is here.
    """
    cells = [cell for line in first_lines for cell in line if cell and not cell.isspace()]
    own = source.as_folder(options.root) if options.root else table.parent

    def found(folder: Path, moved: str = "") -> bool:
        files = _Files(folder, moved)
        return any(files.is_file(cell) for cell in cells)

    if found(own):
        return _Files(own), []
    beside = [] if options.root else look_into(own).folders
    told = {folder: f"paths are relative to {folder.name}/, where the files are" for folder in beside}
    if len(having := [folder for folder in beside if found(folder)]) == 1:
        return _Files(having[0]), [told[having[0]]]
    moved = {folder: start for folder in (own, *beside) if (start := _moved(cells, _Files(folder)))}
    if own in moved or len(moved) == 1:
        folder = own if own in moved else next(iter(moved))
        note = f"the paths begin with {moved[folder]}, as on another machine; that is left out"
        return _Files(folder, moved[folder]), [*([told[folder]] if folder in told else []), note]
    return _Files(own), []


def _moved(cells: Iterable[str], files: _Files) -> str:
    """What is to be left out of absolute paths, with `/`, so that they name files here; "" if there is no such path."""
    for cell in cells:
        parts = cell.replace("\\", "/").split("/")
        if len(parts) > 1 and (not parts[0] or re.fullmatch("[A-Za-z]:", parts[0])):
            for start in range(1, len(parts)):
                if files.is_file("/".join(parts[start:])):
                    return "/".join(parts[:start]) + "/"
    return ""


def _the_table(data: Path, options: TableOptions) -> Path:
    if not source.is_dir(data):
        return data
    tables = _tables_in(data, options)
    if len(tables) != 1:
        what = f"more than one table: {first_few([path.name for path in tables])}" if tables else "no table"
        raise PmtrainError(
            f"{data}: {what} with path and label columns",
            "give the table itself as --data (or --val-data), and its columns by --path-column and --label-column",
        )
    return tables[0]


def _tables_in(folder: Path, options: TableOptions) -> list[Path]:
    """The tables in a folder that have path and label columns; Excel files only if there is no other."""
    wanted = [{plain(name) for name in options.columns_of(role)} or usual_names(role) for role in ("path", "label")]
    listing = look_into(folder)
    for paths in (listing.tables, listing.sheets):
        fitting = [path for path in paths if all(names & _plain_header(path) for names in wanted)]
        if fitting:
            return fitting
    return []


def _plain_header(path: Path) -> set[str]:
    return {plain(name) for name in header_of(path)}
