"""The layouts of data sets on disk: one row of READERS each."""

from __future__ import annotations

import contextlib
import difflib
import gc
import os
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from pmtrain.config import ListingOptions, flag_of
from pmtrain.data.dataset import SYNTHETIC_NOTE, DataSet, Sample, first_few
from pmtrain.data.images import source
from pmtrain.data.layouts import folder, joined, palm
from pmtrain.data.layouts.classes import classify_rows
from pmtrain.data.layouts.listing import SHEET_SUFFIXES, TEXT_SUFFIXES, archives_as_folders, list_once, look_into
from pmtrain.data.layouts.packed import label_files, labelled_arrays, parquet_rows
from pmtrain.data.layouts.patients import from_names, merge_spellings
from pmtrain.data.layouts.rows import BY_NAME, Found, TableOptions, split_of
from pmtrain.data.layouts.tables import table
from pmtrain.system.errors import PmtrainError, UsageError

OTHER_ARCHIVES = {".7z", ".bz2", ".gz", ".rar", ".xz", ".zst"}  # alone, without .tar before them


@dataclass(frozen=True)
class Reader:
    """A layout: its reader, a one-line description, and how to recognise it.

    `recognise`: whether a folder has it, None if it is never a folder; `files`: the suffixes of files that have it.
    `certain`: if recognised, no other layout is possible. `last`: whether a folder has it, where no layout is
    recognised. `columns`: whether it uses TableOptions.
    """

    read: Callable[[Path, TableOptions], Found]
    looks: str
    recognise: Callable[[Path, TableOptions], bool] | None = None
    files: tuple[str, ...] = ()
    certain: bool = False
    last: Callable[[Path, TableOptions], bool] | None = None
    columns: bool = False


def read_dataset(
    data: Path,
    *,
    val_data: Path | None = None,
    data_format: str = "auto",
    positive: str | None = None,
    negative: str | None = None,
    exclude: str | None = None,
    patient_pattern: str | None = None,
    columns: TableOptions = BY_NAME,
) -> DataSet:
    """Read the listing of a data set; no image is opened.

    Args:
        data: the folder, the table of the `csv` layout, or the YAML file of the `joined` one.
        val_data: images to validate on, in place of a validation split of `data`.
        data_format: a row of READERS, or `auto` to recognise it.
        positive: the positive class, or a list of labels, `2,3,4`, ; None: the label that isn't called normal,
            healthy, no_..., 0 and so on.
        negative: a list of negative labels. With `positive`, images of other labels are left out; without it, they are
            positive.
        exclude: a list of labels whose images are left out; an empty part stands for an empty label.
        patient_pattern: how to find the patient in a file name, see `patients.from_names`.
        columns: the columns of a table, and the folder of its paths.
    Raises:
        PmtrainError: the layout is unknown or ambiguous, or the labels don't make two classes.
        UsageError: `data_format`, `positive` or `columns` contains an unknown name.
    """
    with _listing():
        return _dataset(data, val_data, data_format, positive, negative, exclude, patient_pattern, columns)


@contextlib.contextmanager
def _listing() -> Iterator[None]:
    """Meanwhile, each folder is listed once, and Python doesn't search the many new objects for garbage."""
    collecting = gc.isenabled()
    gc.disable()
    try:
        with list_once():
            yield
    finally:
        if collecting:
            if not gc.get_freeze_count():
                # Without this, the first object made would have all the new ones searched.
                gc.freeze()
                gc.unfreeze()
            gc.enable()


def _dataset(
    data: Path,
    val_data: Path | None,
    data_format: str,
    positive: str | None,
    negative: str | None,
    exclude: str | None,
    patient_pattern: str | None,
    columns: TableOptions,
) -> DataSet:
    data = source.as_folder(data)
    layout, found = _read(data, val_data, data_format, columns, patient_pattern)
    known = found.positive if positive is None and negative is None else positive
    try:
        rows, classes, notes = classify_rows(found.rows, data, known, negative, exclude)
    except PmtrainError as error:
        raise type(error)(error.message, "\n".join(filter(None, [error.hint, *found.notes]))) from None
    samples = tuple(
        Sample(row.path, int(row.label in classes.labels), row.split, row.patient, row.columns) for row in rows
    )
    root = found.root or (data if source.is_dir(data) else data.parent)
    folders = found.folders
    if folders is None:
        folders = frozenset(os.path.dirname(sample.path) for sample in samples)
    synthetic = _is_synthetic(root, folders)
    return DataSet(root, layout, (classes.negative, classes.positive), samples, synthetic, found.notes + notes)


