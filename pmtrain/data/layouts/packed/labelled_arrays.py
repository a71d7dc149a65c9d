"""npz and hdf5: arrays of images beside arrays of labels, as MedMNIST and PatchCamelyon have them.

MedMNIST: one .npz file with train_images (N, 28, 28) or (N, 28, 28, 3), train_labels (N, 1); val and test likewise.
PatchCamelyon: camelyonpatch_level_2_split_train_x.h5 with x (N, 96, 96, 3), ..._y.h5 with y (N, 1, 1, 1), ...
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, cast

import numpy as np

from pmtrain.data.dataset import first_few
from pmtrain.data.images import source
from pmtrain.data.images.packed.image_arrays import ImageArrays
from pmtrain.data.layouts.listing import look_into
from pmtrain.data.layouts.rows import SPLIT_NAMES, Found, Row, TableOptions
from pmtrain.system.errors import PmtrainError

NPZ, HDF5 = (".npz",), (".h5", ".hdf5")
LABELS = {"images": "labels", "image": "label", "x": "y"}  # the name of the labels for that of the images
_KEY = re.compile(r"(?:(?P<before>[a-z]+)_)?(?P<what>images?|x)(?:_(?P<after>[a-z]+))?", re.IGNORECASE)

# MedMNIST's two binary sets: the names of the classes 0 and 1, and the positive one. In breastmnist it is 0.
MEDMNIST = {
    "breastmnist": (("malignant", "normal or benign"), "malignant"),
    "pneumoniamnist": (("normal", "pneumonia"), "pneumonia"),
}


class _Pair(NamedTuple):
    """An array of images and the array with their labels."""

    path: Path
    images: str
    labels_path: Path
    labels: str
    split: str | None


def recognise(data: Path, options: TableOptions) -> bool:
    """Whether a folder has HDF5 files, one with images and one with labels."""
    return any(_partner(path, "x", "y") for path in _hdf5_files(data))


def recognise_npz(data: Path, options: TableOptions) -> bool:
    """Whether a folder has a single .npz file, and no images."""
    listing = look_into(data)
    return len(_npz_files(data)) == 1 and not listing.images


def read(data: Path, options: TableOptions) -> Found:
    """The images of a file of arrays, or of the HDF5 files in a folder.

    Raises:
        PmtrainError: there are no images, images and labels don't fit, or an image has several labels.
    """
    files = [data]
    if source.is_dir(data):
        files = _npz_files(data) if recognise_npz(data, options) else _hdf5_files(data)
    pairs = [pair for path in files for pair in _pairs(path)]
    if not pairs:
        raise PmtrainError(
            f"{data}: no file with an array of images", "give the file of images (..._x.h5), or the folder of both"
        )
    names, positive = MEDMNIST.get(re.split(r"[_.]", files[0].name.lower())[0] if files else "", (None, None))
    labels = [_labels(pair) for pair in pairs]
    if not names or {label for each in labels for label in each} - {"0", "1"}:
        names, positive = None, None
    folders = [Path(f"{pair.path}{source.MARK}/{pair.images}") for pair in pairs]
    rows = [
        Row(folder / str(index), names[int(label)] if names else label, pair.split)
        for folder, pair, own in zip(folders, pairs, labels, strict=True)
        for index, label in enumerate(own)
    ]
    return Found(rows, positive=positive, folders=frozenset(map(str, folders)))


def _arrays(path: Path) -> ImageArrays:
    return cast(ImageArrays, source.container(path))


def _npz_files(folder: Path) -> list[Path]:
    return [path for path in look_into(folder).packed if path.suffix.lower() in NPZ]


def _hdf5_files(folder: Path) -> list[Path]:
    return [path for path in look_into(folder).packed if path.suffix.lower() in HDF5]


def _pairs(path: Path) -> Iterator[_Pair]:
    """The arrays of images in a file, with those of their labels, which may be in a file beside it."""
    arrays = _arrays(path)
    unused = dict(arrays.reasons)
    found = False
    for key in sorted(arrays.arrays, key=_order):
        match = _KEY.fullmatch(key)
        if not match:
            continue
        if not arrays.has_images(key):
            raise PmtrainError(f"{path}: {key}: {unused.get(key, 'has no images')}", "images are uint8, (N, H, W, 3)")
        found = True
        split = SPLIT_NAMES.get((match["before"] or match["after"] or "").lower()) or _split_of(path)
        name = _labels_name(match)
        if own := next((each for each in (name, name.lower()) if each in arrays.arrays), None):  # X_train, y_train
            yield _Pair(path, key, path, own, split)
        elif partner := _partner(path, match["what"].lower(), name):
            yield _Pair(path, key, partner, name, split)
        else:
            raise PmtrainError(f"{path}: {key} has no labels: there is no array {name}, and no file {_beside(path)}")
    if not found and (images := _partner(path, "y", "x")):
        if images.exists():
            return  # a file of labels
        raise PmtrainError(f"{path}: has labels, but {images} isn't there")
    if not found and not source.is_dir(path):
        told = [f"{key} {array.shape} {array.dtype}" for key, array in arrays.arrays.items()]
        raise PmtrainError(
            f"{path}: no array of images among {first_few(told, 10) or 'none'}",
            "images are read from train_images, val_images, test_images, or images, or x;"
            " labels from train_labels, ..., or labels, or y",
        )


def _order(key: str) -> tuple[int, str]:
    """Training before validation before test."""
    splits = list(dict.fromkeys(SPLIT_NAMES.values()))
    split = next((SPLIT_NAMES[word] for word in key.lower().split("_") if word in SPLIT_NAMES), None)
    return (splits.index(split) if split else len(splits), key)


def _labels_name(match: re.Match[str]) -> str:
    what = match["what"]
    labels = LABELS[what.lower()]
    start, end = match.span("what")
    return match.string[:start] + (labels.upper() if what.isupper() else labels) + match.string[end:]


def _beside(path: Path) -> str:
    return re.sub(r"_x(?=\.\w+$)", "_y", path.name, flags=re.IGNORECASE)


def _partner(path: Path, end: str, other: str) -> Path | None:
    """The file beside `..._x.h5` that is called `..._y.h5`; None if the name doesn't end in `end`."""
    stem = path.stem.lower()
    if not stem.endswith(f"_{end}"):
        return None
    partner = path.with_name(path.stem[: -len(end)] + other + path.suffix)
    return partner if end == "y" or partner.exists() else None


