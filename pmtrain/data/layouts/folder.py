"""folder: one folder per class, with split folders above or inside the class folders, or none."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from pmtrain.data.dataset import first_few
from pmtrain.data.images import source
from pmtrain.data.layouts.classes import says_negative
from pmtrain.data.layouts.listing import folders_listed, holds_images, is_empty, look_into, name_of
from pmtrain.data.layouts.rows import Found, Row, TableOptions, split_of
from pmtrain.system.errors import PmtrainError

MANY = 6  # folders, from which on they may be patients
MOST_CLASSES = 10
# Names of folders that say what the files are, and not which class.
MASKS = re.compile(
    r"(masks?|segmentations?|segs?|annotations?|ground[ _-]?truths?|gt|labels?)([ _-]*\d+)?", re.IGNORECASE
)
NO_CLASS = re.compile(
    rf"{MASKS.pattern}|(images?|imgs?|photos?|photographs|pictures?|pics|originals?|jpe?gs?|pngs?|tiffs?|data|files)"
    r"([ _-]*\d+)?",
    re.IGNORECASE,
)
MASK = re.compile(r"(.+?)[ _-]*(?:mask|seg|segmentation)(?:[ _-]*\d+)?", re.IGNORECASE)  # "benign (1)_mask_1"


def recognise(data: Path, options: TableOptions) -> bool:
    """Whether there are folders with images: at least two, unless they are split folders."""
    base, folders = _unwrapped(data)
    splits = [folder for folder in folders if _split(folder)]
    if splits:
        return any(holds_images(child) for folder in splits for child in look_into(folder).folders)
    if folders and all(NO_CLASS.fullmatch(name_of(folder)) for folder in folders):
        return False
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
            splits[split] = _within(folder, split)
    if not splits:
        rows = list(_rows(_class_folders(base, notes), None, notes))
        return Found(rows, notes=_once(notes), folders=folders_listed())
    strangers = [folder.name for folder in folders if not _split(folder)]
    if strangers:
        raise PmtrainError(
            f"{base}: image folders next to the split folders: {first_few(strangers)}",
            f"move them into {' or '.join(folder.name for folder in splits.values())}, or out of {base.name}",
        )
    rows = []
    for split in sorted(splits):
        in_split = list(_rows(_class_folders(splits[split], notes), split, notes))
        if not in_split:
            raise PmtrainError(
                f"{splits[split]}: the split is empty: it has no class folder with images",
                "add images, or delete the folder",
            )
        rows += in_split
    return Found(rows, notes=_once(notes), folders=folders_listed())


def _once(notes: list[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(notes))


def _split(folder: Path) -> str | None:
    return split_of(name_of(folder))


def _within(folder: Path, split: str) -> Path:
    """The folder of the same split that is the only content of a split's folder or archive, or that itself."""
    listing = look_into(folder)
    only = listing.folders[0] if len(listing.folders) == 1 and not listing.images else None
    return only if only and _split(only) == split else folder


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


def _rows(folders: list[Path], split: str | None, notes: list[str]) -> Iterator[Row]:
    inside = split is None and bool(folders) and all(_is_split_inside(folder) for folder in folders)
    if classes := _classes_inside(folders):
        patients = len(folders) >= MANY and all(any(map(str.isdecimal, name_of(folder))) for folder in folders)
        above = first_few([name_of(folder) for folder in folders], 3)
        told = f"the classes are {first_few(classes)}, the folders in {above}"
        notes.append(told + ", which are taken for patients" * patients)
        for folder in folders:
            patient, columns = (name_of(folder), ()) if patients else ("", (("folder", name_of(folder)),))
            for child in look_into(folder).folders:
                label = name_of(child)
                yield from [Row(path, label, split, patient, columns) for path in _images(child, notes)]
        return
    for folder in folders:
        label = name_of(folder)
        if inside:
            for child in look_into(folder).folders:
                own = _split(child)
                yield from [Row(path, label, own) for path in _images(child, notes)]
        else:
            yield from [Row(path, label, split) for path in _images(folder, notes)]


def _classes_inside(folders: list[Path]) -> list[str]:
    """The names of the folders in these, if they are the classes: P001/normal, P001/ill, P002/normal, ...

    The same few names are in several folders, and one of them means normal, or there are many more folders.
    """
    children = [[name_of(child) for child in look_into(folder).folders if holds_images(child)] for folder in folders]
    if len(folders) < 2 or any(look_into(folder).images for folder in folders) or not all(children):
        return []
    counts = Counter(name for names in children for name in names)
    negative = sum(map(says_negative, counts))
    if not 2 <= len(counts) <= MOST_CLASSES or any(map(split_of, counts)):
        return []
    if any(says_negative(name_of(folder)) for folder in folders):
        return []
    repeated = sum(counts.values()) > len(counts) if negative == 1 else len(folders) >= max(MANY, 3 * len(counts))
    return sorted(counts) if repeated else []


def _images(folder: Path, notes: list[str]) -> Iterator[Path]:
    """Every image in `folder` and its subfolders, without the masks beside them."""
    listing = look_into(folder)
    stems = {os.path.splitext(name)[0] for name in listing.images if "mask" in name.lower() or "seg" in name.lower()}
    masks = set()
    if stems:
        everything = {os.path.splitext(name)[0] for name in listing.images}
        masks = {stem for stem in stems if (match := MASK.fullmatch(stem)) and match[1] in everything}
        notes += [f"{folder.name}: {len(masks)} masks beside the images of the same names were left out"] * bool(masks)
    names = [name for name in listing.images if os.path.splitext(name)[0] not in masks] if masks else listing.images
    yield from map(source.joining(folder), names)
    children = [child for child in listing.folders if not child.is_symlink()]  # a link may be a cycle
    pictures = any(NO_CLASS.fullmatch(child.name) and not MASKS.fullmatch(child.name) for child in children)
    for child in children:
        if pictures and MASKS.fullmatch(child.name):
            notes.append(f"{folder.name}/{child.name} is beside the images, and was left out")
        else:
            yield from _images(child, notes)


def _is_split_inside(folder: Path) -> bool:
    """Whether a class folder has images in split folders only."""
    listing = look_into(folder)
    children = [child for child in listing.folders if holds_images(child)]
    return not listing.images and bool(children) and all(_split(child) for child in children)
