"""Files read as the commands read them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from fuzzing.networks import CHANGED


def read_weights(path: Path) -> None:
    from pmtrain.runs.checkpoint import network_in
    from pmtrain.runs.formats.state_dict import parse_state
    from pmtrain.system.files import read_bytes

    parse_state(read_bytes(path), path)
    network_in(read_bytes(path), path, None)


def read_optimizer(path: Path) -> None:
    from pmtrain.runs.formats.state_dict import load_state

    load_state(path)


def read_side(path: Path) -> None:
    from pmtrain.runs.records import read_info

    info = read_info(path)
    _ = info.decision_threshold, info.probabilities(np.array([0.0, 50.0, -50.0]))


def read_run(folder: Path) -> None:
    """All that commands read of a run because of the file that was changed."""
    from pmtrain.data.splits.record import read_record
    from pmtrain.evaluation.scores.score_table import read_logits
    from pmtrain.runs.checkpoint import load_checkpoint
    from pmtrain.runs.resume_state import load_resume
    from pmtrain.runs.run_folder import RunFolder

    run = RunFolder(folder)
    whole = (lambda: load_resume(folder), lambda: load_checkpoint(folder))
    reads = {
        "config.yaml": (run.config,),
        "run.json": (run.info, run.leakage),
        "metrics.csv": (run.history,),
        "images.csv": (lambda: read_record(run.images),),
        "validation.csv": (lambda: read_logits(run.validation),),
        "shortcut.json": (run.read_shortcut,),
    }.get((folder / CHANGED).read_text(), whole)
    failures = [error for read in reads if (error := _refusal(read)) is not None]
    if failures:
        raise failures[0]


def _refusal(read: Callable[[], object]) -> Exception | None:
    from pmtrain.system.errors import PmtrainError

    try:
        read()
    except PmtrainError as error:
        return error
    return None


def read_config(path: Path) -> None:
    from pmtrain.config import TrainConfig
    from pmtrain.config.load import load_config

    load_config(TrainConfig, {}, path)


def read_data(path: Path) -> None:
    from pmtrain.data.images.packed import opening
    from pmtrain.data.images.read import read_image
    from pmtrain.data.layouts.readers import read_dataset

    opening._open.clear()  # the same second, size and inode may be another file
    for sample in read_dataset(path).samples[:4]:
        read_image(sample.path)


def read_picture(path: Path) -> None:
    from pmtrain.data.images.read import read_image

    pixels = read_image(path)
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3:
        raise AssertionError(f"{pixels.dtype} {pixels.shape}")


def read_onnx(path: Path) -> None:
    from pmtrain.runs.checkpoint import load_checkpoint

    found = load_checkpoint(path)
    size = found.info.image_size
    assert found.exported is not None
    if size <= 64:
        found.exported.logits(np.zeros((2, 3, size, size), np.float32))
