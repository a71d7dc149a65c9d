"""Find the image files that the command line names: files, folders and glob patterns."""

from __future__ import annotations

import glob
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from pmtrain.data.images import source
from pmtrain.data.images.read import SUFFIXES
from pmtrain.system.errors import UsageError


def find_images(arguments: Iterable[str]) -> list[Path]:
    """The image files that `arguments` name, in the order given, each file once.

    A file may have any name. A folder or archive stands for the files in it and its subfolders with a suffix of
    SUFFIXES, sorted, without hidden files; a folder without any stands for what its archives and files of arrays hold.
    Anything else is a pattern (`*`, `?`, `[...]`, `**` for subfolders), because
    not every shell expands patterns; a file with exactly that name has priority.

    Raises:
        UsageError: an argument matches nothing, or no image.
    """
    found: dict[str, Path] = {}
    for argument in arguments:
        images = list(_named(argument))
        if not images:
            kind = "this folder and those below it hold" if source.is_dir(argument) else "what it matches is"
            raise UsageError(f"{argument}: {kind} no image", f"image files end in {', '.join(sorted(SUFFIXES))}")
        for path in images:
            found.setdefault(os.path.normcase(os.path.abspath(path)), path)
    return list(found.values())


def _named(argument: str) -> Iterator[Path]:
    folder = argument + source.MARK if source.is_archive(argument) else argument
    if source.is_dir(folder):
        if images := list(_within(folder, set(), _is_image)):
            yield from images
        elif folder == argument:
            for packed in _within(folder, set(), source.is_packed):
                yield from _in_packed(packed)
    elif images := source.images_in(argument):
        yield from images
    elif source.is_file(argument):
        yield Path(argument)
    elif matches := sorted(glob.glob(argument, recursive=True)) if glob.has_magic(argument) else []:
        seen: set[str] = set()
        for match in matches:
            if os.path.isdir(match):
                yield from _within(match, seen, _is_image)
            elif _is_image(match):
                yield Path(match)
            elif source.is_packed(match):
                yield from _in_packed(Path(match))
    else:
        what = "nothing matches this pattern" if glob.has_magic(argument) else "there is no such file or folder"
        raise UsageError(f"{argument}: {what}", "give images, folders of images or patterns such as photos/*.jpg")


def _in_packed(path: Path) -> Iterator[Path]:
    """The images in an archive, a file of arrays or a Parquet file."""
    if source.is_archive(path):
        yield from _within(f"{path}{source.MARK}", set(), _is_image)
    else:
        yield from source.images_in(path)


def _within(folder: str, seen: set[str], wanted: Callable[[str], bool]) -> Iterator[Path]:
    """The wanted files in a folder, then those in its subfolders; links are followed, but no folder is visited twice.

    Args:
        wanted: whether a file of that name is.
    """
    real = os.path.realpath(folder)
    if real in seen:
        return
    seen.add(real)
    try:
        entries = sorted(source.scan(folder))
    except OSError as error:
        raise UsageError(f"{folder}: can't be listed: {error.strerror}") from None
    visible = [entry for entry in entries if not entry.name.startswith(".") and entry.name != "__MACOSX"]
    yield from (Path(folder, entry.name) for entry in visible if wanted(entry.name) and not entry.folder)
    for entry in visible:
        if entry.folder:
            yield from _within(os.path.join(folder, entry.name), seen, wanted)


def _is_image(name: str) -> bool:
    return os.path.splitext(name)[1].lower() in SUFFIXES
