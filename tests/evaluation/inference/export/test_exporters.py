"""What each format writes, read by that format's own library and nothing of ours."""

from __future__ import annotations

import json

import numpy as np
import pytest

from pmtrain.evaluation.inference.export.exporters import EXPORTERS, Source
from pmtrain.models import build_model
from pmtrain.runs.checkpoint import Ensemble, load_checkpoint, save_checkpoint
from pmtrain.runs.formats.state_dict import dump_state, load_state
from pmtrain.runs.formats.torch_reader import read_torch
from pmtrain.runs.model_state import to_arrays
from pmtrain.runs.records import notes_info
from pmtrain.system.framework import paddle


@pytest.fixture(scope="module")
def source(checkpoint):
    return Source(load_checkpoint(checkpoint))


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(1).normal(size=(3, 3, 32, 32)).astype("float32")


@pytest.fixture(scope="module")
def expected(source, images):
    with paddle.no_grad():
        return source.models()[0](paddle.to_tensor(images)).numpy()[:, 0]


def test_onnx(source, images, expected, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    EXPORTERS["onnx"].write(tmp_path, source)
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx", providers=["CPUExecutionProvider"])
    np.testing.assert_allclose(session.run(["logit"], {"image": images})[0][:, 0], expected, atol=1e-4)
    told = session.get_modelmeta().custom_metadata_map
    assert (told["classes"], told["threshold"], told["precision"]) == ("healthy, sick", "0.4", "fp32")
    assert json.loads(told["pmtrain"])["preprocessing"] == "notes"


def test_paddle(source, images, expected, tmp_path):
    EXPORTERS["paddle"].write(tmp_path, source)
    layer = paddle.jit.load(str(tmp_path / "model"))
    layer.eval()
    with paddle.no_grad():
        logits, probabilities = layer(paddle.to_tensor(images))
    np.testing.assert_allclose(logits.numpy()[:, 0], expected, atol=1e-4)
    np.testing.assert_allclose(probabilities.numpy()[:, 0], 1 / (1 + np.exp(-expected)), atol=1e-5)
    found = EXPORTERS["paddle"].load(tmp_path, source)
    np.testing.assert_allclose(found(images[:2])[:, 0], expected[:2], atol=1e-4)
    np.testing.assert_allclose(found(images)[:, 0], expected, atol=1e-4)  # any number of images


def test_several_networks_as_one_paddle_model(tmp_path):
    members = []
    for seed in (0, 1):
        paddle.seed(seed)
        arrays = to_arrays(build_model(18).state_dict())
        path = tmp_path / f"{seed}.pdparams"
        save_checkpoint(path, dump_state(*arrays), notes_info(18).model_copy(update={"image_size": 32}))
        members.append(load_checkpoint(path))
    both = Source(Ensemble(tuple(members), members[0].info, tmp_path))
    EXPORTERS["paddle"].write(tmp_path, both)
    images = paddle.to_tensor(np.random.default_rng(1).normal(size=(3, 3, 32, 32)).astype("float32"))
    layer = paddle.jit.load(str(tmp_path / "model"))
    layer.eval()
    with paddle.no_grad():
        first, second = (model(images).numpy() for model in both.models())
        logits, _, spread = (each.numpy() for each in layer(images))
    np.testing.assert_allclose(logits, (first + second) / 2, atol=1e-4)
    np.testing.assert_allclose(spread, np.abs(first - second) / np.sqrt(2), atol=1e-4)  # of two values
    assert spread.min() > 0.01


def test_torch_has_torchvisions_names(source, expected, images, tmp_path):
    EXPORTERS["torch"].write(tmp_path, source)
    found = read_torch((tmp_path / "model.pth").read_bytes())
    network = paddle.vision.models.resnet18(num_classes=1)  # the same names, but for batch norms and a transposed fc
    names = {"running_mean": "_mean", "running_var": "_variance"}
    renamed = {
        ".".join([*name.split(".")[:-1], names.get(last := name.split(".")[-1], last)]): array
        for name, array in found.items()
    }
    renamed["fc.weight"] = renamed["fc.weight"].T
    assert set(renamed) == set(network.state_dict())
    network.set_state_dict({name: paddle.to_tensor(np.ascontiguousarray(array)) for name, array in renamed.items()})
    network.eval()
    with paddle.no_grad():
        np.testing.assert_allclose(network(paddle.to_tensor(images)).numpy()[:, 0], expected, atol=1e-4)


def test_safetensors_is_a_checkpoint_of_its_own(source, checkpoint, tmp_path):
    from safetensors import safe_open

    EXPORTERS["safetensors"].write(tmp_path, source)
    before = load_state(checkpoint)
    with safe_open(tmp_path / "model.safetensors", framework="np") as file:
        assert json.loads(file.metadata()["pmtrain"])["class_names"] == ["healthy", "sick"]
        assert set(file.keys()) == set(before)
        assert all(np.array_equal(file.get_tensor(name), array) for name, array in before.items())
    again = load_checkpoint(tmp_path / "model.safetensors")
    assert (again.info.threshold, again.info.class_names) == (0.4, ("healthy", "sick"))
