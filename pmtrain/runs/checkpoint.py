"""Checkpoints: weights with a side file that says what they are.

`best.pdparams` is a plain Paddle state dict; `best.json` beside it holds a CheckpointInfo. Whenever the process is
killed or the disk fills, one complete pair can be read.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pmtrain.models import layers_of
from pmtrain.models.backends.onnx_runtime import METADATA, OnnxNetwork
from pmtrain.runs.formats.state_dict import StateDump, parse_state
from pmtrain.runs.formats.untrusted import first_few, shown
from pmtrain.runs.records import (
    ENSEMBLE,
    STATE,
    CheckpointInfo,
    notes_info,
    parse_info,
    read_ensemble,
    read_info,
    read_record,
)
from pmtrain.system.errors import PmtrainError, UsageError
from pmtrain.system.files import cannot, discard, flush_folder, read_bytes, rename, write_atomic, write_flushed

BEST = "best.pdparams"
PRETRAINED = "pretrained.pdparams"  # of `pmtrain pretrain`: a network without a classifier
MODEL = "model.pdparams"  # in the folder of a state to resume from
EXPORTED = ".onnx"
WEIGHTS_SUFFIXES = (".pdparams", ".safetensors", EXPORTED)
EXPORT_FILE = "export.json"  # in the folder of every export
EXPORTS = ("model.onnx", "model.safetensors")  # in the folder of one that can be run here


@dataclass(frozen=True)
class Checkpoint:
    """Weights read from `path`: name -> array, and what they are; `side_file` is None where none was there.

    `exported` is the network of an exported model, whose `state` is empty.
    """

    state: dict[str, np.ndarray]
    info: CheckpointInfo
    path: Path
    side_file: Path | None
    exported: OnnxNetwork | None = None

    @property
    def members(self) -> tuple[Checkpoint, ...]:
        """Itself: one network."""
        return (self,)


@dataclass(frozen=True)
class Ensemble:
    """Several networks with one answer: the mean of their logits, each with its own preprocessing.

    Args:
        members: the networks, at least two.
        info: as of EnsembleRecord: threshold, calibration and unit are those of the mean logit.
        path: the folder that holds them; of networks that were only named together, the first one's file.
        record: the ensemble.json; None for networks that were only named together.
    """

    members: tuple[Checkpoint, ...]
    info: CheckpointInfo
    path: Path
    record: Path | None = None

    @property
    def side_file(self) -> Path | None:
        """The file that `info` is from."""
        return self.record or self.members[0].side_file


# What commands that score images take.
Networks = Checkpoint | Ensemble


def architecture(networks: Networks) -> str:
    """`ResNet-18`, or `Mean of 3 networks (ResNet-18)`."""
    layers = [f"ResNet-{member.info.layers}" for member in networks.members]
    return layers[0] if len(layers) == 1 else f"Mean of {len(layers)} networks ({', '.join(dict.fromkeys(layers))})"


def ensemble_sha256(members: Iterable[Checkpoint]) -> str:
    """What tells one ensemble from another: the SHA-256 of its members' SHA-256, in hex, in their order."""
    return sha256_of("".join(m.info.weights_sha256 or sha256_of(read_bytes(m.path)) for m in members).encode())


def save_checkpoint(path: Path, weights: StateDump, info: CheckpointInfo) -> CheckpointInfo:
    """Replace the weights at `path` together with their side file.

    Both are written beside their targets and flushed, then renamed, weights first. A reader that comes between
    the two renames finds the new side file as `<stem>.json.next`.

    Args:
        weights: a state dict, from dump_state.
    Returns: `info` with the weights' SHA-256.
    Raises:
        PmtrainError: they can't be written; the pair that was there stays.
    """
    side, coming = _side_file(path), _coming(path)
    _finish_renames(path)
    info = describing(weights, info)
    temporary = path.with_name(path.name + ".tmp")
    try:
        write_flushed(temporary, *weights.pieces)
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


