"""Which line of a table is its header: titles may stand above it, a second line below it, or there is none."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import replace

from pmtrain.data.layouts.rows import TableOptions
from pmtrain.data.layouts.tables.column_names import plain, usual_names
from pmtrain.data.layouts.tables.delimited import KNOWN_NAMES, TITLES, Table

Lines = list[tuple[int, list[str]]]


def find_header(
    table: Table, peek: Lines, options: TableOptions, is_file: Callable[[str], bool]
) -> tuple[Table, Lines, list[str]]:
    """The table with its header, the first lines below that, and notes.

    Args:
        peek: the first lines below the table's first one; they have been taken from `table.lines`.
        is_file: whether a cell names an image that exists.
    """
    lines: Lines = [(table.header_line, table.header), *peek]
    names = usual_names("path") | {plain(name) for name in options.columns_of("path")}
    place = next(
        ((row, cell) for row, (_, cells) in enumerate(lines) if (cell := _file(cells, names, is_file)) >= 0), None
    )
    if place is not None and place[0] == 0:
        whole = replace(table, lines=itertools.chain(peek, table.lines)).without_header()
        return whole, lines, [f"{table.path.name} has no header: its columns are called 1, 2, ..."]
    row = _header_row(lines, names, place[0] if place else None)
    header_line, header = lines[row]
    notes = [f"{table.path.name}: the header is line {header_line}; what is above it was skipped"] * bool(row)
    below = row + 1
    # A second line of names stands above the first line with a file, and names no file itself.
    while place and below < place[0] and _is_of_names(lines[below][1], header, place[1], lines[below + 1 :]):
        header = _joined(header, lines[below][1])
        notes.append(f"{table.path.name}: line {lines[below][0]} belongs to the header")
        below += 1
    rest = lines[below:]
    return replace(table, header=header, header_line=header_line, lines=itertools.chain(rest, table.lines)), rest, notes


def _header_row(lines: Lines, names: set[str], first_file: int | None) -> int:
    """The line with the names, of those above the first line with a file."""
    if _named(lines[0][1], names) or first_file == 1:
        return 0
    above = range(min(len(lines), TITLES + 1) if first_file is None else first_file)
    fitting = [row for row in above if _named(lines[row][1], names)]
    if fitting:
        return max(fitting, key=lambda row: _named(lines[row][1], KNOWN_NAMES))
    # Without a known name it is the first line that is as wide as the data; titles are narrower.
    if first_file is None:
        return 0
    width = _filled(lines[first_file][1])
    return next((row for row in above if _filled(lines[row][1]) >= width), first_file - 1)


def _is_of_names(cells: Sequence[str], header: Sequence[str], path: int, rest: Lines) -> bool:
    """Whether a line has no file, or merged cells of the header, and no numbers or cells that occur below."""
    filled = [(place, cell) for place, cell in enumerate(cells) if cell]
    return _cell(cells, path) in ("", _cell(header, path)) and not any(
        cell[0].isdecimal() or any(_cell(others, place) == cell for _, others in rest) for place, cell in filled
    )


def _file(cells: Sequence[str], names: set[str], is_file: Callable[[str], bool]) -> int:
    """The place of the first cell that names a file; -1 if there is none."""
    return next((i for i, cell in enumerate(cells) if cell and plain(cell) not in names and is_file(cell)), -1)


def _named(cells: Sequence[str], names: set[str]) -> int:
    return sum(plain(cell) in names for cell in cells)


def _filled(cells: Sequence[str]) -> int:
    return sum(map(bool, cells))


def _cell(cells: Sequence[str], place: int) -> str:
    return cells[place] if place < len(cells) else ""


def _joined(upper: Sequence[str], lower: Sequence[str]) -> list[str]:
    """One name a column: the lower one after the upper one, which may stand for several columns."""
    names: list[str] = []
    above = ""
    for place in range(max(len(upper), len(lower))):
        own, below = _cell(upper, place), _cell(lower, place)
        above = own or (above if below else "")
        names.append(" ".join(dict.fromkeys(name for name in (above, below) if name)))
    return names
