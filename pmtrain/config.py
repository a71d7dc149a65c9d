"""Options: each stated once, with its default, its range and its help. YAML overrides defaults, flags override YAML.

The defaults are the notes' values. `pmtrain train --help` and the checks of a YAML file are made from the same fields.
"""

from __future__ import annotations

import difflib
import types
import typing
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from pydantic.fields import FieldInfo

from pmtrain.models import DEPTHS
from pmtrain.system.errors import UsageError
from pmtrain.system.hardware import available_cpus


def _known_depth(layers: int) -> int:
    if layers not in DEPTHS:
        raise ValueError(f"there is no ResNet of {layers} layers; there are {', '.join(map(str, DEPTHS))}")
    return layers


def _known_rule(text: str) -> str:
    from pmtrain.metrics import parse_threshold_rule  # here: --help doesn't wait for NumPy

    try:
        parse_threshold_rule(text)
    except UsageError as error:
        raise ValueError(f"{error.message}; {error.hint}") from None
    return text


def _training_rule(text: str) -> str:
    if text.strip().lower() == "stored":
        raise ValueError("training stores the threshold, so it can't take a stored one")
    return _known_rule(text)


MAX_CLASS_WEIGHT = 1000


def _class_weight(value: Any) -> Any:
    """`balanced` or a number, kept as text."""
    if isinstance(value, (int, float)) and not isinstance(value, bool):  # as YAML reads it
        value = str(value)
    if not isinstance(value, str) or value == "balanced":
        return value
    try:
        weight = float(value)
    except ValueError:
        raise ValueError("it must be balanced or a number") from None
    if not 0 < weight <= MAX_CLASS_WEIGHT:
        raise ValueError(f"a weight must be above 0 and at most {MAX_CLASS_WEIGHT}")
    return value


# The rows of the tables PREPROCESSING and AUGMENTATIONS.
Preprocessing = Literal["notes", "fundus", "imagenet", "fundus-local", "standardised"]
Augmentation = Literal["none", "light", "fundus", "camera", "general", "pathology"]
ClassWeight = Annotated[str, BeforeValidator(_class_weight)]
ThresholdText = Annotated[str, AfterValidator(_known_rule)]
TrainingRule = Annotated[str, AfterValidator(_training_rule)]

# A path may be given as text, also where types are otherwise strict.
AnyPath = Annotated[Path, Field(strict=False)]
# A label may be a number, which YAML doesn't take for text.
LabelText = Annotated[str, BeforeValidator(lambda value: str(value) if type(value) is int else value)]


