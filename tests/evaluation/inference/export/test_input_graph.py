"""The preprocessing built into a graph, against the one that training uses, over images of all brightnesses."""

from __future__ import annotations

import numpy as np
import pytest

from pmtrain.data.preprocessing.preprocess import PREPROCESSING, Preprocess

onnxruntime = pytest.importorskip("onnxruntime")
onnx = pytest.importorskip("onnx")

from pmtrain.evaluation.inference.export.input_graph import with_preprocessing  # noqa: E402

SIZE = 40


def flattening() -> onnx.ModelProto:
    """A model that gives its input back, flat."""
    helper, kind = onnx.helper, onnx.TensorProto.FLOAT
    graph = helper.make_graph(
        [helper.make_node("Flatten", ["image"], ["logit"])],
        "flat",
        [helper.make_tensor_value_info("image", kind, ["N", 3, SIZE, SIZE])],
        [helper.make_tensor_value_info("logit", kind, ["N", 3 * SIZE * SIZE])],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


@pytest.mark.parametrize("name", PREPROCESSING)
def test_every_preprocessing_has_a_graph(name):
    preprocess = Preprocess(name, SIZE, (0.4, 0.2, 0.1), (0.2, 0.1, 0.3))
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (3, SIZE, SIZE, 3), np.uint8)
    images[1] //= 8
    images[2] = 7  # no contrast at all
    model = with_preprocessing(flattening(), preprocess)
    onnx.checker.check_model(model, full_check=True)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {"image": np.ascontiguousarray(images[..., ::-1])})
    expected = preprocess.normalise(images)  # which takes BGR
    np.testing.assert_allclose(found.reshape(expected.shape), expected, atol=5e-6)
