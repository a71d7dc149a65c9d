"""The state of a network and of its optimizer, copied from Paddle into arrays and back."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pmtrain.runs.formats.untrusted import first_few
from pmtrain.system.errors import PmtrainError

if TYPE_CHECKING:
    from pmtrain.models.resnet import ResNet


def to_arrays(state_dict: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, str]]:
    """Copy a state dict of Paddle tensors: name -> array or plain value, and name -> parameter name."""
    arrays: dict[str, Any] = {}
    names = {}
    for name, value in state_dict.items():
        if isinstance(value, Mapping):
            arrays[name] = to_arrays(value)[0]
        elif hasattr(value, "numpy"):
            arrays[name] = value.numpy()
            names[name] = value.name
        else:
            arrays[name] = value
    return arrays, names


def apply_state(model: ResNet, state: Mapping[str, np.ndarray], path: Path) -> None:
    """Set all weights of the model; where one doesn't fit, none is changed.

    Args:
        path: where the state comes from, for the messages.
    Raises:
        PmtrainError: names or shapes differ, or a weight is NaN or infinite.
    """
    tensors = model.state_dict()
    missing = [name for name in tensors if name not in state]
    unexpected = [name for name in state if name not in tensors]
    if missing or unexpected:
        lists = [
            f"{len(names)} {what}: {first_few(names)}"
            for what, names in (("missing", missing), ("unexpected", unexpected))
            if names
        ]
        raise PmtrainError(
            f"{path} doesn't fit a ResNet-{model.layers} ({'; '.join(lists)})",
            "give a checkpoint that pmtrain or the notes' script saved",
        )
    weights = {name: _weight(state[name], name, tensor, path) for name, tensor in tensors.items()}
    for name, tensor in tensors.items():
        tensor.set_value(weights[name])


def _weight(array: np.ndarray, name: str, tensor: Any, path: Path) -> np.ndarray:
    """The array, checked, in the tensor's own precision."""
    if array.shape != tuple(tensor.shape):
        raise PmtrainError(f"{path}: {name} has shape {array.shape}; the model's is {tuple(tensor.shape)}")
    if array.dtype.kind != "f":
        raise PmtrainError(
            f"{path}: {name} holds {array.dtype} numbers, not floating-point ones",
            "save the weights as float32 (Paddle writes bfloat16 as uint16)" if array.dtype == np.uint16 else "",
        )
    with np.errstate(over="ignore"):
        weight = np.array(array, dtype=str(tensor.dtype).rpartition(".")[2], order="C")
    bad = weight.size - np.count_nonzero(np.isfinite(weight))
    if bad:
        raise PmtrainError(
            f"{path}: {name} holds {bad} of {weight.size} numbers that are NaN or infinite", "give another checkpoint"
        )
    return weight


def optimizer_arrays(optimizer: Any) -> dict[str, Any]:
    """The optimizer's state as arrays and plain values, also between a resume and the next step.

    Paddle makes an optimizer's tensors at its first step. Until then Paddle 2.6 gives an empty state for a restored
    optimizer, and what it was restored from waits in a holder.
    """
    waiting = getattr(optimizer, "_accumulators_holder", {})
    return to_arrays({**waiting, **optimizer.state_dict()})[0]


def apply_optimizer_state(optimizer: Any, model: ResNet, state: Mapping[str, Any], path: Path) -> None:
    """Restore a Momentum optimizer over the model's parameters; an empty state is one before the first step.

    Paddle finds the velocities by the names that it gives at the first step (`conv2d_0.w_0_velocity_0`), which
    count up in a process: make and step the optimizer under one `paddle.utils.unique_name.guard()`.

    A frozen parameter without a velocity gets one of zeros, with which it would begin anyway: Paddle wants all or none.

    Raises:
        PmtrainError: a velocity is missing, or has another shape than its parameter, or isn't finite.
    """
    velocities = {f"{p.name}_velocity_0": p for p in model.parameters() if not p.stop_gradient}
    parts = [(layer._conv.weight, layer._batch_norm.weight, layer._batch_norm.bias) for layer in model.frozen]
    frozen = {f"{parameter.name}_velocity_0": parameter for part in parts for parameter in part}
    plain = {"LR_Scheduler"} & set(state)
    arrays = set(state) - plain
    if arrays and arrays - set(frozen) != set(velocities):
        names = sorted((arrays - set(frozen)) ^ set(velocities))
        raise PmtrainError(f"{path} doesn't fit the optimizer: {first_few(names)} missing or unexpected")
    known = velocities | frozen
    restored = {name: _weight(state[name], name, known[name], path) for name in sorted(arrays)}
    if restored:
        absent = {name: np.zeros(tensor.shape, np.float32) for name, tensor in frozen.items() if name not in restored}
        restored |= absent
    optimizer.set_state_dict({**restored, **{name: state[name] for name in plain}})
