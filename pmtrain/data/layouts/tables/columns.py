"""Find the columns of a table: by the options, by usual names, or by cells that name existing files."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pmtrain.data.dataset import first_few
from pmtrain.data.layouts.rows import TableOptions, split_of
from pmtrain.data.layouts.tables.column_names import COLUMNS, FLAGS, LABEL_ENDS, OTHERS, plain
from pmtrain.data.layouts.tables.delimited import Table
from pmtrain.data.layouts.tables.named_files import names_files
from pmtrain.system.console import quoted
from pmtrain.system.errors import PmtrainError, UsageError

HAS = re.compile(r"[Hh]as(?:[\s_.-]|(?=[A-Z]))")  # has_glaucoma
TRUE, FALSE = ("true", "1", "1.0", "yes", "y", "wahr", "是"), ("false", "0", "0.0", "no", "n", "falsch", "否")
MARKS = {"0", "1", "0.0", "1.0", "0,0", "1,0", "TRUE", "FALSE", "True", "False", "true", "false"}  # of a one-hot column
FEW = 10  # different cells of a column that may be the label

Peek = Sequence[Sequence[str]]  # the cells of the first lines


@dataclass(frozen=True)
class Columns:
    """The positions of a table's columns.

    Attributes:
        paths: one position, or one for each image of a line.
        labels: one position, one for each image of a line or, if `one_hot`, several, one of which is 1.
        split, patient: None if the table has none.
        flags: cells of the split column that are True or False, in lower case -> train, val or test; empty if it has
            the names of splits.
        notes: what was decided from the table's content.
    """

    paths: tuple[int, ...]
    labels: tuple[int, ...]
    one_hot: bool
    split: int | None
    patient: int | None
    flags: dict[str, str]
    notes: tuple[str, ...]

    def places(self) -> set[int]:
        """The positions of all of them."""
        return {place for place in (*self.paths, *self.labels, self.split, self.patient) if place is not None}


def find_columns(table: Table, peek: Peek, options: TableOptions, is_file: Callable[[str], bool]) -> Columns:
    """The columns that the options name, or else columns with usual names or with cells that name files.

    Args:
        peek: the first lines, to look up their files.
        is_file: whether a cell names an image that exists.
    Raises:
        PmtrainError: a column is missing or ambiguous.
        UsageError: an option names an unknown column.
    """
    return _Search(table, peek, options, is_file).columns()


def is_marked(cell: str) -> bool:
    """Whether a cell of a one-hot column means yes."""
    return cell in ("1", "1.0", "1,0", "TRUE", "True", "true")


class _Search:
    def __init__(self, table: Table, peek: Peek, options: TableOptions, is_file: Callable[[str], bool]) -> None:
        self.table, self.peek, self.is_file = table, peek, is_file
        self.names = [plain(name) for name in table.header]
        self.notes: list[str] = []
        # Columns that were given aren't used for another role.
        self.given = {role: self._given(role, options.columns_of(role)) for role in COLUMNS}
        self.none = {role for role in COLUMNS if options.columns_of(role) == [""]}
        self.taken = {place for places in self.given.values() for place in places}

    def columns(self) -> Columns:
        paths = self.given["path"] or self._take(self._path())
        patient = self.given["patient"] or self._take(self._by_name("patient"))
        split = self.given["split"] or self._take(self._split())
        labels = self.given["label"] or self._take(self._label())
        flags = FLAGS.get(self.names[split[0]]) if split else None
        said = {cell: flags[cell in FALSE] for cell in (*TRUE, *FALSE)} if flags else {}
        return Columns(
            tuple(paths),
            tuple(labels),
            self._one_hot(labels, len(paths)),
            next(iter(split), None),
            next(iter(patient), None),
            said,
            tuple(self.notes),
        )

    def _one_hot(self, labels: list[int], images: int) -> bool:
        """Whether several label columns are one per class, rather than one per image of the line."""
        if (
            len(labels) < 2
            or len(labels) == images
            and not all(self._marked(cells, labels) == 1 for cells in self.peek)
        ):
            return False
        names = ", ".join(repr(self.table.header[place]) for place in labels)
        self.notes.append(f"the label is the one of the columns {names} that is 1")
        return True

    def _marked(self, cells: Sequence[str], labels: list[int]) -> int:
        """The number of a line's label columns that are 1; -1 if one is neither 0 nor 1."""
        values = [cells[place] for place in labels if place < len(cells)]
        return sum(map(is_marked, values)) if set(values) <= MARKS else -1

    def _take(self, places: list[int]) -> list[int]:
        self.taken |= set(places)
        return places

    def _free(self) -> list[int]:
        return [place for place, name in enumerate(self.names) if place not in self.taken and name]

    def _given(self, role: str, names: list[str]) -> list[int]:
        flag, header = f"--{role}-column", self.table.header
        if names == [""] and role in ("split", "patient"):
            return []
        places = []
        for name in names:
            found = [i for i, heading in enumerate(header) if heading == name]
            found = found or [i for i, plain_name in enumerate(self.names) if plain_name == plain(name)]
            if not found:
                near = difflib.get_close_matches(name, header, 1)
                raise UsageError(
                    f"{flag} {name!r}: {self.table.path} has no such column",
                    f"did you mean {near[0]!r}?" if near else f"it has {first_few(header, 20)}",
                )
            places += [self._only(role, found)]
        return places

    def _only(self, role: str, found: list[int]) -> int:
        """The only position; an error that lists them if there are several."""
        if len(found) == 1:
            return found[0]
        headings = dict.fromkeys(repr(self.table.header[place]) for place in found)
        raise PmtrainError(
            f"{self.table.path}: more than one column could be the {role}: {first_few(list(headings))}",
            self._choice(role, list(headings)) if len(headings) > 1 else "rename all but one of them",
        )

    def _choice(self, role: str, headings: list[str]) -> str:
        hint = f"choose one: {' or '.join(f'--{role}-column {heading}' for heading in headings)}"
        if role in ("path", "label"):
            both = " ".join(f"--{role}-column {heading}" for heading in headings)
            hint += f"\nor all, if a row has several images{' and a label for each' * (role == 'label')}: {both}"
        return hint

    def _named(self, role: str) -> list[int]:
        named = ([place for place in self._free() if self.names[place] in names] for names in COLUMNS[role])
        return next(filter(None, named), [])

    def _by_name(self, role: str) -> list[int]:
        found = [] if role in self.none else self._named(role)
        return [self._only(role, found)] if found else []

    def _path(self) -> list[int]:
        named = self._named("path")
        if len(named) == 1 and self._names_files(named[0]):
            return named
        real = [place for place in self._free() if self._names_files(place)]
        real = [place for place in real if place in named] or real
        if real:
            place = self._only("path", real)
            if place not in named:
                self.notes.append(f"the column {self.table.header[place]!r} has the file names")
            return [place]
        if named:
            return [self._only("path", named)]
        raise self._missing("path")

    def _names_files(self, place: int) -> bool:
        """Whether most of the first cells name images that exist."""
        return names_files(self._cells(place), self.is_file)

    def _cells(self, place: int) -> list[str]:
        return [cells[place] for cells in self.peek if place < len(cells)]

    def _split(self) -> list[int]:
        if "split" in self.none:
            return []
        named = self._named("split")
        # Columns of the less usual names may hold something else, such as the folds of a cross-validation.
        found = [place for place in named if self.names[place] in COLUMNS["split"][0] or self._says_splits(place)]
        if not found:
            # Whatever it is called, and of the patient's, label's and other columns none has such cells.
            found = [place for place in self._free() if "train" in self._splits(place)]
            self.notes += [f"the column {self.table.header[place]!r} has the splits" for place in found]
        return [self._only("split", found)] if found else []

    def _says_splits(self, place: int) -> bool:
        flags = {*TRUE, *FALSE} if self.names[place] in FLAGS else set()
        return bool(self._splits(place)) or self._values(place) <= flags

    def _splits(self, place: int) -> set[str]:
        """The splits in the first cells of a column; none if it has other cells."""
        splits = {split_of(text) for text in self._values(place)}
        return {split for split in splits if split} if None not in splits else set()

    def _values(self, place: int) -> set[str]:
        return {cell.lower() for cell in self._cells(place)}

    def _label(self) -> list[int]:
        found = self._named("label")
        free = [place for place in self._free() if self.names[place] not in OTHERS]
        found = found or [place for place in free if HAS.match(self.table.header[place])]
        found = found or [place for place in free if self.names[place].endswith(LABEL_ENDS)]
        if not found and len(free) == 1:
            self.notes.append(f"the column {self.table.header[free[0]]!r} has the labels")
            return free
        if not found and len(marks := [place for place in free if self._is_marks(place)]) > 1:
            if all(self._marked(cells, marks) == 1 for cells in self.peek):
                return marks
        if not found:
            raise self._missing("label")
        return [self._only("label", found)]

    def _is_marks(self, place: int) -> bool:
        """Whether the first cells of a column are 0 and 1."""
        return set(self._cells(place)) <= MARKS

    def _missing(self, role: str) -> PmtrainError:
        named = [name for name in self.table.header if name]
        hint = f"give it by --{role}-column, or rename it to one of: {', '.join(sorted(COLUMNS[role][0]))}"
        return PmtrainError(
            f"{self.table.path}: no {role} column among {first_few(named, 20) or 'none'}",
            "\n".join([*(self._possible_labels() if role == "label" else []), hint]),
        )

    def _possible_labels(self) -> list[str]:
        """Hints that name the columns with few different cells."""
        lines, marks = [], []
        for place in self._free():
            values = sorted(set(self._cells(place)) - {""})
            if self._is_marks(place):
                marks.append(self.table.header[place])
            elif 1 < len(values) <= min(FEW, len(self.peek) - 1) and self.names[place] not in OTHERS:
                told = f"--label-column {quoted(self.table.header[place])}"
                lines.append(f"{told}: its labels are {', '.join(values)}, as far as the first lines go")
        if marks:
            told = f"--label-column {quoted(marks[0])} sets one of them against all others"
            lines.append(f"columns of 0 and 1: {first_few(marks, 10)}; {told}")
        return lines
