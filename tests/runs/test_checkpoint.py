"""Checkpoints under kills and full disks, and what is said where one doesn't fit."""

from __future__ import annotations

import errno
import hashlib
import itertools
import json
import os
import pickle
import random
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import pmtrain.system.files as files
from pmtrain.models import DEPTHS
from pmtrain.runs.checkpoint import (
    CheckpointInfo,
    load_checkpoint,
    load_resume,
    notes_info,
    save_checkpoint,
    save_resume,
)
from pmtrain.system.errors import PmtrainError

ROOT = Path(__file__).parents[1]


def small_state(value: float, layers: int = 50) -> dict[str, np.ndarray]:
    """Arrays under a ResNet's block names, enough for its depth to be read off; all of one value."""
    blocks = [f"bb_{stage}_{block}" for stage, depth in enumerate(DEPTHS[layers]) for block in range(depth)]
    return {f"{block}.conv0._conv.weight": np.full((2, 3), value, "f4") for block in blocks}


def info_of(epoch: int, **changes) -> CheckpointInfo:
    fields = {
        "layers": 50,
        "image_size": 64,
        "preprocessing": "notes",
        "class_names": ("健康", "病理"),
        "threshold": 0.25,
        "threshold_rule": "most correct on validation",
        "epoch": epoch,
        "scores": {"auc": 0.1 + 0.2, "loss": float("nan")},
        "synthetic": True,
    }
    return CheckpointInfo(**(fields | changes))


def save(path: Path, number: int) -> CheckpointInfo:
    return save_checkpoint(path, small_state(number), {}, info_of(number))


def number_in(path: Path) -> int:
    """Which save the checkpoint at `path` is; weights and side file must agree."""
    checkpoint = load_checkpoint(path)
    numbers = {float(x) for array in checkpoint.state.values() for x in array.flat}
    assert numbers == {checkpoint.info.epoch}
    return int(numbers.pop())


# ---------------------------------------------------------------------------------------------------------------------
# The pair
# ---------------------------------------------------------------------------------------------------------------------


def test_a_checkpoint_is_weights_and_a_json_file(tmp_path):
    path = tmp_path / "最好.pdparams"
    saved = save(path, 3)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["最好.json", "最好.pdparams"]

    side = json.loads((tmp_path / "最好.json").read_text(encoding="utf-8"))
    assert side["weights_sha256"] == hashlib.sha256(path.read_bytes()).hexdigest() == saved.weights_sha256
    assert side["class_names"] == ["健康", "病理"] and side["scores"] == {"auc": 0.1 + 0.2, "loss": None}
    assert side["format"] == 1 and side["layers"] == 50 and side["threshold"] == 0.25

    loaded = load_checkpoint(path)
    assert loaded.info == saved and loaded.path == path and loaded.side_file == tmp_path / "最好.json"
    assert number_in(path) == 3


def test_the_weights_are_what_paddle_saves(tmp_path):
    save_checkpoint(tmp_path / "x.pdparams", small_state(1), {"a": "conv2d_0.w_0"}, info_of(1))
    loaded = pickle.loads((tmp_path / "x.pdparams").read_bytes())
    assert loaded.pop("StructuredToParameterName@@") == {"a": "conv2d_0.w_0"}
    assert list(loaded) == list(small_state(1))


@pytest.mark.parametrize("layers", DEPTHS)
def test_a_plain_checkpoint_gets_its_depth_from_its_names_and_the_rest_from_the_notes(layers, tmp_path):
    path = tmp_path / "theirs.pdparams"
    path.write_bytes(pickle.dumps(small_state(1, layers), 4))
    loaded = load_checkpoint(path)
    assert loaded.side_file is None and loaded.info == notes_info(layers)
    assert (loaded.info.image_size, loaded.info.preprocessing, loaded.info.threshold) == (224, "notes", 0.5)
    assert loaded.info.class_names == ("negative", "positive")


