"""Fold batch norms into the convolutions before them, and fold again after weights have changed.

gamma * (conv(x) - mean) / sqrt(variance + epsilon) + beta is a convolution whose weights are multiplied by
scale = gamma / sqrt(variance + epsilon), with the bias beta - mean * scale.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from pmtrain.models.backends.onednn.memory import Arena, Descriptor, Layout, Place, Tensor, array_at, describe, f32
from pmtrain.models.backends.onednn.program import Program
from pmtrain.models.resnet import ConvBNLayer
from pmtrain.system.framework import paddle


class FoldedWeights:
    """The folded weights of all ConvBNLayers of a network, shared by the inference plans of one engine."""

    def __init__(self, model: paddle.nn.Layer) -> None:
        layers = [layer for layer in model.sublayers() if isinstance(layer, ConvBNLayer)]
        self._layers = {id(layer): _FoldedLayer(layer) for layer in layers}

    def __len__(self) -> int:
        return len(self._layers)

    def of(self, layer: ConvBNLayer) -> _FoldedLayer:
        """The folded weights of one of the network's layers."""
        return self._layers[id(layer)]

    def refresh(self, unchanged: bool = False, of: Iterable[ConvBNLayer] | None = None) -> None:
        """Fold every layer, or each `of` these, again whose values differ, bit for bit, from those folded last.

        Paddle has no reliable version counter, so the values are compared, unless the caller knows that they are
        `unchanged`; then only layers that a new plan needs are folded.
        """
        for layer in self._layers.values() if of is None else map(self.of, of):
            layer.refresh(unchanged)


class _FoldedLayer:
    def __init__(self, layer: ConvBNLayer) -> None:
        self._layer = layer
        self._seen: list[np.ndarray] | None = None  # the values folded last
        self._targets: dict[Descriptor, _Target] = {}
        self._bias_values = np.zeros(layer._batch_norm.weight.shape[0], np.float32)
        place = Place()
        self.bias = place.view(describe(self._bias_values.shape, f32, Layout.vector))
        place.move(self._bias_values.ctypes.data)

    def weights(self, layout: Descriptor) -> Tensor:
        """The weights in the layout chosen by a convolution; valid after the next refresh."""
        if layout not in self._targets:
            self._targets[layout] = _Target(tuple(self._layer._conv.weight.shape), layout)
            self._seen = None
        return self._targets[layout].tensor

    def refresh(self, unchanged: bool) -> None:
        if self._seen is not None and unchanged:
            return
        norm = self._layer._batch_norm
        parameters = (self._layer._conv.weight, norm.weight, norm.bias, norm._mean, norm._variance)
        values = [array_at(parameter.data_ptr(), parameter.shape) for parameter in parameters]
        if self._seen is not None and all(map(_same_bits, values, self._seen)):
            return
        weights, gamma, beta, mean, variance = values
        scale = gamma / np.sqrt(variance + np.float32(norm._epsilon))
        self._bias_values[:] = beta - mean * scale
        scaled = weights * scale[:, None, None, None]
        for target in self._targets.values():
            target.fill(scaled)
        self._seen = [value.copy() for value in values]


class _Target:
    """Memory for weights in one layout, and how to fill it."""

    def __init__(self, dims: tuple[int, ...], layout: Descriptor) -> None:
        arena, place = Arena(), Place()
        arena.reserve(layout.bytes)
        self.tensor = place.view(layout)
        place.move(arena.address)
        self._arena, self._source, self._program = arena, Place(), Program()
        plain = self._source.view(describe(dims, f32, Layout.plain))
        self._program.reorder(plain, self.tensor)
        self._program.plan()
        self._scratch = Arena()

    def fill(self, weights: np.ndarray) -> None:
        """(O, C, k, k) f32, contiguous."""
        self._source.move(weights.ctypes.data)
        self._program.place(self._scratch)
        self._program.run()
        self._source.move(0)


def _same_bits(first: np.ndarray, second: np.ndarray) -> bool:
    return bool(np.array_equal(first.view(np.uint32), second.view(np.uint32)))