def find_dataset(folder: Path) -> Path | None:
    """Find a data set of a known layout in `folder` or one level below; None if there is none.

    The first by name is used, synthetic ones last.
    """
    if not folder.is_dir():
        return None
    children = look_into(folder).folders
    # Parts of a data set would look like separate data sets.
    if any(_is_part(child.name) for child in children) and _recognised(folder, BY_NAME):
        return folder
    for child in sorted(children, key=lambda child: (source.is_file(child / SYNTHETIC_NOTE), child.name)):
        if _recognised(child, BY_NAME):
            return child
    return folder if _recognised(folder, BY_NAME) else None


def _is_part(name: str) -> bool:
    return split_of(name) is not None or palm.PART.fullmatch(name) is not None


def _is_synthetic(root: Path, folders: frozenset[str]) -> bool:
    """Whether some of the images are synthetic: a folder above them contains the note that says so."""
    above = {folder for start in map(Path, folders) for folder in (start, *list(start.parents)[:2])}
    return any(source.is_file(folder / SYNTHETIC_NOTE) for folder in {root, root.resolve().parent} | above)


def _read(
    data: Path, val_data: Path | None, data_format: str, columns: TableOptions, patient_pattern: str | None = None
) -> tuple[str, Found]:
    """The name of the layout and what was read from `data`, with `val_data` as its validation split."""
    layout, found = _read_one(data, data_format, columns)
    layouts = [layout]
    if val_data is not None:
        held_layout, held_out = _read_one(val_data, data_format, columns)
        layouts.append(held_layout)
        if "joined" in layouts:
            raise UsageError(
                f"--val-data {val_data}: can't be combined with a list of data sets",
                "add it to the list, with `split: val`",
            )
        held_rows = [row for row in held_out.rows if row.split == "val"] or held_out.rows
        rows = [row._replace(split=row.split or "train") for row in found.rows if row.split != "val"]
        rows += [row._replace(split="val") for row in held_rows]
        paths = Counter(os.path.abspath(row.path) for row in rows)
        if shared := [path for path, count in paths.items() if count > 1]:
            raise PmtrainError(f"{data} and {val_data} share files: {first_few(shared)}", "keep the two apart")
        notes = tuple(dict.fromkeys(found.notes + held_out.notes))
        found = replace(found, rows=rows, notes=notes, folders=None)
    if (given := columns.given()) and not any(READERS[name].columns for name in layouts):
        raise UsageError(
            f"{flag_of(given[0])}: {data} is read in the {layout} layout, which doesn't use it",
            f"leave it out, or give --data-format {next(name for name in READERS if READERS[name].columns)}",
        )
    rows, named = from_names(found.rows, patient_pattern) if patient_pattern else (found.rows, ())
    rows, merged = merge_spellings(rows)
    return layout, replace(found, rows=rows, notes=found.notes + named + merged)


def _read_one(data: Path, data_format: str, columns: TableOptions) -> tuple[str, Found]:
    """The name of the layout and what was read from one folder, archive or file."""
    data = source.as_folder(data)
    if not (source.is_dir(data) or source.is_file(data)):
        raise PmtrainError(f"{data}: no such file or folder")
    if data_format != "auto":
        if data_format not in READERS:
            near = difflib.get_close_matches(data_format, READERS, 1)
            raise UsageError(
                f"no data format {data_format!r}" + (f"; did you mean {near[0]!r}?" if near else ""),
                f"one of: auto, {', '.join(READERS)}",
            )
        return _read_as(data_format, data, columns)
    inner = data
    while not (names := _recognised(inner, columns)) and (only := _only_folder(inner)):
        inner = only
    if not names and any(source.is_archive(data / name) for name in _packed_in(data)):
        with archives_as_folders():
            inner = data
            while not (names := _recognised(inner, columns)) and (only := _only_folder(inner)):
                inner = only
            if names:
                layout, found = _read_as(_one_of(names, data), inner, columns)
                return layout, replace(found, notes=("archives in it were read as folders", *found.notes))
    return _read_as(_one_of(names, data), inner, columns)


def _only_folder(data: Path) -> Path | None:
    """The folder that is the only content of a folder."""
    listing = look_into(data) if source.is_dir(data) else None
    alone = listing and len(listing.folders) == 1 and not any(listing[1:])
    return listing.folders[0] if listing and alone else None


