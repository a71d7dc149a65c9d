"""A network's and an optimizer's state as arrays, and what is said where one doesn't fit."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from pmtrain.runs.checkpoint import load_checkpoint, save_checkpoint
from pmtrain.runs.formats.state_dict import dump_state, load_state
from pmtrain.runs.model_state import apply_optimizer_state, apply_state, optimizer_arrays, to_arrays
from pmtrain.runs.records import notes_info
from pmtrain.system.errors import PmtrainError

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def model():
    from pmtrain.models import build_model

    return build_model(50)


def test_weights_come_back_to_the_bit(model, tmp_path):
    from pmtrain.models import build_model
    from pmtrain.system.framework import paddle

    arrays, names = to_arrays(model.state_dict())
    assert names["conv._conv.weight"] == "conv2d_0.w_0"
    save_checkpoint(tmp_path / "x.pdparams", dump_state(arrays, names), notes_info(50))

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
    from pmtrain.system.framework import paddle

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
    from pmtrain.system.framework import paddle

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


def test_the_arrays_are_copies_that_training_on_does_not_change():
    """They are written to disk while the training goes on."""
    from pmtrain.system.framework import paddle

    small = paddle.nn.Sequential(paddle.nn.Linear(3, 2), paddle.nn.BatchNorm1D(2))
    optimizer = paddle.optimizer.Momentum(0.1, 0.9, parameters=small.parameters())

    def step() -> None:
        (small(paddle.to_tensor(np.arange(12, dtype="f4").reshape(4, 3) ** 2)) ** 3).sum().backward()
        optimizer.step()
        optimizer.clear_grad()

    step()
    taken = to_arrays(small.state_dict())[0] | optimizer_arrays(optimizer)
    before = {name: np.array(array) for name, array in taken.items()}
    step()
    assert all(np.array_equal(taken[name], before[name]) for name in before)
    now = to_arrays(small.state_dict())[0] | optimizer_arrays(optimizer)
    changed = [name for name in before if not np.array_equal(now[name], before[name])]
    assert any("velocity" in name for name in changed) and any("_mean" in name for name in changed)
    assert any(name.endswith("weight") for name in changed)


STEPS = """
import hashlib, sys
from pathlib import Path
import numpy as np
from pmtrain.system.framework import paddle
from pmtrain.runs.model_state import apply_optimizer_state, apply_state, optimizer_arrays, to_arrays
from pmtrain.runs.records import notes_info
from pmtrain.runs.resume_state import load_resume, save_resume
from pmtrain.runs.formats.state_dict import dump_state
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
    velocities = dump_state(optimizer_arrays(optimizer))
    save_resume(last, f"step-{step}", dump_state(arrays, names), notes_info(50), velocities, {"step": step + 1})
    digest = hashlib.sha256(b"".join(array.tobytes() for array in arrays.values())).hexdigest()
    print(step, float(loss), digest)
"""


@pytest.mark.slow
def test_a_resumed_process_trains_on_to_the_same_bits(tmp_path):
    def run(folder: str, start: int, stop: int) -> list[str]:
        command = [sys.executable, "-c", STEPS, str(tmp_path / folder), str(start), str(stop)]
        result = subprocess.run(
            command, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=600
        )
        assert result.returncode == 0, result.stderr
        return result.stdout.splitlines()

    assert run("stopped", 0, 2) + run("stopped", 2, 4) == run("straight", 0, 4)
    files = [load_state(next((tmp_path / name).glob("*/optimizer.pdopt"))) for name in ("stopped", "straight")]
    assert all(np.array_equal(files[0][name], files[1][name]) for name in files[1])
