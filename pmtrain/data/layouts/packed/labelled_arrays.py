"""npz and hdf5: arrays of images beside arrays of labels, as MedMNIST and PatchCamelyon have them.

MedMNIST: one .npz file with train_images (N, 28, 28) or (N, 28, 28, 3), train_labels (N, 1); val and test likewise.
PatchCamelyon: camelyonpatch_level_2_split_train_x.h5 with x (N, 96, 96, 3), ..._y.h5 with y (N, 1, 1, 1), ...
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple, cast

import numpy as np

from pmtrain.data.dataset import SPLITS, first_few
from pmtrain.data.images import source
from pmtrain.data.images.packed.image_arrays import Array, ImageArrays
from pmtrain.data.layouts.listing import look_into
from pmtrain.data.layouts.rows import Found, Row, TableOptions, split_in, split_of
from pmtrain.system.errors import PmtrainError

NPZ, NPY, HDF5 = (".npz",), (".npy",), (".h5", ".hdf5")
# Words in the names of arrays.
IMAGES = {"images", "image", "imgs", "img", "x", "data", "photos", "pictures", "scans", "patches"}
LABELS = {"labels", "label", "y", "targets", "target", "classes", "class", "gt", "diagnosis", "grade", "grades"}

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
    """Whether a folder has HDF5 files, one with images and one with labels; or a single one, or one for each split."""
    files = _hdf5_files(data)
    return any(_partner(path, "x", "y") for path in files) or _are_splits(data, files)


def recognise_npz(data: Path, options: TableOptions) -> bool:
    """Whether a folder has a single .npz file, or one for each split, or .npy files, and no images."""
    return _are_splits(data, _numpy_files(data))


def _are_splits(folder: Path, files: list[Path]) -> bool:
    """Whether a folder has these files and no images, and they are of one split each, or only one."""
    splits = {split_in(path.stem) for path in files} - {None}
    return bool(files) and not look_into(folder).images and (len(files) == 1 or len(splits) == len(files))


def read(data: Path, options: TableOptions) -> Found:
    """The images of a file of arrays, or of the HDF5 files in a folder.

    Raises:
        PmtrainError: there are no images, images and labels don't fit, or an image has several labels.
    """
    files = [data]
    if source.is_dir(data):
        files = _numpy_files(data) if recognise_npz(data, options) else _hdf5_files(data)
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


def _numpy_files(folder: Path) -> list[Path]:
    """The .npz files, or else the .npy files of images, in a folder."""
    files = {
        suffix: [path for path in look_into(folder).packed if path.suffix.lower() == suffix] for suffix in NPZ + NPY
    }
    return files[".npz"] or [path for path in files[".npy"] if _role(path.stem)[0] is IMAGES]


def _hdf5_files(folder: Path) -> list[Path]:
    return [path for path in look_into(folder).packed if path.suffix.lower() in HDF5]


def _pairs(path: Path) -> Iterator[_Pair]:
    """The arrays of images in a file, with those of their labels, which may be in a file beside it."""
    arrays = _arrays(path)
    unused = dict(arrays.reasons)
    found = False
    named = [key for key in arrays.arrays if _role(key)[0] is IMAGES]
    for key in sorted(named or filter(arrays.has_images, arrays.arrays), key=_order):
        array = arrays.arrays[key]
        if not arrays.has_images(key):
            hint = "images are uint8, (N, H, W, 3)"
            if array.dtype.kind == "f":
                hint += "; values from 0 to 1: (images * 255).round().astype(np.uint8)"
            elif len(array.shape) == 4 and array.shape[1] in (1, 3):
                hint += "; with the channels first: images.transpose(0, 2, 3, 1)"
            raise PmtrainError(f"{path}: {key}: {unused.get(key, 'has no images')}", hint)
        found = True
        split = _split(key) or split_in(path.stem)
        if own := _labels_of(key, arrays.arrays):
            yield _Pair(path, key, path, own, split)
        elif partner := _partner(path, "x", "y"):
            yield _Pair(path, key, partner, next(iter(_arrays(partner).arrays), "y"), split)
        elif beside := [each for each in look_into(path.parent).packed if _goes_with(path, each)]:
            yield _Pair(path, key, beside[0], beside[0].stem, split)
        else:
            raise PmtrainError(
                f"{path}: {key} has no labels: there is no array {_label_name(key)}, and no file {_beside(path)}"
            )
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
    split = _split(key)
    return (SPLITS.index(split) if split else len(SPLITS), key)


def _role(key: str) -> tuple[set[str] | None, tuple[str, ...]]:
    """Whether an array's name has a word of IMAGES or LABELS, and its other words: train_images, X_train, yTrain."""
    words = re.findall(r"[a-z]+|\d+", re.sub(r"(?<=[a-z])(?=[A-Z])", "_", key).lower())
    # Without anything between them: xtrain, train_y.
    words = [part for word in words for part in (_glued(word) or [word])]
    role = next((role for word in words for role in (IMAGES, LABELS) if word in role), None)
    return role, tuple(word for word in words if role is None or word not in role)


def _split(key: str) -> str | None:
    return next((split for word in _role(key)[1] if (split := split_of(word))), None)


def _glued(word: str) -> list[str]:
    """The two words of `xtrain` or `trainy`."""
    parts = [(word[:1], word[1:]), (word[-1:], word[:-1])]
    return next(([one, other] for one, other in parts if one in ("x", "y") and split_of(other)), [])


def _labels_of(key: str, arrays: Mapping[str, Array]) -> str | None:
    """The array with the labels of the images `key`: by name, or the only one with as many rows and no images."""
    _, context = _role(key)
    by_name = next((name for name in arrays if _role(name) == (LABELS, context)), None)
    count = arrays[key].shape[0]
    fitting = [name for name, array in arrays.items() if array.shape[:1] == (count,) and len(array.shape) < 3]
    alone = len(arrays) == 2 and len(fitting) == 1 and fitting != [key]
    return by_name or (fitting[0] if alone else None)


def _label_name(key: str) -> str:
    """The usual name of the labels of `train_images`."""
    usual = {"images": "labels", "image": "label", "x": "y", "X": "y"}
    return re.sub(r"(?i)images?|(?<![a-z])x(?![a-z])", lambda match: usual.get(match[0], "labels"), key)


def _goes_with(images: Path, other: Path) -> bool:
    """Whether a file beside one of images has its labels: x_train.npy and y_train.npy."""
    return other.suffix == images.suffix == NPY[0] and _role(other.stem) == (LABELS, _role(images.stem)[1])


def _beside(path: Path) -> str:
    return re.sub(r"_x(?=\.\w+$)", "_y", path.name, flags=re.IGNORECASE)


def _partner(path: Path, end: str, other: str) -> Path | None:
    """The file beside `..._x.h5` that is called `..._y.h5`; None if the name doesn't end in `end`."""
    stem = path.stem.lower()
    if not stem.endswith(f"_{end}"):
        return None
    partner = path.with_name(path.stem[: -len(end)] + other + path.suffix)
    return partner if end == "y" or partner.exists() else None


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
