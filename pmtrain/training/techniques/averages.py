"""Averages of the weights, which are evaluated and saved as the best checkpoint in place of the weights themselves."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from pmtrain.config import TrainConfig
from pmtrain.models.backends.onednn.memory import array_at
from pmtrain.models.backends.onednn.threads import share_work
from pmtrain.runs.formats.untrusted import first_few
from pmtrain.system.errors import PmtrainError, UsageError
from pmtrain.system.framework import paddle

IN_CACHE = 65_536  # numbers that are worked on together
EMA, SWA = "ema.", "swa."  # before the names of their arrays in the state that a run resumes from
EPOCHS = f"{SWA}epochs"
STATISTICS = ("_mean", "_variance")  # how the names of batch norms' statistics end


class Average:
    """An average of a model's weights and batch norm statistics; until it holds any, it leaves the model alone.

    Args:
        prefix: before the names of its arrays in the state that a run resumes from.
        first: the first epoch at whose end it holds any.
    """

    def __init__(self, model: Any, prefix: str, first: int = 0) -> None:
        self.first = first
        self._weights = model.state_dict()
        self._average: dict[str, Any] = {}
        self._prefix = prefix

    def after_step(self, steps: int) -> None:
        """Called after so many steps of the run, from 1."""

    def after_epoch(self, epoch: int) -> bool:
        """Called at the end of an epoch; whether batch norm statistics must be estimated for the average then."""
        return False

    def keep_statistics(self) -> None:
        """Take up the batch norms' statistics that the model has now."""
        for name, tensor in self._weights.items():
            if name.endswith(STATISTICS):
                self._average[name] = tensor.clone().detach()

    @contextlib.contextmanager
    def in_model(self) -> Iterator[None]:
        """Meanwhile the model has the averaged weights; then, whatever happens, its own again to the bit."""
        if not self._average:
            yield
            return
        own = self._copied()
        self._set(self._average)
        try:
            yield
        finally:
            self._set(own)

    def _copied(self) -> dict[str, Any]:
        return {name: tensor.clone().detach() for name, tensor in self._weights.items()}

    def _set(self, state: Mapping[str, Any]) -> None:
        with paddle.no_grad():
            for name, tensor in self._weights.items():
                paddle.assign(state[name], output=tensor)

    def arrays(self) -> dict[str, np.ndarray]:
        """Its arrays by the names of the model's state dict; none if it holds none yet."""
        return {name: tensor.numpy() for name, tensor in self._average.items()}

    def saved(self) -> dict[str, np.ndarray]:
        """Its arrays as the state that a run resumes from holds them."""
        return {self._prefix + name: array for name, array in self.arrays().items()}

    def restore(self, state: Mapping[str, Any], path: Path) -> None:
        """Take up what `saved` gave.

        Raises:
            PmtrainError: an array is missing or has another shape.
        """
        names = {name: self._prefix + name for name in self._weights}
        wrong = [
            name
            for name, tensor in self._weights.items()
            if getattr(state.get(names[name]), "shape", None) != tuple(tensor.shape)
        ]
        if wrong:
            raise PmtrainError(f"{path}: the averaged weights {first_few(wrong)} are missing or have another shape")
        self._average = self._average or self._copied()
        for name, tensor in self._average.items():
            tensor.set_value(state[names[name]])


class Ema(Average):
    """The exponential moving average over steps.

    average = d * average + (1 - d) * weights after each step, where d is the smaller of `decay` and (n + 1) / (n + 10)
    for the n-th step, so that the first weights don't stay in it for long. It begins as the model's weights.

    Args:
        decay: in (0, 1).
    Source: Polyak and Juditsky 1992; the ramp is that of TensorFlow's ExponentialMovingAverage.
    """

    def __init__(self, model: Any, decay: float) -> None:
        super().__init__(model, EMA)
        self.decay = decay
        self._average = self._copied()

    def after_step(self, steps: int) -> None:
        decay = min(self.decay, (steps + 1) / (steps + 10))
        pairs = [(self._average[name], tensor) for name, tensor in self._weights.items()]
        on_cpu = [pair for pair in pairs if pair[1].place.is_cpu_place()]
        largest_first = sorted(on_cpu, key=lambda pair: -pair[0].size)
        share_work(partial(blend, values_of(average), values_of(tensor), decay) for average, tensor in largest_first)
        with paddle.no_grad():
            for average, tensor in pairs:
                if not tensor.place.is_cpu_place():
                    average.scale_(decay).add_(tensor * (1 - decay))


class Swa(Average):
    """Stochastic weight averaging: the mean of the weights at the ends of the last epochs.

    The averaged weights make other activations than any of those that were averaged, so that the batch norms'
    statistics must be estimated anew, on training images, by the caller.

    Args:
        first: the first epoch that is averaged.
        most: how many are averaged in all.
    Source: Izmailov et al. 2018, "Averaging weights leads to wider optima and better generalization", algorithm 1 with
        a constant rate.
    """

    def __init__(self, model: Any, first: int, most: int) -> None:
        super().__init__(model, SWA, first)
        self.most = most
        self._epochs = 0  # that it holds

    def after_epoch(self, epoch: int) -> bool:
        """Take up the weights at the end of an epoch, unless it holds them already; True if it averages this epoch."""
        if epoch < self.first:
            return False
        if epoch - self.first == self._epochs:
            self._epochs += 1
            self._average = self._average or self._copied()
            with paddle.no_grad():
                for name, average in self._average.items():
                    average.add_((self._weights[name] - average).scale(1 / self._epochs))
        return True

    def saved(self) -> dict[str, np.ndarray]:
        return super().saved() | {EPOCHS: np.array([self._epochs], np.float32)}

    def restore(self, state: Mapping[str, Any], path: Path) -> None:
        """
        Raises:
            PmtrainError: as `Average.restore`; or how many epochs it holds is missing or impossible.
        """
        known = np.arange(self.most + 1)
        if getattr(state.get(EPOCHS), "shape", None) != (1,) or state[EPOCHS][0] not in known:
            raise PmtrainError(
                f"{path}: {EPOCHS}, how many epochs the weights are the mean of, is missing or not in 0 to {self.most}",
                "bring back the file as it was saved",
            )
        self._epochs = int(state[EPOCHS][0])
        if self._epochs:
            super().restore(state, path)


def average_of(model: Any, config: TrainConfig) -> Average | None:
    """The average that the options ask for.

    Raises:
        UsageError: they contradict one another.
    """
    if not config.swa_epochs:
        if config.swa_lr is not None:
            raise UsageError(f"--swa-lr {config.swa_lr} without --swa-epochs", "give both, or neither")
        return Ema(model, config.ema) if config.ema else None
    swa = f"--swa-epochs {config.swa_epochs}"
    if config.ema:
        raise UsageError(
            f"{swa} with --ema {config.ema}: both average the weights", "add --ema 0, or leave --swa-epochs out"
        )
    if config.patience is not None:
        raise UsageError(
            f"{swa} with --patience {config.patience}: the run could end before those epochs", "leave one of them out"
        )
    if config.swa_epochs > config.epochs:
        raise UsageError(f"{swa} with --epochs {config.epochs}: the run has no more epochs", "give fewer")
    first = config.epochs - config.swa_epochs
    if first < config.warmup_head:
        raise UsageError(
            f"{swa} of {config.epochs} with --warmup-head {config.warmup_head}: they begin while only the classifier is"
            " trained",
            f"give at most --swa-epochs {config.epochs - config.warmup_head}",
        )
    return Swa(model, first, config.swa_epochs)


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
    return {name: value for name, value in state.items() if not name.startswith((EMA, SWA))}
