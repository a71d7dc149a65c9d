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

import pmtrain.files as files
from pmtrain.checkpoint import (
    CheckpointInfo,
    apply_optimizer_state,
    apply_state,
    load_checkpoint,
    load_resume,
    notes_info,
    optimizer_arrays,
    save_checkpoint,
    save_resume,
    to_arrays,
)
from pmtrain.errors import PmtrainError
from pmtrain.models import DEPTHS
from pmtrain.serialization import load_state

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
    import pmtrain.checkpoint as module

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
from pmtrain.checkpoint import save_checkpoint, save_resume
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


# ---------------------------------------------------------------------------------------------------------------------
# Between checkpoint and network
# ---------------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def model():
    from pmtrain.models import build_model

    return build_model(50)


def test_weights_come_back_to_the_bit(model, tmp_path):
    from pmtrain.framework import paddle
    from pmtrain.models import build_model

    arrays, names = to_arrays(model.state_dict())
    assert names["conv._conv.weight"] == "conv2d_0.w_0"
    save_checkpoint(tmp_path / "x.pdparams", arrays, names, info_of(0))

    other = build_model(50)
    assert any(not np.array_equal(tensor.numpy(), arrays[name]) for name, tensor in other.state_dict().items())
    apply_state(other, load_checkpoint(tmp_path / "x.pdparams").state, tmp_path / "x.pdparams")
    assert all(np.array_equal(tensor.numpy(), arrays[name]) for name, tensor in other.state_dict().items())

    theirs = build_model(50)  # as the notes' script loads it
    theirs.set_state_dict(paddle.load(str(tmp_path / "x.pdparams")))
    assert all(np.array_equal(tensor.numpy(), arrays[name]) for name, tensor in theirs.state_dict().items())

    paddle.save(model.state_dict(), str(tmp_path / "theirs.pdparams"))
    loaded = load_checkpoint(tmp_path / "theirs.pdparams")
    assert loaded.info == notes_info(50) and all(np.array_equal(loaded.state[name], arrays[name]) for name in arrays)


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("out.weight", np.zeros((2048, 1000), "f4"), ["out.weight", "(2048, 1000)", "(2048, 1)"]),
        ("out.bias", np.array([np.nan], "f4"), ["out.bias", "1 of 1", "NaN"]),
        ("out.bias", np.array([np.inf], "f4"), ["out.bias", "infinite"]),
        ("out.bias", np.array([1e300], "f8"), ["out.bias", "infinite"]),
        ("out.bias", np.array([1], "u2"), ["out.bias", "uint16"]),
        ("fc.bias", np.array([1], "f4"), ["fc.bias", "1 unexpected"]),
    ],
)
def test_weights_that_dont_fit_change_nothing(model, name, value, says):
    before, _ = to_arrays(model.state_dict())
    state = {key: np.zeros_like(array) for key, array in before.items()} | {name: value}
    with pytest.raises(PmtrainError) as caught:
        apply_state(model, state, Path("x.pdparams"))
    assert all(part in caught.value.message for part in ["x.pdparams", *says])
    assert all(np.array_equal(tensor.numpy(), before[key]) for key, tensor in model.state_dict().items())


def test_missing_weights_are_counted(model):
    state = to_arrays(model.state_dict())[0]
    for name in list(state)[:5]:
        del state[name]
    with pytest.raises(PmtrainError, match=r"5 missing: .*conv\._conv\.weight.* and 2 more"):
        apply_state(model, state, Path("x.pdparams"))


def test_half_and_double_precision_are_taken(model):
    state = to_arrays(model.state_dict())[0] | {"out.bias": np.array([0.5], "f2"), "conv._batch_norm.bias": np.ones(64)}
    apply_state(model, state, Path("x.pdparams"))
    assert model.out.bias.numpy() == np.float32(0.5) and (model.conv._batch_norm.bias.numpy() == 1).all()


