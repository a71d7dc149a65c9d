"""Small checkpoints and states, what is in them, and a disk that fails at any step."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import numpy as np
import pytest

import pmtrain.system.files as files
from pmtrain.models import DEPTHS
from pmtrain.runs.checkpoint import load_checkpoint, save_checkpoint
from pmtrain.runs.formats.state_dict import dump_state
from pmtrain.runs.records import CheckpointInfo
from pmtrain.runs.resume_state import load_resume, save_resume
from pmtrain.system.errors import PmtrainError


def small_state(value: float, layers: int = 50) -> dict[str, np.ndarray]:
    """Arrays under a ResNet's block names, enough for its depth to be read off; all of one value."""
    depth, last = DEPTHS[layers], "conv2" if DEPTHS[layers].bottleneck else "conv1"
    blocks = [f"bb_{stage}_{block}" for stage, count in enumerate(depth.blocks) for block in range(count)]
    return {f"{block}.{last}._conv.weight": np.full((2, 3), value, "f4") for block in blocks}


def info_of(epoch: int, **changes) -> CheckpointInfo:
    fields = {
        "layers": 50,
        "image_size": 64,
        "preprocessing": "notes",
        "class_names": ("健康", "病理"),
        "threshold": 0.25,
        "threshold_rule": "most correct on validation",
        "epoch": epoch,
        "metrics": {"auc": 0.1 + 0.2, "loss": float("nan")},
        "synthetic": True,
    }
    return CheckpointInfo(**(fields | changes))


def save(path: Path, number: int) -> CheckpointInfo:
    return save_checkpoint(path, dump_state(small_state(number)), info_of(number))


def number_in(path: Path) -> int:
    """Which save the checkpoint at `path` is; weights and side file must agree."""
    checkpoint = load_checkpoint(path)
    numbers = {float(x) for array in checkpoint.state.values() for x in array.flat}
    assert numbers == {checkpoint.info.epoch}
    return int(numbers.pop())


def resume(folder: Path, number: int, tag: str = "", same: Path | None = None) -> Path:
    velocity = {"conv2d_0.w_0_velocity_0": np.full(4, number, "f4"), "LR_Scheduler": {"last_epoch": number}}
    state = {"epoch": number, "history": [0.1 * number, float("nan")], "random": 2**128 + number}
    weights, optimizer = dump_state(small_state(number)), dump_state(velocity)
    return save_resume(folder, tag or f"epoch-{number}", weights, info_of(number), optimizer, state, same)


def resumed_number(folder: Path) -> int:
    """Which save the newest state is; all of its parts must agree."""
    loaded = load_resume(folder)
    number = loaded.state["epoch"]
    assert loaded.state["history"][0] == 0.1 * number and loaded.state["random"] == 2**128 + number
    assert loaded.checkpoint.info.epoch == number
    assert {float(x) for array in loaded.checkpoint.state.values() for x in array.flat} == {number}
    assert loaded.optimizer_state["LR_Scheduler"] == {"last_epoch": number}
    assert set(loaded.optimizer_state["conv2d_0.w_0_velocity_0"]) == {number}
    return number


class Killed(BaseException):
    """The process is gone: after the first one, every step that would change the disk raises it."""


class Faults:
    """Makes the n-th step that changes the disk fail: a write half done, or a step not done at all."""

    def __init__(self, monkeypatch, nth: int, kind: str) -> None:
        self.left, self.kind, self.happened = nth, kind, False
        faults = self

        class File:
            def __init__(self, path, mode):
                faults.step("open")
                self.file = open(path, mode)

            def __enter__(self):
                return self

            def __exit__(self, *_):
                self.file.close()

            def write(self, data):
                self.file.write(data[: len(data) // 2])
                self.file.flush()
                faults.step("write")
                self.file.write(data[len(data) // 2 :])

            def __getattr__(self, name):
                return getattr(self.file, name)

        monkeypatch.setattr(files, "open", File, raising=False)
        for owner, name in (
            (os, "fsync"),
            (os, "link"),
            (os, "replace"),
            (Path, "unlink"),
            (Path, "mkdir"),
            (Path, "rmdir"),
        ):
            monkeypatch.setattr(owner, name, self.wrapped(name, getattr(owner, name)))

    def wrapped(self, name, function):
        def step(*arguments, **keywords):
            self.step(name)
            return function(*arguments, **keywords)

        return step

    def step(self, name: str) -> None:
        if self.kind == "kill":
            self.left -= 1
            if self.left < 0:
                self.happened = True
                raise Killed
        elif name not in ("unlink", "rmdir"):  # a full disk still lets files go
            self.left -= 1
            if self.left == -1 or (self.left < 0 and name in ("open", "write", "mkdir") and self.kind == "stays full"):
                self.happened = True
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def with_faults(kind: str, nth: int, function, *arguments) -> bool:
    """Call the function with its n-th step failing; whether there was such a step."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        faults = Faults(monkeypatch, nth, kind)
        try:
            function(*arguments)
        except Killed:
            assert kind == "kill"
        except PmtrainError as error:
            assert kind != "kill" and os.strerror(errno.ENOSPC) in error.message and "free some space" in error.hint
    return faults.happened
