"""The JSON beside weights: what the weights are (the side file), which networks answer together (ensemble.json), and
which state to resume from (state.json).

Each has a format number and is checked value by value when they are read.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated, Any, TypeVar

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator
from pydantic_core import from_json, to_json

from pmtrain.runs.calibrator import Calibrator, calibrated_threshold, probabilities_of
from pmtrain.runs.formats.untrusted import shown
from pmtrain.runs.old_keys import with_new_keys
from pmtrain.system.errors import PmtrainError
from pmtrain.system.files import read_bytes
from pmtrain.system.version import __version__

FORMAT = 1  # of the side file and of state.json: raised when an older pmtrain could misread them
ALIGNED_FORMAT = 2  # of a side file with `align_eyes`, which an older pmtrain would overlook
MAX_JSON_BYTES = 64 << 20

STATE = "state.json"
ENSEMBLE = "ensemble.json"

Positive = Annotated[float, Field(gt=0)]
ZeroToOne = Annotated[float, Field(ge=0, le=1)]


class UnitRecord(BaseModel):
    """What was chosen on validation images for one unit.

    Args:
        unit: `patient`, or a column of the table.
        aggregate: a row of evaluation.scores.units.AGGREGATES, over the images' probabilities.
        image_threshold: the one on the images' probabilities, which `share` counts from.
        threshold: on the aggregated score, in [0, 1].
        threshold_rule: how it was chosen.
        aucs: of every row of AGGREGATES on the units that it was chosen on, by name.
        units, images: numbers that it was chosen on.
        calibration: of the aggregated score, fitted on them; None without one.
    """

    model_config = ConfigDict(frozen=True, strict=True, allow_inf_nan=False)

    unit: str
    aggregate: str
    image_threshold: ZeroToOne
    threshold: ZeroToOne
    threshold_rule: str
    aucs: dict[str, float | None] = {}
    units: int
    images: int
    calibration: Calibrator | None = None

    @property
    def decision_threshold(self) -> float:
        """`threshold` as one on calibrated scores."""
        return calibrated_threshold(self.threshold, self.calibration)


class CheckpointInfo(BaseModel):
    """What the weights are and how to use them: the side file's content.

    Args:
        layers: depth of the network, a row of DEPTHS.
        image_size: side of the square input in pixels.
        preprocessing: name of the way from an image to the network's input.
        pixel_mean, pixel_std: mean and standard deviation of the training images, RGB, in [0, 1], where the
            preprocessing normalises by them.
        normalisation_built_in: the network normalises by itself, as an export `--with-preprocessing` does.
        align_eyes: right eyes are mirrored, so that all look like left ones.
        class_names: negative, positive.
        threshold: P(positive) from which an image is called positive, in [0, 1].
        threshold_rule: how the threshold was chosen.
        epoch: counted from 0; None where unknown.
        metrics: on the validation images, by name; None where one is undefined.
        synthetic: trained on the built-in synthetic photographs.
        prior: the share of positives that the network learned: that of the training images, as the class weights and
            the sampler changed it; None where unknown.
        calibration: from logits to calibrated ones. `threshold` stays one on the network's own probability, so that
            what doesn't know of calibrations decides alike.
        unit: how the images of a patient become one score; None where that wasn't chosen.
        weights_sha256: of the weights' file; set when it is saved.
    """

    model_config = ConfigDict(frozen=True, strict=True, allow_inf_nan=False)

    format: int = FORMAT
    layers: int
    image_size: int = Field(ge=1, le=8192)  # a side file from elsewhere can't ask for all memory
    preprocessing: str
    pixel_mean: tuple[float, float, float] | None = None
    pixel_std: tuple[Positive, Positive, Positive] | None = None
    normalisation_built_in: bool = False
    align_eyes: bool = False
    class_names: tuple[str, str]
    threshold: float = Field(ge=0, le=1)
    threshold_rule: str
    epoch: int | None
    metrics: dict[str, float | None]
    synthetic: bool
    prior: Annotated[float, Field(gt=0, lt=1)] | None = None
    calibration: Calibrator | None = None
    unit: UnitRecord | None = None
    weights_sha256: str = ""
    pmtrain_version: str = __version__

    def probabilities(self, logits) -> np.ndarray:
        """P(positive) of the network's logits, (N,) -> (N,) float64: calibrated where there is a calibration."""
        return probabilities_of(logits, self.calibration)

    @property
    def decision_threshold(self) -> float:
        """`threshold` as one on `probabilities`: the same images are positive."""
        return calibrated_threshold(self.threshold, self.calibration)

    @field_validator("metrics", mode="before")
    @classmethod
    def _undefined(cls, metrics: Any) -> Any:
        """None for NaN, which JSON doesn't have."""
        if not isinstance(metrics, dict):
            return metrics
        return {name: None if isinstance(x, float) and math.isnan(x) else x for name, x in metrics.items()}


