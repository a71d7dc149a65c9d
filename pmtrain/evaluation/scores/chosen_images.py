"""Which images a checkpoint is scored on: the data set, the split, their patients and their subgroups."""

from __future__ import annotations

from dataclasses import dataclass

from pmtrain.config import ImageOptions, ListingOptions
from pmtrain.data.dataset import DataSet, Sample
from pmtrain.data.preprocessing.retina.eye import UNKNOWN, eye_in_name
from pmtrain.data.select import select
from pmtrain.evaluation.scores.own_run import OwnRun, own_run
from pmtrain.runs.checkpoint import Networks, refuse_networks
from pmtrain.runs.run_folder import RunFolder
from pmtrain.system import console
from pmtrain.system.errors import PmtrainError, UsageError


@dataclass(frozen=True)
class Images:
    """The samples to score, of one split (or `all`) of a data set.

    `listed` is the data set before any hold-out, `run` the run of the checkpoint that they were chosen for.
    """

    listed: DataSet
    data: DataSet
    samples: tuple[Sample, ...]
    split: str
    run: OwnRun | None = None


def choose_images(checkpoint: Networks, options: ImageOptions) -> Images:
    """The images that the options name.

    Without --data they are those of the checkpoint's own run. Images that a run held out for validation are held
    out again, so that its training images are never taken for validation images.

    Raises:
        PmtrainError: the data can't be read, or holds no such split.
    """
    listed = listed_images(checkpoint, options)
    compare_classes(checkpoint, listed)
    run = own_run(checkpoint, listed)
    data = run.data if run and run.data else listed
    if data is not listed:
        console.notice("this is the data of the checkpoint's own run: the images that it held out are evaluated")
    split = options.split or ("val" if data.split("val") else "all")
    samples = data.samples if split == "all" else data.split(split)
    if not samples:
        there = sorted({sample.split for sample in data.samples if sample.split})
        raise UsageError(
            f"--split {split}: {data.root} has no such split",
            f"it has {', '.join(there) or 'none'}; or give --split all",
        )
    console.notice(f"evaluating {len(samples)} images, split: {split}")
    return Images(listed, data, samples, split, run)


def listed_images(checkpoint: Networks, options: ListingOptions) -> DataSet:
    """The data set that the options name; without --data, that of the checkpoint's own run, listed as by the run.

    Raises:
        PmtrainError: the data can't be read.
    """
    refuse_networks([options.data] if options.data else [])
    folder = RunFolder.around(checkpoint.path)
    if folder and options.data is None:
        kept = folder.config()
        fields = ListingOptions.model_fields
        unsaid = [name for name in fields if getattr(options, name) == fields[name].default]
        options = options.model_copy(update={name: getattr(kept, name) for name in unsaid})
    return select(options, make_synthetic_set=False)


def compare_classes(checkpoint: Networks, data: DataSet) -> None:
    """Refuse data whose two classes are swapped relative to the checkpoint's; warn of other class names.

    Raises:
        PmtrainError: they are swapped.
    """
    known = checkpoint.info.class_names
    if set(data.classes) != set(known) and checkpoint.side_file is not None:
        pairs = " and ".join(f"{ours!r} for {theirs!r}" for ours, theirs in zip(data.classes, known, strict=True))
        console.warn(f"{checkpoint.path} was trained on other classes than those of {data.root}: {pairs}")
    if set(data.classes) == set(known) and data.classes != known:
        raise PmtrainError(
            f"{data.root}: {data.classes[1]!r} is its positive class, yet the checkpoint's ({checkpoint.path}) is"
            f" {known[1]!r}",
            f"give --positive {known[1]!r}",
        )


def patients(samples: list[Sample], name_of, tell: bool = True) -> list[str] | None:
    """(N,) the patient of each image, for resampling by patient; None where no patient is known.

    `tell`: warn of images without one.
    """
    if not any(sample.patient for sample in samples):
        return None
    unknown = sum(not sample.patient for sample in samples)
    if unknown and tell:
        console.warn(f"{unknown} of {len(samples)} images have no patient: each counts as a patient of its own")
    # The leading letter keeps a patient and a file of one name apart.
    return [f"p {sample.patient}" if sample.patient else f"f {name_of(sample)}" for sample in samples]


MAX_GROUPS = 20  # values of a column to report by; one with more holds numbers or names, not categories


def by_column(images: Images, column: str) -> dict[Sample, str]:
    """The cell of each image in a column of the data's table; `eye` is known from file names, too.

    Raises:
        UsageError: there is no such column, or it has more than MAX_GROUPS values.
    """
    names = dict.fromkeys(name for sample in images.samples for name, _ in sample.columns)
    if column == "eye" and column not in names:
        return {sample: eye_in_name(sample.path) or UNKNOWN for sample in images.samples}
    if column not in names:
        raise UsageError(
            f"--group-by {column!r}: {images.data.root} has no such column",
            f"it has {', '.join(names)}" if names else "it has none; only other columns of a table can be used",
        )
    cells = {sample: dict(sample.columns).get(column, "") for sample in images.samples}
    if (count := len(set(cells.values()))) > MAX_GROUPS:
        raise UsageError(
            f"--group-by {column!r}: it has {count} values, more than {MAX_GROUPS}",
            "give a column of categories, such as sex or camera; put numbers into ranges first",
        )
    return cells