class Options(BaseModel):
    """Unknown names and wrong types are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class ListingOptions(Options):
    """Which images, and how they are labelled."""

    data: AnyPath | None = Field(
        None,
        description="Labelled images: folder, table (CSV, Excel) or YAML list of sets. Without it, data/ is searched.",
    )
    val_data: AnyPath | None = Field(None, description="Validation images, where they lie apart from --data.")
    data_format: Literal["auto", "palm", "folder", "csv", "joined"] = Field(
        "auto", description="How the images are labelled."
    )
    positive: LabelText | None = Field(
        None, description="Class that counts as positive; or several labels, 2,3,4, against all others."
    )
    root: AnyPath | None = Field(None, description="Folder that a table's paths begin in.  [default: the table's own]")
    path_column: str | None = Field(None, description="A table's column of file names.  [default: found by its name]")
    label_column: str | None = Field(None, description="A table's column of labels.  [default: found by its name]")
    patient_column: str | None = Field(
        None, description='A table\'s column of patients; "" for none.  [default: found by its name]'
    )
    split_column: str | None = Field(
        None, description='A table\'s column of train, val and test; "" for none.  [default: found by its name]'
    )


class DataOptions(ListingOptions):
    """Which images, and how they are had."""

    on_bad_image: Literal["stop", "skip"] = Field(
        "stop", description="An image that can't be decoded stops the command, or is left out, counted and listed."
    )
    workers: int = Field(
        min(2, available_cpus()),
        ge=0,
        le=64,
        description="Processes that decode images; they are started where decoding takes long enough to pay for it.",
    )
    cache_limit: float | None = Field(
        None,
        ge=0,
        allow_inf_nan=False,
        description="GiB that decoded images of all runs may take on disk; 0 keeps this run's in memory alone."
        "  [default: a fifth of the free disk, at most 32]",
    )


class ComputeOptions(Options):
    """What does the arithmetic."""

    device: str = Field("auto", pattern=r"^(auto|cpu|gpu|gpu:\d+)$", description="auto, cpu, gpu or gpu:N.")
    backend: Literal["auto", "onednn", "paddle"] = Field(
        "auto", description="On a CPU: the oneDNN engine, Paddle's own kernels, or the first that fits."
    )
    precision: Literal["auto", "fp32", "bf16", "fp16"] = Field(
        "fp32",
        description="Number format of the network's arithmetic, where the device has it; auto: bf16, or else fp32.",
    )
    threads: int | None = Field(
        None, ge=1, le=1024, description="Threads on a CPU.  [default: OMP_NUM_THREADS, or the cores at hand]"
    )


class TrainConfig(ComputeOptions, DataOptions):
    """Everything that decides a training run."""

    val_fraction: float = Field(
        0.2, gt=0, lt=1, description="Share held out, class by class, where the data has no validation split."
    )
    folds: int | None = Field(
        None, ge=2, le=100, description="Cross-validate: train this many networks, each validated on a fold of its own."
    )
    leakage: Literal["warn", "stop", "drop"] = Field(
        "warn",
        description="Where files or patients of the training images are among the validation or test images too: warn,"
        " stop, or drop those training images.",
    )
    layers: Annotated[int, AfterValidator(_known_depth)] = Field(50, description="Depth of the ResNet: 50, 101 or 152.")
    image_size: int = Field(224, ge=32, le=4096, description="Side in pixels that images are resized to.")
    preprocess: Preprocessing = Field(
        "notes",
        description="notes: the whole image stretched; fundus: the field of view, squared with black, by the training"
        " set's mean and deviation; imagenet: the middle square, by ImageNet's; fundus-local: the field of view, each"
        " image less its local mean and standardised; standardised: the whole image, each by its own mean and standard"
        " deviation.",
    )
    epochs: int = Field(5, ge=1, description="Passes over the training images.")
    batch_size: int = Field(10, ge=1, description="Images a step.")
    lr: float = Field(0.001, gt=0, le=10, allow_inf_nan=False, description="Learning rate.")
    momentum: float = Field(0.9, ge=0, lt=1, description="Momentum of the optimizer.")
    weight_decay: float = Field(0.001, ge=0, le=1, description="L2 penalty on every parameter.")
    class_weight: ClassWeight | None = Field(
        None,
        description="What a positive image's loss is multiplied by: a number, or balanced, which weighs both classes"
        " so that they count the same. Validation is not weighted.",
    )
    sampler: Literal["shuffle", "balanced"] = Field(
        "shuffle",
        description="Every image once an epoch, or as many drawn so that both classes come equally often.",
    )
    augment: Augmentation = Field(
        "none",
        description="Random changes of training images, to be seen with `pmtrain data preview`. light: mirrored,"
        " turned and shifted a little; fundus: turned by any angle, with other light, colour and sharpness; camera:"
        " turned by any angle, with strongly different colours, at times grey; general: as camera, but turned by up to"
        " 20 degrees and half as strong; pathology: turned by right angles, with other amounts of stain.",
    )
    seed: int = Field(0, ge=0, lt=2**31, description="Seed of the weights, of the order of images and of augmentation.")
    threshold_rule: TrainingRule = Field(
        "youden",
        description="How the threshold stored with the best weights is chosen on the validation images: youden,"
        " sensitivity=0.95, specificity=0.90, or a number. The printed accuracy is at 0.5 whatever it is.",
    )
    shortcut: bool = Field(
        True, description="Measure what file size, image size, colour and a thumbnail reach without the network."
    )
    log_every: int = Field(20, ge=1, description="Print the loss of every Nth batch.")
    save_every: int = Field(500, ge=1, description="Save the state to resume from every N batches, and every epoch.")
    track: list[Literal["tensorboard", "visualdl", "mlflow"]] = Field(
        [], description="Show the run in an experiment tracker while it trains; may be given several times."
    )
    output: AnyPath | None = Field(None, description="Run folder to make.  [default: runs/DATE-resnetLAYERS]")
    report: bool = Field(True, description="Write report.html, a page to look at, when the run is done.")


class ScoringOptions(ComputeOptions, DataOptions):
    """Which images checkpoints are scored on, where the scores are cut, and how intervals are made."""

    split: Literal["train", "val", "test", "all"] | None = Field(
        None, description="Images to evaluate.  [default: val where the data has it, else all]"
    )
    batch_size: int = Field(10, ge=1, description="Images a step.")
    tta: bool = Field(False, description="Average the logits of each image and its mirror image, left to right.")
    threshold: ThresholdText = Field(
        "stored",
        description="stored (the checkpoint's), a number, or youden, sensitivity=0.95 or specificity=0.90, which are"
        " chosen on the images reported and mark the figures exploratory.",
    )
    ci: float = Field(0.95, ge=0.5, lt=1, description="Confidence level of the intervals.")
    n_boot: int = Field(2000, ge=100, le=1_000_000, description="Bootstrap resamples.")
    seed: int = Field(0, ge=0, lt=2**31, description="Seed of the resamples.")


class EvalConfig(ScoringOptions):
    """Everything that decides an evaluation, the checkpoint apart."""

    group_by: str | None = Field(
        None, description="A column of the data's table, sex or camera say: the measures once more for each value."
    )
    output: AnyPath | None = Field(
        None, description="Folder for predictions.csv, metrics.json and charts; nothing without it."
    )


class ReportConfig(EvalConfig):
    """Everything that decides a report, the run apart."""

    output: AnyPath | None = Field(None, description="File to write, over an older one.  [default: RUN/report.html]")
    errors: int = Field(
        8, ge=0, le=100, description="Wrongly called images to show, half of either kind; with 0 the page holds none."
    )


class CompareConfig(ScoringOptions):
    """Everything that decides a comparison, the checkpoints apart."""

    format: Literal["text", "json"] = Field("text", description="text for people, json for programs.")


class SplitConfig(ListingOptions):
    """Everything that decides how a data set is split."""

    val: float | None = Field(
        None, ge=0, lt=1, description="Share of the images to validate on.  [default: 0.2; none with --folds]"
    )
    test: float = Field(0.0, ge=0, lt=1, description="Share of the images to keep for one last test.")
    folds: int | None = Field(
        None, ge=2, le=100, description="In place of --val: this many folds, for `pmtrain train --folds`."
    )
    group_by: str = Field(
        "patient",
        description="What stays on one side: patient, any other column of the table, or none (each image by itself).",
    )
    stratify: bool = Field(True, description="Keep the classes' shares alike on all sides.")
    seed: int = Field(0, ge=0, lt=2**31, description="Seed of the drawing.")
    output: AnyPath = Field(Path("split.csv"), description="Table to make; nothing is overwritten.")


class PredictConfig(ComputeOptions):
    """Everything that decides a prediction, the checkpoint and the images apart."""

    batch_size: int = Field(10, ge=1, description="Images a step.")
    workers: int = Field(min(2, available_cpus()), ge=0, le=64, description="Processes that decode images.")
    format: Literal["csv", "json", "palm"] = Field(
        "csv", description="csv and json name files by path; palm is the iChallenge-PM submission."
    )
    output: AnyPath | None = Field(None, description="File to make; without it, rows go to stdout.")


class ExplainConfig(ComputeOptions):
    """Everything that decides an explanation, the checkpoint and the images apart."""

    backend: Literal["paddle"] = Field("paddle", description="Paddle's own kernels, which alone have the gradients.")
    precision: Literal["fp32"] = Field("fp32", description="Number format of the network's arithmetic.")
    layer: str | None = Field(
        None, description="Where to look: conv, or a block bb_STAGE_BLOCK such as bb_2_5.  [default: the last, bb_3_2]"
    )
    output: AnyPath = Field(Path("gradcam"), description="Folder for the pictures and the maps.")


class PreviewConfig(DataOptions):
    """Everything that decides a contact sheet of augmented images."""

    workers: int = Field(0, ge=0, le=64, description="Not used: the few images are decoded one after the other.")
    val_fraction: float = Field(0.2, gt=0, lt=1, description="As in training: it decides which images are trained on.")
    augment: Augmentation = Field("fundus", description="Random changes to show.")
    image_size: int = Field(224, ge=32, le=4096, description="Side in pixels that images are resized to.")
    preprocess: Preprocessing = Field("notes", description="As in training.")
    seed: int = Field(0, ge=0, lt=2**31, description="Seed of the training to show, and of the choice of images.")
    images: int = Field(8, ge=1, le=50, description="Images to show, of both classes.")
    versions: int = Field(6, ge=1, le=20, description="Versions of each, those of the first epochs.")
    output: AnyPath = Field(Path("preview.png"), description="PNG file to make.")


class CheckConfig(DataOptions):
    """Everything that decides a check of data."""

    on_bad_image: Literal["stop", "skip"] = Field(
        "stop", description="skip: an image that can't be decoded is a warning, since training would leave it out."
    )
    workers: int = Field(available_cpus(), ge=1, le=64, description="Threads that decode images.")
    image_size: int = Field(224, ge=32, le=4096, description="Side in pixels that a later training will resize to.")
    preprocess: Preprocessing = Field("notes", description="As in that training.")
    strict: bool = Field(False, description="Exit with 1 where there is a warning, not only where there is an error.")
    format: Literal["text", "json"] = Field("text", description="text for people, json with everything for programs.")
    output: AnyPath | None = Field(None, description="File to make; without it, findings go to stdout.")


# Options that may change when a run is resumed. Another device, backend or thread count alters the last bits alone.
RESUMABLE = {
    "data", "val_data", "root", "epochs", "workers", "device", "backend", "threads", "log_every", "save_every",
    "on_bad_image", "track", "report", "cache_limit",
}  # fmt: skip

# Options that a report takes from the run that it is of.
AS_TRAINED = ("workers", "device", "backend", "precision", "threads", "batch_size", "on_bad_image", "cache_limit")

SHORT_FLAGS = {"batch_size": "-b", "workers": "-j"}


def flag_of(field: str) -> str:
    """`batch_size` -> `--batch-size`."""
    return "--" + field.replace("_", "-")


def kind_of(field: FieldInfo) -> tuple[type, tuple[str, ...]]:
    """The type to read a field's command-line text as, and the choices where it has some."""
    kind: Any = field.annotation
    if typing.get_origin(kind) in (typing.Union, types.UnionType):
        kind = next(part for part in typing.get_args(kind) if part is not type(None))
    if typing.get_origin(kind) is Annotated:
        kind = typing.get_args(kind)[0]
    if typing.get_origin(kind) is list:
        return list[str], typing.get_args(typing.get_args(kind)[0])
    return (str, typing.get_args(kind)) if typing.get_origin(kind) is Literal else (kind, ())