def test_an_optimizers_state_is_kept_between_a_resume_and_the_next_step(model):
    from pmtrain.framework import paddle

    def momentum():
        return paddle.optimizer.Momentum(0.001, 0.9, parameters=model.parameters(), weight_decay=0.001)

    with paddle.utils.unique_name.guard():
        first = momentum()
        model(paddle.ones([2, 3, 32, 32])).sum().backward()
        first.step()
        state = optimizer_arrays(first)
    second = momentum()
    apply_optimizer_state(second, model, state, Path("x.pdopt"))
    kept = optimizer_arrays(second)
    assert set(kept) == set(state) and all(np.array_equal(kept[name], state[name]) for name in state)
    with paddle.utils.unique_name.guard():
        second.step()
    model.clear_gradients()
    assert set(optimizer_arrays(second)) == set(state) and "conv2d_0.w_0_velocity_0" in state


def test_an_optimizers_state_that_doesnt_fit_is_refused(model):
    from pmtrain.framework import paddle

    optimizer = paddle.optimizer.Momentum(0.001, 0.9, parameters=model.parameters())
    good = {f"{p.name}_velocity_0": np.zeros(p.shape, "f4") for p in model.parameters() if not p.stop_gradient}
    apply_optimizer_state(optimizer, model, {}, Path("x.pdopt"))
    name = "conv2d_0.w_0_velocity_0"
    for change, says in (
        ({name: np.zeros(3, "f4")}, r"conv2d_0.w_0_velocity_0 has shape \(3,\)"),
        ({name: np.full((64, 3, 7, 7), np.nan, "f4")}, "NaN"),
        ({"other": np.zeros(3, "f4")}, "other"),
    ):
        with pytest.raises(PmtrainError, match=says):
            apply_optimizer_state(optimizer, model, good | change, Path("x.pdopt"))
    del good[name]
    with pytest.raises(PmtrainError, match=name):
        apply_optimizer_state(optimizer, model, good, Path("x.pdopt"))


STEPS = """
import hashlib, sys
from pathlib import Path
import numpy as np
from pmtrain.framework import paddle
from pmtrain.checkpoint import *
from pmtrain.models import build_model

last, start, stop = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
paddle.seed(start)  # a resumed process draws other first weights
model = build_model(50)
optimizer = paddle.optimizer.Momentum(0.001, 0.9, parameters=model.parameters(), weight_decay=0.001)
if start:
    resumed = load_resume(last)
    assert resumed.state == {"step": start}
    apply_state(model, resumed.checkpoint.state, resumed.checkpoint.path)
    apply_optimizer_state(optimizer, model, resumed.optimizer_state, last)
for step in range(start, stop):
    rng = np.random.default_rng(step)
    images = paddle.to_tensor(rng.normal(size=(4, 3, 64, 64)).astype("f4"))
    labels = paddle.to_tensor(rng.integers(0, 2, (4, 1)).astype("f4"))
    loss = paddle.nn.functional.binary_cross_entropy_with_logits(model(images), labels)
    loss.backward()
    optimizer.step()
    optimizer.clear_grad()
    arrays, names = to_arrays(model.state_dict())
    save_resume(last, f"step-{step}", arrays, names, notes_info(50), optimizer_arrays(optimizer), {"step": step + 1})
    digest = hashlib.sha256(b"".join(array.tobytes() for array in arrays.values())).hexdigest()
    print(step, float(loss), digest)
"""


@pytest.mark.slow
def test_a_resumed_process_trains_on_to_the_same_bits(tmp_path):
    def run(folder: str, start: int, stop: int) -> list[str]:
        command = [sys.executable, "-c", STEPS, str(tmp_path / folder), str(start), str(stop)]
        result = subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=600)
        assert result.returncode == 0, result.stderr
        return result.stdout.splitlines()

    assert run("stopped", 0, 2) + run("stopped", 2, 4) == run("straight", 0, 4)
    files = [load_state(next((tmp_path / name).glob("*/optimizer.pdopt"))) for name in ("stopped", "straight")]
    assert all(np.array_equal(files[0][name], files[1][name]) for name in files[1])
