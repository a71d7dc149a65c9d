"""What follows the logit in an exported graph: the checkpoint's calibration, and the probability."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from pmtrain.evaluation.inference.export.onnx_graph import Graph, import_onnx
from pmtrain.models.backends.onnx_runtime import LOGIT, PROBABILITY
from pmtrain.runs.calibrator import END_SLOPE, Calibrator
from pmtrain.system.framework import paddle

# A logit (N, 1) -> a calibrated logit (N, 1), both as names of a graph or both as Paddle's tensors.
Name = str


@dataclass(frozen=True)
class Pieces:
    """A map with knots as a sum, in float32: calibrated = first + sum over k of slopes[k] * clip(x - starts[k], 0,
    widths[k]), and END_SLOPE * (x - clip(x, low, high)) beyond the first and the last knot.

    Every summand increases, so nothing cancels. `starts` is kept in two parts, (2, K): the difference from a nearby
    logit is then exact, however steep the map is there.
    """

    starts: np.ndarray
    widths: np.ndarray
    slopes: np.ndarray
    first: np.float32
    low: np.float32
    high: np.float32

    @classmethod
    def of(cls, calibrator: Calibrator) -> Pieces:
        """The pieces of a calibrator that has at least one knot."""
        x, y = np.array(calibrator.knots).T
        starts = x[:-1].astype(np.float32)
        rest = (x[:-1] - starts).astype(np.float32)
        widths = np.diff(x)
        slopes = (np.diff(y) / widths).astype(np.float32)
        ends = np.float32(x[0]), np.float32(x[-1])
        return cls(np.stack([starts, rest]), widths.astype(np.float32), slopes, np.float32(y[0]), *ends)


def with_probability(model: Any, calibrator: Calibrator | None = None) -> Any:
    """The same model with one more result: PROBABILITY, float32 (N, 1), of LOGIT by the calibration if there is one."""
    onnx = import_onnx()
    graph = Graph(prefix="calibration_")
    logit = LOGIT if calibrator is None else _calibrated(graph, calibrator)
    graph.nodes.append(onnx.helper.make_node("Sigmoid", [logit], [PROBABILITY], name=PROBABILITY))
    model.graph.node.extend(graph.nodes)
    model.graph.initializer.extend(graph.constants)
    model.graph.output.append(onnx.helper.make_tensor_value_info(PROBABILITY, onnx.TensorProto.FLOAT, ["N", 1]))
    return model


def _calibrated(graph: Graph, calibrator: Calibrator) -> Name:
    """Append what `Calibrator.logits` computes; return the name of its result."""

    def number(name: str, value: Any) -> Name:
        return graph.constant(f"calibration.{name}", np.asarray(value, np.float32))

    if not calibrator.knots:
        scaled = graph.add("Mul", LOGIT, number("slope", calibrator.slope))
        return graph.add("Add", scaled, number("intercept", calibrator.intercept))
    pieces = Pieces.of(calibrator)
    inside = graph.add("Clip", LOGIT, number("low", pieces.low), number("high", pieces.high))
    beyond = graph.add("Mul", graph.add("Sub", LOGIT, inside), number("end_slope", END_SLOPE))
    if not pieces.slopes.size:  # one knot
        return graph.add("Add", beyond, number("first", pieces.first))
    past = LOGIT
    for part, name in zip(pieces.starts, ("starts", "starts_rest"), strict=True):
        past = graph.add("Sub", past, number(name, part[None]))
    past = graph.add("Max", past, number("zero", 0))
    past = graph.add("Min", past, number("widths", pieces.widths[None]))
    risen = graph.add("MatMul", past, number("slopes", pieces.slopes[:, None]))
    return graph.add("Add", graph.add("Add", risen, beyond), number("first", pieces.first))


def calibrated_tensor(logit: Any, calibrator: Calibrator | None) -> Any:
    """The same on Paddle's tensors: (N, 1) -> (N, 1)."""
    if calibrator is None:
        return logit
    if not calibrator.knots:
        return logit * calibrator.slope + calibrator.intercept
    pieces = Pieces.of(calibrator)
    inside = paddle.clip(logit, float(pieces.low), float(pieces.high))
    calibrated = (logit - inside) * END_SLOPE + float(pieces.first)
    if pieces.slopes.size:
        past = logit
        for part in pieces.starts:
            past = past - paddle.to_tensor(part[None])
        past = paddle.minimum(paddle.nn.functional.relu(past), paddle.to_tensor(pieces.widths[None]))
        calibrated = calibrated + past @ paddle.to_tensor(pieces.slopes[:, None])
    return calibrated
