"""What follows the logit in a graph, run by onnxruntime and by Paddle, against values worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import expit, logit

from pmtrain.runs.calibrator import Calibrator
from pmtrain.system.framework import paddle

onnxruntime = pytest.importorskip("onnxruntime")
onnx = pytest.importorskip("onnx")

from pmtrain.evaluation.inference.export.output_graph import calibrated_tensor, with_probability  # noqa: E402

FITTED = {"prevalence": 0.5, "images": 10, "positives": 5}
KNOTS = ((-2.0, -1.0), (0.0, 0.0), (0.5, 2.0), (4.0, 3.0))


def graph_of(calibrator: Calibrator | None):
    """A model whose logit is its input."""
    helper, kind = onnx.helper, onnx.TensorProto.FLOAT
    value = [helper.make_tensor_value_info(name, kind, ["N", 1]) for name in ("image", "logit")]
    graph = helper.make_graph([helper.make_node("Identity", ["image"], ["logit"])], "none", value[:1], value[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    model = with_probability(model, calibrator)
    onnx.checker.check_model(model, full_check=True)
    return model


def by_onnxruntime(calibrator: Calibrator | None, logits: np.ndarray) -> np.ndarray:
    session = onnxruntime.InferenceSession(graph_of(calibrator).SerializeToString(), providers=["CPUExecutionProvider"])
    raw, probabilities = session.run(["logit", "probability"], {"image": logits[:, None]})
    np.testing.assert_array_equal(raw[:, 0], logits)  # the logit stays the network's own
    return probabilities[:, 0]


def by_paddle(calibrator: Calibrator | None, logits: np.ndarray) -> np.ndarray:
    return expit(calibrated_tensor(paddle.to_tensor(logits[:, None]), calibrator).numpy()[:, 0])


@pytest.mark.parametrize("run", [by_onnxruntime, by_paddle])
def test_it_gives_the_calibrated_probability(run):
    at = np.array([-1, 0, 0.25, 2.25, 1], np.float32)
    np.testing.assert_allclose(run(None, at), expit(at), atol=1e-6)
    line = Calibrator(method="platt", slope=2.0, intercept=-0.5, **FITTED)
    np.testing.assert_allclose(run(line, at), expit([-2.5, -0.5, 0, 4, 1.5]), atol=1e-6)
    knots = Calibrator(method="isotonic", knots=KNOTS, **FITTED)
    np.testing.assert_allclose(run(knots, at), expit([-0.5, 0, 1, 2.5, 2 + 1 / 7]), atol=1e-6)
    beyond = np.array([-1002, 1004], np.float32)  # by a thousandth of the distance
    np.testing.assert_allclose(logit(run(knots, beyond).astype(float)), [-2, 4], atol=1e-4)
    one = Calibrator(method="isotonic", knots=((1.0, 0.5),), **FITTED)
    np.testing.assert_allclose(run(one, np.array([1, 501], np.float32)), expit([0.5, 1.0]), atol=1e-6)


@pytest.mark.parametrize("run", [by_onnxruntime, by_paddle])
def test_a_steep_step_is_no_less_exact(run):
    x = 3.7 + np.array([0.0, 1e-5, 2e-5])  # which float32 can't tell from one another to four digits
    steep = Calibrator(method="isotonic", knots=tuple(zip(x, (-2.0, 0.0, 2.0), strict=True)), **FITTED)
    at = (3.7 + np.linspace(-1e-6, 2.1e-5, 40)).astype(np.float32)
    expected = expit(np.interp(at.astype(float), x, [-2, 0, 2]))
    assert np.ptp(expected) > 0.5
    np.testing.assert_allclose(run(steep, at), expected, atol=1e-5)
