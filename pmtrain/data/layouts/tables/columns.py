"""Find the columns of a table: by the options, by usual names, or by cells that name existing files."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pmtrain.data.dataset import first_few
from pmtrain.data.layouts.rows import SPLIT_NAMES, TableOptions
from pmtrain.data.layouts.tables.delimited import Table, plain
from pmtrain.system.errors import PmtrainError, UsageError

# Usual column names by content, in lower case without spaces, `_`, `-` and `.`. Names of the second set are used only
# if there is none of the first: a table may have both a label and a grade.
COLUMNS: dict[str, tuple[set[str], set[str]]] = {
    "path": (
        {"path", "file", "filename", "filepath", "image", "imagepath", "imagefile", "imagename", "img", "imgname"},
        {"fname", "fileid", "imageid", "isicid", "idcode", "bild", "datei", "dateiname"}
        | {"文件", "文件名", "图片", "图像", "影像"},
    ),
    "label": (
        {"label", "labels", "class", "target", "diagnosis"},
        {
            "level",
            "grade",
            "dx",
            "klasse",
            "diagnose",
            "befund",
            "标签",
            "类别",
            "诊断",
            "诊断结果",
            "標籤",
            "類別",
            "診斷",
        }
        | {"étiquette", "classe", "etiqueta", "clase", "rótulo", "etichetta", "etykieta", "etiket", "метка", "диагноз"}
        | {"ラベル", "診断", "라벨", "진단"},
    ),
    "split": ({"split", "set", "subset", "partition"}, {"isvalid", "isval", "fold"}),
    "patient": (
        {"patient", "patientid", "subject", "subjectid"},
        {
            "患者",
            "病人",
            "患者编号",
            "患者id",
            "病人编号",
            "patientenid",
            "paciente",
            "paziente",
            "пациент",
            "환자",
            "환자id",
        },
    ),
}
LABEL_PREFIX = "has"  # has_glaucoma
IS_VALIDATION = {"isvalid", "isval"}  # True or False instead of a split name
TRUTH = {"true": "val", "1": "val", "yes": "val", "false": "train", "0": "train", "no": "train"}

Peek = Sequence[Sequence[str]]  # the cells of the first lines


@dataclass(frozen=True)
class Columns:
    """The positions of a table's columns.

    Attributes:
        paths: one position, or one for each image of a line.
        labels: one position, one for each image of a line or, if `one_hot`, several, one of which is 1.
        split, patient: None if the table has none.
        split_names: possible cells of the split column, in lower case -> train, val or test.
        notes: what was decided from the table's content.
    """

    paths: tuple[int, ...]
    labels: tuple[int, ...]
    one_hot: bool
    split: int | None
    patient: int | None
    split_names: dict[str, str]
    notes: tuple[str, ...]

    def places(self) -> dict[str, int]:
        """Every column by a key: `path 0`, `path 1`, `label 0`, `split`, ..."""
        numbered = {f"path {i}": place for i, place in enumerate(self.paths)}
        numbered |= {f"label {i}": place for i, place in enumerate(self.labels)}
        others = {"split": self.split, "patient": self.patient}
        return numbered | {role: place for role, place in others.items() if place is not None}


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


def has_no_header(header: Sequence[str], is_file: Callable[[str], bool]) -> bool:
    """Whether the first line is not a header: one of its cells names an image that exists."""
    return any(cell and plain(cell) not in usual_names("path") and is_file(cell) for cell in header)


def usual_names(role: str) -> set[str]:
    """All names in COLUMNS for a role."""
    return set().union(*COLUMNS[role])


def is_marked(cell: str) -> bool:
    """Whether a cell of a one-hot column means yes."""
    return cell in ("1", "1.0")


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
        said = bool(split) and self.names[split[0]] in IS_VALIDATION
        return Columns(
            tuple(paths),
            tuple(labels),
            self._one_hot(labels, len(paths)),
            next(iter(split), None),
            next(iter(patient), None),
            TRUTH if said else SPLIT_NAMES,
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
        return sum(map(is_marked, values)) if set(values) <= {"0", "1", "0.0", "1.0"} else -1

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
            f"choose one: {' or '.join(f'--{role}-column {heading}' for heading in headings)}"
            if len(headings) > 1
            else "rename all but one of them",
        )

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
        cells = [cells[place] for cells in self.peek if place < len(cells) and cells[place]]
        return bool(cells) and 2 * sum(map(self.is_file, cells)) >= len(cells)

    def _split(self) -> list[int]:
        # Cross-validation folds aren't splits.
        found = [
            place
            for place in ([] if "split" in self.none else self._named("split"))
            if self.names[place] != "fold" or all(text in SPLIT_NAMES for text in self._values(place))
        ]
        if not found and "split" not in self.none:
            # Whatever it is called, and of the patient's, label's and other columns none has such cells.
            found = [place for place in self._free() if "train" in self._splits(place)]
            self.notes += [f"the column {self.table.header[place]!r} has the splits" for place in found]
        return [self._only("split", found)] if found else []

    def _splits(self, place: int) -> set[str]:
        """The splits in the first cells of a column; none if it has other cells."""
        values = self._values(place)
        return {SPLIT_NAMES[text] for text in values} if values <= SPLIT_NAMES.keys() else set()

    def _values(self, place: int) -> set[str]:
        return {cells[place].lower() for cells in self.peek if place < len(cells)}

    def _label(self) -> list[int]:
        found = self._named("label")
        found = found or [place for place in self._free() if self.names[place].startswith(LABEL_PREFIX)]
        if not found and len(free := self._free()) == 1:
            self.notes.append(f"the column {self.table.header[free[0]]!r} has the labels")
            return free
        if not found:
            raise self._missing("label")
        return [self._only("label", found)]

    def _missing(self, role: str) -> PmtrainError:
        named = [name for name in self.table.header if name]
        return PmtrainError(
            f"{self.table.path}: no {role} column among {first_few(named, 20) or 'none'}",
            f"give it by --{role}-column, or rename it to one of: {', '.join(sorted(COLUMNS[role][0]))}",
        )
