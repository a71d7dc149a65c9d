"""Checkpoints: weights with a side file that says what they are, and the state that a run resumes from.

`best.pdparams` is a plain Paddle state dict; `best.json` beside it holds a CheckpointInfo. A run's `last/` holds
`state.json`, which names the folder (`last/<tag>-<8 hex digits>/`) of the newest complete state. Whenever the process
is killed or the disk fills, one complete pair and one complete state can be read.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
import math
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, TypeVar

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator
from pydantic_core import from_json, to_json

from pmtrain.models import layers_of
from pmtrain.runs.old_keys import with_new_keys
from pmtrain.runs.serialization import dump_state, first_few, parse_state, shown
from pmtrain.system.errors import PmtrainError
from pmtrain.system.files import cannot, discard, flush_folder, read_bytes, rename, write_atomic, write_flushed
from pmtrain.system.version import __version__

FORMAT = 1  # of the side file and of state.json: raised when an older pmtrain could misread them
MAX_JSON_BYTES = 64 << 20

BEST = "best.pdparams"
STATE = "state.json"
MODEL, SIDE, OPTIMIZER = "model.pdparams", "model.json", "optimizer.pdopt"
WEIGHTS_SUFFIXES = (".pdparams", ".safetensors")


Positive = Annotated[float, Field(gt=0)]


class CheckpointInfo(BaseModel):
    """What the weights are and how to use them: the side file's content.

    Args:
        layers: depth of the network, a row of DEPTHS.
        image_size: side of the square input in pixels.
        preprocessing: name of the way from an image to the network's input.
        pixel_mean, pixel_std: mean and standard deviation of the training images, RGB, in [0, 1], where the
            preprocessing normalises by them.
        class_names: negative, positive.
        threshold: P(positive) from which an image is called positive, in [0, 1].
        threshold_rule: how the threshold was chosen.
        epoch: counted from 0; None where unknown.
        scores: validation measures by name; None where a measure is undefined.
        synthetic: trained on the built-in synthetic photographs.
        weights_sha256: of the weights' file; set when it is saved.
    """

    model_config = ConfigDict(frozen=True, strict=True, allow_inf_nan=False)

    format: int = FORMAT
    layers: int
    image_size: int = Field(ge=1, le=8192)  # a side file from elsewhere can't ask for all memory
    preprocessing: str
    pixel_mean: tuple[float, float, float] | None = None
    pixel_std: tuple[Positive, Positive, Positive] | None = None
    class_names: tuple[str, str]
    threshold: float = Field(ge=0, le=1)
    threshold_rule: str
    epoch: int | None
    scores: dict[str, float | None]
    synthetic: bool
    weights_sha256: str = ""
    pmtrain_version: str = __version__

    @field_validator("scores", mode="before")
    @classmethod
    def _undefined(cls, scores: Any) -> Any:
        """None for NaN, which JSON doesn't have."""
        if not isinstance(scores, dict):
            return scores
        return {name: None if isinstance(x, float) and math.isnan(x) else x for name, x in scores.items()}


def notes_info(layers: int) -> CheckpointInfo:
    """What holds for a plain checkpoint of the notes' script, which has no side file."""
    return CheckpointInfo(
        layers=layers,
        image_size=224,
        preprocessing="notes",
        class_names=("negative", "positive"),
        threshold=0.5,
        threshold_rule="the notes' own",
        epoch=None,
        scores={},
        synthetic=False,
        pmtrain_version="",
    )


@dataclass(frozen=True)
class Checkpoint:
    """Weights read from `path`: name -> array, and what they are; `side_file` is None where none was there."""

    state: dict[str, np.ndarray]
    info: CheckpointInfo
    path: Path
    side_file: Path | None


@dataclass(frozen=True)
class ResumeState:
    """All that a run needs to go on as if never stopped; `state` is what was given to save_resume."""

    checkpoint: Checkpoint
    optimizer_state: dict[str, Any]
    state: dict[str, Any]


