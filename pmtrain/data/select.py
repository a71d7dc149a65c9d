"""Choose a command's data set: the one given, the one found in data/, or the synthetic one."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from pmtrain.config import ListingOptions
from pmtrain.data.dataset import DataSet
from pmtrain.data.images.read import count_pictures
from pmtrain.data.layouts.readers import find_dataset, read_dataset
from pmtrain.data.layouts.rows import TableOptions
from pmtrain.data.synthetic import synthetic
from pmtrain.system import console
from pmtrain.system.errors import PmtrainError, UsageError

HOME = Path("data")
SYNTHETIC_HOME = HOME / "synthetic-pm"


def select(options: ListingOptions, make_synthetic_set: bool = True) -> DataSet:
    """Read the data set of the options; without --data, search data/, and make the synthetic set if there is none.

    Raises:
        PmtrainError: the data can't be read as a data set of two classes, or there is none and none may be made.
    """
    root = _named_or_found(options)
    if root is None and not make_synthetic_set:
        raise PmtrainError(f"no --data given, and there is no data set in {HOME}", "give --data FOLDER")
    if root is None:
        console.notice(f"no --data given and no data set in {HOME}: making a synthetic one")
        root = make_synthetic(SYNTHETIC_HOME)
    return _read(root, options)


def rehearsal(options: ListingOptions, images: int, folder: Path) -> DataSet:
    """As `select`, but writes only to `folder`: a small synthetic set there replaces a missing data set."""
    root = _named_or_found(options)
    if root is None:
        root = synthetic.render(folder / "synthetic-pm", train=images, val=images)
    return _read(root, options)


def _named_or_found(options: ListingOptions) -> Path | None:
    # A run records the folder that was found; --root changes what paths are relative to.
    if options.data is None and options.root is not None:
        raise UsageError(
            f"--root {options.root}: applies to the paths of a table, but no table is given", "give --data TABLE"
        )
    return options.data or find_dataset(HOME)


def _read(root: Path, options: ListingOptions) -> DataSet:
    data = read_dataset(
        root,
        val_data=options.val_data,
        data_format=options.data_format,
        positive=options.positive,
        negative=options.negative,
        exclude=options.exclude,
        patient_pattern=options.patient_pattern,
        columns=TableOptions.of(options),
    )
    console.notice(data.describe())
    warn_of_pages(sample.path for sample in data.samples)
    return data


def warn_of_pages(paths: Iterable[Path]) -> None:
    """Warn of TIFF and DICOM files with several images, because only the first is read."""
    found = [(path, count) for path in paths if (count := count_pictures(path)) > 1]
    if found:
        shown = ", ".join(f"{path.name} ({count})" for path, count in found[:5])
        more = f" and {len(found) - 5} more" if len(found) > 5 else ""
        console.warn(f"files with several images (only the first is read): {shown}{more}")


def make_synthetic(folder: Path, seed: int = 0, train: int = 400, val: int = 400) -> Path:
    """Render the synthetic set into `folder`, with progress; an existing set with the same settings is kept."""
    with console.progress(train + val, "image", "drawing synthetic images") as bar:

        def show(done: int, total: int) -> None:
            bar.update(done - bar.n)

        synthetic.render(folder, seed=seed, train=train, val=val, progress=show)
    console.notice(f"{folder} holds {train} training and {val} validation images, SYNTHETIC: drawn by a program")
    return folder
