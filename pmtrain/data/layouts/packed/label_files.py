"""webdataset: images with a label file of the same name beside each: 0001.jpg and 0001.cls, mostly in .tar shards."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from pmtrain.data.dataset import first_few
from pmtrain.data.images import source
from pmtrain.data.layouts.listing import look_into, name_of
from pmtrain.data.layouts.rows import Found, Row, TableOptions, split_in
from pmtrain.data.layouts.tables.column_names import plain, usual_names
from pmtrain.system.errors import PmtrainError

CLASS = ".cls"
OTHERS = (".json", ".txt")
LONGEST = 1 << 16  # bytes of a label file


def recognise(data: Path, options: TableOptions) -> bool:
    """Whether a folder, or one in it, has images and .cls files."""
    return any(name.endswith(CLASS) for folder in _folders(data) for name in _files(folder))


def recognise_last(data: Path, options: TableOptions) -> bool:
    """Whether every image in a folder, or in one in it, has a .json or .txt file."""
    folders = _folders(data)
    return bool(folders) and all(_label_of(name, _files(folder)) for folder in folders for name in _images(folder))


def read(data: Path, options: TableOptions) -> Found:
    """The images with their labels; a shard is of the split that its name says.

    Raises:
        PmtrainError: an image has no label file, or one without a label.
    """
    # The folder that was given may have any name.
    splits = {
        folder: split_in(name_of(folder)) for folder in _folders(data) if folder != data or source.MARK in data.name
    }
    return Found([row for folder in _folders(data) for row in _rows(folder, splits.get(folder))])


def _folders(data: Path) -> list[Path]:
    """The folder itself and those in it, as far as they have images."""
    return [folder for folder in (data, *look_into(data).folders) if look_into(folder).images]


def _images(folder: Path) -> list[str]:
    return look_into(folder).images


def _files(folder: Path) -> set[str]:
    return {entry.name for entry in source.scan(folder) if not entry.folder}


def _rows(folder: Path, split: str | None) -> Iterator[Row]:
    files = _files(folder)
    missing = [name for name in _images(folder) if not _label_of(name, files)]
    if missing:
        raise PmtrainError(f"{folder}: images without a label file: {first_few(missing)}", "one for each: 0001.cls")
    for name in _images(folder):
        yield Row(folder / name, _read(folder / _label_of(name, files)), split)


def _label_of(image: str, files: set[str]) -> str:
    """The name of an image's label file; WebDataset's keys end at the first dot."""
    stems = (image.partition(".")[0], image.rpartition(".")[0])
    return next((stem + suffix for stem in stems for suffix in (CLASS, *OTHERS) if stem + suffix in files), "")


def _read(path: Path) -> str:
    try:
        text = source.read(path)[:LONGEST].decode("utf-8").strip()
        content = json.loads(text) if path.suffix == ".json" else text
    except (OSError, ValueError, RecursionError) as error:
        raise PmtrainError(f"{path}: can't be read as a label ({error})") from None
    if isinstance(content, dict):
        names = usual_names("label") | {"cls"}
        content = next((value for key, value in content.items() if plain(key) in names), "")
    if isinstance(content, (dict, list)) or content == "":
        raise PmtrainError(f"{path}: has no label", 'for example 0, or {"label": 0}')
    return str(content)