# ---------------------------------------------------------------------------------------------------------------------
# A checkpoint: weights and side file
# ---------------------------------------------------------------------------------------------------------------------


def save_checkpoint(
    path: Path, state: Mapping[str, Any], parameter_names: Mapping[str, str], info: CheckpointInfo
) -> CheckpointInfo:
    """Replace the weights at `path` and their side file as one.

    Both are written beside their targets and flushed, then renamed, weights first. A reader that comes between
    the two renames finds the new side file as `<stem>.json.next`.

    Args:
        state, parameter_names: as model_state.to_arrays gives them.
    Returns: `info` with the weights' SHA-256.
    Raises:
        PmtrainError: they can't be written; the pair that was there stays.
    """
    side, coming = _side_file(path), _coming(path)
    _finish_renames(path)
    weights = dump_state(state, parameter_names)
    info = _describing(weights, info)
    temporary = path.with_name(path.name + ".tmp")
    try:
        write_flushed(temporary, weights)
        write_flushed(coming, info.model_dump_json(indent=2) + "\n")
        flush_folder(path.parent)
        rename(temporary, path)
    except PmtrainError:
        discard(temporary)
        discard(coming)
        raise
    flush_folder(path.parent)  # a crash must not keep the second rename and lose the first
    # Where another program holds the old side file open, the new one serves from where it is.
    with contextlib.suppress(PmtrainError):
        rename(coming, side)
    flush_folder(path.parent)
    return info


def load_checkpoint(path: Path) -> Checkpoint:
    """Read weights and what they are, without running anything that the file holds.

    Args:
        path: a `.pdparams` or `.safetensors`, with its side file or without (then the notes' preprocessing holds);
            a run's folder stands for its best.pdparams, and its `last/` for the newest state there.
    Raises:
        PmtrainError: there is none, it is damaged, or the side file belongs to other weights.
    """
    path = _find(path)
    data = read_bytes(path)
    side, info = _matching_info(path, _sha256(data))
    state = _weights(data, path)
    layers = _layers(state, path)
    if info is None:
        info = notes_info(layers)
    _check_layers(info, layers, path)
    return Checkpoint(state, info, path, side)


def _side_file(path: Path) -> Path:
    return path.with_suffix(".json")


def _coming(path: Path) -> Path:
    return path.with_suffix(".json.next")


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _describing(weights: bytes, info: CheckpointInfo) -> CheckpointInfo:
    """The side file's content for these weights, checked again: a copy may have been changed."""
    return CheckpointInfo(**{**dict(info), "weights_sha256": _sha256(weights)})


def _finish_renames(path: Path) -> None:
    """Do what a save that was killed between its two renames left to do, before its files are overwritten."""
    coming = _coming(path)
    if not coming.exists():
        return
    try:
        info = _parse_info(read_bytes(coming, MAX_JSON_BYTES), coming)
        belongs = path.exists() and info.weights_sha256 == _sha256(read_bytes(path))
    except PmtrainError:  # half written
        belongs = False
    if not belongs:
        discard(coming)
        return
    with contextlib.suppress(PmtrainError):
        rename(coming, _side_file(path))
        flush_folder(path.parent)


def _matching_info(path: Path, sha256: str) -> tuple[Path | None, CheckpointInfo | None]:
    """The side file that belongs to these weights and its content; (None, None) where there is none at all."""
    side, failure = _side_file(path), None
    # A save may be renaming while this reads: what was .next a moment ago may by now be the side file.
    for candidate in (side, _coming(path), side):
        if not candidate.exists():
            continue
        try:
            info = _parse_info(read_bytes(candidate, MAX_JSON_BYTES), candidate)
        except PmtrainError as error:
            failure = failure or error
            continue
        if info.weights_sha256 == sha256:
            return candidate, info
        failure = failure or PmtrainError(
            f"{path} is not the file that {candidate} describes: its SHA-256 is {sha256[:12]}..., not"
            f" {shown(info.weights_sha256, 12)}",
            f"bring back the weights that belong to it, or move {side.name} away to read the file as the notes' own",
        )
    if failure:
        raise failure
    return None, None


