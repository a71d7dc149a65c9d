"""Find the files that a table's cells name: by their paths, or where no path is right, by names that are nearly so."""

from __future__ import annotations

import contextlib
import os
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from urllib.parse import unquote

from pmtrain.data.dataset import first_few
from pmtrain.data.images import source
from pmtrain.data.images.read import SUFFIXES
from pmtrain.data.layouts.listing import archives_as_folders, look_into, suffix_of
from pmtrain.data.layouts.tables.column_names import plain, usual_names
from pmtrain.system.errors import PmtrainError

MANY = 1000  # files of one folder after which the folder is listed
SOME = 10  # lines, from which on labels recur more than once
MOST_FOLDERS = 20_000  # in which a file is looked for by its name
# In a cell, what must be normalized.
_UNUSUAL = re.compile(r"[\\:]|//|^/|/$|(?:^|/)\.\.?(?:/|$)|^$" if os.sep == "/" else "")
# Folders of tables, whose images are in folders beside them.
_OF_TABLES = re.compile(
    r"(\d+[._ -]*)?(labels?|annotations?|tables?|csvs?|meta(data)?|splits?|lists?|ground[ _-]?truths?|gt"
    r"|标签|标注|表格|tabellen?)",
    re.IGNORECASE,
)
SEPARATOR = re.compile(r"\s*[;|,\n]\s*|\s+")  # between several names in one cell


class NamedFiles:
    """The files that cells name, below `root`.

    Args:
        moved: what the cells begin with and what isn't here: paths of another machine.
    """

    def __init__(self, root: Path, moved: str = "") -> None:
        # Of each folder in a cell that was listed: its path with `/`, what joins a name to it, and its images.
        self.quick: dict[str, tuple[str, Callable[[str], Path], frozenset[str]]] = {}
        self.root, self.moved = os.path.normpath(root), moved
        self.prefix = "" if self.root == os.curdir else os.path.join(self.root, "")
        self.stems: dict[str, dict[str, list[str]]] = {}  # folder -> name without suffix -> names
        self.archive = source.container_of(self.root)
        self.asked: Counter[str] = Counter()  # by folder in a cell
        self.completed = 0
        self.folders: dict[str, Path] = {}  # of the files that became paths

    def path(self, match: str) -> Path:
        """A file that `of` found, as a path."""
        folder, name = _parted(match)
        if folder not in self.folders:
            self.folders[folder] = Path(folder)
        return source.joining(self.folders[folder])(name)

    def quickly(self, cell: str) -> tuple[str, Path] | None:
        """What `of` and `path` give for a file in a folder that was listed; None for any other."""
        within, _, own = cell.rpartition("/")
        known = self.quick.get(within)
        if known is None or own not in known[2]:
            return None
        return known[0] + own, known[1](own)

    def is_file(self, cell: str) -> bool:
        """Whether the cell names an image that exists; not counted in `completed`."""
        completed, matches = self.completed, self.of(cell) or self.several(cell)
        self.completed = completed
        return bool(matches) and all(suffix_of(match) in SUFFIXES for match in matches)

    def of(self, cell: str) -> list[str]:
        """The file with that path, with `/` or `\\`; without a suffix, the images with that name."""
        within, _, own = cell.rpartition("/")
        if (known := self.quick.get(within)) and own in known[2]:
            return [known[0] + own]
        if self.moved:
            cell = cell.replace("\\", "/").removeprefix(self.moved)
        path = self.prefix + cell
        if _UNUSUAL.search(cell):
            path = os.path.normpath(os.path.join(self.root, cell.replace("\\", "/")))
        if not path.startswith(self.archive):  # a table in an archive names nothing outside of it
            return []
        folder, name = _parted(path)
        if source.is_file(path):
            self.asked[within] += 1
            if self.asked[within] == MANY and name == own:  # listing the folder is quicker than asking for each
                self.quick[within] = (
                    path[: -len(name)],
                    source.joining(Path(folder)),
                    frozenset(look_into(Path(folder)).images),
                )
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

    def several(self, cell: str) -> list[str]:
        """The files of a cell with several names, `1_left.png; 1_right.png`; empty unless all exist."""
        parts = [part for part in SEPARATOR.split(cell) if part]
        matches = [self.of(part) for part in parts] if len(parts) > 1 else []
        return [match for (match,) in matches] if all(len(match) == 1 for match in matches) else []

    def like(self, cell: str) -> list[str]:
        """A hint that names the images whose names differ from the cell's in case or suffix only."""
        folder, name = _parted(os.path.normpath(os.path.join(self.root, cell.replace("\\", "/"))))
        stem = os.path.splitext(name)[0].casefold()
        beside = look_into(Path(self.root)).folders if source.is_dir(self.root) else []
        folders = [Path(folder), *beside] if source.is_dir(folder) else beside
        images = [image for each in dict.fromkeys(folders) for image in look_into(each).images]
        alike = [image for image in images if os.path.splitext(image)[0].casefold() == stem and image != name]
        return [f"there is {first_few(alike)}: the table must have the same letters and suffix, or none"] * bool(alike)

    def notes(self) -> tuple[str, ...]:
        return (f"{self.completed} paths without a suffix: each matches exactly one image",) * bool(self.completed)


