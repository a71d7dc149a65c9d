"""Which images a command works on and how they are loaded, and the options of the `pmtrain data` commands."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pmtrain.config.commands.shared_options import (
    AlignEyes,
    AugmentName,
    AugmentStrength,
    CacheLimit,
    Folds,
    ImageSize,
    OnBadImage,
    PatientPattern,
    PreprocessName,
    Seed,
    TextFormat,
    ValFraction,
    Workers,
)
from pmtrain.config.options import DATA, MACHINE, OUTPUT, Options, option
from pmtrain.config.values import AnyPath, LabelText, Names, OneOf
from pmtrain.system.hardware import available_cpus


class ListingOptions(Options):
    """The images and their labels."""

    data: AnyPath | None = option(
        DATA,
        "Labelled images: a folder, an archive (zip, tar), a table (CSV, Excel), or a YAML list of data sets. Without"
        " it, data/ is searched.",
        default=None,
    )
    val_data: AnyPath | None = option(DATA, "Validation images, if they are not part of --data.", default=None)
    data_format: Annotated[str, OneOf("pmtrain.data.layouts.readers:READERS", "auto")] = option(
        DATA, "Layout of the data set.", default="auto"
    )
    positive: LabelText | None = option(
        DATA, "Class to count as positive, or several labels (2,3,4) against all others.", default=None
    )
    negative: LabelText | None = option(
        DATA,
        "Labels (0,1) to count as negative; with --positive, images of other labels are left out.",
        default=None,
    )
    exclude: LabelText | None = option(
        DATA, "Labels (-1,ungradable) whose images are left out; '' for images without a label.", default=None
    )
    root: AnyPath | None = option(
        DATA, "Folder or archive that the paths in a table are relative to.  [default: the table's own]", default=None
    )
    path_column: Names = option(
        DATA,
        "Column of file names in a table; repeat it for several images in a row.  [default: recognized]",
        default=[],
    )
    label_column: Names = option(
        DATA,
        "Column of labels in a table; repeat it for one per image of a row, or for 0/1 columns.  [default: recognized]",
        default=[],
    )
    patient_column: str | None = option(
        DATA, 'Column of patient IDs in a table; "" for none.  [default: recognized by its name]', default=None
    )
    patient_pattern: PatientPattern = None
    split_column: str | None = option(
        DATA,
        'Column of splits (train, val, test) in a table; "" for none.  [default: recognized by its name]',
        default=None,
    )
    sheet: str | None = option(DATA, "Sheet of an Excel file.  [default: the first]", default=None)
    skip_missing: bool = option(DATA, "Leave out rows of a table whose file does not exist.", default=False)


class DataOptions(ListingOptions):
    """Data loading."""

    on_bad_image: OnBadImage = "stop"
    workers: Workers = min(2, available_cpus())
    cache_limit: CacheLimit = None


class SplitConfig(ListingOptions):
    """Options of `pmtrain data split`."""

    val: float | None = option(
        DATA, "Share of the images for validation.  [default: 0.2; none with --folds]", default=None, ge=0, lt=1
    )
    test: float = option(DATA, "Share of the images for a final test.", default=0.0, ge=0, lt=1)
    folds: Folds = None
    group_by: str = option(
        DATA,
        "Keep images of one group in the same split: patient, another column of the table, or none.",
        default="patient",
    )
    stratify: bool = option(DATA, "Keep the class proportions the same in every split.", default=True)
    seed: Seed = 0
    output: AnyPath = option(OUTPUT, "Table to create; an existing file is not overwritten.", default=Path("split.csv"))


class PreviewConfig(ListingOptions):
    """Options of `pmtrain data preview`."""

    on_bad_image: OnBadImage = "stop"
    val_fraction: ValFraction = 0.2
    image_size: ImageSize = 224
    preprocess: PreprocessName = "notes"
    align_eyes: AlignEyes = False
    augment: AugmentName = "fundus"
    augment_strength: AugmentStrength = 1.0
    seed: Seed = 0
    images: int = option(OUTPUT, "Number of images to show, from both classes.", default=8, ge=1, le=50)
    versions: int = option(OUTPUT, "Augmented versions to show of each image.", default=6, ge=1, le=20)
    output: AnyPath = option(OUTPUT, "PNG file to create.", default=Path("preview.png"))


class CheckConfig(DataOptions):
    """Options of `pmtrain data check`."""

    workers: int = option(MACHINE, "Threads that decode images.", default=available_cpus(), ge=1, le=64)
    image_size: ImageSize = 224
    preprocess: PreprocessName = "notes"
    strict: bool = option(OUTPUT, "Exit with 1 on warnings too, not only on errors.", default=False)
    format: Annotated[TextFormat, OneOf("pmtrain.data.audit.check:FORMATS")] = "text"
    output: AnyPath | None = option(OUTPUT, "File to create; without it, findings go to stdout.", default=None)


class CacheConfig(Options):
    """Options of `pmtrain data cache`."""

    limit: float | None = option(
        MACHINE, "Delete the least recently used images until at most this many GiB are left.", default=None, ge=0
    )
    clear: bool = option(MACHINE, "Delete all images in the cache.", default=False)


class SynthConfig(Options):
    """Options of `pmtrain data synth`."""

    train: int = option(DATA, "Number of training images.", default=400, ge=4)
    val: int = option(DATA, "Number of validation images.", default=400, ge=4)
    seed: Seed = 0
    output: AnyPath = option(OUTPUT, "Folder to create.", default=Path("data/synthetic-pm"))