def test_safetensors_load_as_well(tmp_path):
    from safetensors.numpy import save_file

    save_file(small_state(1, 101), tmp_path / "x.safetensors")
    assert load_checkpoint(tmp_path / "x.safetensors").info.layers == 101


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"format": 2}, "format 2"),
        ({"format": "1"}, "format"),
        ({"threshold": 1.5}, "threshold"),
        ({"threshold": "0.5"}, "threshold"),
        ({"layers": 101}, "ResNet-50"),
        ({"class_names": ["one"]}, "class_names"),
        ({"epoch": 0.5}, "epoch"),
        ({"weights_sha256": "0" * 64}, "SHA-256"),
    ],
)
def test_a_side_file_that_is_wrong_is_named(change, says, tmp_path):
    path = tmp_path / "x.pdparams"
    save(path, 1)
    side = tmp_path / "x.json"
    side.write_text(json.dumps(json.loads(side.read_text(encoding="utf-8")) | change), encoding="utf-8")
    with pytest.raises(PmtrainError) as caught:
        load_checkpoint(path)
    assert says in caught.value.message and "x." in caught.value.message and caught.value.hint


@pytest.mark.parametrize("content", ["", "{", "[]", '{"a": 1}', "[" * 100_000, '{"format": 1}'])
def test_a_damaged_side_file_is_named(content, tmp_path):
    save(tmp_path / "x.pdparams", 1)
    (tmp_path / "x.json").write_text(content)
    with pytest.raises(PmtrainError, match=r"x\.json"):
        load_checkpoint(tmp_path / "x.pdparams")


def test_a_newer_format_asks_for_an_upgrade(tmp_path):
    save(tmp_path / "x.pdparams", 1)
    (tmp_path / "x.json").write_text('{"format": 9, "unknown": true}')
    with pytest.raises(PmtrainError, match="format 9") as caught:
        load_checkpoint(tmp_path / "x.pdparams")
    assert "upgrade pmtrain" in caught.value.hint


def test_changed_weights_are_refused(tmp_path):
    path = tmp_path / "x.pdparams"
    save(path, 1)
    data = bytearray(path.read_bytes())
    data[-200] ^= 1
    path.write_bytes(data)
    with pytest.raises(PmtrainError, match=r"x\.pdparams is not the file that .*x\.json describes"):
        load_checkpoint(path)


@pytest.mark.parametrize(
    "content",
    [{"model": small_state(1), "epoch": 3}, small_state(1) | {"epoch": 3}, {"w": np.ones(3)}, {}],
)
def test_what_is_no_networks_state_dict_is_refused(content, tmp_path):
    (tmp_path / "x.pdparams").write_bytes(pickle.dumps(content, 4))
    with pytest.raises(PmtrainError, match=r"x\.pdparams"):
        load_checkpoint(tmp_path / "x.pdparams")


def test_a_folder_stands_for_its_best_or_its_newest(tmp_path):
    run = tmp_path / "run"
    run.mkdir()
    with pytest.raises(PmtrainError, match="folder without best.pdparams"):
        load_checkpoint(run)
    resume(run / "last", 7)
    assert number_in(run / "last") == 7
    with pytest.raises(PmtrainError) as caught:
        load_checkpoint(run)
    assert "best.pdparams" in caught.value.message
    save(run / "best.pdparams", 5)
    assert number_in(run) == 5


def test_a_missing_checkpoint_lists_those_that_lie_there(tmp_path):
    (tmp_path / "run").mkdir()
    save(tmp_path / "run" / "best.pdparams", 1)
    for wrong in (tmp_path / "run" / "bset.pdparams", tmp_path / "rnu" / "best.pdparams", tmp_path / "run" / "best"):
        with pytest.raises(PmtrainError) as caught:
            load_checkpoint(wrong)
        assert str(wrong) in caught.value.message
        assert str(tmp_path / "run" / "best.pdparams") in caught.value.hint


# ---------------------------------------------------------------------------------------------------------------------
# The resume state
# ---------------------------------------------------------------------------------------------------------------------


def resume(folder: Path, number: int, tag: str = "") -> Path:
    velocity = {"conv2d_0.w_0_velocity_0": np.full(4, number, "f4"), "LR_Scheduler": {"last_epoch": number}}
    state = {"epoch": number, "history": [0.1 * number, float("nan")], "random": 2**128 + number}
    return save_resume(folder, tag or f"epoch-{number}", small_state(number), {}, info_of(number), velocity, state)


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


