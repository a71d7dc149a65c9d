"""A column of a table looked up by image: who each of a list of files is of."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath

from pmtrain.data.dataset import first_few
from pmtrain.data.layouts.tables.column_names import plain, usual_names
from pmtrain.data.layouts.tables.delimited import open_table
from pmtrain.system.errors import PmtrainError, UsageError


def column_by_image(table: Path, column: str, images: Sequence[Path], sheet: str | None = None) -> list[str]:
    """(N,) the cell of each image in the column of that name; empty where the table doesn't list the image.

    The column of file names is the one that names the most images: by path, by the last parts of it, by the file's
    name, or by that without its suffix. Labels aren't needed.

    Args:
        column: its name; `patient` also stands for the usual names of such a column.
    Raises:
        PmtrainError: the table can't be read, lists none of the images, or has two values for one.
        UsageError: there is no such column.
    """
    opened = open_table(table, sheet)
    place = _place(table, opened.header, column)
    keys = [list(_keys(image)) for image in images]
    lines = [cells for _, cells in opened.lines]
    best: tuple[tuple[int, int], dict[str, set[str]], list[str | None]] = ((0, 0), {}, [])
    for names in set(range(len(opened.header))) - {place}:
        values: dict[str, set[str]] = defaultdict(set)
        for cells in lines:
            if len(cells) > max(names, place) and cells[names]:
                values[cells[names].replace("\\", "/").removeprefix("./")].add(cells[place])
        found = [next((key for key in of_image if key in values), None) for of_image in keys]
        # The longer the names, the less likely it is that they match by chance, as running numbers do.
        known = [key for key in found if key is not None]
        best = max(best, ((len(known), sum(map(len, known))), values, found), key=lambda each: each[0])
    _, values, found = best
    if not found:
        raise PmtrainError(
            f"{table}: no column names any of these images, such as {first_few([str(image) for image in images], 2)}",
            "one of its columns must have the images' file names",
        )
    if unlike := [key for key in found if key is not None and len(values[key]) > 1]:
        raise PmtrainError(
            f"{table}: {unlike[0]} has several values in the column {column}: {first_few(sorted(values[unlike[0]]))}",
            "name the files by their paths, so that each line is of one image",
        )
    return ["" if key is None else next(iter(values[key])) for key in found]


def _place(table: Path, header: Sequence[str], column: str) -> int:
    names = [plain(name) for name in header]
    wanted = {plain(column)} | (usual_names("patient") if column == "patient" else set())
    found = [place for place, name in enumerate(header) if name == column]
    found = found or [place for place, name in enumerate(names) if name in wanted]
    if not found:
        raise UsageError(f"--unit {column}: {table} has no such column", f"it has {first_few(list(header), 20)}")
    return found[0]


def _keys(image: Path) -> Iterator[str]:
    """What may name an image in a table, the longest first: `a/b/c.png`, `b/c.png`, `c.png`, then without a suffix."""
    parts = image.as_posix().split("/")
    paths = ["/".join(parts[start:]) for start in range(len(parts))]
    yield from paths
    yield from (str(PurePosixPath(path).with_suffix("")) for path in paths if PurePosixPath(path).name)
