"""A ResNet as an ONNX graph, built node by node with its batch norms folded into the convolutions.

Built here rather than by paddle2onnx: the network has eight kinds of nodes, the graph then depends on no conversion of
Paddle's own program (whose format differs between Paddle 2.6 and 3), and nothing is installed at run time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from pmtrain.models.backends.onnx_runtime import FEATURES, INPUT, LOGIT, SPREAD
from pmtrain.models.resnet import ConvBNLayer, ResNet
from pmtrain.system.errors import missing_extra

OPSET, IR_VERSION = 17, 8  # read by onnxruntime 1.13 and later, and by OpenVINO, TensorRT 8.6 and ncnn's converters


def import_onnx() -> Any:
    """The package onnx.

    Raises:
        PmtrainError: it isn't installed.
    """
    try:
        import onnx
    except ImportError:
        raise missing_extra("writing an ONNX model", "onnx", "onnx") from None
    return onnx


@dataclass
class Graph:
    """Nodes in the order that they run, and constants; every result gets a name of its own, beginning with `prefix`."""

    prefix: str = ""
    nodes: list[Any] = field(default_factory=list)
    constants: list[Any] = field(default_factory=list)

    def add(self, kind: str, *inputs: str, output: str = "", **attributes: Any) -> str:
        """Append a node; return the name of its result."""
        output = output or f"{self.prefix}{kind.lower()}_{len(self.nodes)}"
        self.nodes.append(import_onnx().helper.make_node(kind, inputs, [output], name=output, **attributes))
        return output

    def constant(self, name: str, value: np.ndarray) -> str:
        """Keep an array; return its name."""
        self.constants.append(import_onnx().numpy_helper.from_array(np.ascontiguousarray(value), name))
        return name


def network_graph(models: Sequence[ResNet], image_size: int) -> Any:
    """One network or several, in evaluation mode, as an ONNX model.

    INPUT, float32 (N, 3, S, S) -> LOGIT, float32 (N, 1), and FEATURES, float32 (N, F): what enters the last layer. Of
    several networks, LOGIT is the mean, FEATURES are side by side, and SPREAD, float32 (N, 1), is the logits' standard
    deviation.
    """
    onnx = import_onnx()
    graph = Graph()
    tensor, float32 = onnx.helper.make_tensor_value_info, onnx.TensorProto.FLOAT
    if len(models) == 1:
        _network(graph, models[0], "", LOGIT, FEATURES)
    else:
        names = [(f"{number}.", f"{number}.{LOGIT}", f"{number}.{FEATURES}") for number in range(len(models))]
        parts = [_network(graph, model, *each) for model, each in zip(models, names, strict=True)]
        graph.add("Concat", *(features for _, _, features in names), axis=1, output=FEATURES)
        logits = graph.add("Concat", *parts, axis=1)
        mean = graph.add("ReduceMean", logits, axes=[1], keepdims=1, output=LOGIT)
        apart = graph.add("Sub", logits, mean)
        squares = graph.add("ReduceSum", graph.add("Mul", apart, apart), graph.constant("of_networks", np.array([1])))
        variance = graph.add("Div", squares, graph.constant("degrees_of_freedom", np.float32(len(models) - 1)))
        graph.add("Sqrt", variance, output=SPREAD)
    outputs = [tensor(LOGIT, float32, ["N", 1])]
    outputs += [tensor(SPREAD, float32, ["N", 1])] * (len(models) > 1)
    outputs.append(tensor(FEATURES, float32, ["N", sum(len(model.out.weight) for model in models)]))
    return onnx.helper.make_model(
        onnx.helper.make_graph(
            graph.nodes,
            " and ".join(f"ResNet-{model.layers}" for model in models),
            [tensor(INPUT, float32, ["N", 3, image_size, image_size])],
            outputs,
            graph.constants,
        ),
        opset_imports=[onnx.helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name="pmtrain",
    )


def _network(graph: Graph, model: ResNet, prefix: str, logit: str, features: str) -> str:
    """Append a network from INPUT on; return the name of its logit.

    Args:
        prefix: of the names of all constants.
    """
    x = _convolution(graph, f"{prefix}conv", model.conv, INPUT)
    x = graph.add("MaxPool", x, kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])
    for stage, blocks in enumerate(model.stages):
        for index, block in enumerate(blocks):
            name, y = f"{prefix}bb_{stage}_{index}", x
            for place, layer in enumerate(block.path):
                y = _convolution(graph, f"{name}.conv{place}", layer, y)
            shortcut = x if block.short is None else _convolution(graph, f"{name}.short", block.short, x)
            x = graph.add("Relu", graph.add("Add", y, shortcut))
    x = graph.add("Flatten", graph.add("GlobalAveragePool", x), output=features)
    weight = graph.constant(f"{prefix}out.weight", model.out.weight.numpy())
    return graph.add("Gemm", x, weight, graph.constant(f"{prefix}out.bias", model.out.bias.numpy()), output=logit)


def _convolution(graph: Graph, name: str, layer: ConvBNLayer, x: str) -> str:
    """A convolution with its batch norm folded in (in float64, rounded once), then a ReLU where the layer has one."""
    norm, conv = layer._batch_norm, layer._conv
    weight, gamma, beta, mean, variance = (
        parameter.numpy().astype(np.float64)
        for parameter in (conv.weight, norm.weight, norm.bias, norm._mean, norm._variance)
    )
    scale = gamma / np.sqrt(variance + norm._epsilon)
    folded = (weight * scale[:, None, None, None]).astype(np.float32)
    kernel, pad = weight.shape[2:], (weight.shape[2] - 1) // 2
    y = graph.add(
        "Conv",
        x,
        graph.constant(f"{name}.weight", folded),
        graph.constant(f"{name}.bias", (beta - mean * scale).astype(np.float32)),
        output=f"{name}.out",
        kernel_shape=list(kernel),
        strides=list(_pair(conv._stride)),
        pads=[pad] * 4,
    )
    return graph.add("Relu", y) if layer.relu else y


def _pair(stride: int | Sequence[int]) -> Sequence[int]:
    return (stride, stride) if isinstance(stride, int) else stride