Config = TypeVar("Config", bound=BaseModel)


def load_config(model: type[Config], flags: Mapping[str, Any], file: Path | None = None) -> Config:
    """`model`'s defaults, overridden by the YAML `file`, overridden by `flags` (those that are not None).

    Raises:
        UsageError: a file that can't be read, a key that doesn't exist, a wrong type or a value out of range;
            the message names the file or the flag, the key and the value.
    """
    from_file = read_yaml(file) if file else {}
    from_flags = {key: value for key, value in flags.items() if value is not None}
    return validated(
        model, from_file | from_flags, lambda key: flag_of(key) if key in from_flags else f"{file}: {key}:"
    )


def validated(model: type[Config], values: Mapping[str, Any], where: Callable[[str], str]) -> Config:
    """`values` checked against `model`'s fields; `where` says for people where a key was given.

    Raises:
        UsageError: a key that doesn't exist, a wrong type or a value out of range.
    """
    for key in values:
        if key not in model.model_fields:
            raise UsageError(f"{where(str(key))} there is no option {key!r}", _nearest(str(key), model))
    try:
        return model.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        key = str(first["loc"][0])
        message = first["msg"].removeprefix("Value error, ")
        field = model.model_fields[key]
        raise UsageError(
            f"{where(key)} {first['input']!r}: {message[0].lower()}{message[1:]}",
            f"{key} is: {field.description} Its default is {field.default}.",
        ) from None