class NearlyNamedFiles(NamedFiles):
    """As NamedFiles, for cells that name no file exactly: among all images below `root`, by what is most alike.

    Names may differ in upper and lower case, suffix, zeros before numbers, blanks and `%20`, and folders may be missing
    or others.
    """

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.index: dict[str, list[str]] = defaultdict(list)
        for folder, name in _images_below(root):
            self.index[_key(name)].append(os.path.join(folder, name))
        self.example = ""

    def of(self, cell: str) -> list[str]:
        *folders, name = unquote(cell).replace("\\", "/").rstrip("/").split("/")
        found = self.index.get(_key(name), [])
        if len(found) > 1:
            wanted = [_key(folder) for folder in reversed(folders)]
            scores = [(_likeness(name, match), _common(wanted, match)) for match in found]
            found = [match for match, score in zip(found, scores, strict=True) if score == max(scores)]
        if len(found) == 1:
            self.completed += 1
            self.example = self.example or f"{cell} is {os.path.relpath(found[0], self.root)}"
        return found

    def notes(self) -> tuple[str, ...]:
        told = f"{self.completed} names aren't paths, but each fits exactly one image: {self.example}"
        return (told,) * bool(self.completed)


def _images_below(root: Path) -> Iterator[tuple[Path, str]]:
    """Folder and name of every image below `root`, if there aren't so many folders that it is hardly a data set."""
    folders = [root]
    images = []
    for folder in folders:
        try:
            listing = look_into(folder)
        except PmtrainError:  # a damaged archive, say; what is missing is named later
            continue
        images += [(folder, name) for name in listing.images]
        folders += [child for child in listing.folders if not child.is_symlink()]
        if len(folders) > MOST_FOLDERS:
            return
    yield from images


def _key(name: str) -> str:
    """A file name without what may differ."""
    name = unicodedata.normalize("NFKC", name).casefold().strip()
    stem, suffix = os.path.splitext(name)
    if suffix in SUFFIXES or suffix.strip(".0") == "":  # a number of a spreadsheet: 12.0
        name = stem
    return re.sub(r"[\s_-]+", "_", re.sub(r"(?<!\d)0+(?=\d)", "", name))


def _likeness(name: str, match: str) -> int:
    """How much a file's name is like the one that is wanted."""
    found = os.path.basename(match)
    same_suffix = suffix_of(name) == suffix_of(found)
    stems = os.path.splitext(name)[0] if suffix_of(name) in SUFFIXES else name, os.path.splitext(found)[0]
    return 4 * (stems[0] == stems[1]) + 2 * (stems[0].casefold() == stems[1].casefold()) + same_suffix


def _common(wanted: Sequence[str], match: str) -> int:
    """The number of folders above a file that are as wanted, from the last one on."""
    parts = match.split(os.sep)[-2::-1]
    return next(
        (n for n, (one, other) in enumerate(zip(wanted, parts, strict=False)) if one != _key(other)), len(wanted)
    )


