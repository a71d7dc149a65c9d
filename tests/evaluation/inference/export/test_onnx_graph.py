"""The ONNX graph, run by onnxruntime, against the network on Paddle's own kernels."""

from __future__ import annotations

import numpy as np
import pytest

from pmtrain.models import build_model
from pmtrain.system.framework import paddle

onnxruntime = pytest.importorskip("onnxruntime")
onnx = pytest.importorskip("onnx")

from pmtrain.evaluation.inference.export.onnx_graph import network_graph  # noqa: E402


def drawn_model(layers: int):
    """A network whose batch norms all differ from doing nothing."""
    rng = np.random.default_rng(layers)
    model = build_model(layers)
    for name, tensor in model.state_dict().items():
        if "_batch_norm" in name:
            low = -0.3 if name.endswith(("_mean", "bias")) else 0.5
            tensor.set_value(rng.uniform(low, low + 0.6, tensor.shape).astype("float32"))
    model.eval()
    return model


@pytest.mark.parametrize("layers", [18, 50])
def test_it_gives_the_networks_logits_for_any_number_of_images(layers):
    model = drawn_model(layers)
    graph = network_graph([model], 64)
    onnx.checker.check_model(graph, full_check=True)
    session = onnxruntime.InferenceSession(graph.SerializeToString(), providers=["CPUExecutionProvider"])
    for count in (1, 3):
        images = np.random.default_rng(count).normal(size=(count, 3, 64, 64)).astype("float32")
        with paddle.no_grad():
            expected = model(paddle.to_tensor(images)).numpy()
        logits, features = session.run(["logit", "features"], {"image": images})
        np.testing.assert_allclose(logits, expected, rtol=1e-4, atol=1e-5)
        last = features @ model.out.weight.numpy() + model.out.bias.numpy()  # what enters the last layer
        np.testing.assert_allclose(last, expected, rtol=1e-4, atol=1e-5)


def test_batch_norms_are_folded_away():
    kinds = {node.op_type for node in network_graph([build_model(18)], 64).graph.node}
    assert kinds == {"Conv", "Relu", "MaxPool", "Add", "GlobalAveragePool", "Flatten", "Gemm"}


def test_several_networks_give_the_mean_logit_and_its_spread():
    models = [drawn_model(18), drawn_model(34), drawn_model(18)]
    models[2].out.bias.set_value(models[2].out.bias + 2)
    graph = network_graph(models, 32)
    onnx.checker.check_model(graph, full_check=True)
    session = onnxruntime.InferenceSession(graph.SerializeToString(), providers=["CPUExecutionProvider"])
    images = np.random.default_rng(0).normal(size=(2, 3, 32, 32)).astype("float32")
    with paddle.no_grad():
        each = np.concatenate([model(paddle.to_tensor(images)).numpy() for model in models], axis=1)
    mean, spread, features = session.run(["logit", "spread", "features"], {"image": images})
    assert features.shape == (2, 3 * 512)
    for number, model in enumerate(models):
        own = features[:, number * 512 : (number + 1) * 512] @ model.out.weight.numpy() + model.out.bias.numpy()
        np.testing.assert_allclose(own[:, 0], each[:, number], rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(mean[:, 0], each.mean(axis=1), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(spread[:, 0], each.std(axis=1, ddof=1), rtol=1e-4, atol=1e-5)