def _split_of(path: Path) -> str | None:
    """The split that a file's name says."""
    words = re.findall("[a-z]+", path.stem.lower())
    return next((SPLIT_NAMES[word] for word in words if word in SPLIT_NAMES), None)


def _labels(pair: _Pair) -> list[str]:
    arrays = _arrays(pair.labels_path)
    if pair.labels not in arrays.arrays:
        raise PmtrainError(f"{pair.labels_path}: there is no array {pair.labels}")
    values = arrays.values(pair.labels)
    count = _arrays(pair.path).arrays[pair.images].shape[0]
    where = f"{pair.labels_path}: {pair.labels}"
    if values.shape[:1] != (count,):
        raise PmtrainError(f"{pair.path}: {pair.images} has {count} images, but {where} has the shape {values.shape}")
    values = values.reshape(count, -1)
    if values.shape[1] != 1:
        if not np.isin(values, (0, 1)).all() or (values.sum(axis=1) != 1).any():
            raise PmtrainError(
                f"{where}: {values.shape[1]} labels per image; only one per image can be read",
                "make a file with an array of the one label that is to be learned",
            )
        values = values.argmax(axis=1)  # one-hot: the place of the 1
    values = values.reshape(count)
    if values.dtype.kind == "f":
        wrong = np.flatnonzero(values != np.floor(values))  # NaN too
        if len(wrong):
            raise PmtrainError(f"{where}[{wrong[0]}]: the label is {values[wrong[0]]}")
        values = values.astype(np.int64)
    if values.dtype.kind not in "iubUSO":
        raise PmtrainError(f"{where}: labels of type {values.dtype}; integers or text can be read")
    return [
        value.decode("utf-8", "replace")
        if isinstance(value, bytes)
        else str(int(value) if value is True or value is False else value)
        for value in values.tolist()
    ]
