"""The state that a run resumes from: weights, optimizer, and where the run stood.

A run's `last/` holds `state.json`, which names the folder (`last/<tag>-<8 hex digits>/`) of the newest complete state.
Whenever the process is killed or the disk fills, one complete state can be read.
"""

from __future__ import annotations

import contextlib
import json
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pmtrain.runs.checkpoint import BEST, MODEL, Checkpoint, describing, network_in, sha256_of
from pmtrain.runs.formats.state_dict import StateDump, parse_state
from pmtrain.runs.records import FORMAT, STATE, CheckpointInfo, StateRecord, parse_info, read_record
from pmtrain.system.errors import PmtrainError
from pmtrain.system.files import cannot, discard, flush_folder, link_or_write, read_bytes, write_atomic

SIDE, OPTIMIZER = "model.json", "optimizer.pdopt"


@dataclass(frozen=True)
class ResumeState:
    """All that a run needs to go on as if never stopped; `state` is what was given to save_resume."""

    checkpoint: Checkpoint
    optimizer_state: dict[str, Any]
    state: dict[str, Any]


def save_resume(
    folder: Path,
    tag: str,
    weights: StateDump,
    info: CheckpointInfo,
    optimizer: StateDump,
    state: Mapping[str, Any],
    same: Path | None = None,
) -> Path:
    """Save all that an exact resume needs as the newest state in `folder`, then remove the older ones.

    Args:
        folder: the run's `last/`, made where it is missing.
        tag: what the state's folder is called, before a unique ending (`epoch-3-batch-120`).
        weights, optimizer: state dicts, from dump_state.
        state: plain JSON values; floats come back to the bit, tuples as lists.
        same: a file that was saved from the same `weights`, which needn't be written again.
    Returns: the state's own folder.
    Raises:
        PmtrainError: it can't be written; the state that was there stays the newest.
    """
    side = describing(weights, info).model_dump_json(indent=2) + "\n"
    files: dict[str, tuple[bytes | memoryview, ...]] = {
        MODEL: weights.pieces,
        SIDE: (side.encode(),),
        OPTIMIZER: optimizer.pieces,
    }
    home = folder / f"{tag}-{secrets.token_hex(4)}"
    hashes = {MODEL: weights.sha256, SIDE: sha256_of(side.encode()), OPTIMIZER: optimizer.sha256}
    record = {"format": FORMAT, "folder": home.name, "sha256": hashes, "state": state}
    # Before anything is written: it may not be JSON. Without indents, since those take six times as long, and the
    # history of thousands of epochs is in it.
    text = json.dumps(record, ensure_ascii=False)
    try:
        home.mkdir(parents=True)
        for name, pieces in files.items():
            link_or_write(home / name, same if name == MODEL else None, *pieces)
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
    record = read_record(folder)
    try:
        files = _read_files(folder, record)
    except PmtrainError:
        newer = read_record(folder)
        if newer.folder == record.folder:
            raise
        record, files = newer, _read_files(folder, newer)  # the run that owns it saved while this read
    home = folder / record.folder
    info = parse_info(files[SIDE], home / SIDE)
    checkpoint = Checkpoint(*network_in(files[MODEL], home / MODEL, info), home / MODEL, home / SIDE)
    return ResumeState(checkpoint, parse_state(files[OPTIMIZER], home / OPTIMIZER), record.state)


def _read_files(folder: Path, record: StateRecord) -> dict[str, bytes]:
    files = {}
    for name in (MODEL, SIDE, OPTIMIZER):
        path = folder / record.folder / name
        files[name] = read_bytes(path)
        if record.sha256.get(name) != sha256_of(files[name]):
            raise PmtrainError(
                f"{path} isn't as it was saved: its SHA-256 differs from the one in {folder / STATE}",
                f"start again from the weights that you trust, or from {folder.parent / BEST}",
            )
    return files


def _is_newest(home: Path) -> bool:
    """Whether state.json names this folder; also where that can't be told, so that nothing needed is removed."""
    try:
        return (home.parent / STATE).exists() and read_record(home.parent).folder == home.name
    except PmtrainError:
        return True


def _remove(home: Path) -> None:
    """Remove a state's folder; what a program holds open, or a person put there, stays, and so does the folder."""
    for name in (MODEL, SIDE, OPTIMIZER):
        discard(home / name)
    with contextlib.suppress(OSError):
        home.rmdir()