def test_a_state_comes_back_and_replaces_the_older_ones(tmp_path):
    last = tmp_path / "last"
    for number in (1, 2, 3):
        home = resume(last, number)
        assert home.name.startswith(f"epoch-{number}-")
        assert resumed_number(last) == resumed_number(tmp_path) == number
        assert sorted(p.name for p in last.iterdir()) == sorted([home.name, "state.json"])
        assert sorted(p.name for p in home.iterdir()) == ["model.json", "model.pdparams", "optimizer.pdopt"]
    assert np.isnan(load_resume(last).state["history"][1])


def test_floats_come_back_to_the_bit(tmp_path):
    values = [random.Random(n).uniform(-1, 1) * 10 ** random.Random(n).randint(-300, 300) for n in range(500)]
    save_resume(tmp_path, "x", small_state(1), {}, info_of(1), {}, {"values": values})
    assert load_resume(tmp_path).state["values"] == values


def test_the_same_tag_twice_doesnt_destroy_the_first(tmp_path):
    first, second = resume(tmp_path, 1, "same"), resume(tmp_path, 2, "same")
    assert first != second and resumed_number(tmp_path) == 2


def test_what_a_person_put_beside_the_states_stays(tmp_path):
    home = resume(tmp_path, 1)
    (tmp_path / "my copy").mkdir()
    (tmp_path / "my copy" / "model.pdparams").write_bytes(b"mine")
    (home / "note.txt").write_text("mine")
    resume(tmp_path, 2)
    assert (tmp_path / "my copy" / "model.pdparams").read_bytes() == b"mine"
    assert (home / "note.txt").read_text() == "mine"


@pytest.mark.parametrize("name", ["model.pdparams", "model.json", "optimizer.pdopt"])
@pytest.mark.parametrize("damage", ["changed", "missing"])
def test_a_state_with_a_damaged_file_is_refused(name, damage, tmp_path):
    path = resume(tmp_path, 1) / name
    data = path.read_bytes()
    path.unlink()
    if damage == "changed":
        path.write_bytes(data[:-1] + b"x")
    with pytest.raises(PmtrainError, match=name.replace(".", r"\.")):
        load_resume(tmp_path)


@pytest.mark.parametrize("folder", ["..", "../x-00000000", "/x-00000000", "x", "a\\b-00000000", ""])
def test_a_state_points_at_a_folder_of_its_own(folder, tmp_path):
    resume(tmp_path, 1)
    record = json.loads((tmp_path / "state.json").read_text(encoding="utf-8"))
    (tmp_path / "state.json").write_text(json.dumps(record | {"folder": folder}), encoding="utf-8")
    with pytest.raises(PmtrainError, match=r"state\.json.*folder"):
        load_resume(tmp_path)


def test_no_state_to_resume_from_is_said(tmp_path):
    with pytest.raises(PmtrainError, match="no state to resume from"):
        load_resume(tmp_path)


def test_a_state_replaced_while_it_is_read_is_read_anew(tmp_path, monkeypatch):
    import pmtrain.runs.checkpoint as module

    resume(tmp_path, 1)
    read = module._read_record
    calls = itertools.count()

    def overtaken(folder):
        record = read(folder)
        if next(calls) == 0:
            resume(tmp_path, 2)
        return record

    monkeypatch.setattr(module, "_read_record", overtaken)
    assert resumed_number(tmp_path) == 2


# ---------------------------------------------------------------------------------------------------------------------
# Kills and full disks
# ---------------------------------------------------------------------------------------------------------------------


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
        for owner, name in ((os, "fsync"), (os, "replace"), (Path, "unlink"), (Path, "mkdir"), (Path, "rmdir")):
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


@pytest.mark.parametrize("kind", ["kill", "full once", "stays full"])
def test_a_pair_is_whole_whatever_step_fails(kind, tmp_path):
    for nth in itertools.count():
        path = tmp_path / str(nth) / "best.pdparams"
        path.parent.mkdir()
        save(path, 1)
        happened = with_faults(kind, nth, save, path, 2)
        assert number_in(path) in (1, 2)
        if kind != "kill":
            left = {p.name for p in path.parent.iterdir()}
            # .next stays only where it is the side file of the weights that are there
            assert left == {"best.pdparams", "best.json"} or load_checkpoint(path).side_file.suffix == ".next"
        save(path, 3)
        assert number_in(path) == 3
        assert {p.name for p in path.parent.iterdir()} == {"best.pdparams", "best.json"}
        if not happened:
            break
    assert nth > 8


