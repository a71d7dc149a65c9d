"""Which data set a command works on: the one named, the one found in data/, or the synthetic one."""

from __future__ import annotations

from pathlib import Path

from pmtrain import console
from pmtrain.config import ListingOptions
from pmtrain.data import synthetic
from pmtrain.data.readers import find_dataset, read_dataset
from pmtrain.data.samples import DataSet
from pmtrain.errors import PmtrainError

HOME = Path("data")
SYNTHETIC_HOME = HOME / "synthetic-pm"


def select(options: ListingOptions, make_synthetic_set: bool = True) -> DataSet:
    """Read the data set that the options name; without a name search data/, and make the synthetic set if it is bare.

    Raises:
        PmtrainError: the data can't be read as a data set of two classes, or there is none and none is to be made.
    """
    root = options.data or find_dataset(HOME)
    if root is None and not make_synthetic_set:
        raise PmtrainError(f"no --data given, and {HOME} holds no data set", "give --data FOLDER")
    if root is None:
        console.notice(f"no --data given and no data set in {HOME}: making a synthetic one")
        root = make_synthetic(SYNTHETIC_HOME)
    return _read(root, options)


def rehearsal(options: ListingOptions, images: int, folder: Path) -> DataSet:
    """As `select`, yet nothing is written but in `folder`: there a synthetic set of a few images stands in."""
    root = options.data or find_dataset(HOME)
    if root is None:
        root = synthetic.render(folder / "synthetic-pm", train=images, val=images)
    return _read(root, options)


def _read(root: Path, options: ListingOptions) -> DataSet:
    data = read_dataset(root, val_data=options.val_data, data_format=options.data_format, positive=options.positive)
    console.notice(data.describe())
    return data


def make_synthetic(folder: Path, seed: int = 0, train: int = 400, val: int = 400) -> Path:
    """Render the synthetic set into `folder`, with progress; an existing set of the same making is kept."""
    with console.progress(train + val, "image", "drawing synthetic images") as bar:

        def show(done: int, total: int) -> None:
            bar.update(done - bar.n)

        synthetic.render(folder, seed=seed, train=train, val=val, progress=show)
    console.notice(f"{folder} holds {train} training and {val} validation images, SYNTHETIC: drawn by a program")
    return folder