def _parted(path: str) -> tuple[str, str]:
    """`os.path.split` of a normalized path, but quicker; a bare name is in the current folder."""
    folder, _, name = path.rpartition(os.sep)
    if folder and not folder.endswith(os.sep):
        return folder, name
    folder, name = os.path.split(path)
    return folder or os.curdir, name


def find_root(own: Path, given: bool, lines: Sequence[Sequence[str]]) -> tuple[NamedFiles, list[str]]:
    """Where the files are: in `own`, in the one folder in it that has them, or anywhere below it; and notes.

    Absolute paths of another machine are read from the first part on that is here.

    Args:
        own: the folder as given, or else the table's.
        lines: the cells of the first lines.
    """
    columns = _columns(lines)
    cells = [cell for column in columns for cell in column]

    def found(folder: Path, moved: str = "") -> bool:
        files = NamedFiles(folder, moved)
        return any(files.is_file(cell) for cell in cells)

    def count(files: NamedFiles) -> int:
        """The number of files that the likeliest column names."""
        return max((sum(map(files.is_file, column)) for column in columns), default=0)

    if found(own):
        return NamedFiles(own), []
    beside = [] if given or not source.is_dir(own) else look_into(own).folders
    told = {folder: [f"paths are relative to {folder.name}/, where the files are"] for folder in beside}
    having = [folder for folder in beside if found(folder)]
    moved = {folder: start for folder in (own, *beside) if (start := _moved(cells, NamedFiles(folder)))}
    if not having and (own in moved or len(moved) == 1):
        folder = own if own in moved else next(iter(moved))
        note = f"the paths begin with {moved[folder]}, as on another machine; that is left out"
        return NamedFiles(folder, moved[folder]), [*told.get(folder, []), note]
    exact = NamedFiles(having[0]) if len(having) == 1 else NamedFiles(own)
    notes = told[having[0]] if len(having) == 1 else []
    places = [own] if source.is_dir(own) and count(exact) < max(map(len, columns), default=0) else []
    if not having and not given and _OF_TABLES.fullmatch(own.resolve().name):
        places.append(own.resolve().parent)
    for place in places:
        with archives_as_folders() if place == own else contextlib.nullcontext():
            files = NearlyNamedFiles(place)
        fitting = [column for column in columns if names_files(column, files.is_file)]
        if fitting and len(having) > 1 and any(len(files.of(cell)) > 1 for column in fitting for cell in column):
            which = " or ".join(f"--root {folder.name}" for folder in having)
            return exact, [f"several folders have files of these names: {which}"]
        if fitting and count(files) > count(exact):
            files.completed, files.example = 0, ""
            return files, [f"the files are below {place}"] if place != own else []
    return exact, notes


def names_files(cells: Iterable[str], is_file: Callable[[str], bool]) -> bool:
    """Whether most of these cells name images that exist, and hardly two the same one."""
    named = [cell for cell in cells if cell]
    return bool(named) and _are_different(named) and 2 * sum(map(is_file, named)) >= len(named)


def _columns(lines: Sequence[Sequence[str]]) -> list[list[str]]:
    """The first lines' cells by column, without names of columns; not of columns in which cells recur, as labels do."""
    width = max(map(len, lines), default=0)
    known = usual_names("path") | usual_names("label")
    columns = [[line[i] for line in lines if i < len(line) and line[i]] for i in range(width)]
    columns = [[cell for cell in column if plain(cell) not in known] for column in columns]
    return [column for column in columns if _are_different(column)]


def _are_different(cells: Sequence[str]) -> bool:
    """Whether hardly any cell recurs, or in many lines more than once; of a few, any may."""
    return len(cells) <= 3 or (3 if len(cells) >= SOME else 2) * len(set(cells)) > len(cells)


def _moved(cells: Iterable[str], files: NamedFiles) -> str:
    """What is to be left out of absolute paths, with `/`, so that they name files here; "" if there is no such path."""
    for cell in cells:
        parts = cell.replace("\\", "/").split("/")
        if len(parts) > 1 and (not parts[0] or re.fullmatch("[A-Za-z]:", parts[0])):
            for start in range(1, len(parts)):
                if files.is_file("/".join(parts[start:])):
                    return "/".join(parts[:start]) + "/"
    return ""
