"""What of a preprocessing can be built into an ONNX graph: everything that happens to an image of training size.

Decoding, finding the field of view and resizing stay outside. OpenCV resizes in whole numbers and, by area, first by
the decoder of a JPEG; no operator of ONNX gives its bytes.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from pmtrain.data.preprocessing.per_image import PerImage
from pmtrain.data.preprocessing.preprocess import Preprocess
from pmtrain.evaluation.inference.export.onnx_graph import Graph, import_onnx
from pmtrain.models.backends.onnx_runtime import INPUT

NORMALISED = "normalised"


def with_preprocessing(model: Any, preprocess: Preprocess) -> Any:
    """The same model with the input uint8 (N, S, S, 3), RGB, of training size, in place of normalised values."""
    onnx = import_onnx()
    graph = Graph("preprocess_")
    values = graph.add("Cast", INPUT, to=onnx.TensorProto.FLOAT)
    values = graph.add("Transpose", values, perm=[0, 3, 1, 2])
    values = graph.add("Div", values, graph.constant("bytes", np.float32(255)))
    statistics = preprocess.row.statistics
    if statistics is None:
        _minus_one_to_one(graph, values)
    elif isinstance(statistics, PerImage):
        _per_image(graph, values, statistics, preprocess.size)
    else:
        _by_statistics(graph, values, *preprocess.channel_statistics)
    for node in model.graph.node:
        node.input[:] = [NORMALISED if name == INPUT else name for name in node.input]
    nodes = [*graph.nodes, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    model.graph.initializer.extend(graph.constants)
    shape = ["N", preprocess.size, preprocess.size, 3]
    model.graph.input[0].CopyFrom(onnx.helper.make_tensor_value_info(INPUT, onnx.TensorProto.UINT8, shape))
    return model


def _minus_one_to_one(graph: Graph, values: str) -> None:
    """`preprocess._minus_one_to_one`: BGR, in the same order of operations."""
    values = graph.add("Gather", values, graph.constant("bgr", np.array([2, 1, 0])), axis=1)
    values = graph.add("Mul", values, graph.constant("two", np.float32(2)))
    graph.add("Sub", values, graph.constant("one", np.float32(1)), output=NORMALISED)


def _by_statistics(graph: Graph, values: str, mean: np.ndarray, std: np.ndarray) -> None:
    values = graph.add("Sub", values, graph.constant("mean", mean.reshape(1, 3, 1, 1)))
    graph.add("Div", values, graph.constant("std", std.reshape(1, 3, 1, 1)), output=NORMALISED)


def _per_image(graph: Graph, values: str, rule: PerImage, size: int) -> None:
    """`PerImage.__call__`."""
    field = rule.field(size)
    weight = graph.constant("field", field.weight.reshape(1, 1, size, size))
    if rule.local:
        values = graph.add("Mul", values, weight)
        blurred, taps = values, len(field.kernel)
        for axis, shape in (("rows", (taps, 1)), ("columns", (1, taps))):
            kernel = np.broadcast_to(field.kernel.reshape(1, 1, *shape), (3, 1, *shape))
            pads = [shape[0] // 2, shape[1] // 2] * 2
            blurred = graph.add("Conv", blurred, graph.constant(f"gaussian_{axis}", kernel), group=3, pads=pads)
        local = graph.add("Mul", blurred, graph.constant("by", field.by.reshape(1, 1, size, size)))
        values = graph.add("Sub", values, local)
    pixels = graph.constant("pixels", np.float32(field.pixels.sum()))

    def mean_inside(x: str) -> str:
        axes = graph.constant(f"axes_{len(graph.constants)}", np.array([2, 3]))
        return graph.add("Div", graph.add("ReduceSum", graph.add("Mul", x, weight), axes), pixels)

    values = graph.add("Sub", values, mean_inside(values))
    variance = mean_inside(graph.add("Mul", values, values))
    std = graph.add("Add", graph.add("Sqrt", variance), graph.constant("least", np.float32(rule.least)))
    values = graph.add("Mul", graph.add("Div", values, std), weight)
    if rule.clip:
        clip = graph.constant("clip", np.float32(rule.clip))
        values = graph.add("Mul", graph.add("Tanh", graph.add("Div", values, clip)), clip)
    graph.add("Identity", values, output=NORMALISED)