def _nearest(key: str, model: type[BaseModel]) -> str:
    close = difflib.get_close_matches(key.replace("-", "_"), model.model_fields, n=1, cutoff=0.5)
    known = "the options are " + ", ".join(model.model_fields)
    return f"did you mean {close[0]!r}?" if close else known


def read_yaml(file: Path) -> dict[str, Any]:
    """The mapping in a YAML file.

    Raises:
        UsageError: it can't be read, isn't YAML, names a key twice or holds no mapping.
    """
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    try:
        content = YAML(typ="safe", pure=True).load(file.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise UsageError(f"{file}: can't be read: {error.strerror}", "give the path of a YAML file") from None
    except (YAMLError, UnicodeDecodeError) as error:
        detail = " ".join(str(error).split())
        raise UsageError(f"{file}: isn't YAML: {detail}", "write one `option: value` a line") from None
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise UsageError(f"{file}: holds no options but {content!r}", "write one `option: value` a line")
    return content


def dump_yaml(config: TrainConfig) -> str:
    """The whole configuration as YAML that `--config` reads back."""
    from io import StringIO

    from ruamel.yaml import YAML

    stream = StringIO()
    YAML().dump(config.model_dump(mode="json"), stream)  # the round-trip kind keeps the order, one option a line
    return stream.getvalue()