def replace_info(checkpoint: Networks, info: CheckpointInfo) -> Path:
    """Replace the side file of weights that stay as they are, or give them one; of several networks what ensemble.json
    says of them together; return the file.

    Raises:
        PmtrainError: it can't be written; the one that was there stays. UsageError: several networks have no file.
    """
    if isinstance(checkpoint, Ensemble):
        file = kept_in(checkpoint)
        record = read_ensemble(file).model_copy(update={"info": info})
        write_atomic(file, (record.model_dump_json(indent=2) + "\n").encode())
        return file
    _finish_renames(checkpoint.path)
    side = _side_file(checkpoint.path)
    info = CheckpointInfo(**{**dict(info), "weights_sha256": sha256_of(read_bytes(checkpoint.path))})
    write_atomic(side, (info.model_dump_json(indent=2) + "\n").encode())
    return side


def kept_in(ensemble: Ensemble) -> Path:
    """The file that says what holds for several networks together.

    Raises:
        UsageError: they are only named together.
    """
    if ensemble.record is None:
        raise UsageError(
            f"{len(ensemble.members)} networks that are only named together have no file to keep this in",
            "give the folder of a cross-validation or of `pmtrain train --seeds`",
        )
    return ensemble.record


def load_checkpoint(path: Path) -> Checkpoint:
    """Read weights and their side file, without running anything that a file holds.

    Args:
        path: a `.pdparams` or `.safetensors`, with or without a side file; without one, the notes'
            preprocessing holds; or an `.onnx` that `pmtrain export` wrote, which says what it is. Of a run's folder
            best.pdparams is read, of its `last/` the newest state, of an export's folder the model.
    Raises:
        PmtrainError: there is no checkpoint, it is damaged, or the side file belongs to other weights.
    """
    path = find_weights(path)
    if path.suffix not in WEIGHTS_SUFFIXES and (path.parent / EXPORT_FILE).is_file():
        raise _for_others(path)
    data = read_bytes(path)
    if path.suffix == EXPORTED:
        network = OnnxNetwork(data, path)
        return Checkpoint({}, _info_in(network), path, path, network)
    side, info = matching_info(path, sha256_of(data))
    return Checkpoint(*network_in(data, path, info), path, side)


def _info_in(network: OnnxNetwork) -> CheckpointInfo:
    """What an exported model says of itself."""
    if METADATA not in network.metadata:
        raise PmtrainError(
            f"{network.path}: an ONNX model of another program: it doesn't say how images are preprocessed",
            "give one that `pmtrain export` wrote",
        )
    return parse_info(network.metadata[METADATA].encode(), network.path)


def _side_file(path: Path) -> Path:
    return path.with_suffix(".json")


def _coming(path: Path) -> Path:
    return path.with_suffix(".json.next")


def sha256_of(data: bytes) -> str:
    """In hex."""
    return hashlib.sha256(data).hexdigest()


def describing(weights: StateDump, info: CheckpointInfo) -> CheckpointInfo:
    """The side file's content for these weights: `info` with their SHA-256, its values checked again."""
    return CheckpointInfo(**{**dict(info), "weights_sha256": weights.sha256})


def _finish_renames(path: Path) -> None:
    """Do what a save that was killed between its two renames left to do, before its files are overwritten."""
    coming = _coming(path)
    if not coming.exists():
        return
    try:
        info = read_info(coming)
        belongs = path.exists() and info.weights_sha256 == sha256_of(read_bytes(path))
    except PmtrainError:  # half written
        belongs = False
    if not belongs:
        discard(coming)
        return
    with contextlib.suppress(PmtrainError):
        rename(coming, _side_file(path))
        flush_folder(path.parent)


