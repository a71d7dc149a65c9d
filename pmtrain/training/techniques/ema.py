"""EMA: an exponential moving average of the weights, which is evaluated and saved as the best checkpoint."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from pmtrain.models.backends.onednn.memory import array_at
from pmtrain.models.backends.onednn.threads import share_work
from pmtrain.runs.formats.untrusted import first_few
from pmtrain.system.errors import PmtrainError
from pmtrain.system.framework import paddle

IN_CACHE = 65_536  # numbers that are worked on together
PREFIX = "ema."  # of its arrays' names in the state that a run resumes from


class Average:
    """The average of a model's weights and batch norm statistics over steps.

    average = d * average + (1 - d) * weights after each step, where d is the smaller of `decay` and (n + 1) / (n + 10)
    for the n-th step, so that the first weights don't stay in it for long. It begins as the model's weights.

    Args:
        decay: in (0, 1).
    Source: Polyak and Juditsky 1992; the ramp is that of TensorFlow's ExponentialMovingAverage.
    """

    def __init__(self, model: Any, decay: float) -> None:
        self.decay = decay
        self._weights = model.state_dict()
        self._average = {name: tensor.clone().detach() for name, tensor in self._weights.items()}

    def update(self, steps: int) -> None:
        """Take up the weights after so many steps of the run, from 1."""
        decay = min(self.decay, (steps + 1) / (steps + 10))
        pairs = [(self._average[name], tensor) for name, tensor in self._weights.items()]
        on_cpu = [pair for pair in pairs if pair[1].place.is_cpu_place()]
        largest_first = sorted(on_cpu, key=lambda pair: -pair[0].size)
        share_work(partial(blend, values_of(average), values_of(tensor), decay) for average, tensor in largest_first)
        with paddle.no_grad():
            for average, tensor in pairs:
                if not tensor.place.is_cpu_place():
                    average.scale_(decay).add_(tensor * (1 - decay))

    @contextlib.contextmanager
    def in_model(self) -> Iterator[None]:
        """Meanwhile the model has the averaged weights; then, whatever happens, its own again to the bit."""
        own = {name: tensor.clone().detach() for name, tensor in self._weights.items()}
        self._set(self._average)
        try:
            yield
        finally:
            self._set(own)

    def _set(self, state: Mapping[str, Any]) -> None:
        with paddle.no_grad():
            for name, tensor in self._weights.items():
                paddle.assign(state[name], output=tensor)

    def arrays(self) -> dict[str, np.ndarray]:
        """Its arrays by the names of the model's state dict."""
        return {name: tensor.numpy() for name, tensor in self._average.items()}

    def saved(self) -> dict[str, np.ndarray]:
        """Its arrays as the state that a run resumes from holds them."""
        return {PREFIX + name: array for name, array in self.arrays().items()}

    def restore(self, state: Mapping[str, Any], path: Path) -> None:
        """Take up what `saved` gave.

        Raises:
            PmtrainError: an array is missing or has another shape.
        """
        wrong = [
            name
            for name, tensor in self._average.items()
            if getattr(state.get(PREFIX + name), "shape", None) != tuple(tensor.shape)
        ]
        if wrong:
            raise PmtrainError(f"{path}: the averaged weights {first_few(wrong)} are missing or have another shape")
        for name, tensor in self._average.items():
            tensor.set_value(state[PREFIX + name])


def blend(average: np.ndarray, weights: np.ndarray, decay: float) -> None:
    """Both (n,); the same as Paddle's operations to the bit, but no second pass over memory that left the cache."""
    keep, take = np.float32(decay), np.float32(1 - decay)
    scratch = np.empty(min(len(average), IN_CACHE), np.float32)
    for start in range(0, len(average), IN_CACHE):
        part = average[start : start + IN_CACHE]
        added = np.multiply(weights[start : start + len(part)], take, out=scratch[: len(part)])
        part *= keep
        part += added


def values_of(tensor: Any) -> np.ndarray:
    """(n,), the values of a float32 tensor on the CPU, in the tensor's own memory."""
    return array_at(tensor.data_ptr(), [tensor.size])


def without_average(state: Mapping[str, Any]) -> dict[str, Any]:
    """The optimizer's part of the state that a run resumes from."""
    return {name: value for name, value in state.items() if not name.startswith(PREFIX)}
