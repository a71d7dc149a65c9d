"""Which data set a command works on: the one named, the one found in data/, or the synthetic one."""

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
    """Read the data set that the options name; without a name search data/, and make the synthetic set if it is bare.

    Raises:
        PmtrainError: the data can't be read as a data set of two classes, or there is none and none is to be made.
    """
    root = _named_or_found(options)
    if root is None and not make_synthetic_set:
        raise PmtrainError(f"no --data given, and {HOME} holds no data set", "give --data FOLDER")
    if root is None:
        console.notice(f"no --data given and no data set in {HOME}: making a synthetic one")
        root = make_synthetic(SYNTHETIC_HOME)
    return _read(root, options)


def rehearsal(options: ListingOptions, images: int, folder: Path) -> DataSet:
    """As `select`, yet nothing is written but in `folder`: there a synthetic set of a few images stands in."""
    root = _named_or_found(options)
    if root is None:
        root = synthetic.render(folder / "synthetic-pm", train=images, val=images)
    return _read(root, options)


def _named_or_found(options: ListingOptions) -> Path | None:
    # A run remembers the folder that was found, and with --root a data set's own folder is another.
    if options.data is None and options.root is not None:
        raise UsageError(f"--root {options.root}: is for the paths of a table, and none is given", "give --data TABLE")
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
    """Say once which TIFF and DICOM files hold several pictures, since the first alone is read."""
    found = [(path, count) for path in paths if (count := count_pictures(path)) > 1]
    if found:
        shown = ", ".join(f"{path.name} ({count})" for path, count in found[:5])
        more = f" and {len(found) - 5} more" if len(found) > 5 else ""
        console.warn(f"files with several pictures, of which only the first is read: {shown}{more}")


def make_synthetic(folder: Path, seed: int = 0, train: int = 400, val: int = 400) -> Path:
    """Render the synthetic set into `folder`, with progress; an existing set of the same making is kept."""
    with console.progress(train + val, "image", "drawing synthetic images") as bar:

        def show(done: int, total: int) -> None:
            bar.update(done - bar.n)

        synthetic.render(folder, seed=seed, train=train, val=val, progress=show)
    console.notice(f"{folder} holds {train} training and {val} validation images, SYNTHETIC: drawn by a program")
    return folder