_Content = TypeVar("_Content", bound=BaseModel)


class _Versioned(BaseModel):
    format: int


def _parse_json(kind: type[_Content], data: bytes, path: Path) -> _Content:
    """Check JSON against `kind`, its format number first: a newer format may have other fields."""
    try:
        version = _Versioned.model_validate_json(data, strict=True).format
        if version == FORMAT:
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


def _parse_info(data: bytes, path: Path) -> CheckpointInfo:
    return _parse_json(CheckpointInfo, data, path)


def _weights(data: bytes, path: Path) -> dict[str, np.ndarray]:
    """The state dict in `data`, of arrays only."""
    state = parse_state(data, path)
    others = [name for name, value in state.items() if not isinstance(value, np.ndarray)]
    if others:
        raise PmtrainError(
            f"{path} is no state dict of a network: {first_few(others)} {'is' if len(others) == 1 else 'are'} no array",
            "if the state dict lies inside, save it alone: paddle.save(model.state_dict(), ...)",
        )
    return state


def _layers(state: Mapping[str, Any], path: Path) -> int:
    try:
        return layers_of(state)
    except PmtrainError as error:
        raise PmtrainError(f"{path}: {error.message}", error.hint) from None


def _check_layers(info: CheckpointInfo, layers: int, path: Path) -> None:
    if info.layers != layers:
        raise PmtrainError(
            f"{path} holds a ResNet-{layers}, yet its side file says {info.layers} layers",
            "bring back the side file as it was saved",
        )


def _find(path: Path) -> Path:
    """The weights' file that `path` stands for."""
    try:
        if path.is_file():
            return path
        if path.is_dir():
            if (path / BEST).is_file():
                return path / BEST
            if (path / STATE).is_file():
                return path / _read_record(path).folder / MODEL
            if (path / "fold-1").is_dir():
                raise PmtrainError(f"{path} is a cross-validation: a network a fold, none of the whole", _offer(path))
            raise PmtrainError(f"{path} is a folder without {BEST}", _offer(path))
        near = path.parent if path.parent.is_dir() else path.parent.parent
    except OSError as error:  # a folder on the way may not be entered
        raise cannot("read", path, error) from error
    raise PmtrainError(f"there is no checkpoint {path}", _offer(near))


def _offer(folder: Path) -> str:
    """The checkpoints in or just below a folder, as a hint."""
    try:
        inside = itertools.chain(folder.glob("*"), folder.glob("*/*"))
        found = list(itertools.islice((p for p in inside if p.suffix in WEIGHTS_SUFFIXES), 9))
    except OSError:
        found = []
    if not found:
        return f"there is none in {folder} either; `pmtrain train` makes one"
    return "there is " + first_few([str(path) for path in sorted(found)], 8)


# ---------------------------------------------------------------------------------------------------------------------
# The state that a run resumes from
# ---------------------------------------------------------------------------------------------------------------------


class _Record(BaseModel):
    """state.json: which folder is the newest complete state, its files' SHA-256, and the run's own numbers."""

    format: int = FORMAT
    folder: str = Field(pattern=r"^[^/\\:]+-[0-9a-f]{8}$")
    sha256: dict[str, str]
    state: dict[str, Any]