def _read_as(layout: str, data: Path, columns: TableOptions) -> tuple[str, Found]:
    reader = READERS[layout]
    if source.is_dir(data) and reader.recognise is None:
        raise PmtrainError(f"{data}: the {layout} layout is a file, not a folder", LAYOUTS_HINT)
    if not source.is_dir(data) and not reader.files:
        raise PmtrainError(f"{data}: the {layout} layout is a folder, not a file", LAYOUTS_HINT)
    found = reader.read(data, columns)
    if not found.rows:
        raise PmtrainError(f"{data}: no images found in the {layout} layout", LAYOUTS_HINT)
    return layout, found


def _recognised(data: Path, columns: TableOptions) -> list[str]:
    """The layout of `data`; PmtrainError if none or several are possible."""
    if not source.is_dir(data):
        return [name for name, reader in READERS.items() if data.suffix.lower() in reader.files]
    names = [name for name, reader in READERS.items() if reader.recognise and reader.recognise(data, columns)]
    if columns.given() and (tables := [name for name in names if READERS[name].columns]):
        return tables
    if not names:
        return [name for name, reader in READERS.items() if reader.last and reader.last(data, columns)]
    return next(([name] for name in names if READERS[name].certain), names)


def _one_of(names: list[str], data: Path) -> str:
    """The only one of the possible layouts."""
    if not names and data.suffix.lower() in OTHER_ARCHIVES:
        raise PmtrainError(f"{data}: archives of this kind can't be read", "unpack it, or pack it as .zip or .tar")
    if not names:
        packed = _packed_in(data)
        hint = f"it holds {first_few(packed)}: unpack them, or give as --data one that can be read\n" if packed else ""
        raise PmtrainError(f"{data}: no known layout was found", hint + LAYOUTS_HINT)
    if len(names) > 1:
        raise PmtrainError(
            f"{data}: more than one layout is possible: {', '.join(names)}",
            f"choose one: --data-format {' or '.join(names)}\n{LAYOUTS_HINT}",
        )
    return names[0]


def _packed_in(data: Path) -> list[str]:
    """The names of archives and the like in a folder."""
    if not source.is_dir(data):
        return []
    names = sorted(entry.name for entry in source.scan(data) if not entry.folder)
    return [name for name in names if source.is_packed(name) or os.path.splitext(name)[1].lower() in OTHER_ARCHIVES]


def _read_joined(data: Path, columns: TableOptions) -> Found:
    def read_set(part: Path, how: ListingOptions) -> tuple[str, Found]:
        return _read(part, how.val_data, how.data_format, TableOptions.of(how), how.patient_pattern)

    return joined.read(data, columns, read_set)


# One row per layout.
READERS: dict[str, Reader] = {
    "palm": Reader(
        palm.read,
        "PALM-Training400/P0001.jpg, H0001.jpg, N0001.jpg and PALM-Validation400/V0001.jpg with its labels",
        palm.recognise,
        certain=True,
    ),
    "folder": Reader(
        folder.read, "CLASS/image.jpg, or train/CLASS/image.jpg and val/CLASS/image.jpg", folder.recognise
    ),
    "csv": Reader(
        table.read,
        "a .csv, .xlsx or .jsonl file: path,label and optionally split,patient; paths relative to it, or to --root",
        table.recognise,
        TEXT_SUFFIXES + SHEET_SUFFIXES,
        last=table.recognise_last,
        columns=True,
    ),
    "npz": Reader(
        labelled_arrays.read,
        "an .npz file of arrays as MedMNIST has them: train_images, train_labels, val_images, ...; or .npy files",
        labelled_arrays.recognise_npz,
        files=labelled_arrays.NPZ + labelled_arrays.NPY,
    ),
    "hdf5": Reader(
        labelled_arrays.read,
        "an .h5 file, or a folder of them as PatchCamelyon has them: ..._train_x.h5, ..._train_y.h5",
        labelled_arrays.recognise,
        labelled_arrays.HDF5,
    ),
    "parquet": Reader(
        parquet_rows.read,
        "a .parquet file with columns image (bytes) and label, or a folder: train-00000-of-00001.parquet, ...",
        parquet_rows.recognise,
        parquet_rows.SUFFIXES,
        columns=True,
    ),
    "webdataset": Reader(
        label_files.read,
        "0001.jpg with its label in 0001.cls, .json or .txt beside it, mostly in .tar files",
        label_files.recognise,
        certain=True,
        last=label_files.recognise_last,
    ),
    "joined": Reader(
        _read_joined,
        "a .yaml file of several named data sets: `clinic: {data: clinic/labels.csv}`",
        files=joined.SUFFIXES,
    ),
}

LAYOUTS_HINT = "\n".join(
    ["the layouts are"]
    + [f"  {name:<10} {reader.looks}" for name, reader in READERS.items()]
    + ["folders of images and their tables may also be in a .zip or .tar file, or in one for each class or split"]
)
