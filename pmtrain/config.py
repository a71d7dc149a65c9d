"""Options: each stated once, with its default, its range and its help. YAML overrides defaults, flags override YAML.

The defaults are the notes' values. `pmtrain train --help` and the checks of a YAML file are made from the same fields.
"""

from __future__ import annotations

import difflib
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError
from pydantic.fields import FieldInfo

from pmtrain.errors import UsageError
from pmtrain.hardware import available_cpus
from pmtrain.models import DEPTHS


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


ThresholdText = Annotated[str, AfterValidator(_known_rule)]
TrainingRule = Annotated[str, AfterValidator(_training_rule)]

# A path may be given as text, also where types are otherwise strict.
AnyPath = Annotated[Path, Field(strict=False)]


class Options(BaseModel):
    """Unknown names and wrong types are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class DataOptions(Options):
    """Which images, and how they are labelled."""

    data: AnyPath | None = Field(None, description="Folder or CSV of labelled images. Without it, data/ is searched.")
    val_data: AnyPath | None = Field(None, description="Validation images, where they lie apart from --data.")
    data_format: Literal["auto", "palm", "folder", "csv"] = Field("auto", description="How the images are labelled.")
    positive: str | None = Field(None, description="Name of the class that counts as positive.")
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
    precision: Literal["fp32", "bf16", "fp16"] = Field(
        "fp32", description="Number format of the network's arithmetic, where the device has it."
    )
    threads: int | None = Field(
        None, ge=1, le=1024, description="Threads on a CPU.  [default: OMP_NUM_THREADS, or the cores at hand]"
    )


class TrainConfig(ComputeOptions, DataOptions):
    """Everything that decides a training run."""

    val_fraction: float = Field(
        0.2, gt=0, lt=1, description="Share held out, class by class, where the data has no validation split."
    )
    layers: Annotated[int, AfterValidator(_known_depth)] = Field(50, description="Depth of the ResNet: 50, 101 or 152.")
    image_size: int = Field(224, ge=32, le=4096, description="Side in pixels that images are resized to.")
    epochs: int = Field(5, ge=1, description="Passes over the training images.")
    batch_size: int = Field(10, ge=1, description="Images a step.")
    lr: float = Field(0.001, gt=0, le=10, allow_inf_nan=False, description="Learning rate.")
    momentum: float = Field(0.9, ge=0, lt=1, description="Momentum of the optimizer.")
    weight_decay: float = Field(0.001, ge=0, le=1, description="L2 penalty on every parameter.")
    seed: int = Field(0, ge=0, lt=2**31, description="Seed of the weights and of the order of images.")
    threshold_rule: TrainingRule = Field(
        "youden",
        description="How the threshold stored with the best weights is chosen on the validation images: youden,"
        " sensitivity=0.95, specificity=0.90, or a number. The printed accuracy is at 0.5 whatever it is.",
    )
    log_every: int = Field(20, ge=1, description="Print the loss of every Nth batch.")
    save_every: int = Field(500, ge=1, description="Save the state to resume from every N batches, and every epoch.")
    output: AnyPath | None = Field(None, description="Run folder to make.  [default: runs/DATE-resnetLAYERS]")


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


class CompareConfig(ScoringOptions):
    """Everything that decides a comparison, the checkpoints apart."""

    format: Literal["text", "json"] = Field("text", description="text for people, json for programs.")


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


# Options that may change when a run is resumed. Another device, backend or thread count alters the last bits alone.
RESUMABLE = {
    "data", "val_data", "epochs", "workers", "device", "backend", "threads", "log_every", "save_every", "on_bad_image",
    "cache_limit",
}  # fmt: skip

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
    unknown = [key for key in from_file if key not in model.model_fields]
    if unknown:
        raise UsageError(f"{file}: there is no option {unknown[0]!r}", _nearest(str(unknown[0]), model))
    try:
        return model.model_validate(from_file | from_flags)
    except ValidationError as error:
        first = error.errors()[0]
        key = str(first["loc"][0])
        where = flag_of(key) if key in from_flags else f"{file}: {key}:"
        message = first["msg"].removeprefix("Value error, ")
        field = model.model_fields[key]
        raise UsageError(
            f"{where} {first['input']!r}: {message[0].lower()}{message[1:]}",
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