def matching_info(path: Path, sha256: str) -> tuple[Path | None, CheckpointInfo | None]:
    """The side file that belongs to these weights and its content; (None, None) where there is none at all."""
    side, failure = _side_file(path), None
    # A save may be renaming while this reads: what was .next a moment ago may by now be the side file.
    for candidate in (side, _coming(path), side):
        if not candidate.exists():
            continue
        try:
            info = read_info(candidate)
        except PmtrainError as error:
            failure = failure or error
            continue
        if info.weights_sha256 == sha256:
            return candidate, info
        failure = failure or PmtrainError(
            f"{path} is not the file that {candidate} describes: its SHA-256 is {sha256[:12]}..., not"
            f" {shown(info.weights_sha256, 12)}",
            f"bring back the weights that belong to it, or move {side.name} away to read the weights without it",
        )
    if failure:
        raise failure
    return None, None


def network_in(data: bytes, path: Path, info: CheckpointInfo | None) -> tuple[dict[str, np.ndarray], CheckpointInfo]:
    """The state dict in `data`, and what is known of it: `info`, or what holds for the notes where that is None.

    Raises:
        PmtrainError: it isn't a ResNet's state dict, or not of the depth that `info` says.
    """
    state = parse_state(data, path)
    others = [name for name, value in state.items() if not isinstance(value, np.ndarray)]
    if others:
        raise PmtrainError(
            f"{path} is not a network's state dict: it has values that are not arrays: {first_few(others)}",
            "if it holds the state dict among other things, save that alone: paddle.save(model.state_dict(), ...)",
        )
    try:
        layers = layers_of(state)
    except PmtrainError as error:
        raise PmtrainError(f"{path}: {error.message}", error.hint) from None
    if info is not None and info.layers != layers:
        raise PmtrainError(
            f"{path} holds a ResNet-{layers}, yet its side file says {info.layers} layers",
            "bring back the side file as it was saved",
        )
    return state, info or notes_info(layers)


def refuse_networks(paths: Iterable[Path]) -> None:
    """Refuse networks where images are wanted: who names several means them all.

    Raises:
        UsageError: a path is a checkpoint, or a folder of some.
    """
    for path in paths:
        if path.suffix in WEIGHTS_SUFFIXES or any((path / name).is_file() for name in (BEST, ENSEMBLE, EXPORT_FILE)):
            raise UsageError(
                f"{path}: a network in the place of images", "several networks are joined by a comma: runs/a,runs/b"
            )


def find_weights(path: Path) -> Path:
    """The weights' file that `path` stands for: itself, a run folder's, that of its `last/`, or an export's.

    Raises:
        PmtrainError: there is none; the hint names those nearby.
    """
    try:
        if path.is_file():
            return path
        if path.is_dir():
            for name in (BEST, PRETRAINED, *EXPORTS):
                if (path / name).is_file():
                    return path / name
            if (path / EXPORT_FILE).is_file():
                raise _for_others(path)
            if (path / STATE).is_file():
                return path / read_record(path).folder / MODEL
            if (path / ENSEMBLE).is_file() or (path / "fold-1").is_dir():
                raise PmtrainError(f"{path} holds several networks, and this takes one", _offer(path))
            raise PmtrainError(f"{path} is a folder without {BEST}", _offer(path))
        near = path.parent if path.parent.is_dir() else path.parent.parent
    except OSError as error:  # a folder on the way may not be entered
        raise cannot("read", path, error) from error
    raise PmtrainError(f"there is no checkpoint {path}", _offer(near))


def _for_others(path: Path) -> UsageError:
    return UsageError(
        f"{path}: an export for other programs, which pmtrain doesn't run",
        f"give the checkpoint that it was exported from, or an export that holds {' or '.join(EXPORTS)}",
    )


def _offer(folder: Path) -> str:
    """The checkpoints in or just below a folder, as a hint."""
    try:
        inside = itertools.chain(folder.glob("*"), folder.glob("*/*"))
        weights = (p for p in inside if p.suffix in WEIGHTS_SUFFIXES and len(p.suffixes) == 1)
        found = list(itertools.islice(weights, 9))
    except OSError:
        found = []
    if not found:
        return f"there is none in {folder} either; make one with `pmtrain train`"
    return "there is " + first_few([str(path) for path in sorted(found)], 8)