def save_resume(
    folder: Path,
    tag: str,
    weights: Mapping[str, Any],
    parameter_names: Mapping[str, str],
    info: CheckpointInfo,
    optimizer_state: Mapping[str, Any],
    state: Mapping[str, Any],
) -> Path:
    """Save all that an exact resume needs as the newest state in `folder`, then remove the older ones.

    Args:
        folder: the run's `last/`, made where it is missing.
        tag: what the state's folder is called, before a unique ending (`epoch-3-batch-120`).
        weights, parameter_names, optimizer_state: as model_state.to_arrays and optimizer_arrays give them.
        state: plain JSON values; floats come back to the bit, tuples as lists.
    Returns: the state's own folder.
    Raises:
        PmtrainError: it can't be written; the state that was there stays the newest.
    """
    model = dump_state(weights, parameter_names)
    info = _describing(model, info)
    files = {
        MODEL: model,
        SIDE: (info.model_dump_json(indent=2) + "\n").encode(),
        OPTIMIZER: dump_state(optimizer_state),
    }
    home = folder / f"{tag}-{secrets.token_hex(4)}"
    hashes = {name: _sha256(data) for name, data in files.items()}
    record = {"format": FORMAT, "folder": home.name, "sha256": hashes, "state": state}
    text = json.dumps(record, ensure_ascii=False, indent=1)  # before anything is written: it may not be JSON
    try:
        home.mkdir(parents=True)
        for name, data in files.items():
            write_flushed(home / name, data)
        flush_folder(home)
        flush_folder(folder)
        write_atomic(folder / STATE, text)
    except (OSError, PmtrainError) as error:
        if not _is_newest(home):
            _remove(home)
        raise cannot("write", home, error) if isinstance(error, OSError) else error from error
    with contextlib.suppress(OSError):
        for other in list(folder.iterdir()):
            if other != home and re.search(r"-[0-9a-f]{8}$", other.name) and not other.is_symlink():
                _remove(other)
    return home


def load_resume(folder: Path) -> ResumeState:
    """Read the newest complete state in a run's folder or in its `last/`.

    Raises:
        PmtrainError: there is none, or a file of it isn't as it was saved.
    """
    if not (folder / STATE).exists() and (folder / "last" / STATE).exists():
        folder = folder / "last"
    record = _read_record(folder)
    try:
        files = _read_files(folder, record)
    except PmtrainError:
        newer = _read_record(folder)
        if newer.folder == record.folder:
            raise
        record, files = newer, _read_files(folder, newer)  # the run that owns it saved while this read
    home = folder / record.folder
    weights = _weights(files[MODEL], home / MODEL)
    info = _parse_info(files[SIDE], home / SIDE)
    _check_layers(info, _layers(weights, home / MODEL), home / MODEL)
    checkpoint = Checkpoint(weights, info, home / MODEL, home / SIDE)
    return ResumeState(checkpoint, parse_state(files[OPTIMIZER], home / OPTIMIZER), record.state)


def _read_record(folder: Path) -> _Record:
    path = folder / STATE
    if not path.exists():
        raise PmtrainError(
            f"{folder} holds no state to resume from ({STATE} is missing)", "give the folder of a run that was stopped"
        )
    return _parse_json(_Record, read_bytes(path, MAX_JSON_BYTES), path)


def _read_files(folder: Path, record: _Record) -> dict[str, bytes]:
    files = {}
    for name in (MODEL, SIDE, OPTIMIZER):
        path = folder / record.folder / name
        files[name] = read_bytes(path)
        if record.sha256.get(name) != _sha256(files[name]):
            raise PmtrainError(
                f"{path} isn't as it was saved: its SHA-256 differs from the one in {folder / STATE}",
                f"start again from the weights that you trust, or from {folder.parent / BEST}",
            )
    return files


def _is_newest(home: Path) -> bool:
    """Whether state.json names this folder; also where that can't be told, so that nothing needed is removed."""
    try:
        return (home.parent / STATE).exists() and _read_record(home.parent).folder == home.name
    except PmtrainError:
        return True


def _remove(home: Path) -> None:
    """Remove a state's folder; what a program holds open, or a person put there, stays, and so does the folder."""
    for name in (MODEL, SIDE, OPTIMIZER):
        discard(home / name)
    with contextlib.suppress(OSError):
        home.rmdir()