def test_a_pair_is_whole_after_two_kills_in_a_row(tmp_path):
    """The first kill comes between the two renames, when the only right side file is still called .next."""
    paths = (tmp_path / str(n) / "best.pdparams" for n in itertools.count())

    def killed_at(nth: int) -> Path:
        path = next(paths)
        path.parent.mkdir()
        save(path, 1)
        with_faults("kill", nth, save, path, 2)
        return path

    between = [nth for nth in range(14) if load_checkpoint(killed_at(nth)).side_file.suffix == ".next"]
    assert between
    for first, second in itertools.product(between, range(16)):
        path = killed_at(first)
        with_faults("kill", second, save, path, 3)
        assert number_in(path) in (2, 3)


def test_the_first_pair_is_whole_or_not_there(tmp_path):
    for nth in itertools.count():
        path = tmp_path / str(nth) / "best.pdparams"
        path.parent.mkdir()
        happened = with_faults("kill", nth, save, path, 1)
        if path.exists():
            assert number_in(path) == 1
        save(path, 2)
        assert number_in(path) == 2
        if not happened:
            break


@pytest.mark.parametrize("kind", ["kill", "full once", "stays full"])
def test_a_state_is_whole_whatever_step_fails(kind, tmp_path):
    for nth in itertools.count():
        last = tmp_path / str(nth)
        resume(last, 1)
        happened = with_faults(kind, nth, resume, last, 2, "same")
        newest = resumed_number(last)
        assert newest in (1, 2)
        if kind != "kill" and newest == 1:  # nothing half written is left
            assert len(list(last.iterdir())) == 2
        with_faults("kill", nth // 2, resume, last, 3, "same")
        assert resumed_number(last) in (newest, 3)
        home = resume(last, 4, "same")
        assert resumed_number(last) == 4
        assert {p.name for p in last.iterdir()} <= {home.name, "state.json"}
        if not happened:
            break
    assert nth > 12


def test_a_locked_older_state_doesnt_stop_the_save(tmp_path, monkeypatch):
    first = resume(tmp_path, 1)

    def locked(self, missing_ok=False):
        raise PermissionError(errno.EACCES, "in use")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", locked)
        resume(tmp_path, 2)
    assert resumed_number(tmp_path) == 2 and first.exists()
    resume(tmp_path, 3)
    assert not first.exists()


SAVER = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from test_checkpoint import info_of, small_state
from pmtrain.runs.checkpoint import save_checkpoint, save_resume
import numpy as np
run, number = Path(sys.argv[1]), 0
while True:
    number += 1
    weights = small_state(number) | {"large": np.full(500_000, number, "f4")}
    save_checkpoint(run / "best.pdparams", weights, {}, info_of(number))
    velocity = {"conv2d_0.w_0_velocity_0": np.full(4, number, "f4"), "LR_Scheduler": {"last_epoch": number}}
    state = {"epoch": number, "history": [0.1 * number], "random": 2**128 + number}
    save_resume(run / "last", "same", weights, {}, info_of(number), velocity, state)
    print(number, flush=True)
"""


def environment() -> dict[str, str]:
    return os.environ | {"PYTHONPATH": str(ROOT)}


@pytest.mark.slow
def test_a_process_killed_in_the_middle_of_saving_leaves_a_whole_checkpoint(tmp_path):
    rng = random.Random(0)
    newest = 0
    for _ in range(15):
        command = [sys.executable, "-c", SAVER, str(tmp_path), str(ROOT / "tests")]
        process = subprocess.Popen(command, env=environment(), stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(rng.uniform(0, 0.15))
        process.kill()
        said, _ = process.communicate()
        finished = int(said.split()[-1]) if said.split() else 1
        assert number_in(tmp_path) in (finished, finished + 1)
        assert resumed_number(tmp_path) in (finished, finished + 1)
        newest = max(newest, finished)
    assert newest > 1
    leftovers = [p for p in tmp_path.iterdir() if p.name not in ("best.pdparams", "best.json", "last")]
    assert len(leftovers) <= 2  # .tmp and .next, for the next save to overwrite
