"""parquet: files with a row per image and the image in it, as the Hugging Face hub has data sets.

A column `image` of structs with the fields `bytes` and `path`, a column `label` of integers whose names are in the
file's metadata, and files that are called by their split: train-00000-of-00002.parquet, or train/0000.parquet.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

from pmtrain.config import flag_of
from pmtrain.data.dataset import SPLITS, first_few
from pmtrain.data.images import source
from pmtrain.data.images.packed.parquet_file import ParquetFile
from pmtrain.data.layouts.listing import look_into
from pmtrain.data.layouts.rows import Found, Row, TableOptions, split_of
from pmtrain.data.layouts.tables.column_names import COLUMNS, FLAGS, plain
from pmtrain.system.errors import PmtrainError, UsageError

SUFFIXES = (".parquet",)
DEPTH = 3  # folders: default/train/0000.parquet
ROLES = ("label", "patient", "split")
SIMPLE = re.compile(r"u?int\d+|bool|float|double|halffloat|(large_)?string|dictionary.*")  # types of columns


def recognise(data: Path, options: TableOptions) -> bool:
    """Whether there are Parquet files in the folder or in one below it."""
    return next(_files(data), None) is not None


def read(data: Path, options: TableOptions) -> Found:
    """The rows of a Parquet file, or of all those in a folder.

    Raises:
        PmtrainError: a file can't be read, or has no images or labels.
        UsageError: an option is not for this layout, or names an unknown column.
    """
    usable = [f"{role}_column" for role in ROLES]
    if others := [name for name in options.given() if name not in usable]:
        raise UsageError(f"{flag_of(others[0])}: has no meaning for Parquet files", "leave it out")
    files = sorted(_files(data)) if source.is_dir(data) else [data]
    rows = [row for path in files for row in _rows(path, data, options)]
    return Found(rows, folders=frozenset(f"{path}{source.MARK}" for path in files))


def _files(folder: Path, depth: int = DEPTH) -> Iterator[Path]:
    listing = look_into(folder)
    folders = set(listing.folders)
    for path in sorted((*listing.packed, *listing.folders), key=lambda path: path.name):
        if path.name.startswith("_"):
            continue
        if path in folders:
            if depth and not path.is_symlink():
                yield from _files(path, depth - 1)
        elif path.suffix.lower() in SUFFIXES:
            yield path


def _split_of(path: Path, data: Path) -> str | None:
    """The split that the name of a file, or of a folder above it, begins with."""
    parts = path.relative_to(data).with_suffix("").parts if path != data else (path.stem,)
    words = [re.split(r"[^a-z]", part.lower())[0] for part in reversed(parts)]
    return next((split for word in words if (split := split_of(word))), None)


def _rows(path: Path, data: Path, options: TableOptions) -> Iterator[Row]:
    file = cast(ParquetFile, source.container(path))
    simple = [name for name in file.schema.names if SIMPLE.fullmatch(str(file.schema.field(name).type))]
    places = {role: _place(path, simple, role, options) for role in ROLES}
    label = places["label"]
    if label is None:
        raise PmtrainError(
            f"{path}: no label column among {first_few(file.schema.names, 20)}", "give it by --label-column"
        )
    values = file.values(simple)
    names = _class_names(file.schema.metadata, label)
    by_name = _split_of(path, data)
    others = [name for name in simple if name not in places.values()]
    columns_of = list(zip(*(map(_text, values[name]) for name in others), strict=True)) if others else []
    texts = {role: list(map(_text, values[place])) for role, place in places.items() if place is not None}
    folder = Path(f"{path}{source.MARK}")
    for index in range(file.rows):
        text = texts["label"][index]
        if names and text.isdecimal() and int(text) < len(names):
            text = names[int(text)]
        if not text and not options.blank_labels:
            raise PmtrainError(
                f"{path}, row {index}: the label is empty", "--exclude '' leaves out rows without a label"
            )
        split = by_name
        if "split" in texts:
            cell = texts["split"][index]
            split = split_of(cell)
            if split is None:
                raise PmtrainError(f"{path}, row {index}: unknown split {cell!r}", f"one of: {', '.join(SPLITS)}")
        patient = texts["patient"][index] if "patient" in texts else ""
        columns = tuple(zip(others, columns_of[index], strict=True)) if others else ()
        yield Row(folder / str(index), text, split, patient, columns)


def _place(path: Path, names: list[str], role: str, options: TableOptions) -> str | None:
    """The column of a role: as given, or by its usual names."""
    given = options.columns_of(role)
    if given == [""]:
        return None
    if len(given) > 1:
        raise UsageError(f"--{role}-column: given {len(given)} times, but a Parquet file has one image per row")
    if given:
        if given[0] not in names:
            raise UsageError(
                f"--{role}-column {given[0]!r}: {path} has no such column", f"it has {first_few(names, 20)}"
            )
        return given[0]
    for usual in COLUMNS[role]:
        found = [name for name in names if plain(name) in usual and plain(name) not in {*FLAGS, "fold"}]
        if len(found) > 1:
            raise PmtrainError(
                f"{path}: more than one column could be the {role}: {first_few(found)}",
                " or ".join(f"--{role}-column {name}" for name in found),
            )
        if found:
            return found[0]
    return None


def _class_names(metadata: dict[bytes, bytes] | None, label: str) -> list[str]:
    """The names of the label's classes in the hub's metadata; none if there are none."""
    try:
        feature = json.loads((metadata or {})[b"huggingface"])["info"]["features"][label]
        names = feature["names"] if isinstance(feature["names"], list) else []
        return [str(name) for name in names]
    except (KeyError, TypeError, ValueError, RecursionError):
        return []


def _text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(int(value))
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value).strip()
