"""Quantization to int8: what the graph holds, and what of a loss is told or refused."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from pmtrain.models import build_model
from pmtrain.system.errors import PmtrainError

onnxruntime = pytest.importorskip("onnxruntime")
pytest.importorskip("onnx")

from pmtrain.evaluation.inference.export.int8 import loss_of_int8, quantized  # noqa: E402
from pmtrain.evaluation.inference.export.onnx_graph import network_graph  # noqa: E402


def test_convolutions_become_int8_and_the_logits_stay_near():
    model = build_model(18)
    model.eval()
    images = np.random.default_rng(0).normal(size=(6, 3, 32, 32)).astype("float32")
    graph = quantized(network_graph([model], 32), images)
    convolutions = [node for node in graph.graph.node if node.op_type == "Conv"]
    assert len(convolutions) == 20
    assert {node.input[1].endswith("_DequantizeLinear_Output") for node in convolutions} == {True}
    session = onnxruntime.InferenceSession(graph.SerializeToString(), providers=["CPUExecutionProvider"])
    before = onnxruntime.InferenceSession(
        network_graph([model], 32).SerializeToString(), providers=["CPUExecutionProvider"]
    )
    (found,), (expected,) = (each.run(["logit"], {"image": images}) for each in (session, before))
    assert not np.array_equal(found, expected)
    np.testing.assert_allclose(found, expected, atol=0.1 * np.abs(expected).max())


def test_the_loss_is_that_of_the_auc_with_decisions_counted():
    rng = np.random.default_rng(0)
    labels = np.arange(200) % 2
    fp32 = rng.normal(size=200) + 1.5 * labels
    int8 = fp32 + rng.normal(scale=0.02, size=200)
    found = loss_of_int8(labels, fp32, int8, 0.6, None)
    assert found.auc.difference == pytest.approx(roc_auc_score(labels, fp32) - roc_auc_score(labels, int8))
    line = np.log(0.6 / 0.4)  # the logit of the threshold
    assert found.agreeing == ((fp32 >= line) == (int8 >= line)).sum() < 200
    assert found.report()["same_decision"]["n"] == 200
    assert f"{found.agreeing} of 200 images" in found.lines()[1]


def test_a_large_loss_is_refused():
    rng = np.random.default_rng(0)
    labels = np.arange(200) % 2
    fp32 = rng.normal(size=200) + 3 * labels
    with pytest.raises(PmtrainError, match="the AUC falls from 0.9"):
        loss_of_int8(labels, fp32, fp32 + rng.normal(scale=2, size=200), 0.5, None)


def test_one_class_has_no_auc():
    with pytest.raises(PmtrainError, match="can't be measured"):
        loss_of_int8(np.ones(9, int), np.zeros(9), np.zeros(9), 0.5, None)