def notes_info(layers: int) -> CheckpointInfo:
    """The values for a plain checkpoint of the notes' script, which has no side file."""
    return CheckpointInfo(
        layers=layers,
        image_size=224,
        preprocessing="notes",
        class_names=("negative", "positive"),
        threshold=0.5,
        threshold_rule="the notes' own",
        epoch=None,
        metrics={},
        synthetic=False,
        pmtrain_version="",
    )


class EnsembleRecord(BaseModel):
    """The content of ensemble.json: the networks that answer together, and what holds for their mean logit.

    Args:
        kind: `folds` (each member was validated on other images) or `seeds` (all on the same images).
        members: their run folders, relative to the file's own.
        info: of the whole: the threshold, its rule, the calibration and the unit are those of the mean logit;
            `weights_sha256` is `ensemble_sha256` of the members; what describes a network is the first member's.
    """

    model_config = ConfigDict(frozen=True)

    format: int = FORMAT
    kind: str
    members: tuple[str, ...] = Field(min_length=2)
    info: CheckpointInfo


class StateRecord(BaseModel):
    """The content of state.json: the folder of the newest complete state, its files' SHA-256, the run's own values."""

    format: int = FORMAT
    folder: str = Field(pattern=r"^[^/\\:]+-[0-9a-f]{8}$")
    sha256: dict[str, str]
    state: dict[str, Any]


def read_info(path: Path) -> CheckpointInfo:
    """Read a side file.

    Raises:
        PmtrainError: it can't be read, or isn't one.
    """
    return parse_info(read_bytes(path, MAX_JSON_BYTES), path)


def parse_info(data: bytes, path: Path) -> CheckpointInfo:
    """As read_info, of bytes read before."""
    return _parse_json(CheckpointInfo, data, path)


def read_record(folder: Path) -> StateRecord:
    """Read the state.json of a run's `last/`.

    Raises:
        PmtrainError: there is none, or it isn't one.
    """
    path = folder / STATE
    if not path.exists():
        raise PmtrainError(
            f"{folder} holds no state to resume from ({STATE} is missing)", "give the folder of a run that was stopped"
        )
    return _parse_json(StateRecord, read_bytes(path, MAX_JSON_BYTES), path)


def read_ensemble(path: Path) -> EnsembleRecord:
    """Read an ensemble.json.

    Raises:
        PmtrainError: it can't be read, or isn't one.
    """
    return _parse_json(EnsembleRecord, read_bytes(path, MAX_JSON_BYTES), path)


_Content = TypeVar("_Content", bound=BaseModel)


class _Versioned(BaseModel):
    format: int


def _parse_json(kind: type[_Content], data: bytes, path: Path) -> _Content:
    """Check JSON against `kind`, its format number first: a newer format may have other fields."""
    try:
        version = _Versioned.model_validate_json(data, strict=True).format
        if version == FORMAT or (kind is CheckpointInfo and version == ALIGNED_FORMAT):
            if kind is CheckpointInfo:
                data = to_json(with_new_keys("side file", from_json(data)))
            return kind.model_validate_json(data, strict=True)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(map(str, first["loc"]))
        raise PmtrainError(
            f"{path} is not as pmtrain writes it: {shown(where + ': ' if where else '')}{shown(first['msg'], 200)}",
            "bring back the file as it was saved",
        ) from error
    raise PmtrainError(
        f"{path} has format {version}; this pmtrain ({__version__}) reads format {FORMAT}",
        "upgrade pmtrain: a newer one wrote the file" if version > FORMAT else "bring back the file as it was saved",
    )
