"""folder: one folder per class, with split folders above or inside the class folders, or none."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from pmtrain.data.dataset import first_few
from pmtrain.data.layouts.listing import folders_listed, holds_images, images_under, is_empty, look_into
from pmtrain.data.layouts.rows import SPLIT_NAMES, Found, Row, TableOptions
from pmtrain.system.errors import PmtrainError


def recognise(data: Path, options: TableOptions) -> bool:
    """Whether there are folders with images: at least two, unless they are split folders."""
    base, folders = _unwrapped(data)
    splits = [folder for folder in folders if _split(folder)]
    if splits:
        return any(holds_images(child) for folder in splits for child in look_into(folder).folders)
    # The reader reports an empty class.
    return len(folders) > 1 or (bool(folders) and any(is_empty(folder) for folder in look_into(base).folders))


def read(data: Path, options: TableOptions) -> Found:
    """Every image below the class folders, in any subfolder.

    Raises:
        PmtrainError: a class or a split is empty, or there are image folders next to the split folders.
    """
    base, folders = _unwrapped(data)
    notes: list[str] = []
    splits: dict[str, Path] = {}
    for folder in look_into(base).folders:
        split = _split(folder)
        if split in splits:
            raise PmtrainError(
                f"{data}: {splits[split].name} and {folder.name} are both the {split} split", "keep one of them"
            )
        if split:
            splits[split] = folder
    if not splits:
        rows = list(_rows(_class_folders(base, notes), None))
        return Found(rows, notes=tuple(notes), folders=folders_listed())
    strangers = [folder.name for folder in folders if folder not in splits.values()]
    if strangers:
        raise PmtrainError(
            f"{base}: image folders next to the split folders: {first_few(strangers)}",
            f"move them into {' or '.join(folder.name for folder in splits.values())}, or out of {base.name}",
        )
    rows = []
    for split in sorted(splits):
        in_split = list(_rows(_class_folders(splits[split], notes), split))
        if not in_split:
            raise PmtrainError(
                f"{splits[split]}: the split is empty: it has no class folder with images",
                "add images, or delete the folder",
            )
        rows += in_split
    return Found(rows, notes=tuple(notes), folders=folders_listed())


def _split(folder: Path) -> str | None:
    return SPLIT_NAMES.get(folder.name.lower())


def _unwrapped(folder: Path) -> tuple[Path, list[Path]]:
    """The folder with the class or split folders, and these; single wrapping folders are skipped."""
    while True:
        listing = look_into(folder)
        folders = [child for child in listing.folders if holds_images(child)]
        if len(folders) != 1 or listing.images or _split(folders[0]):
            return folder, folders
        if look_into(folders[0]).images:  # the only class folder
            return folder, folders
        folder = folders[0]


def _class_folders(parent: Path, notes: list[str]) -> list[Path]:
    """The folders with images; folders with other files only are noted.

    Raises:
        PmtrainError: one of the folders is empty.
    """
    folders = look_into(parent).folders
    filled = [folder for folder in folders if holds_images(folder)]
    others = [folder for folder in folders if folder not in filled]
    for folder in others:
        if filled and is_empty(folder):
            raise PmtrainError(f"{folder}: the class folder is empty", "add images, or delete the folder")
    if others:
        notes.append(f"no images in {first_few([folder.name for folder in others])}, so not used as classes")
    return filled


def _rows(folders: list[Path], split: str | None) -> Iterator[Row]:
    inside = split is None and bool(folders) and all(_is_split_inside(folder) for folder in folders)
    for folder in folders:
        if inside:
            for child in look_into(folder).folders:
                yield from (Row(path, folder.name, _split(child)) for path in images_under(child))
        else:
            yield from (Row(path, folder.name, split) for path in images_under(folder))


def _is_split_inside(folder: Path) -> bool:
    """Whether a class folder has images in split folders only."""
    listing = look_into(folder)
    children = [child for child in listing.folders if holds_images(child)]
    return not listing.images and bool(children) and all(_split(child) for child in children)
